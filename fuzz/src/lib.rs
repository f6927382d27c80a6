//! What must be true of every parser and every judgement, whatever comes in.
//!
//! Each module has one `check`: it takes any bytes, panics when a promise is broken, and says whether the bytes got all
//! the way through. libFuzzer calls them with what it thinks up (`targets/`), `cargo test` of the program with the seeds.

pub mod certificates;
pub mod crt_list;
pub mod fixture;
pub mod install;
pub mod response;
pub mod script;
pub mod settings;
pub mod signed;
pub mod status_page;
pub mod survey;
