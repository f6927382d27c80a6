//! The page of the real program, before a real HAProxy and real responders.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};

use crate::chromium::Chromium;
use crate::site::{Authority, stapler_for, wait_for_state};
use crate::support::PATIENCE;
use crate::support::haproxy::Haproxy;
use crate::support::pki::Identity;
use crate::support::stapler::Reply;

fn header<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
    reply.headers.iter().find_map(|line| {
        let (found, value) = line.split_once(": ")?;
        found.eq_ignore_ascii_case(name).then_some(value)
    })
}

fn row<'a>(html: &'a str, name: &str) -> &'a str {
    let row = html.split("<tbody").skip(1).find(|row| row.contains(&format!(">{name}</span>")));
    row.unwrap_or_else(|| panic!("no row for {name}: {html}")).split("</tbody>").next().unwrap()
}

#[test]
fn the_page_of_a_real_site_says_of_each_certificate_what_is_so() {
    let authority = Authority::start();
    let root: &Identity = &authority.root;
    let marked = root.draft("<script>document.title='broken'</script>").ocsp(&authority.responder.url()).issue();
    authority.responder.register(&marked, root);
    let haproxy = Haproxy::builder()
        .file("good.pem", authority.leaf("good.test").combined_pem())
        .file("marked.pem", marked.combined_pem())
        .file("quiet.pem", root.leaf("quiet.test").issue().combined_pem())
        // Nobody listens there.
        .file("dead.pem", root.leaf("dead.test").ocsp("http://127.0.0.1:9/").must_staple().issue().combined_pem())
        .start();
    let mut stapler = stapler_for(&haproxy)
        .env("STAPLER_PROBES", format!("127.0.0.1:{0}/good.test,127.0.0.1:{0}/dead.test", haproxy.port()))
        .start();
    for (name, state) in
        [("good.pem", "stapled"), ("marked.pem", "stapled"), ("quiet.pem", "no_responder"), ("dead.pem", "unstapled")]
    {
        wait_for_state(&mut stapler, &format!("/{name}"), state);
    }
    stapler.wait_until("both frontends to be looked at", |status| {
        (&status["probes"][0]["sight"], &status["probes"][1]["sight"]) == (&"good".into(), &"not_stapled".into())
    });

    let reply = stapler.get("/");
    assert_eq!((reply.status, header(&reply, "content-type")), (200, Some("text/html; charset=utf-8")));
    let html = reply.text();
    let style = html.split("<style>").nth(1).unwrap().split("</style>").next().unwrap();
    let hash = openssl::base64::encode_block(&openssl::sha::sha256(style.as_bytes()));
    let policy = header(&reply, "content-security-policy").unwrap();
    assert!(
        policy.contains("default-src 'none'") && policy.contains(&format!("style-src 'sha256-{hash}';")),
        "{policy}"
    );
    assert!(!header(&stapler.get("/status"), "content-security-policy").unwrap().contains("style-src"));

    let socket = haproxy.socket().display().to_string();
    let good = row(&html, "good.pem");
    for words in ["stapled</span>", "CA says good", "serves it", &socket, "<svg class=\"life\"", "CN=good.test"] {
        assert!(good.contains(words), "{words}: {good}");
    }
    let quiet = row(&html, "quiet.pem");
    assert!(quiet.contains("no responder</span>") && quiet.contains("It names no OCSP responder"), "{quiet}");
    assert!(quiet.contains("no staple") && !quiet.contains("<svg class=\"life\""), "{quiet}");
    let dead = row(&html, "dead.pem");
    for words in [
        "unstapled</span>",
        "must-staple",
        "serves none",
        "Connection refused",
        "Check that",
        "those that honour must-staple refuse the site",
        "So for ",
        "No valid answer yet",
    ] {
        assert!(dead.contains(words), "{words}: {dead}");
    }
    assert!(row(&html, "marked.pem").contains("CN=&#60;script&#62;document.title=&#39;broken&#39;&#60;/script&#62;"));
    for words in [
        "Needs attention",
        ">1 certificate</a>, 1 frontend</p>",
        &format!("HAProxy {}", haproxy.version()),
        "/dead.test",
    ] {
        assert!(html.contains(words), "{words}: {html}");
    }

    // HEAD is GET without a body, and a selection is made of the address.
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, stapler.port())).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "HEAD /?q=good HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut head = String::new();
    stream.read_to_string(&mut head).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n") && head.contains("text/html"), "{head}");
    let html = stapler.get("/?state=no_responder").text();
    assert_eq!(html.matches("<tbody").count(), 1);
    row(&html, "quiet.pem");
    row(&stapler.get("/?q=DEAD.test").text(), "dead.pem");

    let mut chromium = Chromium::start();
    chromium.dress(360, "light");
    let told = chromium.open(&stapler.url());
    assert_eq!(told.requests, [format!("{}/", stapler.url())]);
    assert!(told.complaints.is_empty(), "{:?}", told.complaints);
    assert_eq!(chromium.evaluate("document.querySelectorAll('tbody').length"), 4);
    assert_eq!(chromium.evaluate("document.title"), "(2) Needs attention · haproxy-stapler");
    assert!(stapler.stop().success());
}
