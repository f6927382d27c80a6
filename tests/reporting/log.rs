//! The log: one line a change, machine-readable where asked for, and never a secret.

use std::fs;

use jiff::SignedDuration;
use serde_json::Value;

use crate::site::{Authority, haproxy_with_good, stapler_for, wait_for_passes, wait_for_state};
use crate::support::haproxy::Haproxy;
use crate::support::pki::Identity;
use crate::support::responder::Behaviour;
use crate::support::{PATIENCE, now};

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
    assert!(log.lines().any(|line| line.contains("WARN")
        && line.contains("state=\"revoked\"")
        && line.contains("Replace the certificate")));
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

/// Lines about one certificate, and how many others the shared lines count.
fn storm(lines: &[Value], state: &str) -> (usize, u64) {
    let about = || lines.iter().filter(|line| line["state"] == state);
    let own = about().filter(|line| line["certificate"].is_string()).count();
    (own, about().filter_map(|line| line["count"].as_u64()).sum())
}

/// A CA that goes down and comes back is an event, not one for each of its certificates.
#[test]
fn many_changes_at_once_are_a_few_lines_and_one_for_the_rest() {
    const CERTIFICATES: usize = 40;
    let authority = Authority::start();
    // It is due wherever its jitter puts it, and stays good for a day.
    let due = Behaviour::GoodAt(now() - SignedDuration::from_hours(130), SignedDuration::from_hours(168));
    let mut builder = Haproxy::builder();
    for number in 0..CERTIFICATES {
        let leaf = authority.leaf(&format!("{number}.test"));
        authority.responder.set(&leaf, due.clone());
        builder = builder.file(&format!("{number}.pem"), leaf.combined_pem());
    }
    let haproxy = builder.start();
    let responder = authority.responder.url().replace("http://", "");
    let all_are = |state: &'static str| {
        move |status: &Value| status["states"][state].as_u64() == Some(u64::try_from(CERTIFICATES).unwrap())
    };
    let _ = stapler_for(&haproxy).run(&["once"]);

    // Data for machines.
    let mut stapler =
        stapler_for(&haproxy).env("STAPLER_LOG_FORMAT", "json").env("STAPLER_REFRESH_INTERVAL", "1s").start();
    stapler.wait_until("all to be stapled", all_are("stapled"));
    authority.responder.set_all(&Behaviour::Http(500, Vec::new(), Vec::new()));
    stapler.wait_at_most(2 * PATIENCE, "all to fail", all_are("refresh_failing"));
    authority.responder.set_all(&Behaviour::Good);
    stapler.wait_at_most(2 * PATIENCE, "all to be healed", all_are("stapled"));
    assert!(stapler.stop().success());
    let lines: Vec<Value> = stapler.log().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (own, others) = storm(&lines, "refresh_failing");
    assert!((10..20).contains(&own), "{}", stapler.log());
    assert_eq!(u64::try_from(own).unwrap() + others, 40, "{}", stapler.log());
    let (own, others) = storm(&lines, "stapled");
    assert!((10..20).contains(&own) && others >= 30, "{}", stapler.log());
    let failing = |line: &&Value| line["state"] == "refresh_failing";
    for line in lines.iter().filter(failing) {
        assert_eq!((&line["level"], &line["reason"]), (&"WARN".into(), &"http_status".into()), "{line}");
        assert_eq!(line["responder"], responder.as_str(), "{line}");
    }
    let shared = lines.iter().filter(failing).find(|line| line["count"].is_u64()).unwrap();
    let message = shared["message"].as_str().unwrap();
    let words = format!("refresh_failing, http_status, {responder}");
    assert!(message.starts_with(&format!("and {} more certificate", shared["count"])), "{message}");
    assert!(message.contains(&words), "{message}");

    // The same for people.
    let mut stapler = stapler_for(&haproxy).start();
    stapler.wait_until("all to be stapled", all_are("stapled"));
    assert!(stapler.stop().success());
    let log = stapler.log();
    let about: Vec<&str> = log.lines().filter(|line| line.contains("state=\"stapled\"")).collect();
    assert!(about.len() < 20, "{log}");
    let shared = about.iter().find(|line| line.contains(" count=")).unwrap();
    assert!(shared.contains(&format!("more certificates: stapled, {responder}")), "{log}");
    assert!(shared.contains(&format!("responder=\"{responder}\"")), "{log}");
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

/// The proxy is used, so its password is at hand wherever a request is made, answered or refused.
#[test]
fn the_password_of_a_proxy_in_use_is_never_told() {
    let authority = Authority::start();
    let broken = authority.leaf("broken.test");
    authority.responder.set(&broken, Behaviour::Http(407, Vec::new(), Vec::new()));
    let haproxy = haproxy_with_good(&authority).file("broken.pem", broken.combined_pem()).start();
    let password = "hunter2-hunter2";
    // What is asked for in full at its own address is answered like anything else.
    let proxy = authority.responder.url().replace("http://", &format!("http://user:{password}@"));
    let mut stapler = stapler_for(&haproxy).env("STAPLER_LOG", "trace").env("HTTP_PROXY", &proxy).start();
    wait_for_state(&mut stapler, "/good.pem", "stapled");
    wait_for_state(&mut stapler, "/broken.pem", "unstapled");
    wait_for_passes(&mut stapler, 1);
    let received = authority.responder.received();
    let basic = openssl::base64::encode_block(format!("user:{password}").as_bytes());
    assert!(!received.is_empty());
    for each in &received {
        let sent = each.headers.get("proxy-authorization").unwrap().to_str().unwrap();
        assert_eq!(sent, format!("Basic {basic}"));
    }
    // Nobody listens there.
    let nobody = format!("http://user:{password}@127.0.0.1:9");
    let elsewhere = stapler_for(&haproxy).env("STAPLER_LOG", "trace").env("HTTP_PROXY", &nobody);
    let [settings, explained] = [elsewhere.run(&["settings"]), elsewhere.run(&["explain", "broken.pem"])]
        .map(|output| String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned());
    assert!(explained.contains("TRACE") && explained.contains("FAILED"), "{explained}");
    let told = [
        stapler.log(),
        stapler.get("/status").text(),
        stapler.get("/").text(),
        stapler.get("/metrics").text(),
        settings,
        explained,
    ];
    assert!(told[0].contains("TRACE"), "the log tells everything there is");
    for text in &told {
        assert!(!text.contains(password) && !text.contains(&basic), "{text}");
    }
}
