//! Where to knock, and whom to ask for. No IO.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use url::Host;

/// A TLS server, and the name it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    host: Host,
    port: u16,
    server_name: Option<String>,
}

/// Why a text is no target, as it follows the quoted text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// There is no port, or it is none.
    #[error("expected HOST:PORT or HOST:PORT/SERVERNAME, for example '127.0.0.1:443/www.example.com'")]
    Form,
    /// What stands before the port is neither a name nor an address.
    #[error("expected a host name, an IPv4 address or an IPv6 address in brackets before the port")]
    Host,
    /// The server name is none, or an address.
    #[error("expected a DNS name as the server name: RFC 6066 section 3 knows no addresses there")]
    ServerName,
}

impl Target {
    /// Where, without the name: `127.0.0.1:443`, `[::1]:443`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The host as a resolver takes it: an IPv6 address without its brackets.
    #[must_use]
    pub fn host(&self) -> String {
        match &self.host {
            Host::Ipv6(address) => address.to_string(),
            other => other.to_string(),
        }
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The name to ask for (SNI). That of the host if none was given, and none where the host is an address.
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        match (&self.server_name, &self.host) {
            (Some(name), _) => Some(name),
            (None, Host::Domain(host)) => Some(host),
            (None, Host::Ipv4(_) | Host::Ipv6(_)) => None,
        }
    }

    /// The same server, asked for another name.
    ///
    /// # Errors
    /// When that is no DNS name.
    pub fn asked_for(&self, server_name: &str) -> Result<Self, TargetError> {
        let Ok(Host::Domain(server_name)) = Host::parse(server_name) else { return Err(TargetError::ServerName) };
        // The host's own name goes without saying: the same target is the same value, however it is written.
        let is_own = matches!(&self.host, Host::Domain(host) if *host == server_name);
        Ok(Self { server_name: Some(server_name).filter(|_| !is_own), ..self.clone() })
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, server_name) = match text.split_once('/') {
            Some((address, server_name)) => (address, Some(server_name.trim())),
            None => (text, None),
        };
        let (host, port) = address.trim().rsplit_once(':').ok_or(TargetError::Form)?;
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|port| digits && *port != 0).ok_or(TargetError::Form)?;
        if host.parse::<Ipv6Addr>().is_ok() {
            // `::1:443` may mean two things.
            return Err(TargetError::Host);
        }
        let host = Host::parse(host).map_err(|_| TargetError::Host)?;
        let target = Self { host, port, server_name: None };
        match server_name {
            Some(name) => target.asked_for(name),
            None => Ok(target),
        }
    }
}

/// As it is written in the settings.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address())?;
        self.server_name.as_ref().map_or(Ok(()), |name| write!(f, "/{name}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hosts_ports_and_names_are_read() {
        for (text, address, host, name) in [
            ("127.0.0.1:443", "127.0.0.1:443", "127.0.0.1", None),
            ("127.0.0.1:443/a.test", "127.0.0.1:443", "127.0.0.1", Some("a.test")),
            ("[::1]:8443 / a.test", "[::1]:8443", "::1", Some("a.test")),
            ("haproxy:443", "haproxy:443", "haproxy", Some("haproxy")),
            ("WWW.Example.com:443", "www.example.com:443", "www.example.com", Some("www.example.com")),
            ("haproxy_1:443/b.test", "haproxy_1:443", "haproxy_1", Some("b.test")),
            ("10.0.0.1:443/bücher.test", "10.0.0.1:443", "10.0.0.1", Some("xn--bcher-kva.test")),
        ] {
            let target: Target = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(
                (target.address().as_str(), target.host().as_str(), target.server_name()),
                (address, host, name)
            );
            assert_eq!(target.to_string().parse(), Ok(target));
        }
        let same: Target = "a.test:443/A.test".parse().unwrap();
        assert_eq!(Ok(same), "a.test:443".parse());
    }

    #[test]
    fn what_is_no_target_is_told_why() {
        for (text, error) in [
            ("", TargetError::Form),
            ("127.0.0.1", TargetError::Form),
            ("127.0.0.1:", TargetError::Form),
            ("127.0.0.1:+443", TargetError::Form),
            ("127.0.0.1:0", TargetError::Form),
            ("127.0.0.1:65536", TargetError::Form),
            (":443", TargetError::Host),
            ("a b:443", TargetError::Host),
            ("::1:443", TargetError::Host),
            ("https://a.test:443", TargetError::Form),
            ("a.test:443/", TargetError::ServerName),
            ("a.test:443/127.0.0.1", TargetError::ServerName),
            ("a.test:443/b/c", TargetError::ServerName),
        ] {
            assert_eq!(text.parse::<Target>(), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,60}") {
            if let Ok(target) = text.parse::<Target>() {
                prop_assert_eq!(target.to_string().parse(), Ok(target));
            }
        }
    }
}
