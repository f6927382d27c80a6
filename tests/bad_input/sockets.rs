//! Sockets behind which there is no HAProxy, or one that does not let us.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use serde_json::Value;

use crate::site::{
    Authority, SOON, haproxy_with_good, metric, said, stapler_for, wait_for_passes, wait_for_state, wait_until_said,
};
use crate::support::client::stapled_bytes;
use crate::support::stapler::{Stapler, certificate};

/// The entry of `/status` for the HAProxy behind this socket.
fn haproxy_entry(status: &Value, socket: &str) -> Value {
    let entries = status["haproxy"].as_array().unwrap();
    entries.iter().find(|entry| entry["haproxy"] == socket).cloned().unwrap_or_default()
}

fn wait_for_kind(stapler: &mut Stapler, socket: &str, kind: &str) {
    stapler.wait_until(&format!("{socket} to be in trouble: {kind}"), |status| {
        haproxy_entry(status, socket)["trouble"]["kind"] == kind
    });
}

/// What stands in a socket's place.
type Impostor = (&'static str, fn(PathBuf), &'static str, &'static str);

const IMPOSTORS: &[Impostor] = &[
    ("missing.sock", |_| {}, "not_found", "there is no socket at"),
    ("file.sock", |path| fs::write(path, "").unwrap(), "not_a_socket", "is no socket. Point STAPLER_SOCKETS"),
    ("left-over.sock", |path| drop(UnixListener::bind(path).unwrap()), "refused", "nobody listens on"),
    ("silent.sock", |path| listen(path, Manners::Silent), "timeout", "gave no complete reply within 5s"),
    ("curt.sock", |path| listen(path, Manners::Curt), "empty", "without a reply"),
    (
        "http.sock",
        |path| listen(path, Manners::Http),
        "not_haproxy",
        "does not answer as a HAProxy process does: HTTP/1.0 400 Bad Request",
    ),
];

/// What somebody who is no HAProxy does with a connection.
#[derive(Clone, Copy)]
enum Manners {
    /// Never says anything.
    Silent,
    /// Listens to the end and hangs up.
    Curt,
    /// Speaks HTTP.
    Http,
}

/// Accepts as long as the test runs.
fn listen(path: PathBuf, manners: Manners) {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        let mut held: Vec<UnixStream> = Vec::new();
        for mut stream in listener.incoming().flatten() {
            match manners {
                Manners::Silent => held.push(stream),
                Manners::Curt => drop(stream.read_to_end(&mut Vec::new())),
                Manners::Http => {
                    let _ = stream.read_to_end(&mut Vec::new());
                    let _ = stream.write_all(b"HTTP/1.0 400 Bad Request\r\nServer: other\r\n\r\n<html>\r\n");
                }
            }
        }
    });
}

#[test]
fn whatever_stands_in_a_sockets_place_is_named_once_and_delays_no_other_haproxy() {
    let authority = Authority::start();
    let haproxy = haproxy_with_good(&authority).start();
    let place = tempfile::tempdir().unwrap();
    let socket = |name: &str| place.path().join(name).display().to_string();
    let mut sockets: Vec<String> = IMPOSTORS.iter().map(|(name, ..)| socket(name)).collect();
    sockets.push(haproxy.socket().display().to_string());
    for (name, stand_in, ..) in IMPOSTORS {
        stand_in(place.path().join(name));
    }
    let mut stapler = stapler_for(&haproxy).env("STAPLER_SOCKETS", sockets.join(",")).start();
    // The silent one takes five seconds to be given up.
    stapler.wait_at_most(SOON, "the healthy one's certificate to be stapled", |status| {
        certificate(status, "/good.pem").is_some_and(|entry| entry["state"] == "stapled")
    });
    assert!(stapled_bytes(haproxy.port(), "good.test").is_some());
    for (name, _, kind, words) in IMPOSTORS {
        wait_for_kind(&mut stapler, &socket(name), kind);
        wait_until_said(&stapler, words);
    }
    wait_for_passes(&mut stapler, 2);
    let metrics = stapler.get("/metrics").text();
    for (name, _, kind, words) in IMPOSTORS {
        let lines: Vec<String> =
            stapler.log().lines().filter(|line| line.contains(&socket(name))).map(str::to_owned).collect();
        assert_eq!(lines.len(), 1, "{name}: {lines:#?}");
        assert!(lines[0].contains(words) && lines[0].contains(&format!("reason=\"{kind}\"")), "{name}: {lines:#?}");
        let up = metric(&metrics, &format!("haproxy_stapler_haproxy_up{{haproxy=\"{}\"}}", socket(name)));
        assert_eq!(up, Some(0.0), "{name}");
    }
    assert_eq!(stapler.get("/healthz").json()["status"], "degraded");
    assert!(stapler.stop().success());
}

#[test]
fn a_haproxy_that_comes_late_or_goes_away_is_noticed() {
    let authority = Authority::start();
    let mut haproxy = haproxy_with_good(&authority).start();
    haproxy.kill();
    fs::remove_file(haproxy.socket()).unwrap();
    let mut stapler = stapler_for(&haproxy).start();
    let socket = haproxy.socket().display().to_string();
    wait_for_kind(&mut stapler, &socket, "not_found");
    let waiting = wait_for_state(&mut stapler, "/good.pem", "unstapled");
    assert!(waiting["detail"].as_str().unwrap().contains("a verified staple is held, but there is no socket at"));
    wait_for_passes(&mut stapler, 2);
    assert_eq!(said(&stapler, "there is no socket at"), 2, "of HAProxy and of its certificate");

    haproxy.start_again();
    wait_for_state(&mut stapler, "/good.pem", "stapled");
    assert!(stapled_bytes(haproxy.port(), "good.test").is_some());
    assert_eq!(said(&stapler, "HAProxy answers"), 1);
    haproxy.kill();
    wait_for_kind(&mut stapler, &socket, "refused");
    haproxy.start_again();
    stapler.wait_until("HAProxy to be back", |status| status["status"] == "ok");
    assert_eq!(said(&stapler, "HAProxy answers"), 2);
}

#[test]
fn a_socket_below_admin_is_named_once_and_heals_with_a_reload() {
    for level in ["operator", "user"] {
        let authority = Authority::start();
        let mut haproxy = haproxy_with_good(&authority).level(level).start();
        let socket = haproxy.socket().display().to_string();
        let mut stapler = stapler_for(&haproxy).start();
        wait_for_kind(&mut stapler, &socket, "level");
        let waiting = wait_for_state(&mut stapler, "/good.pem", "unstapled");
        assert!(waiting["detail"].as_str().unwrap().contains("'admin' is needed"), "{waiting}");
        wait_for_passes(&mut stapler, 3);
        let words = format!("the socket's level is '{level}', and 'admin' is needed. Add `level admin`");
        assert_eq!(said(&stapler, &words), 1, "{}", stapler.log());

        let config = fs::read_to_string(haproxy.config_file()).unwrap();
        fs::write(haproxy.config_file(), config.replace(&format!("level {level}"), "level admin")).unwrap();
        haproxy.reload();
        wait_for_state(&mut stapler, "/good.pem", "stapled");
        stapler.wait_until("no trouble", |status| status["status"] == "ok");
    }
}
