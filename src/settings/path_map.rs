//! Volumes that HAProxy and this program mount at different paths.

use std::path::{Path, PathBuf};

/// One volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    haproxy: PathBuf,
    own: PathBuf,
}

impl Mapping {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (haproxy, own) = text
            .split_once('=')
            .map(|(haproxy, own)| (haproxy.trim(), own.trim()))
            .filter(|(haproxy, own)| !haproxy.is_empty() && !own.is_empty())
            .ok_or("expected HAPROXY_PREFIX=OWN_PREFIX, for example '/etc/haproxy/certs=/certs'")?;
        Ok(Self { haproxy: haproxy.into(), own: own.into() })
    }
}

/// HAProxy's names of files, and where this program finds them. A prefix is whole path components: `/certs` says
/// nothing about `/certs-old`. Of several prefixes the longest counts; a name under none is the same on both sides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathMap(Vec<Mapping>);

impl PathMap {
    /// The error names the mapping that contradicts another.
    pub(super) fn new(mappings: Vec<Mapping>) -> Result<Self, (String, String)> {
        for (at, mapping) in mappings.iter().enumerate() {
            if let Some(earlier) = mappings.iter().take(at).find(|earlier| earlier.haproxy == mapping.haproxy) {
                return Err((
                    format!("{}={}", mapping.haproxy.display(), mapping.own.display()),
                    format!("{} is mapped to {} already", earlier.haproxy.display(), earlier.own.display()),
                ));
            }
        }
        Ok(Self(mappings))
    }

    /// Where the file that HAProxy calls `haproxy_name` is found here. A name in a crt-store (`@store/alias`) is no
    /// path, but a map may give it one: `@store=/certs`.
    #[must_use]
    pub fn to_own(&self, haproxy_name: &str) -> PathBuf {
        let name = Path::new(haproxy_name);
        replace(name, self.0.iter().map(|mapping| (&*mapping.haproxy, &*mapping.own)))
            .unwrap_or_else(|| name.to_owned())
    }

    /// What HAProxy would call the file that is found here at `own`.
    #[must_use]
    pub fn to_haproxy(&self, own: &Path) -> String {
        let name = replace(own, self.0.iter().map(|mapping| (&*mapping.own, &*mapping.haproxy)));
        name.as_deref().unwrap_or(own).to_string_lossy().into_owned()
    }
}

fn replace<'a>(path: &Path, prefixes: impl Iterator<Item = (&'a Path, &'a Path)>) -> Option<PathBuf> {
    let (rest, to) = prefixes
        .filter_map(|(from, to)| path.strip_prefix(from).ok().map(|rest| (rest, to)))
        .min_by_key(|(rest, _)| rest.components().count())?;
    // Joining an empty path would leave a trailing slash, and HAProxy's names are compared as text.
    Some(if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) })
}
