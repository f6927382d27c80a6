//! What certificates say about where to ask: which URLs this program asks, and how a responder is named in labels.

use url::Url;

/// No CA names more responders, or more places of its own certificate, than a few: each costs a share of the deadline and
/// of the requests that may be sent.
pub const MOST_URLS: usize = 4;
/// In bytes; longer than any CA's, and short enough to be told about in full.
pub const LONGEST_URL: usize = 2048;

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
    url.len() <= LONGEST_URL
        && Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// The URLs of a certificate that this program asks, in order.
pub fn askable(urls: &[String]) -> impl Iterator<Item = &String> {
    urls.iter().filter(|url| is_http(url)).take(MOST_URLS)
}

/// The first letters of a text that a stranger wrote: evidence, not a copy.
#[must_use]
pub fn excerpt(text: &str, letters: usize) -> String {
    match text.char_indices().nth(letters) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
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
        assert!(!is_http(&format!("http://ocsp.example/{}", "x".repeat(LONGEST_URL))));
    }

    #[test]
    fn a_certificate_may_name_a_few_places() {
        let urls: Vec<String> = ["ldap:///CN=CA".to_owned()]
            .into_iter()
            .chain((0..100).map(|number| format!("http://{number}.example/")))
            .collect();
        let asked: Vec<&String> = askable(&urls).collect();
        assert_eq!(asked, urls[1..=MOST_URLS].iter().collect::<Vec<_>>());
    }

    #[test]
    fn a_strangers_text_is_quoted_in_part() {
        assert_eq!(excerpt("short", 5), "short");
        assert_eq!(excerpt(&"ä".repeat(100_000), 5), "äääää…");
    }
}
