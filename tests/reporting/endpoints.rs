//! The HTTP endpoints: shapes, status codes, headers, and clients that misbehave.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::site::{Authority, haproxy_with_good, plain, stapler_for, wait_for_state};
use crate::support::responder::Behaviour;
use crate::support::stapler::{Reply, certificate, http_get};
use crate::support::{PATIENCE, wait_for};

/// One request with any method; the answer as it came.
fn request(port: u16, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn header<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
    reply.headers.iter().find_map(|line| {
        let (found, value) = line.split_once(": ")?;
        found.eq_ignore_ascii_case(name).then_some(value)
    })
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn the_endpoints_are_read_only_and_say_what_they_are() {
    let authority = Authority::start();
    let haproxy = haproxy_with_good(&authority).start();
    let mut stapler = stapler_for(&haproxy).start();
    stapler.wait_until_ready();
    let port = stapler.port();
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/?q=a&state=stapled&page=2", "text/html; charset=utf-8"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
        ("/healthz", "application/json"),
        ("/status", "application/json"),
        ("/readyz", "text/plain; charset=utf-8"),
        ("/healthz?verbose=1", "application/json"),
    ] {
        let reply = stapler.get(path);
        assert_eq!(reply.status, 200, "{path}");
        assert_eq!(header(&reply, "content-type"), Some(content_type), "{path}");
        assert_eq!(header(&reply, "cache-control"), Some("no-store"), "{path}");
        // Names in it come from certificates: no browser shall take them for anything but text.
        assert_eq!(header(&reply, "x-content-type-options"), Some("nosniff"), "{path}");
        let policy = header(&reply, "content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        let head = request(port, "HEAD", path);
        assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{path}: {head}");
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            let answer = request(port, method, path);
            assert!(answer.starts_with("HTTP/1.1 405 "), "{method} {path}: {answer}");
            assert!(answer.to_ascii_lowercase().contains("allow: get,head"), "{method} {path}: {answer}");
        }
    }
    for path in ["/nothing", "/metrics/", "/..%2f..%2fetc%2fpasswd", "//", "/status/good.pem"] {
        for method in ["GET", "POST"] {
            let answer = request(port, method, path);
            assert!(answer.starts_with("HTTP/1.1 404 "), "{method} {path}: {answer}");
        }
    }
    assert!(stapler.stop().success());
}

#[test]
fn healthz_has_its_shape_and_the_worst_hundred_first() {
    let authority = Authority::start();
    let haproxy = haproxy_with_good(&authority).start();
    let stray = authority.root.leaf("stray.test").issue();
    for number in 0..110 {
        fs::write(haproxy.certificate(&format!("stray{number:03}.pem")), stray.pem()).unwrap();
    }
    for number in 0..3 {
        fs::write(haproxy.certificate(&format!("zz-broken{number}.pem")), "nothing").unwrap();
    }
    let mut stapler = stapler_for(&haproxy).start();
    wait_for_state(&mut stapler, "/good.pem", "stapled");
    wait_for_state(&mut stapler, "/zz-broken2.pem", "unreadable");
    let reply = stapler.get("/healthz");
    assert_eq!(reply.status, 200, "trouble is no reason to be restarted");
    let health = reply.json();
    for key in ["status", "version", "last_pass_at", "haproxy", "states", "certificates"] {
        assert!(keys(&health).contains(key), "{key}");
    }
    assert_eq!(health["status"], "degraded");
    assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(keys(&health["states"]).len(), 13);
    assert_eq!((&health["states"]["not_loaded"], &health["states"]["stapled"]), (&110.into(), &1.into()));
    let certificates = health["certificates"].as_array().unwrap();
    assert_eq!(certificates.len(), 100);
    let brief =
        BTreeSet::from(["certificate", "state", "ocsp_status", "staple_age_seconds", "staple_next_update", "detail"]);
    for one in certificates {
        assert_eq!(keys(one), brief);
    }
    let states: Vec<&str> = certificates.iter().map(|one| one["state"].as_str().unwrap()).collect();
    assert_eq!(states[..4], ["unreadable", "unreadable", "unreadable", "not_loaded"]);
    // The good one is not among the worst hundred; /status has all.
    let status = stapler.status().unwrap();
    assert_eq!(status["certificates"].as_array().unwrap().len(), 114);
    let good = certificate(&status, "/good.pem").unwrap();
    for key in [
        "certificate",
        "state",
        "state_since",
        "ocsp_status",
        "staple_age_seconds",
        "staple_next_update",
        "detail",
        "trouble",
        "files",
        "subject",
        "issuer",
        "serial_number",
        "fingerprint",
        "responders",
        "must_staple",
        "not_after",
        "staple",
        "served",
        "last_attempt_at",
        "last_success_at",
        "refresh_due_at",
        "failures",
    ] {
        assert!(keys(good).contains(key), "{key}");
    }
    assert!(good["staple_age_seconds"].as_u64().is_some_and(|age| (60..120).contains(&age)), "{good}");
    assert_eq!(good["staple_next_update"], good["staple"]["next_update"]);
    assert_eq!(good["served"][0]["haproxy"], haproxy.socket().display().to_string());
    let entry = &status["haproxy"][0];
    assert_eq!((&entry["up"], &entry["pid"], &entry["loaded"]), (&true.into(), &haproxy.pid().into(), &1.into()));
    assert_eq!(entry["version"], haproxy.version());
}

#[test]
fn readyz_waits_for_the_first_pass_but_not_for_ever() {
    let authority = Authority::start();
    let haproxy = haproxy_with_good(&authority).start();
    authority.responder.set_all(&Behaviour::Hang);
    let mut slow = stapler_for(&haproxy).env("STAPLER_TIMEOUT", "3s").start();
    let mut stuck = stapler_for(&haproxy).env("STAPLER_TIMEOUT", "5m").start();
    for stapler in [&slow, &stuck] {
        let reply = wait_for("an answer", PATIENCE, || http_get(stapler.port(), "/readyz").ok());
        assert_eq!(reply.status, 503);
        assert_eq!(http_get(stapler.port(), "/healthz").unwrap().status, 200, "not ready is not dead");
        assert_eq!(http_get(stapler.port(), "/healthz").unwrap().json()["last_pass_at"], Value::Null);
        assert_eq!(stapler.run(&["healthcheck"]).status.code(), Some(0));
        assert_eq!(stapler.run(&["healthcheck", "--ready"]).status.code(), Some(1));
    }
    slow.wait_until_ready();
    assert_eq!(slow.run(&["healthcheck", "--ready"]).status.code(), Some(0));
    assert_ne!(slow.status().unwrap()["last_pass_at"], Value::Null);
    // Thirty seconds after its start, whatever the CA does.
    wait_for("/readyz to give up waiting", Duration::from_secs(45), || {
        http_get(stuck.port(), "/readyz").ok().filter(|reply| reply.status == 200)
    });
    assert_eq!(stuck.status().unwrap()["last_pass_at"], Value::Null);
    assert_eq!(stuck.state("/good.pem").as_deref(), Some("pending"));
    assert!(stuck.stop().success(), "a fetch under way keeps nobody from stopping");
}

#[test]
fn clients_that_send_nothing_or_nonsense_block_nobody() {
    let authority = Authority::start();
    let haproxy = haproxy_with_good(&authority).start();
    let mut stapler = stapler_for(&haproxy).start();
    stapler.wait_until_ready();
    let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, stapler.port())).unwrap();
    let mut slow: Vec<TcpStream> = (0..100).map(|_| connect()).collect();
    for (number, stream) in slow.iter_mut().enumerate() {
        let started: &[u8] = match number % 4 {
            0 => b"",
            1 => b"GET /metrics HT",
            2 => b"GET /metrics HTTP/1.1\r\nX-Slow: ",
            _ => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        };
        stream.write_all(started).unwrap();
    }
    for path in ["/metrics", "/healthz", "/readyz", "/status"] {
        assert_eq!(stapler.get(path).status, 200);
    }
    let healthcheck = stapler.run(&["healthcheck"]);
    assert!(healthcheck.status.success());
    let huge = format!("/{}", "x".repeat(1 << 20));
    let mut stream = connect();
    let _ = write!(stream, "GET {huge} HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(stapler.get("/healthz").status, 200);
    // Nor do they keep it from stopping.
    assert!(stapler.stop().success());
    let nobody = plain().env("STAPLER_LISTEN", format!("127.0.0.1:{}", stapler.port())).run(&["healthcheck"]);
    assert_eq!(nobody.status.code(), Some(1));
}
