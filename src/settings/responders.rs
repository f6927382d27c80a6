//! Responders to ask elsewhere than the certificate says, or not at all.

use std::collections::BTreeMap;

use url::Url;

/// What to do instead of asking a responder at its own address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Override {
    /// Ask there.
    Url(Url),
    /// Ask nobody.
    Off,
}

/// Overrides by responder host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponderOverrides(BTreeMap<String, Override>);

/// One `HOST=URL` or `HOST=off`; the host as [`key`] writes it.
pub(super) fn parse(text: &str) -> Result<(String, Override), String> {
    let (host, target) = text
        .split_once('=')
        .map(|(host, target)| (host.trim(), target.trim()))
        .filter(|(host, target)| !host.is_empty() && !target.is_empty())
        .ok_or("expected HOST=URL or HOST=off, for example 'ocsp.example.com=http://10.0.0.1/ocsp'")?;
    let host = key(host).ok_or("expected a host before the '=', without a scheme or a path")?;
    if target.eq_ignore_ascii_case("off") {
        return Ok((host, Override::Off));
    }
    let url = Url::parse(target)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or("expected an http or https URL, or 'off', after the '='")?;
    Ok((host, Override::Url(url)))
}

impl ResponderOverrides {
    pub(super) fn new(overrides: Vec<(String, Override)>) -> Result<Self, (String, String)> {
        let mut by_host = BTreeMap::new();
        for (host, instead) in overrides {
            if by_host.contains_key(&host) {
                return Err((host, "this host is overridden twice".to_owned()));
            }
            by_host.insert(host, instead);
        }
        Ok(Self(by_host))
    }

    /// What to do about a responder. `host` may carry a port: an override for exactly that port comes before one for
    /// the host, which counts for all its ports.
    #[must_use]
    pub fn find(&self, host: &str) -> Option<&Override> {
        let key = key(host)?;
        self.0.get(&key).or_else(|| {
            let (host, port) = key.rsplit_once(':')?;
            port.bytes().all(|byte| byte.is_ascii_digit()).then(|| self.0.get(host)).flatten()
        })
    }
}

/// The host in its normal form, in lower case, with its port unless that is 80.
fn key(host: &str) -> Option<String> {
    let url = Url::parse(&format!("http://{host}/")).ok()?;
    let is_bare = url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    let name = url.host_str().filter(|_| is_bare)?;
    Some(url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}")))
}
