//! The seam to the CAs: one HTTP request, one reply, bounded in time and size.
//!
//! What comes back is bytes, or word that they are elsewhere. Whether the bytes are worth anything is for
//! [`crate::ocsp`] to say, whether to go elsewhere for [`redirect`].

pub mod caching;
mod fault;
mod hosts;
mod http;
mod names;
mod plain;
pub mod redirect;
mod secure;

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;

use self::caching::{Caching, EntityTag};
pub use self::fault::Fault;
pub use self::http::HttpResponder;

/// What to send where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The whole URL; that of a GET carries the OCSP request (RFC 5019 section 5, RFC 9919 section 6), or is a download's.
    pub url: String,
    /// The DER of an OCSPRequest to POST (RFC 6960 appendix A.1); a GET if there is none.
    pub body: Option<Vec<u8>>,
    /// Which addresses it may go to.
    pub reach: Reach,
    /// What of it may come from memory.
    pub copies: Copies,
}

impl Exchange {
    /// A GET from where a certificate or the settings say.
    #[must_use]
    pub fn get(url: String) -> Self {
        Self { url, body: None, reach: Reach::Anywhere, copies: Copies::Welcome }
    }

    /// A POST to where a certificate or the settings say.
    #[must_use]
    pub fn post(url: String, body: Vec<u8>) -> Self {
        Self { url, body: Some(body), reach: Reach::Anywhere, copies: Copies::Welcome }
    }

    /// The method's name.
    #[must_use]
    pub fn method(&self) -> &'static str {
        if self.body.is_some() { "POST" } else { "GET" }
    }
}

/// What an exchange says about copies of the answer: the one in our hand, those of caches on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Copies {
    /// Whoever has one may send it: a fleet behind a cache costs a CA one request.
    #[default]
    Welcome,
    /// The one with this tag is in our hand, and need not be sent again (RFC 9110 section 13.1.2).
    InHand(EntityTag),
    /// The last one was of no use: this is for the origin to answer (RFC 9111 section 5.2.1.4).
    Unwanted,
}

/// Which addresses an exchange may go to. Who answers for a CA must not be able to point this program at what only this
/// host can reach: its own services, or a cloud's metadata on a link-local address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reach {
    /// Any: a certificate or the settings name the place.
    Anywhere,
    /// Somebody on this host leads on: to this host still, but to no link-local and no unspecified address.
    ThisHost,
    /// Somebody elsewhere leads on: to no loopback, link-local or unspecified address.
    Elsewhere,
}

impl Reach {
    /// Whether an exchange may go to this address.
    #[must_use]
    pub fn admits(self, address: IpAddr) -> bool {
        // An IPv4 address in an IPv6 one is the same place.
        let address = address.to_canonical();
        let link_local = match address {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        };
        match self {
            Self::Anywhere => true,
            Self::ThisHost => !link_local && !address.is_unspecified(),
            Self::Elsewhere => !link_local && !address.is_unspecified() && !address.is_loopback(),
        }
    }
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The body of a 200, and what was said about keeping it.
    Body(Bytes, Caching),
    /// A 304: the copy in our hand is the answer.
    NotModified(Caching),
    /// A redirect, which nobody has followed.
    Moved(Moved),
}

impl<B: Into<Bytes>> From<B> for Reply {
    fn from(body: B) -> Self {
        Self::Body(body.into(), Caching::default())
    }
}

/// A redirect (RFC 9110 section 15.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The status code.
    pub status: u16,
    /// Where to, as it came.
    pub location: Option<String>,
    /// Who says so; not known behind a proxy.
    pub by: Option<IpAddr>,
}

/// Sends exchanges.
pub trait Responder: Send + Sync + 'static {
    /// One exchange, done within `deadline`. Redirects are not followed.
    fn send(&self, exchange: &Exchange, deadline: Duration) -> impl Future<Output = Result<Reply, Fault>> + Send;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_host_leads_to_this_host_and_nobody_to_its_link() {
        let link_local = ["169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "0.0.0.0", "::", "::ffff:0.0.0.0"];
        let loopback = ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"];
        let elsewhere = ["192.0.2.1", "10.0.0.1", "2001:db8::1", "fd00::1"];
        for (addresses, this_host, from_elsewhere) in
            [(&link_local[..], false, false), (&loopback, true, false), (&elsewhere, true, true)]
        {
            for text in addresses {
                let address: IpAddr = text.parse().unwrap();
                assert!(Reach::Anywhere.admits(address), "{text}");
                assert_eq!(Reach::ThisHost.admits(address), this_host, "{text}");
                assert_eq!(Reach::Elsewhere.admits(address), from_elsewhere, "{text}");
            }
        }
    }
}
