//! Whether to follow a redirect, and how. Pure.
//!
//! OCSP URLs come from certificates, and whoever answers them says where to go next. So each step is judged anew: where
//! it leads by its text here, to which addresses its host resolves where the connection is made ([`Reach`]).

use url::{Host, Url};

use super::{Copies, Exchange, Fault, Moved, Reach};
use crate::uri::{self, LONGEST_URL};

/// Enough for a CA that moved.
const MOST_REDIRECTS: usize = 3;
/// In letters, of where a redirect leads.
const LONGEST_QUOTE: usize = 200;

impl Moved {
    /// Whether a status code is a redirect to follow. 300 leaves a choice to people, 304 answers a question that was not
    /// asked, 305 and 306 are gone (RFC 9110 section 15.4).
    #[must_use]
    pub const fn is_one(status: u16) -> bool {
        matches!(status, 301 | 302 | 303 | 307 | 308)
    }
}

/// The exchange that a redirect asks for, after the URLs already asked on this way, the last one's included.
///
/// # Errors
/// When this program does not go there.
pub fn follow(exchange: &Exchange, moved: &Moved, asked: &[String]) -> Result<Exchange, Fault> {
    let refuse = |reason: String| Fault::Redirect { url: exchange.url.clone(), reason };
    let Some(location) = &moved.location else { return Err(refuse("it does not say where to".to_owned())) };
    let said = uri::excerpt(location, LONGEST_QUOTE);
    let from = Url::parse(&exchange.url).map_err(|_| Fault::Url { url: exchange.url.clone() })?;
    let to = from.join(location).map_err(|error| refuse(format!("'{said}' is no URL: {error}")))?;
    if !uri::is_http(to.as_str()) {
        return Err(refuse(format!("'{said}' is not an http(s) URL of at most {LONGEST_URL} bytes")));
    }
    if from.scheme() == "https" && to.scheme() == "http" {
        return Err(refuse(format!("'{said}' leads from https down to http")));
    }
    if !to.username().is_empty() || to.password().is_some() {
        return Err(refuse("it brings a user name of its own".to_owned()));
    }
    let reach = reach(exchange, &from, moved);
    if !reach.admits_text_of(&to) {
        return Err(refuse(format!("'{said}' is an address that only this host can reach")));
    }
    let url = String::from(to);
    if asked.contains(&url) {
        return Err(refuse(format!("it leads in a circle, back to '{said}'")));
    }
    if asked.len() > MOST_REDIRECTS {
        return Err(refuse(format!("it is the last of {} in a row", asked.len())));
    }
    // 303 asks for a GET. After 301 and 302 a client may change a POST into a GET (RFC 9110 sections 15.4.2 and 15.4.3),
    // which would leave the OCSP request behind.
    let body = exchange.body.clone().filter(|_| moved.status != 303);
    // A tag belongs to the URL it came from; a cache that is to be passed by may stand there, too.
    let copies = if exchange.copies == Copies::Unwanted { Copies::Unwanted } else { Copies::Welcome };
    Ok(Exchange { url, body, reach, copies })
}

/// Behind a proxy, who answered is not known, and the host is taken at its word.
fn reach(exchange: &Exchange, from: &Url, moved: &Moved) -> Reach {
    let by_this_host = match moved.by {
        Some(address) => address.to_canonical().is_loopback(),
        None => is_loopback(from),
    };
    if by_this_host && exchange.reach != Reach::Elsewhere { Reach::ThisHost } else { Reach::Elsewhere }
}

impl Reach {
    /// Whether an exchange may go to this URL, as far as its text tells: an address, or `localhost` (RFC 6761 section
    /// 6.3). To what other names resolve is looked at when the connection is made.
    #[must_use]
    pub fn admits_text_of(self, url: &Url) -> bool {
        match url.host() {
            Some(Host::Ipv4(address)) => self.admits(address.into()),
            Some(Host::Ipv6(address)) => self.admits(address.into()),
            Some(Host::Domain(_)) => self != Self::Elsewhere || !is_loopback(url),
            None => false,
        }
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: &str = "http://ocsp.example/MFo";

    fn moved(location: &str) -> Moved {
        Moved { status: 302, location: Some(location.to_owned()), by: Some([192, 0, 2, 1].into()) }
    }

    fn followed(exchange: &Exchange, moved: &Moved) -> Result<Exchange, String> {
        follow(exchange, moved, std::slice::from_ref(&exchange.url)).map_err(|fault| {
            assert_eq!(fault.kind(), "redirect");
            fault.to_string()
        })
    }

    fn get() -> Exchange {
        Exchange::get(FROM.to_owned())
    }

    #[test]
    fn a_redirect_is_followed_from_elsewhere_to_elsewhere() {
        for (location, url) in [
            ("http://other.example/MFo", "http://other.example/MFo"),
            ("https://ocsp.example/MFo", "https://ocsp.example/MFo"),
            ("/ocsp/MFo", "http://ocsp.example/ocsp/MFo"),
            ("//other.example:8080/x", "http://other.example:8080/x"),
            ("http://10.0.0.1/", "http://10.0.0.1/"),
        ] {
            let next = followed(&get(), &moved(location)).unwrap();
            assert_eq!(next, Exchange { reach: Reach::Elsewhere, ..Exchange::get(url.to_owned()) });
        }
    }

    #[test]
    fn a_post_stays_one_unless_a_get_is_asked_for() {
        let post = Exchange::post(FROM.to_owned(), vec![0x30]);
        for (status, method) in [(301, "POST"), (302, "POST"), (303, "GET"), (307, "POST"), (308, "POST")] {
            assert!(Moved::is_one(status));
            let next = followed(&post, &Moved { status, ..moved("/x") }).unwrap();
            assert_eq!(next.method(), method, "{status}");
        }
        assert!(![200, 300, 304, 305, 306, 400].into_iter().any(Moved::is_one));
    }

    #[test]
    fn what_is_not_followed_is_named() {
        for (location, words) in [
            ("file:///etc/passwd", "'file:///etc/passwd' is not an http(s) URL"),
            ("ftp://ocsp.example/", "is not an http(s) URL"),
            ("http://", "'http://' is no URL: empty host"),
            ("http://admin:secret@router.example/", "a user name of its own"),
            (FROM, "in a circle"),
            ("MFo", "in a circle"),
        ] {
            let reason = followed(&get(), &moved(location)).unwrap_err();
            assert!(reason.contains(words) && reason.contains(FROM), "{location}: {reason}");
        }
        assert!(followed(&get(), &Moved { location: None, ..moved("") }).unwrap_err().contains("does not say where"));
        let secure = Exchange::get("https://ocsp.example/".to_owned());
        assert!(followed(&secure, &moved("http://ocsp.example/")).unwrap_err().contains("down to http"));
        let long = moved(&format!("/{}", "x".repeat(1 << 20)));
        let reason = followed(&get(), &long).unwrap_err();
        assert!(reason.len() < 1000, "evidence is no copy: {reason}");
    }

    #[test]
    fn a_row_of_redirects_ends() {
        let mut exchange = get();
        let mut asked = vec![exchange.url.clone()];
        for step in 0..MOST_REDIRECTS {
            exchange = follow(&exchange, &moved(&format!("/{step}")), &asked).unwrap();
            asked.push(exchange.url.clone());
        }
        let end = follow(&exchange, &moved("/again"), &asked).unwrap_err();
        assert!(end.to_string().contains("the last of 4 in a row"), "{end}");
    }

    #[test]
    fn nobody_elsewhere_leads_to_this_host_by_any_spelling() {
        for location in [
            "http://127.0.0.1/",
            "http://127.9.9.9:80/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://169.254.169.254/latest",
            "http://[fe80::1]/",
            "http://0.0.0.0/",
            "http://[::]/",
            "http://localhost/",
            "http://LOCALHOST./",
            "http://a.localhost/",
        ] {
            let reason = followed(&get(), &moved(location)).unwrap_err();
            assert!(reason.contains("only this host can reach"), "{location}: {reason}");
            let proxied = Moved { by: None, ..moved(location) };
            assert!(followed(&get(), &proxied).is_err(), "{location} behind a proxy");
        }
    }

    #[test]
    fn this_host_leads_to_itself_but_not_to_its_link_nor_back_from_elsewhere() {
        let here = Exchange::get("http://ca.internal/".to_owned());
        let by_here = |location: &str| Moved { by: Some([127, 0, 0, 1].into()), ..moved(location) };
        let next = followed(&here, &by_here("http://127.0.0.1:8080/")).unwrap();
        assert_eq!(next.reach, Reach::ThisHost);
        assert!(followed(&here, &by_here("http://169.254.169.254/")).is_err());
        let away = followed(&here, &moved("http://ocsp.example/")).unwrap();
        assert_eq!(away.reach, Reach::Elsewhere);
        assert!(followed(&away, &by_here("http://127.0.0.1:8080/")).is_err(), "once elsewhere, always elsewhere");
        // Behind a proxy, only the text tells.
        let local = Exchange::get("http://localhost/".to_owned());
        assert!(followed(&local, &Moved { by: None, ..moved("http://127.0.0.1/") }).is_ok());
    }
}
