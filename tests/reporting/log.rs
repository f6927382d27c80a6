//! The log: one line a change, machine-readable where asked for, and never a secret.

use std::fs;

use jiff::SignedDuration;
use serde_json::Value;

use crate::site::{Authority, haproxy_with_good, stapler_for, wait_for_passes, wait_for_state};
use crate::support::pki::Identity;
use crate::support::responder::Behaviour;

#[test]
fn each_change_of_state_is_one_line() {
    let authority = Authority::start();
    let leaf = authority.leaf("changing.test");
    // It wants a refresh within seconds: HAProxy drops a staple five minutes before its end.
    authority.responder.set(&leaf, Behaviour::GoodFor(SignedDuration::from_secs(315)));
    let mut haproxy = haproxy_with_good(&authority).file("changing.pem", leaf.combined_pem()).start();
    let mut stapler = stapler_for(&haproxy).env("STAPLER_REFRESH_INTERVAL", "1s").start();
    wait_for_state(&mut stapler, "/changing.pem", "stapled");
    wait_for_passes(&mut stapler, 3);
    // Read back every second, and no word about it.
    assert_eq!(stapler.log().matches("/good.pem").count(), 1, "{}", stapler.log());
    authority.responder.set(&leaf, Behaviour::Http(500, Vec::new(), Vec::new()));
    wait_for_state(&mut stapler, "/changing.pem", "refresh_failing");
    wait_for_passes(&mut stapler, 2);
    haproxy.reload();
    wait_for_state(&mut stapler, "/good.pem", "stapled");
    authority.responder.set(&leaf, Behaviour::Revoked);
    wait_for_state(&mut stapler, "/changing.pem", "revoked");
    wait_for_passes(&mut stapler, 2);
    let log = stapler.log();
    let states: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("/changing.pem"))
        .filter_map(|line| line.split_once("state=\"")?.1.split('"').next())
        .collect();
    // A reload takes every staple away for a moment.
    let without_reload: Vec<&&str> =
        states.iter().filter(|state| !matches!(**state, "pending" | "unstapled")).collect();
    assert_eq!(**without_reload.first().unwrap(), "stapled", "{log}");
    assert_eq!(**without_reload.last().unwrap(), "revoked", "{log}");
    assert!(states.windows(2).all(|pair| pair[0] != pair[1]), "{states:?}");
    assert!(
        log.lines()
            .any(|line| line.contains("WARN") && line.contains("state=\"revoked\"") && line.contains("replace it"))
    );
    assert_eq!(log.matches("HAProxy is a new process").count(), 1, "{log}");
}

#[test]
fn json_lines_are_json_with_the_certificate_and_its_state() {
    let authority = Authority::start();
    let haproxy = haproxy_with_good(&authority).start();
    let nasty = "broken \"quoted\"\nline.pem";
    fs::write(haproxy.certificate(nasty), "nothing").unwrap();
    let mut stapler = stapler_for(&haproxy)
        .env("STAPLER_LOG_FORMAT", "json")
        .env("STAPLER_CERTS", format!("{},/nowhere", haproxy.certs_dir().display()))
        .env("STAPLER_TYPO", "1")
        .start();
    wait_for_state(&mut stapler, "/good.pem", "stapled");
    wait_for_passes(&mut stapler, 1);
    assert!(stapler.stop().success());
    let lines: Vec<Value> = stapler
        .log()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    for line in &lines {
        for key in ["timestamp", "level", "message"] {
            assert!(line[key].is_string(), "{key}: {line}");
        }
    }
    let about = |name: &str| -> Vec<&Value> {
        lines.iter().filter(|line| line["certificate"].as_str().is_some_and(|full| full.ends_with(name))).collect()
    };
    let good = about("/good.pem");
    assert!(good.len() == 1 && good[0]["state"] == "stapled" && good[0]["level"] == "INFO", "{good:?}");
    let broken = about(nasty);
    assert!(broken.len() == 1 && broken[0]["state"] == "unreadable" && broken[0]["level"] == "WARN", "{broken:?}");
    assert_eq!(broken[0]["reason"], "no_certificate");
    assert!(lines.iter().any(|line| line["haproxy"].is_string() && line["message"] == "HAProxy answers"));
    assert!(lines.iter().any(|line| line["message"].as_str().is_some_and(|text| text.contains("STAPLER_TYPO"))));
}

/// Pieces of a secret that would give it away in any wrapping.
fn pieces(secret: &Identity) -> Vec<String> {
    let der = secret.key().private_key_to_pkcs8().unwrap();
    let scalar = secret.key().ec_key().unwrap().private_key().to_vec();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let list = |bytes: &[u8]| bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    let pem = secret.key_pem();
    let mut pieces: Vec<String> =
        pem.lines().filter(|line| !line.starts_with('-')).map(|line| line[..24.min(line.len())].to_owned()).collect();
    pieces.push(openssl::base64::encode_block(&der)[40..80].to_owned());
    pieces.push(hex(&scalar[4..20]));
    pieces.push(hex(&scalar[4..20]).to_uppercase());
    pieces.push(list(&scalar[4..16]));
    pieces.push("PRIVATE KEY".to_owned());
    pieces
}

#[test]
fn no_private_key_and_no_password_is_ever_told() {
    let authority = Authority::start();
    let leaf = authority.leaf("secret.test");
    let broken = authority.leaf("broken.test");
    let haproxy = haproxy_with_good(&authority).file("secret.pem", leaf.combined_pem()).start();
    // Where it is damaged is where a reader is tempted to show what it found.
    let damaged = format!("{}{}", &broken.pem()[..200], broken.key_pem());
    fs::write(haproxy.certificate("damaged.pem"), damaged).unwrap();
    fs::write(haproxy.certificate("swapped.pem"), broken.combined_pem().replace("PRIVATE KEY", "CERTIFICATE")).unwrap();
    let bare: Vec<String> = broken.key_pem().lines().filter(|line| !line.starts_with('-')).map(str::to_owned).collect();
    fs::write(haproxy.certificate("bare-key"), format!("{}\n", bare.join("\n"))).unwrap();
    fs::write(haproxy.certificate("maimed-key"), leaf.key_pem().replacen("-----BEGIN", "----BEGIN", 1)).unwrap();
    let places = ["", "bare-key", "maimed-key"].map(|name| haproxy.certificate(name).display().to_string());
    let password = "hunter2-hunter2";
    let mut stapler = stapler_for(&haproxy)
        .env("STAPLER_LOG", "trace")
        .env("STAPLER_CERTS", places.join(","))
        .env("HTTPS_PROXY", format!("http://user:{password}@127.0.0.1:9"))
        .env("STAPLER_RESPONDERS", format!("ocsp.elsewhere.test=http://user:{password}@127.0.0.1:9/"))
        .start();
    wait_for_state(&mut stapler, "/secret.pem", "stapled");
    wait_for_state(&mut stapler, "/damaged.pem", "unreadable");
    wait_for_state(&mut stapler, "/swapped.pem", "unreadable");
    wait_for_passes(&mut stapler, 2);
    let settings = stapler.run(&["settings"]);
    let told = [
        stapler.log(),
        stapler.get("/status").text(),
        stapler.get("/metrics").text(),
        String::from_utf8_lossy(&settings.stdout).into_owned(),
    ];
    assert!(told[0].contains("TRACE"), "the log tells everything there is");
    for (text, secret) in told.iter().flat_map(|text| [(text, &leaf), (text, &broken)]) {
        for piece in pieces(secret) {
            assert!(!text.contains(&piece), "{piece} in {text}");
        }
        assert!(!text.contains(password), "{text}");
    }
    for entry in fs::read_dir(stapler.state_dir()).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        let scalar = leaf.key().ec_key().unwrap().private_key().to_vec();
        assert!(!bytes.windows(16).any(|window| window == &scalar[8..24]));
    }
}
