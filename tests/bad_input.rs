//! What a careless or a hostile world puts before the program: each is named once, with what to do about it, harms
//! nothing beside it, and heals without a restart.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

#[path = "bad_input/authorities.rs"]
mod authorities;
#[path = "bad_input/command_line.rs"]
mod command_line;
#[path = "bad_input/disks.rs"]
mod disks;
#[path = "bad_input/files.rs"]
mod files;
#[path = "bad_input/sockets.rs"]
mod sockets;
#[path = "bad_input/state.rs"]
mod state;

#[path = "support/site.rs"]
mod site;
mod support;
