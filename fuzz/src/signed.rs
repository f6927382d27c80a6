//! Any `tbsResponseData` under a true signature: what is behind the signature's check is reached as well.

use super::fixture::{FIXTURE, Signer};
use super::response;

/// The first byte says who signs.
pub fn check(input: &[u8]) -> bool {
    let Some((who, tbs)) = input.split_first() else { return false };
    let signer = if who & 1 == 0 { Signer::Issuer } else { Signer::Delegate };
    response::check(&FIXTURE.sign(tbs, signer))
}
