//! Certificate files that are none, and certificates with nothing to staple.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::site::{
    Authority, binary, haproxy_with_good, impatient, metric, said, stapler_for, wait_for_passes, wait_for_state,
    wait_until_said,
};
use crate::support::client::stapled_bytes;
use crate::support::haproxy::Haproxy;
use crate::support::pki::Identity;
use crate::support::process::put_program;
use crate::support::stapler::certificate;

/// The middle of a certificate's PEM is gone: no END line.
fn cut_off(leaf: &Identity) -> String {
    leaf.pem().lines().take(5).map(|line| format!("{line}\n")).collect()
}

/// A certificate's PEM around bytes that are none.
fn not_a_certificate(_: &Identity) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", openssl::base64::encode_block(&[7; 48]))
}

/// What is put in a file's place, and a word of what the program then says about it.
type Spoiler = (&'static str, fn(&Path, &Identity), &'static str);

const SPOILERS: &[Spoiler] = &[
    ("garbage.pem", |path, _| fs::write(path, [0xFF, 0, 0xFE, b'\n'].repeat(999)).unwrap(), "no PEM certificate"),
    ("prose.pem", |path, _| fs::write(path, "see the wiki\n").unwrap(), "no PEM certificate"),
    ("empty.pem", |path, _| fs::write(path, "").unwrap(), "the file is empty"),
    ("key-only.pem", |path, leaf| fs::write(path, leaf.key_pem()).unwrap(), "no PEM certificate"),
    ("cut-off.pem", |path, leaf| fs::write(path, cut_off(leaf)).unwrap(), "its END line is missing"),
    (
        "chain-cut-off.pem",
        |path, leaf| fs::write(path, format!("{}{}", leaf.pem(), cut_off(leaf))).unwrap(),
        "PEM certificate 2 is cut off",
    ),
    ("no-certificate.pem", |path, leaf| fs::write(path, not_a_certificate(leaf)).unwrap(), "PEM certificate 1"),
    ("huge.pem", |path, _| fs::File::create(path).unwrap().set_len(5 << 30).unwrap(), "too many for a certificate"),
    ("directory.pem", |path, _| replace(path, |path| fs::create_dir(path).unwrap()), "not a regular file"),
    ("dangling.pem", |path, _| replace(path, |path| symlink("nowhere", path).unwrap()), "symbolic link"),
    ("circular.pem", |path, _| replace(path, |path| symlink("circular.pem", path).unwrap()), "symbolic links"),
];

fn replace(path: &Path, with: impl Fn(&Path)) {
    fs::remove_file(path).unwrap();
    with(path);
}

#[test]
fn a_file_that_is_no_certificate_is_named_once_and_read_when_it_is_mended() {
    let authority = Authority::start();
    let mut builder = haproxy_with_good(&authority);
    let leaves: Vec<Identity> = SPOILERS.iter().map(|(name, ..)| authority.leaf(&format!("{name}.test"))).collect();
    for ((name, ..), leaf) in SPOILERS.iter().zip(&leaves) {
        builder = builder.file(name, leaf.combined_pem());
    }
    let haproxy = builder.start();
    // HAProxy runs all of them; only now do their files go bad, as half a deployment leaves them.
    for ((name, spoil, _), leaf) in SPOILERS.iter().zip(&leaves) {
        spoil(&haproxy.certificate(name), leaf);
    }
    let mut stapler = stapler_for(&haproxy).start();
    wait_for_state(&mut stapler, "/good.pem", "stapled");
    for (name, _, words) in SPOILERS {
        let entry = wait_for_state(&mut stapler, &format!("/{name}"), "unreadable");
        let detail = entry["detail"].as_str().unwrap();
        assert!(detail.contains(words), "{name}: {detail}");
        assert!(!entry["trouble"]["kind"].as_str().unwrap().is_empty(), "{name}");
    }
    wait_for_passes(&mut stapler, 3);
    for (name, _, words) in SPOILERS {
        let lines: Vec<String> =
            stapler.log().lines().filter(|line| line.contains(&format!("/{name}"))).map(str::to_owned).collect();
        assert_eq!(lines.len(), 1, "{name}: {lines:#?}");
        assert!(lines[0].contains("unreadable") && lines[0].contains(words), "{name}: {lines:#?}");
    }
    let metrics = stapler.get("/metrics").text();
    let unreadable = metric(&metrics, r#"haproxy_stapler_certificates{state="unreadable"}"#);
    assert_eq!(unreadable, Some(f64::from(u32::try_from(SPOILERS.len()).unwrap())));
    assert_eq!(stapler.get("/healthz").json()["status"], "degraded");
    assert!(stapled_bytes(haproxy.port(), "good.test").is_some());

    for ((name, ..), leaf) in SPOILERS.iter().zip(&leaves) {
        let path = haproxy.certificate(name);
        let _ = fs::remove_dir(&path);
        let _ = fs::remove_file(&path);
        fs::write(&path, leaf.combined_pem()).unwrap();
    }
    for (name, ..) in SPOILERS {
        wait_for_state(&mut stapler, &format!("/{name}"), "stapled");
        assert!(stapled_bytes(haproxy.port(), &format!("{name}.test")).is_some(), "{name}");
    }
    assert_eq!(stapler.get("/healthz").json()["status"], "ok");
}

/// The order and the dressing of a PEM file are HAProxy's business; whatever it takes, we read.
#[test]
fn a_pem_file_may_hold_its_parts_in_any_order_and_dress() {
    let authority = Authority::start();
    let leaf = |name: &str| authority.leaf(&format!("{name}.test"));
    let text = |identity: &Identity| {
        let x509 = openssl::x509::X509::from_der(identity.der()).unwrap();
        format!("{}{}", String::from_utf8(x509.to_text().unwrap()).unwrap(), identity.pem())
    };
    let [first, between, crlf, dressed, unterminated] =
        ["key-first", "key-between", "crlf", "dressed", "unterminated"].map(leaf);
    let root = authority.root.pem();
    let haproxy = haproxy_with_good(&authority)
        .file("key-first.pem", format!("{}{}{root}", first.key_pem(), first.pem()))
        .file("key-between.pem", format!("{}{}{root}", between.pem(), between.key_pem()))
        .file("crlf.pem", crlf.combined_pem().replace('\n', "\r\n"))
        .file("dressed.pem", format!("# äöü\n{}\n{}{}", text(&dressed), text(&authority.root), dressed.key_pem()))
        .file("unterminated.pem", unterminated.combined_pem().trim_end())
        .start();
    let mut stapler = stapler_for(&haproxy).start();
    for name in ["good", "key-first", "key-between", "crlf", "dressed", "unterminated"] {
        let entry = wait_for_state(&mut stapler, &format!("/{name}.pem"), "stapled");
        assert_eq!(entry["subject"], format!("CN={name}.test"));
        assert!(stapled_bytes(haproxy.port(), &format!("{name}.test")).is_some(), "{name}");
    }
}

#[test]
fn a_certificate_with_nothing_to_staple_says_why_and_alarms_nobody() {
    let authority = Authority::start();
    let root = &authority.root;
    let chained = |draft: crate::support::pki::Draft| draft.issue().combined_pem();
    let haproxy = haproxy_with_good(&authority)
        .file("silent.pem", chained(root.leaf("silent.test")))
        .file("ldap.pem", chained(root.leaf("ldap.test").ocsp("ldap://ldap.test/cn=ocsp")))
        .file("nonsense-url.pem", chained(root.leaf("nonsense.test").ocsp("http://")))
        .file("self-signed.pem", {
            let own = Identity::root("own.test");
            format!("{}{}", own.pem(), own.key_pem())
        })
        .file("expired.pem", chained(root.leaf("expired.test").ocsp(&authority.responder.url()).expired()))
        .start();
    let mut stapler = stapler_for(&haproxy).start();
    wait_for_state(&mut stapler, "/good.pem", "stapled");
    for (name, state, words) in [
        ("silent", "no_responder", "names no OCSP responder"),
        ("ldap", "no_responder", "only 'ldap://ldap.test/cn=ocsp'"),
        ("nonsense-url", "no_responder", "names no OCSP responder that can be asked over HTTP"),
        ("self-signed", "no_responder", "names no OCSP responder"),
        ("expired", "expired", "the certificate itself ended at"),
    ] {
        let entry = wait_for_state(&mut stapler, &format!("/{name}.pem"), state);
        let detail = entry["detail"].as_str().unwrap();
        assert!(detail.contains(words), "{name}: {detail}");
        assert_eq!(entry["ocsp_status"], "none", "{name}");
    }
    wait_for_passes(&mut stapler, 2);
    assert_eq!(said(&stapler, "no_responder"), 4);
    // What is said about the HAProxy that runs here is another matter.
    let of_ours = |line: &&str| line.contains("WARN") && !line.contains("stapling_race");
    let warnings: Vec<String> = stapler.log().lines().filter(of_ours).map(str::to_owned).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("expired.pem"), "{warnings:#?}");
    // Nobody was asked about a certificate that nobody can use any more.
    assert_eq!(authority.responder.total_requests(), 1);
}

#[test]
fn a_place_without_certificates_is_named_once_and_looked_at_again() {
    let authority = Authority::start();
    let haproxy = haproxy_with_good(&authority).start();
    let elsewhere = tempfile::tempdir().unwrap();
    let (empty, missing, crt_list) =
        (elsewhere.path().join("empty"), elsewhere.path().join("missing"), elsewhere.path().join("crt-list"));
    fs::create_dir(&empty).unwrap();
    fs::write(&crt_list, format!("{} ]x[\nnot-there.pem\n", haproxy.certificate("good.pem").display())).unwrap();
    let places = [&haproxy.certs_dir(), &empty, &missing, &crt_list].map(|path| path.display().to_string());
    let mut stapler = stapler_for(&haproxy).env("STAPLER_CERTS", places.join(",")).start();
    wait_for_state(&mut stapler, "/good.pem", "stapled");
    wait_for_passes(&mut stapler, 3);
    for (place, words) in [
        (&empty, "there is no certificate in it"),
        (&missing, "there is no such file or directory. Mount it, or name another place"),
        (&crt_list, "line 1"),
    ] {
        let line = format!("{}: ", place.display());
        assert_eq!(said(&stapler, &line), 1, "{line}");
        wait_until_said(&stapler, words);
    }
    wait_for_state(&mut stapler, "not-there.pem", "unreadable");
    let troubles = stapler.status().unwrap()["troubles"].as_array().unwrap().len();
    assert_eq!(troubles, 3);
    assert_eq!(stapler.get("/healthz").json()["status"], "degraded");

    fs::create_dir(&missing).unwrap();
    let other = authority.root.leaf("other.test").issue();
    fs::write(missing.join("other.pem"), other.combined_pem()).unwrap();
    fs::write(empty.join("other.pem"), other.combined_pem()).unwrap();
    fs::write(&crt_list, "").unwrap();
    fs::write(&crt_list, format!("{} [alpn h2]\n", haproxy.certificate("good.pem").display())).unwrap();
    stapler.wait_until("no trouble", |status| status["status"] == "ok");
    assert_eq!(said(&stapler, "no longer: "), 3);
    wait_for_state(&mut stapler, "missing/other.pem", "not_loaded");
}

/// Root may read everything, so the program runs as somebody who may not.
#[test]
fn what_another_user_may_not_do_is_named_once_and_done_when_it_may() {
    let authority = Authority::start();
    let closed = authority.leaf("closed.test");
    let haproxy = haproxy_with_good(&authority).file("closed.pem", closed.combined_pem()).start();
    let chmod = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    chmod(haproxy.certs_dir().parent().unwrap(), 0o755);
    chmod(&haproxy.certificate("closed.pem"), 0o600);
    // The build directory may be out of the other user's reach.
    let stage = tempfile::tempdir().unwrap();
    chmod(stage.path(), 0o755);
    let (program, wrapper, state) =
        (stage.path().join("haproxy-stapler"), stage.path().join("as-nobody"), stage.path().join("state"));
    put_program(&program, &fs::read(binary()).unwrap());
    fs::create_dir(&state).unwrap();
    let nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups --";
    put_program(&wrapper, format!("#!/bin/sh\nexec {nobody} '{}' \"$@\"\n", program.display()).as_bytes());
    let mut stapler = impatient(&wrapper)
        .env("STAPLER_CERTS", haproxy.certs_dir())
        .env("STAPLER_SOCKETS", haproxy.socket())
        .env("STAPLER_STATE_DIR", &state)
        .start();
    stapler.wait_until("the socket's refusal", |status| status["haproxy"][0]["trouble"]["kind"] == "permission_denied");
    let unreadable = wait_for_state(&mut stapler, "/closed.pem", "unreadable");
    assert!(unreadable["detail"].as_str().unwrap().starts_with("permission denied"), "{unreadable}");
    let held = wait_for_state(&mut stapler, "/good.pem", "unstapled");
    assert!(held["detail"].as_str().unwrap().contains("write permission"), "{held}");
    let status = stapler.wait_until("both disks' refusals", |status| status["troubles"].as_array().unwrap().len() == 2);
    for trouble in status["troubles"].as_array().unwrap() {
        assert_eq!(trouble["kind"], "permission");
    }
    wait_for_passes(&mut stapler, 3);
    for words in [
        "closed.pem",
        "needs write permission for this program",
        &format!("cannot write files in {}", state.display()),
        &format!("cannot write files in {}", haproxy.certs_dir().display()),
    ] {
        let said: Vec<String> = stapler.log().lines().filter(|line| line.contains(words)).map(str::to_owned).collect();
        // A certificate that waits for the socket repeats the socket's reason.
        let own: Vec<&String> = said.iter().filter(|line| !line.contains("a verified staple is held")).collect();
        assert_eq!(own.len(), 1, "{words}: {said:#?}");
    }

    chmod(&haproxy.socket(), 0o666);
    wait_for_state(&mut stapler, "/good.pem", "stapled");
    chmod(&haproxy.certificate("closed.pem"), 0o644);
    wait_for_state(&mut stapler, "/closed.pem", "stapled");
    chmod(&state, 0o777);
    chmod(&haproxy.certs_dir(), 0o777);
    stapler.wait_until("no trouble", |status| status["status"] == "ok");
    assert!(haproxy.certificate("good.pem.ocsp").exists() && haproxy.certificate("closed.pem.ocsp").exists());
}

/// The file that HAProxy loaded is gone or elsewhere: the commonest mistake with two containers.
#[test]
fn a_certificate_that_only_haproxy_knows_is_named_once() {
    let authority = Authority::start();
    let lost = authority.leaf("lost.test");
    let haproxy: Haproxy = haproxy_with_good(&authority).file("lost.pem", lost.combined_pem()).start();
    let path = haproxy.certificate("lost.pem");
    fs::remove_file(&path).unwrap();
    let mut stapler = stapler_for(&haproxy).start();
    wait_for_state(&mut stapler, "/good.pem", "stapled");
    stapler.wait_until("lost.pem to be missed", |status| {
        status["haproxy"][0]["unmatched"].as_array().is_some_and(|names| names.len() == 1)
    });
    wait_for_passes(&mut stapler, 3);
    let lines: Vec<String> =
        stapler.log().lines().filter(|line| line.contains("lost.pem")).map(str::to_owned).collect();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].contains("STAPLER_CERTS") && lines[0].contains("STAPLER_PATH_MAP"), "{lines:#?}");
    assert!(certificate(&stapler.status().unwrap(), "lost.pem").is_none());
    fs::write(&path, lost.combined_pem()).unwrap();
    wait_for_state(&mut stapler, "/lost.pem", "stapled");
}
