//! What the environment asks for, read once and whole.
//!
//! Every mistake is collected and told with the variable's full name, so that one restart is enough to mend them all.
//! The source is an iterator of pairs, never the environment itself.

mod filter;
mod parse;
mod path_map;
mod responders;
mod variables;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

pub use self::filter::NameFilter;
pub use self::path_map::PathMap;
pub use self::responders::{Override, ResponderOverrides};
use self::variables::Variable;
use crate::haproxy::{Address, AddressError};
use crate::probe::{Target, TargetError};

/// What every variable of ours starts with.
const PREFIX: &str = "STAPLER_";

/// Whether `CERT.ocsp` is kept beside each certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OcspFiles {
    /// Where that is safe, so that HAProxy's next start is stapled.
    Auto,
    /// No file is ever written or removed beside a certificate.
    Never,
}

/// What becomes of a verified answer that says "revoked".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRevoked {
    /// It is stapled, as HAProxy's own updater does.
    Staple,
    /// It is not given to HAProxy.
    Withhold,
}

/// How many series `/metrics` has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cardinality {
    /// Series for each certificate beside the totals.
    PerCertificate,
    /// The totals only.
    Aggregate,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Every setting, valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Files, directories and crt-lists to look for certificates in.
    pub certs: Vec<PathBuf>,
    /// HAProxy's sockets.
    pub sockets: Vec<Address>,
    /// Where HAProxy's paths are found here.
    pub path_map: PathMap,
    /// Where verified staples and downloaded issuers are kept.
    pub state_dir: PathBuf,
    /// Whether `.ocsp` files are kept.
    pub ocsp_files: OcspFiles,
    /// The longest time between two looks at a certificate.
    pub refresh_interval: Duration,
    /// The time between two looks at the files and at HAProxy's list.
    pub scan_interval: Duration,
    /// Total deadline of one fetch.
    pub timeout: Duration,
    /// Fetches in flight per responder host.
    pub concurrency: NonZeroUsize,
    /// What becomes of a "revoked".
    pub on_revoked: OnRevoked,
    /// Responders to ask elsewhere, or not at all.
    pub responders: ResponderOverrides,
    /// Which certificates are looked after, by name.
    pub filter: NameFilter,
    /// Frontends to look at by handshake.
    pub probes: Vec<Target>,
    /// Where HTTP is served.
    pub listen: SocketAddr,
    /// Whether there are series per certificate.
    pub metrics_per_certificate: Cardinality,
    /// The log filter, as written: only the subscriber that is built from it knows its grammar.
    pub log: String,
    /// The form of log lines.
    pub log_format: LogFormat,
    /// What the environment gave, by variable name and fit to be shown: passwords are hidden.
    given: BTreeMap<&'static str, String>,
}

/// Settings, and what deserves a word though it stops nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The settings.
    pub settings: Settings,
    /// A sentence for each variable that looks meant for this program and is not known to it.
    pub warnings: Vec<String>,
}

/// One variable, or one item of its list, that cannot be what was meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable}='{value}': {expected}")]
pub struct Mistake {
    /// The variable's full name.
    pub variable: &'static str,
    /// The value, or the one item of the list. A password in a URL is hidden.
    pub value: String,
    /// What is wrong with it, or what would be right.
    pub expected: String,
}

/// The environment asks for something impossible; every mistake in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct InvalidSettings {
    /// In the order of the variables in the documentation; never empty.
    pub mistakes: Vec<Mistake>,
    /// As in [`Parsed`]: a misspelt name may be what the mistakes come from.
    pub warnings: Vec<String>,
}

impl fmt::Display for InvalidSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid settings:")?;
        self.mistakes.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}

/// One line of the `settings` command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The variable's full name.
    pub name: &'static str,
    /// The value in force, as one would write it; empty when there is none. Passwords in URLs are hidden.
    pub value: String,
    /// Where the value comes from.
    pub source: Source,
    /// What it does.
    pub meaning: &'static str,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody said anything.
    Default,
    /// The environment.
    Environment,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Default => "default",
            Self::Environment => "environment",
        })
    }
}

/// The variables as envy finds them. All text: envy stops at the first value it cannot convert and forgets the prefix
/// when it says so, and neither trims items nor takes an empty variable for an absent one.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Raw {
    certs: Option<String>,
    sockets: Option<String>,
    path_map: Option<String>,
    state_dir: Option<String>,
    ocsp_files: Option<String>,
    refresh_interval: Option<String>,
    scan_interval: Option<String>,
    timeout: Option<String>,
    concurrency: Option<String>,
    on_revoked: Option<String>,
    responders: Option<String>,
    include: Option<String>,
    exclude: Option<String>,
    probes: Option<String>,
    listen: Option<String>,
    metrics_per_certificate: Option<String>,
    log: Option<String>,
    log_format: Option<String>,
}

impl Settings {
    /// Reads the settings from an environment. Variables of other programs may be in it.
    ///
    /// # Errors
    /// With every mistake there is.
    pub fn parse(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Parsed, InvalidSettings> {
        let mut ours = BTreeMap::new();
        let mut unknown = BTreeSet::new();
        let mut given = BTreeMap::new();
        let mut proxies = BTreeMap::new();
        for (name, value) in pairs {
            if variables::ALL.iter().any(|variable| variable.name == name) {
                // An environment may hold a name twice; the first one is what everyone else sees.
                ours.entry(name).or_insert(value);
            } else if name.starts_with(PREFIX) {
                unknown.insert(name);
            } else {
                proxies.entry(name).or_insert(value);
            }
        }
        for proxy in &variables::PROXIES {
            // The HTTP client takes the first that is there, even an empty one.
            let found = proxies.get(proxy.name).or_else(|| proxies.get(&proxy.name.to_ascii_lowercase()));
            if let Some(value) = found.map(|value| value.trim()).filter(|value| !value.is_empty()) {
                given.insert(proxy.name, parse::without_password(value));
            }
        }
        let warnings: Vec<String> = unknown.iter().filter_map(|name| variables::warning(name)).collect();
        // Nothing here can fail: each field is optional text and the names are known to be distinct.
        let raw: Raw = envy::prefixed(PREFIX).from_iter(ours).unwrap_or_default();
        let mut reader = Reader { given, mistakes: Vec::new() };
        match read(raw, &mut reader) {
            Some(settings) if reader.mistakes.is_empty() => {
                Ok(Parsed { settings: Self { given: reader.given, ..settings }, warnings })
            }
            _ => Err(InvalidSettings { mistakes: reader.mistakes, warnings }),
        }
    }

    /// Every setting with the value in force, in the order of the documentation.
    #[must_use]
    pub fn describe(&self) -> Vec<Setting> {
        variables::ALL
            .into_iter()
            .chain(&variables::PROXIES)
            .map(|variable| {
                let (value, source) = match self.given.get(variable.name) {
                    Some(value) => (value.clone(), Source::Environment),
                    None => (variable.default.to_owned(), Source::Default),
                };
                Setting { name: variable.name, value, source, meaning: variable.meaning }
            })
            .collect()
    }
}

/// `None` only after a mistake was noted.
fn read(raw: Raw, reader: &mut Reader) -> Option<Settings> {
    let certs = reader.list(&variables::CERTS, raw.certs, |item| Ok(PathBuf::from(item)));
    let sockets = reader
        .list(&variables::SOCKETS, raw.sockets, |item| item.parse().map_err(|error: AddressError| error.to_string()));
    let mappings = reader.list(&variables::PATH_MAP, raw.path_map, path_map::Mapping::parse);
    let path_map = reader.whole(&variables::PATH_MAP, mappings, PathMap::new);
    let state_dir = reader.single(&variables::STATE_DIR, raw.state_dir, |text| Ok(PathBuf::from(text)));
    let ocsp_files = reader.single(&variables::OCSP_FILES, raw.ocsp_files, |text| {
        parse::choice(text, &[("auto", OcspFiles::Auto), ("never", OcspFiles::Never)])
    });
    let refresh_interval = reader.single(&variables::REFRESH_INTERVAL, raw.refresh_interval, |text| {
        parse::duration(text, &parse::REFRESH_INTERVAL)
    });
    let scan_interval = reader
        .single(&variables::SCAN_INTERVAL, raw.scan_interval, |text| parse::duration(text, &parse::SCAN_INTERVAL));
    let timeout = reader.single(&variables::TIMEOUT, raw.timeout, |text| parse::duration(text, &parse::TIMEOUT));
    let concurrency = reader.single(&variables::CONCURRENCY, raw.concurrency, parse::concurrency);
    let on_revoked = reader.single(&variables::ON_REVOKED, raw.on_revoked, |text| {
        parse::choice(text, &[("staple", OnRevoked::Staple), ("withhold", OnRevoked::Withhold)])
    });
    let overrides = reader.list(&variables::RESPONDERS, raw.responders, responders::parse);
    let responders = reader.whole(&variables::RESPONDERS, overrides, ResponderOverrides::new);
    let include = reader.list(&variables::INCLUDE, raw.include, filter::parse);
    let exclude = reader.list(&variables::EXCLUDE, raw.exclude, filter::parse);
    let probes = reader
        .list(&variables::PROBES, raw.probes, |item| item.parse().map_err(|error: TargetError| error.to_string()));
    let listen = reader.single(&variables::LISTEN, raw.listen, parse::listen);
    let metrics_per_certificate =
        reader.single(&variables::METRICS_PER_CERTIFICATE, raw.metrics_per_certificate, |text| {
            parse::choice(text, &[("true", Cardinality::PerCertificate), ("false", Cardinality::Aggregate)])
        });
    let log = reader.single(&variables::LOG, raw.log, parse::log);
    let log_format = reader.single(&variables::LOG_FORMAT, raw.log_format, |text| {
        parse::choice(text, &[("text", LogFormat::Text), ("json", LogFormat::Json)])
    });
    Some(Settings {
        certs: certs?,
        sockets: sockets?,
        path_map: path_map?,
        state_dir: state_dir?,
        ocsp_files: ocsp_files?,
        refresh_interval: refresh_interval?,
        scan_interval: scan_interval?,
        timeout: timeout?,
        concurrency: concurrency?,
        on_revoked: on_revoked?,
        responders: responders?,
        filter: NameFilter::new(include?, exclude?),
        probes: probes?,
        listen: listen?,
        metrics_per_certificate: metrics_per_certificate?,
        log: log?,
        log_format: log_format?,
        given: BTreeMap::new(),
    })
}

/// Reads variables and notes the mistakes in them.
struct Reader {
    given: BTreeMap<&'static str, String>,
    mistakes: Vec<Mistake>,
}

impl Reader {
    /// A variable of one value, or its default.
    fn single<T>(
        &mut self,
        variable: &'static Variable,
        raw: Option<String>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let raw = raw.unwrap_or_default();
        let text = raw.trim();
        let text = if text.is_empty() {
            variable.default
        } else {
            self.given.insert(variable.name, text.to_owned());
            text
        };
        self.parse(variable, text, parse)
    }

    /// A variable of comma-separated values, or its default. Each wrong item is a mistake of its own.
    fn list<T: PartialEq>(
        &mut self,
        variable: &'static Variable,
        raw: Option<String>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let raw = raw.unwrap_or_default();
        let mut texts: Vec<&str> = items(&raw).collect();
        if texts.is_empty() {
            texts = items(variable.default).collect();
        } else {
            let shown: Vec<String> = texts.iter().copied().map(parse::without_password).collect();
            self.given.insert(variable.name, shown.join(","));
        }
        let parsed: Vec<Option<T>> = texts.into_iter().map(|text| self.parse(variable, text, &parse)).collect();
        let parsed: Option<Vec<T>> = parsed.into_iter().collect();
        parsed.map(|items| {
            items.into_iter().fold(Vec::new(), |mut distinct, item| {
                if !distinct.contains(&item) {
                    distinct.push(item);
                }
                distinct
            })
        })
    }

    /// What a list makes as a whole. The error names the item that does not fit the others.
    fn whole<I, T>(
        &mut self,
        variable: &'static Variable,
        items: Option<Vec<I>>,
        make: impl Fn(Vec<I>) -> Result<T, (String, String)>,
    ) -> Option<T> {
        make(items?)
            .map_err(|(value, expected)| self.mistakes.push(Mistake { variable: variable.name, value, expected }))
            .ok()
    }

    fn parse<T>(
        &mut self,
        variable: &'static Variable,
        text: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        parse(text)
            .map_err(|expected| {
                let value = parse::without_password(text);
                self.mistakes.push(Mistake { variable: variable.name, value, expected });
            })
            .ok()
    }
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests;
