//! The variables: their names, their defaults as one would write them, and what they mean.

/// One variable.
#[derive(Debug)]
pub(super) struct Variable {
    pub(super) name: &'static str,
    /// Read by the same parser as a value from the environment; empty when there is none.
    pub(super) default: &'static str,
    pub(super) meaning: &'static str,
}

const fn variable(name: &'static str, default: &'static str, meaning: &'static str) -> Variable {
    Variable { name, default, meaning }
}

pub(super) static CERTS: Variable =
    variable("STAPLER_CERTS", "/etc/haproxy/certs", "files, directories or crt-lists, comma-separated");
pub(super) static SOCKETS: Variable = variable(
    "STAPLER_SOCKETS",
    "/var/run/haproxy/admin.sock",
    "HAProxy's admin or master sockets, comma-separated: a path, unix@PATH, ipv4@HOST:PORT, ipv6@[ADDR]:PORT",
);
pub(super) static PATH_MAP: Variable = variable(
    "STAPLER_PATH_MAP",
    "",
    "HAPROXY_PREFIX=OWN_PREFIX, comma-separated, for volumes mounted at different paths",
);
pub(super) static STATE_DIR: Variable = variable(
    "STAPLER_STATE_DIR",
    "/var/lib/haproxy-stapler",
    "verified staples and downloaded issuers, for a start that needs no network",
);
pub(super) static OCSP_FILES: Variable =
    variable("STAPLER_OCSP_FILES", "auto", "auto: keep CERT.ocsp beside each certificate where that is safe; never");
pub(super) static REFRESH_INTERVAL: Variable =
    variable("STAPLER_REFRESH_INTERVAL", "1h", "the longest time between two looks at a certificate");
pub(super) static SCAN_INTERVAL: Variable = variable(
    "STAPLER_SCAN_INTERVAL",
    "10s",
    "how often certificate files and HAProxy's list of certificates are looked at",
);
pub(super) static TIMEOUT: Variable = variable("STAPLER_TIMEOUT", "10s", "total deadline of one fetch");
pub(super) static CONCURRENCY: Variable = variable("STAPLER_CONCURRENCY", "32", "fetches in flight per responder host");
pub(super) static ON_REVOKED: Variable =
    variable("STAPLER_ON_REVOKED", "staple", "a CA's answer 'revoked': staple it or withhold it");
pub(super) static RESPONDERS: Variable = variable(
    "STAPLER_RESPONDERS",
    "",
    "responders to ask elsewhere or not at all: HOST=URL or HOST=off, comma-separated",
);
pub(super) static INCLUDE: Variable =
    variable("STAPLER_INCLUDE", "", "globs of the certificate names to look after, comma-separated; none means all");
pub(super) static EXCLUDE: Variable =
    variable("STAPLER_EXCLUDE", "", "globs of the certificate names to leave alone, comma-separated");
pub(super) static PROBES: Variable =
    variable("STAPLER_PROBES", "", "HAProxy frontends to check by handshake, comma-separated: HOST:PORT[/SERVERNAME]");
pub(super) static LISTEN: Variable = variable("STAPLER_LISTEN", "0.0.0.0:10093", "address of the HTTP endpoints");
pub(super) static METRICS_PER_CERTIFICATE: Variable =
    variable("STAPLER_METRICS_PER_CERTIFICATE", "true", "series for each certificate: true or false");
pub(super) static LOG: Variable =
    variable("STAPLER_LOG", "info", "log filter: error, warn, info, debug, trace, or TARGET=LEVEL, comma-separated");
pub(super) static LOG_FORMAT: Variable = variable("STAPLER_LOG_FORMAT", "text", "form of log lines: text or json");

/// In the order of the documentation.
pub(super) static ALL: [&Variable; 18] = [
    &CERTS,
    &SOCKETS,
    &PATH_MAP,
    &STATE_DIR,
    &OCSP_FILES,
    &REFRESH_INTERVAL,
    &SCAN_INTERVAL,
    &TIMEOUT,
    &CONCURRENCY,
    &ON_REVOKED,
    &RESPONDERS,
    &INCLUDE,
    &EXCLUDE,
    &PROBES,
    &LISTEN,
    &METRICS_PER_CERTIFICATE,
    &LOG,
    &LOG_FORMAT,
];

/// Read by the HTTP client itself, upper case first; here only to be shown.
pub(super) static PROXIES: [Variable; 3] = [
    variable("HTTP_PROXY", "", "proxy for http responders; lower case too"),
    variable("HTTPS_PROXY", "", "proxy for https responders; lower case too"),
    variable("NO_PROXY", "", "hosts asked without a proxy; lower case too"),
];

/// What to say about a variable with our prefix that is none of ours.
pub(super) fn warning(name: &str) -> Option<String> {
    if is_service_link(name) {
        return None;
    }
    // Pairs of letters in common find `SCAN_INTERVAL` for `INTERVAL`, which an edit distance alone would not; the
    // distance decides between names that have none.
    let asked = name.trim_start_matches(super::PREFIX).to_ascii_uppercase();
    let likeness = |variable: &Variable| {
        let own = variable.name.trim_start_matches(super::PREFIX);
        (strsim::sorensen_dice(own, &asked), strsim::normalized_levenshtein(own, &asked))
    };
    let nearest = ALL.iter().max_by(|one, other| {
        let ((one, tie), (other, other_tie)) = (likeness(one), likeness(other));
        one.total_cmp(&other).then(tie.total_cmp(&other_tie))
    })?;
    Some(format!("{name} is not a setting and is ignored; the nearest one is {}", nearest.name))
}

/// Kubernetes tells every pod about a Service named `stapler` by such variables.
fn is_service_link(name: &str) -> bool {
    name == "STAPLER_PORT" || name.starts_with("STAPLER_PORT_") || name.starts_with("STAPLER_SERVICE_")
}
