//! Where a HAProxy socket is.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// `sun_path` of `sockaddr_un`, less its terminating zero byte.
const LONGEST_PATH: usize = 107;

/// A socket's address as the user wrote it; that text is also its `haproxy` metric label.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    text: String,
    place: Place,
}

/// What an [`Address`] points to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A unix stream socket.
    Unix(PathBuf),
    /// A TCP socket (`stats socket ipv4@…`).
    Tcp {
        /// A name or an address, without brackets.
        host: String,
        /// The port.
        port: u16,
    },
}

impl Address {
    /// What it points to.
    #[must_use]
    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// The socket file, if it is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match &self.place {
            Place::Unix(path) => Some(path),
            Place::Tcp { .. } => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a text is not the address of a HAProxy socket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Nothing is written there.
    #[error("a HAProxy socket address is empty")]
    Empty,
    /// HAProxy knows this prefix, or it is a typing error; this program cannot connect to it.
    #[error("'{text}': '{prefix}@' is not supported; write a path, unix@PATH, ipv4@HOST:PORT or ipv6@[ADDR]:PORT")]
    Prefix {
        /// The whole address.
        text: String,
        /// What stands before the `@`.
        prefix: String,
    },
    /// It looks like HOST:PORT.
    #[error("'{text}' is not a path; for a TCP socket write ipv4@{text}")]
    LooksLikeTcp {
        /// The whole address.
        text: String,
    },
    /// No usable `HOST:PORT`.
    #[error("'{text}': expected HOST:PORT with a port from 1 to 65535 after the '@'")]
    HostPort {
        /// The whole address.
        text: String,
    },
    /// `ipv6@` without an IPv6 address.
    #[error("'{text}': expected [ADDR]:PORT with an IPv6 address after 'ipv6@'")]
    Ipv6 {
        /// The whole address.
        text: String,
    },
    /// The operating system cannot connect to so long a path.
    #[error("'{text}': the path is {length} bytes long; a unix socket's path has at most {LONGEST_PATH}")]
    TooLong {
        /// The whole address.
        text: String,
        /// The path's length.
        length: usize,
    },
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let owned = || text.to_owned();
        let place = match text.split_once('@') {
            Some(("unix", path)) => unix(text, path)?,
            Some(("ipv4", rest)) => {
                let (host, port) = host_and_port(rest).ok_or_else(|| AddressError::HostPort { text: owned() })?;
                if host.contains(':') {
                    return Err(AddressError::HostPort { text: owned() });
                }
                Place::Tcp { host: host.to_owned(), port }
            }
            Some(("ipv6", rest)) => {
                let (host, port) = host_and_port(rest).ok_or_else(|| AddressError::Ipv6 { text: owned() })?;
                let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
                bare.parse::<Ipv6Addr>().map_err(|_| AddressError::Ipv6 { text: owned() })?;
                Place::Tcp { host: bare.to_owned(), port }
            }
            // A path may hold an '@' too, but not before its first slash: those are HAProxy's families.
            Some((prefix, _)) if !prefix.contains('/') => {
                return Err(AddressError::Prefix { text: owned(), prefix: prefix.to_owned() });
            }
            _ if text.parse::<SocketAddr>().is_ok() || (!text.contains('/') && host_and_port(text).is_some()) => {
                return Err(AddressError::LooksLikeTcp { text: owned() });
            }
            _ => unix(text, text)?,
        };
        Ok(Self { text: owned(), place })
    }
}

fn unix(text: &str, path: &str) -> Result<Place, AddressError> {
    match path.len() {
        0 => Err(AddressError::Empty),
        length if length > LONGEST_PATH => Err(AddressError::TooLong { text: text.to_owned(), length }),
        _ => Ok(Place::Unix(PathBuf::from(path))),
    }
}

fn host_and_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse::<u16>().ok().filter(|port| *port != 0)?;
    (!host.is_empty()).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Result<Place, AddressError> {
        let address: Address = text.parse()?;
        assert_eq!(address.to_string(), text, "the label is what the user wrote");
        Ok(address.place)
    }

    #[test]
    fn the_four_forms_are_understood() {
        let tcp = |host: &str, port| Ok(Place::Tcp { host: host.to_owned(), port });
        assert_eq!(place("/run/haproxy/admin.sock"), Ok(Place::Unix("/run/haproxy/admin.sock".into())));
        assert_eq!(place("run/a@b.sock"), Ok(Place::Unix("run/a@b.sock".into())));
        assert_eq!(place("unix@/run/admin.sock"), Ok(Place::Unix("/run/admin.sock".into())));
        assert_eq!(place("ipv4@127.0.0.1:9999"), tcp("127.0.0.1", 9999));
        assert_eq!(place("ipv4@haproxy:9999"), tcp("haproxy", 9999));
        assert_eq!(place("ipv6@[::1]:9999"), tcp("::1", 9999));
        assert_eq!(place("ipv6@::1:9999"), tcp("::1", 9999));
    }

    #[test]
    fn mistakes_are_named() {
        let text = |text: &str| text.to_owned();
        assert_eq!(place(""), Err(AddressError::Empty));
        assert_eq!(place("unix@"), Err(AddressError::Empty));
        assert_eq!(
            place("abns@haproxy"),
            Err(AddressError::Prefix { text: text("abns@haproxy"), prefix: text("abns") })
        );
        assert_eq!(place("127.0.0.1:9999"), Err(AddressError::LooksLikeTcp { text: text("127.0.0.1:9999") }));
        assert_eq!(place("haproxy:9999"), Err(AddressError::LooksLikeTcp { text: text("haproxy:9999") }));
        assert_eq!(place("[::1]:9999"), Err(AddressError::LooksLikeTcp { text: text("[::1]:9999") }));
        for bad in ["ipv4@127.0.0.1", "ipv4@:99", "ipv4@h:0", "ipv4@h:65536", "ipv4@::1:99"] {
            assert_eq!(place(bad), Err(AddressError::HostPort { text: text(bad) }), "{bad}");
        }
        assert_eq!(place("ipv6@localhost:99"), Err(AddressError::Ipv6 { text: text("ipv6@localhost:99") }));
        let long = format!("/{}", "x".repeat(LONGEST_PATH));
        assert_eq!(place(&long), Err(AddressError::TooLong { text: long.clone(), length: LONGEST_PATH + 1 }));
    }
}
