//! What the page says, without a browser: order, selection, the sentences of a bad night, and names that want to be
//! markup.

use std::collections::BTreeSet;
use std::sync::Arc;

use haproxy_stapler::explain::explain;
use haproxy_stapler::status::{CertificateStatus, HaproxyStatus, Health, Progress, State, Status, Step, Trouble};
use haproxy_stapler::status_page::{self, Query};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use crate::samples::{
    FIRST, SECOND, catastrophe, day, down, failing, many, minutes, night, now, site, stapled, troubled, unreachable,
    unstapled, up, without_responder,
};

fn page_of(status: &Status, asked: &str) -> String {
    page_at(status, asked, now())
}

fn page_at(status: &Status, asked: &str, now: Timestamp) -> String {
    status_page::render(status, status.health(Progress::Made), &Query::parse(asked), now).unwrap()
}

/// The parts of the page that are a certificate each.
fn rows(html: &str) -> Vec<&str> {
    html.split("<tbody").skip(1).map(|row| row.split("</tbody>").next().unwrap()).collect()
}

/// The file names in the order of the page.
fn files(html: &str) -> Vec<&str> {
    let file = |row: &'_ str| row.find("class=\"name\">").map(|at| at + "class=\"name\">".len());
    rows(html).into_iter().map(|row| row[file(row).unwrap()..].split('<').next().unwrap()).collect()
}

/// The text alone, each run of spaces as one; what is no part of a line stands apart.
fn text(html: &str) -> String {
    let body = html.split("<body>").nth(1).unwrap();
    let mut text = String::new();
    for part in body.split('<') {
        let (tag, words) = part.split_once('>').unwrap_or(("", part));
        let name = tag.trim_start_matches('/').split([' ', '\n']).next().unwrap();
        if !["time", "bdi", "a", "b", "strong"].contains(&name) {
            text.push(' ');
        }
        text.push_str(words);
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The tags with the names of their attributes, without what these say.
fn skeleton(html: &str) -> Vec<String> {
    let mut tags = Vec::new();
    for part in html.split('<').skip(1) {
        let tag = part.split('>').next().unwrap();
        let mut quoted = tag.split('"');
        let mut names = quoted.next().unwrap().to_owned();
        while let (Some(_), Some(next)) = (quoted.next(), quoted.next()) {
            names.push_str(next);
        }
        tags.push(names);
    }
    tags
}

#[test]
fn the_worst_come_first_and_of_those_in_trouble_what_clients_notice_first() {
    let html = page_of(&night(), "");
    let expected = [
        "pay.example.com.pem",
        "old-api.example.com.pem",
        "shop.example.com.pem",
        "api.example.com.pem",
        "typo.pem",
        "spare.example.com.pem",
        "blog.example.com.pem",
        "mail.example.com.pem",
        "static.example.com.pem",
        "www.example.com.pem",
    ];
    assert_eq!(files(&html), expected);
    for (row, tone) in rows(&html).iter().zip(["bad", "bad", "warn", "warn", "bad", "quiet", "quiet", "ok"]) {
        assert!(row.contains(&format!("class=\"{tone}\"")), "{tone}: {row}");
    }
}

#[test]
fn every_state_has_its_word_its_count_and_its_filter() {
    for state in State::ALL {
        let mut certificate = stapled("one.pem", &[FIRST], 10);
        certificate.state = state;
        let status = site(vec![certificate, stapled("zz.pem", &[FIRST], 10)], vec![up(FIRST)]);
        let words = state.label().replace('_', " ");
        let html = page_of(&status, "");
        assert!(rows(&html).iter().any(|row| text(&format!("<body><x{row}")).contains(&words)), "{words}");
        let link = format!("href=\"?state={}\"", state.label());
        assert!(html.contains(&link), "{link}");
        let html = page_of(&status, &format!("state={}", state.label()));
        assert_eq!(rows(&html).len(), if state == State::Stapled { 2 } else { 1 });
        assert!(html.contains(&format!("value=\"{}\" selected", state.label())));
        let troubled = page_of(&status, "state=trouble");
        assert_eq!(rows(&troubled).len(), usize::from(state.is_trouble()));
    }
}

#[test]
fn the_first_look_says_what_is_wrong_and_when_clients_notice() {
    let said = text(&page_of(&night(), ""));
    assert!(said.contains("Needs attention 5 certificates, 1 frontend Clients notice now: 2 certificates."), "{said}");
    let next =
        "Clients notice next in 6 h 39 min (2026-11-25 09:52 UTC), when shop.example.com.pem is no longer stapled.";
    assert!(said.contains(next), "{said}");
    assert!(said.contains("Last pass 8 s ago · up since 2026-11-13 01:37 UTC, 12 d 1 h ago"), "{said}");
    let said = text(&page_of(&catastrophe(), ""));
    assert!(said.contains("5 certificates, 1 HAProxy, 1 frontend, 1 file or directory"), "{said}");
    assert!(said.contains("No space left on device (os error 28). Make room on that volume"), "{said}");
    assert!(said.contains("down ipv4@10.20.0.12:9999"), "{said}");
    assert!(said.contains("Look whether HAProxy runs, and whether its stats socket listens there."), "{said}");
    assert!(said.contains("/etc/haproxy/certs/stray.pem"), "{said}");
    let html = page_of(&catastrophe(), "");
    assert!(html.contains("<title>(8) Needs attention · haproxy-stapler</title>"));
    let said = text(&page_of(&day(), ""));
    assert!(said.contains("All is well 8 of 8 certificates stapled"), "{said}");
    assert!(!said.contains("Clients notice"), "{said}");
}

#[test]
fn what_is_not_known_yet_does_not_read_as_good() {
    let nothing = Status::default();
    let said = text(&page_of(&nothing, ""));
    assert!(said.contains("The first pass is under way") && said.contains("The first look is not over."), "{said}");
    let mut begun =
        site(Vec::<CertificateStatus>::new(), vec![HaproxyStatus { up: None, version: None, pid: None, ..up(FIRST) }]);
    let said = text(&page_of(&begun, ""));
    assert!(said.contains("No certificates") && said.contains("STAPLER_CERTS"), "{said}");
    assert!(said.contains("not asked yet /var/run"), "{said}");
    begun.certificates = many(3).certificates;
    let stuck = status_page::render(&begun, Health::Stuck, &Query::default(), now()).unwrap();
    assert!(text(&stuck).contains("Stuck: no progress"), "{}", text(&stuck));
    for said in [text(&page_of(&nothing, "")), said, text(&stuck)] {
        assert!(!said.contains("All is well"), "{said}");
    }
}

#[test]
fn a_row_says_why_since_when_what_to_do_and_when_clients_notice() {
    let status = night();
    let html = page_of(&status, "");
    let row = |name: &str| {
        let index = files(&html).iter().position(|file| *file == name).unwrap();
        text(&format!("<body><x{}", rows(&html)[index]))
    };
    let pay = row("pay.example.com.pem");
    for words in [
        "unstapled no word of the CA must-staple",
        "CN=pay.example.com by CN=Example Issuing CA G2,O=Example Trust serial number",
        "no staple CA asked again in 4 min 30 s",
        "serves none /var/run/haproxy/admin.sock",
        "serves none ipv4@10.20.0.12:9999",
        "Cannot connect to &#39;http://ocsp.example.com&#39;: Connection refused (os error 111).",
        "Check that this host may reach the responder (TCP 80 out), or set HTTP_PROXY.",
        "Clients get no staple, and those that honour must-staple refuse the site.",
        "So for 17 min. The last valid answer came 6 d 23 h ago; 187 attempts have failed since.",
    ] {
        assert!(pay.contains(words), "{words}: {pay}");
    }
    let shop = row("shop.example.com.pem");
    for words in [
        "refresh failing CA says good",
        "2026-11-18 09:57 2026-11-25 09:52",
        "ends in 6 h 39 min",
        "serves it /var/run/haproxy/admin.sock",
        "Clients notice in 6 h 39 min (2026-11-25 09:52 UTC), when HAProxy stops serving the staple.",
        "So for 3 h 25 min. The last valid answer came 6 d 17 h ago; 41 attempts have failed since.",
    ] {
        assert!(shop.contains(words), "{words}: {shop}");
    }
    assert!(
        row("old-api.example.com.pem").contains("Replace the certificate. Clients that check revocation refuse it.")
    );
    assert!(row("typo.pem").contains("Put the certificate into the file."), "{}", row("typo.pem"));
    assert!(!row("typo.pem").contains("Clients"), "no client was ever shown it");
    assert!(row("blog.example.com.pem").contains("It names no OCSP responder: there is nothing to staple."));
    // Every step of every certificate, with its outcome.
    for certificate in &status.certificates {
        let row = row(certificate.certificate.rsplit('/').next().unwrap());
        let mut at = row.find(" file ").unwrap_or_else(|| panic!("{row}"));
        for (step, finding) in Step::ALL.iter().zip(explain(certificate, &status)) {
            let words = format!("{} {}", step.label().replace('_', " "), finding.outcome.label().replace('_', " "));
            at += row[at..].find(&words).unwrap_or_else(|| panic!("{words}: {row}"));
        }
    }
}

#[test]
fn haproxies_that_serve_different_staples_are_told_apart() {
    let mut certificate = failing("a.pem", &[FIRST, SECOND], 50);
    certificate.served[1].next_update = minutes(25);
    let status = site(vec![certificate.clone()], vec![up(FIRST), up(SECOND)]);
    let said = text(&page_of(&status, ""));
    assert!(said.contains(&format!("serves one until 2026-11-28 15:08 UTC {FIRST}")), "{said}");
    assert!(said.contains(&format!("serves it {SECOND}")), "{said}");
    assert!(said.contains("Clients notice in 20 min"), "the first end counts, 300 s before its nextUpdate: {said}");
    certificate.served.remove(1);
    let said = text(&page_of(&site(vec![certificate], vec![up(FIRST), up(SECOND)]), ""));
    assert!(said.contains(&format!("serves none {SECOND}")) && said.contains("Clients get no staple."), "{said}");
}

#[test]
fn a_snapshot_that_is_old_is_seen_from_now() {
    let status = site(vec![failing("a.pem", &[FIRST], 50)], vec![up(FIRST)]);
    let html = page_at(&status, "", now() + SignedDuration::from_hours(100));
    let said = text(&html);
    assert!(said.contains("ended 16 h 4 min ago") && said.contains("Clients get no staple."), "{said}");
    assert!(html.contains("class=\"life over\""));
}

#[test]
fn pages_show_each_certificate_once() {
    let status = many(120);
    let mut seen = BTreeSet::new();
    for (page, expected) in [("page=1", 50), ("page=2", 50), ("page=3", 20)] {
        let html = page_of(&status, page);
        assert_eq!(rows(&html).len(), expected);
        for file in files(&html) {
            assert!(seen.insert(file.to_owned()), "{file} is on two pages");
        }
    }
    assert_eq!(seen.len(), 120);
    assert_eq!(files(&page_of(&status, "page=77")), files(&page_of(&status, "page=3")));
    let second = page_of(&status, "q=customer&page=2");
    for link in ["href=\"?q=customer#certificates\"", "href=\"?q=customer&#38;page=3#certificates\""] {
        assert!(second.contains(link), "{link}");
    }
    assert!(text(&second).contains("51–100 of 120, worst first") && text(&second).contains("page 2 of 3"));
}

#[test]
fn a_search_looks_at_everything_that_a_person_may_know() {
    let mut one = failing("needle.pem", &[FIRST], 50);
    one.subject = "CN=Straße,O=Müller".into();
    one.responders = ["http://ocsp.rare.example".to_owned()].into();
    one.files = vec!["/mnt/other/needle.pem".to_owned()];
    let serial = one.serial_number.clone();
    let fingerprint = one.fingerprint.clone();
    one.issuer = "CN=Rare CA".into();
    one.detail = "it answers Nonsense".to_owned();
    let mut certificates = many(200).certificates;
    certificates.push(one.into());
    let status = site(certificates, vec![up(FIRST)]);
    for asked in ["needle", "NEEDLE.PEM", "müller", "Rare+CA", "answers+nonsense", "ocsp.rare", "mnt/other"]
        .into_iter()
        .chain([&*serial, &*fingerprint, &*serial.to_lowercase()])
    {
        let html = page_of(&status, &format!("q={asked}"));
        assert_eq!(files(&html), ["needle.pem"], "{asked}");
        assert!(html.contains("href=\"./\""), "and the way back");
    }
    let none = page_of(&status, "q=nothing-like-that");
    assert!(rows(&none).is_empty() && text(&none).contains("No certificate is like that."));
    // What was asked for stays in the form, and in nothing else.
    let html = page_of(&status, "q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E&state=unstapled&refresh=1");
    assert!(html.contains("value=\"&#34;&#62;&#60;script&#62;alert(1)&#60;/script&#62;\""));
    assert!(!html.contains("<script"));
}

#[test]
fn it_loads_itself_again_only_for_those_who_want_that() {
    assert!(!page_of(&night(), "").contains("http-equiv"), "it would close what somebody reads");
    assert!(!page_of(&night(), "q=a&page=2").contains("http-equiv"));
    let html = page_of(&night(), "refresh=30&state=trouble");
    assert!(html.contains("<meta http-equiv=\"refresh\" content=\"30\">"));
    assert!(html.contains("<input type=\"hidden\" name=\"refresh\" value=\"30\">"), "and a search leaves it so");
}

#[test]
fn it_is_whole_and_asks_for_nothing() {
    for status in [night(), catastrophe(), day(), many(2000), Status::default()] {
        let html = page_of(&status, "");
        for word in ["<script", "javascript:", " style=", " src=", "url(", "@import", " on", "<link rel=\"style"] {
            let tags = html.split('<').skip(1).map(|part| format!("<{}", part.split('>').next().unwrap()));
            let style = html.split("<style>").nth(1).unwrap().split("</style>").next().unwrap();
            assert!(!tags.into_iter().any(|tag| tag.contains(word)), "a tag has '{word}'");
            assert!(word == " on" || !style.contains(word), "the style has '{word}'");
        }
        let links = html.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
        for link in links {
            let own = ["?", "./", "#", "status", "healthz", "readyz", "metrics", "data:image/svg+xml,"];
            assert!(own.iter().any(|start| link.starts_with(start)), "{link} leads elsewhere");
        }
    }
    let policy = status_page::content_security_policy();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
}

/// A site in which every text that comes from outside is this one.
fn saying(words: &str) -> Status {
    let mut status = catastrophe();
    let trouble = |trouble: &mut Trouble| {
        trouble.detail = words.to_owned();
        trouble.remedy = words.to_owned();
    };
    for one in &mut status.certificates {
        let one = Arc::make_mut(one);
        for text in
            [&mut one.certificate, &mut one.subject, &mut one.issuer, &mut one.serial_number, &mut one.fingerprint]
        {
            *text = words.into();
        }
        one.detail = words.to_owned();
        one.troubles.iter_mut().chain(&mut one.trouble).for_each(trouble);
        one.files.iter_mut().for_each(|text| *text = words.to_owned());
        one.responders = one.responders.iter().map(|_| words.to_owned()).collect();
        one.kept.ocsp_files.iter_mut().for_each(|text| *text = words.to_owned());
        one.staple.iter_mut().for_each(|staple| staple.responder_id = words.to_owned());
        one.loaded.iter_mut().for_each(|each| each.haproxy = words.into());
        one.served.iter_mut().for_each(|each| each.haproxy = words.into());
    }
    for haproxy in &mut status.haproxy {
        haproxy.haproxy = words.into();
        haproxy.version = Some(words.to_owned());
        haproxy.unmatched = vec![words.to_owned()];
        haproxy.trouble.iter_mut().for_each(trouble);
        haproxy.warnings.iter_mut().for_each(trouble);
    }
    for probe in &mut status.probes {
        probe.target = words.to_owned();
        probe.servername = words.to_owned();
        probe.detail = words.to_owned();
        probe.handshakes.iter_mut().flat_map(|each| &mut each.troubles).for_each(trouble);
    }
    status.troubles.iter_mut().for_each(trouble);
    status
}

fn assert_harmless(words: &str) {
    let query: String = url::form_urlencoded::Serializer::new(String::new()).append_pair("q", words).finish();
    let tame = skeleton(&page_of(&saying("tame"), "q=tame"));
    let html = page_of(&saying(words), &query);
    // The search finds nothing where it was trimmed or cut; the page without it has to hold as well.
    let all = page_of(&saying(words), "");
    assert_eq!(skeleton(&all), skeleton(&page_of(&saying("tame"), "")), "{words:?} is more than text");
    if rows(&html).len() == rows(&page_of(&saying("tame"), "")).len() {
        assert_eq!(skeleton(&html), tame, "{words:?} is more than text");
    }
    for page in [html, all] {
        let acting = |letter: char| letter.is_control() && letter != '\n' || matches!(letter, '\u{202a}'..='\u{202e}');
        let found = page.replace(&format!("value=\"{}", page.split("value=\"").nth(1).unwrap_or_default()), "");
        assert!(!found.chars().any(acting), "{words:?} leaves a letter that acts");
    }
}

#[test]
fn whatever_a_certificate_contains_is_text() {
    for words in [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "' onmouseover='alert(1)",
        "</style><script>alert(1)</script>",
        "</td></tr></tbody></table><h1>All is well</h1>",
        "<!--",
        "-->",
        "<![CDATA[",
        "&lt;b&gt;&amp;&#60;",
        "javascript:alert(1)",
        "{{ style|safe }}{% include \"x\" %}",
        "a\0b\u{1b}[2J\r\nHTTP/1.1 200 OK\r\n\r\n",
        "\u{202e}lla si ll\u{2066}A",
        "\u{feff}\u{2028}\u{2029}\u{85}",
        "",
        " ",
        "/",
        "////",
        "é̀̂̃̄̅̆̇̈",
    ] {
        if !words.trim().is_empty() {
            assert_harmless(words);
        }
        page_of(&saying(words), "");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_text_changes_what_the_page_is_made_of(words in "\\PC*[<>&\"'/]{1,4}\\PC*") {
        assert_harmless(&words);
    }
}

#[test]
fn a_page_is_of_bounded_size_whatever_certificates_contain() {
    let long = "<\u{202e}".repeat(5000);
    let mut status = saying(&long);
    let one = status.certificates[0].clone();
    status.certificates = (0..100).map(|_| one.clone()).collect();
    status.haproxy = (0..200).map(|_| HaproxyStatus { haproxy: long.as_str().into(), ..down(FIRST) }).collect();
    status.probes = (0..50).flat_map(|_| status.probes.clone()).collect();
    let troubles = (0..200).map(|_| Trouble { detail: long.clone(), remedy: long.clone(), ..unreachable() });
    status.troubles = troubles.collect();
    let html = page_of(&status, "");
    eprintln!("{} KiB for the largest page there is", html.len() >> 10);
    assert!(html.len() < 1 << 20, "{} bytes", html.len());
    assert!(text(&html).contains("and 180 more in /status"));
    let status = many(10_000);
    for asked in ["", "q=customer-9999", "q=nothing-like-that"] {
        let start = std::time::Instant::now();
        let size = page_of(&status, asked).len() >> 10;
        eprintln!("{size} KiB in {:?} for '{asked}' of 10,000 certificates", start.elapsed());
    }
    let usual = page_of(&status, "");
    assert!(usual.len() < 400 << 10, "{} bytes", usual.len());
}

#[test]
fn a_certificate_without_a_responder_is_no_alarm() {
    let status = site(vec![without_responder("a.pem", &[FIRST])], vec![up(FIRST)]);
    let said = text(&page_of(&status, ""));
    assert!(said.contains("All is well 0 of 1 certificate stapled"), "{said}");
    let worse = site(vec![without_responder("a.pem", &[FIRST]), unstapled("b.pem", &[FIRST])], vec![up(FIRST)]);
    assert!(text(&page_of(&worse, "")).contains("Needs attention 1 certificate "));
    let expired = troubled(stapled("c.pem", &[FIRST], 10), State::Expired, unreachable());
    assert!(text(&page_of(&site(vec![expired], vec![up(FIRST)]), "")).contains("Clients refuse it: it has expired."));
}
