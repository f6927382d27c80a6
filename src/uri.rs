//! What certificates say about where to ask: which URLs this program asks, and how a responder is named in labels.

use url::Url;

/// The host of a URL, as metrics and per-host limits know it; with its port when that is not the scheme's own.
#[must_use]
pub fn host_of(url: &str) -> String {
    let Ok(parsed) = Url::parse(url) else { return "invalid".to_owned() };
    let host = parsed.host_str().unwrap_or("invalid").to_owned();
    match parsed.port() {
        Some(port) => format!("{host}:{port}"),
        None => host,
    }
}

/// Whether a URL is one this program asks: `ldap:` URLs are common in certificates of Active Directory.
#[must_use]
pub fn is_http(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_named_with_the_port_that_is_not_usual() {
        assert_eq!(host_of("http://ocsp.example/path"), "ocsp.example");
        assert_eq!(host_of("http://OCSP.example:80/"), "ocsp.example");
        assert_eq!(host_of("http://[2001:db8::1]:8080/"), "[2001:db8::1]:8080");
        assert_eq!(host_of("no url"), "invalid");
    }

    #[test]
    fn only_http_is_asked() {
        assert!(is_http("http://ocsp.example/") && is_http("https://ocsp.example/"));
        assert!(!is_http("ldap:///CN=CA?cACertificate") && !is_http("file:///etc/passwd") && !is_http("ocsp.example"));
    }
}
