//! HAProxy's Runtime API: who answers, what it has loaded, and how a staple gets in.
//!
//! [`look`] says which process answers, [`survey`] what it has loaded, [`reconcile`] brings a staple in, and
//! [`abort_leftover`] ends what a crash of ours left behind. All of them talk through [`RuntimeApi`], which [`Socket`]
//! implements for HAProxy's own sockets.

mod address;
mod command;
mod held;
mod install;
mod inventory;
mod journal;
mod leftover;
mod native;
mod process;
mod refusal;
mod session;
mod socket;
#[cfg(test)]
mod tests;
mod transaction;

pub use address::{Address, AddressError, Place};
pub use command::{Command, DEFAULT_BUFFER, FILE_LIMIT, Unsendable, response_limit};
pub use held::{Held, HeldResponse, StapleView};
pub use install::{Installation, IssuerKnowledge, Outcome, OverwritePolicy, Proof, reconcile, reconcile_many};
pub use inventory::{
    CertIdKey, Entries, EntryName, LoadedCertificate, LoadedStatus, News, OcspFile, Seen, Stapling, Survey,
};
pub use journal::Journal;
pub use leftover::{Leftover, abort_leftover};
pub use native::{LastUpdate, NativeUpdate};
pub use process::{Process, Version};
pub use refusal::InstallError;
pub use session::{HaproxyError, Known, held, look, survey};
pub use socket::{RuntimeApi, Socket, SocketError};
