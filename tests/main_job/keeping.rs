//! What lies on disk: warm starts without any CA, renewed certificates, and files that never stop HAProxy.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::time::Instant;

use super::support::haproxy::Haproxy;
use super::support::pki::Identity;
use super::support::stapler::Stapler;
use super::support::{PATIENCE, wait_for};
use super::{
    Ca, assert_accepted, assert_genuine, assert_startable, beside, listing, metric, staple, stapler_for,
    wait_for_staple, wait_for_staples, wait_for_state,
};

/// What the program keeps, apart from what it writes down while it installs.
fn kept(stapler: &Stapler) -> Vec<String> {
    let mut names = listing(&stapler.state_dir());
    names.retain(|name| !name.starts_with('.') && !name.ends_with(".journal"));
    names
}

#[test]
fn a_warm_start_needs_no_ca() {
    let ca = Ca::new();
    let (chained, orphan) = (ca.leaf("chained.test"), ca.orphan("orphan.test"));
    let told = ca.leaf("told.test");
    let mut haproxy = Haproxy::builder()
        .file("chained.pem", chained.combined_pem())
        .file("orphan.pem", orphan.chainless_pem())
        .file("told.pem", told.chainless_pem())
        .file("told.pem.issuer", ca.issuing.pem())
        .start();
    let all = [&chained, &orphan, &told];
    let mut stapler = stapler_for(&[&haproxy]).start();
    let before = wait_for_staples("stapled after the start", Instant::now(), &haproxy, &all);
    for name in ["chained.pem", "told.pem"] {
        wait_for("a .ocsp file", PATIENCE, || beside(&haproxy, name));
    }
    wait_for("three staples and an issuer to be kept", PATIENCE, || (kept(&stapler).len() == 4).then_some(()));
    assert!(stapler.stop().success());
    let anchor = ca.anchor();
    let Ca { responder, dir: _dir, .. } = ca;
    drop(responder);
    for remove in [false, true] {
        haproxy.kill();
        if remove {
            for name in ["chained.pem.ocsp", "told.pem.ocsp"] {
                std::fs::remove_file(haproxy.certificate(name)).unwrap();
            }
        }
        haproxy.start_again();
        assert_eq!(staple(&haproxy, &chained).is_some(), !remove);
        let start = Instant::now();
        stapler.start_again();
        let what = format!("warm without a CA, .ocsp files removed: {remove}");
        assert_eq!(wait_for_staples(&what, start, &haproxy, &all), before);
        assert_accepted(&haproxy, &chained, &anchor);
        let status = stapler.wait_until("all to be stapled", |status| status["states"]["stapled"] == 3);
        assert_eq!(status["status"], "ok", "{status:#}");
        assert_eq!(metric(&stapler, "ocsp_requests_total"), 0.0);
        wait_for("the .ocsp file", PATIENCE, || beside(&haproxy, "chained.pem"));
        assert!(stapler.stop().success());
    }
}

#[test]
fn what_was_kept_is_verified_before_it_is_used_again() {
    let ca = Ca::new();
    let (leaf, other) = (ca.leaf("leaf.test"), ca.leaf("other.test"));
    let haproxy =
        Haproxy::builder().file("leaf.pem", leaf.combined_pem()).file("other.pem", other.combined_pem()).start();
    let mut stapler = stapler_for(&[&haproxy]).start();
    let before = wait_for_staples("stapled after the start", Instant::now(), &haproxy, &[&leaf, &other]);
    wait_for("two kept staples", PATIENCE, || (kept(&stapler).len() == 2).then_some(()));
    wait_for("a .ocsp file", PATIENCE, || beside(&haproxy, "leaf.pem"));
    assert!(stapler.stop().success());
    // One byte of the signature, which HAProxy would not notice; and another certificate's staple.
    let mut forged = before[0].clone();
    *forged.last_mut().unwrap() ^= 1;
    for name in kept(&stapler) {
        std::fs::write(stapler.state_dir().join(name), &forged).unwrap();
    }
    std::fs::write(haproxy.certificate("leaf.pem.ocsp"), &forged).unwrap();
    std::fs::write(haproxy.certificate("other.pem.ocsp"), &before[0]).unwrap();
    let asked = ca.responder.requests(&leaf);
    stapler.start_again();
    wait_for("the forged file to be replaced", PATIENCE, || (beside(&haproxy, "leaf.pem")? != forged).then_some(()));
    wait_for("the wrong file to be replaced", PATIENCE, || (beside(&haproxy, "other.pem")? != before[0]).then_some(()));
    assert_genuine(&beside(&haproxy, "leaf.pem").unwrap(), &leaf);
    assert_genuine(&beside(&haproxy, "other.pem").unwrap(), &other);
    assert_eq!(ca.responder.requests(&leaf), asked + 1);
    assert_accepted(&haproxy, &leaf, &ca.anchor());
}

#[test]
fn a_renewed_file_gets_its_own_staple_and_never_stops_haproxy() {
    let ca = Ca::new();
    let old = ca.leaf("site.test");
    let mut haproxy = Haproxy::builder().file("site.pem", old.combined_pem()).start();
    let mut stapler = stapler_for(&[&haproxy]).start();
    let first = wait_for_staple(&haproxy, &old);
    wait_for("the .ocsp file", PATIENCE, || (beside(&haproxy, "site.pem")? == first).then_some(()));

    let new = ca.leaf("site.test");
    let fresh = haproxy.certs_dir().with_file_name("site.new");
    std::fs::write(&fresh, new.combined_pem()).unwrap();
    std::fs::rename(fresh, haproxy.certificate("site.pem")).unwrap();
    let start = Instant::now();
    let renewed = wait_for("the renewed certificate's own .ocsp file, before any reload", PATIENCE, || {
        beside(&haproxy, "site.pem").filter(|bytes| *bytes != first)
    });
    super::say("a renewed file has its own .ocsp file", start.elapsed());
    assert_genuine(&renewed, &new);
    assert_startable(&haproxy);
    assert_eq!(staple(&haproxy, &old), Some(first), "HAProxy still runs the old one, with its staple");
    let entry = wait_for_state(&mut stapler, "site.pem", "stapled");
    assert!(entry["detail"].as_str().unwrap().contains("reload HAProxy"), "{entry:#}");
    haproxy.reload();
    assert_eq!(staple(&haproxy, &new), Some(renewed), "the first handshake after the reload");
    assert_accepted(&haproxy, &new, &ca.anchor());
    stapler.wait_until("the new serial number", |status| {
        let entry = &status["certificates"][0];
        entry["state"] == "stapled" && entry["serial_number"].as_str().is_some_and(|text| is_serial(text, &new))
    });
    assert_eq!((ca.responder.requests(&old), ca.responder.requests(&new)), (1, 1));
    assert_eq!(stapler.status().unwrap()["certificates"].as_array().unwrap().len(), 1);
}

fn is_serial(text: &str, leaf: &Identity) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    digits.trim_start_matches('0').eq_ignore_ascii_case(leaf.serial_hex().trim_start_matches('0'))
}

#[test]
fn a_certificate_renewed_at_run_time_is_stapled_again() {
    let ca = Ca::new();
    let old = ca.leaf("site.test");
    let haproxy = Haproxy::builder().file("site.pem", old.combined_pem()).start();
    let stapler = stapler_for(&[&haproxy]).start();
    let first = wait_for_staple(&haproxy, &old);
    let new = ca.leaf("site.test");
    // As certificate managers do it: the file for the next start, the socket for this process.
    std::fs::write(haproxy.certificate("site.pem"), new.combined_pem()).unwrap();
    let path = haproxy.certificate("site.pem");
    let name = path.display();
    let reply = wait_for("the transaction", PATIENCE, || {
        let reply = haproxy.command(&format!("set ssl cert {name} <<\n{}", new.combined_pem()));
        reply.contains("Transaction created").then_some(reply)
    });
    assert!(haproxy.command(&format!("commit ssl cert {name}")).contains("Success!"), "{reply}");
    let start = Instant::now();
    let second = wait_for("a staple for the renewed certificate", PATIENCE, || {
        staple(&haproxy, &new).filter(|bytes| *bytes != first)
    });
    super::say("stapled after a renewal at run time", start.elapsed());
    assert_genuine(&second, &new);
    assert_accepted(&haproxy, &new, &ca.anchor());
    wait_for("its .ocsp file", PATIENCE, || (beside(&haproxy, "site.pem")? == second).then_some(()));
    assert_eq!(ca.responder.requests(&new), 1);
    assert_eq!(metric(&stapler, "haproxy_reloads_total"), 0.0);
    assert_startable(&haproxy);
}

#[test]
fn a_file_that_loses_its_issuer_loses_its_ocsp_file() {
    let ca = Ca::new();
    let leaf = ca.orphan("site.test");
    let gone = ca.leaf("gone.test");
    let mut haproxy =
        Haproxy::builder().file("site.pem", leaf.combined_pem()).file("gone.pem", gone.combined_pem()).start();
    let stapler = stapler_for(&[&haproxy]).start();
    let before = wait_for_staples("stapled after the start", Instant::now(), &haproxy, &[&leaf, &gone]);
    for name in ["site.pem", "gone.pem"] {
        wait_for("the .ocsp file", PATIENCE, || beside(&haproxy, name));
    }
    std::fs::write(haproxy.certificate("site.pem"), leaf.chainless_pem()).unwrap();
    std::fs::remove_file(haproxy.certificate("gone.pem")).unwrap();
    for name in ["site.pem", "gone.pem"] {
        wait_for("the .ocsp file to go", PATIENCE, || beside(&haproxy, name).is_none().then_some(()));
    }
    assert_startable(&haproxy);
    assert_eq!(staple(&haproxy, &leaf).as_ref(), before.first());
    haproxy.reload();
    assert_eq!(wait_for_staple(&haproxy, &leaf), before[0]);
    assert_eq!(ca.responder.requests(&leaf), 1);
    drop(stapler);
}

#[test]
fn ocsp_files_are_as_readable_as_their_certificates_and_nothing_else_is_left() {
    let ca = Ca::new();
    let (private, public, orphan) = (ca.leaf("private.test"), ca.leaf("public.test"), ca.orphan("orphan.test"));
    let mut haproxy = Haproxy::builder()
        .file("private.pem", private.combined_pem())
        .file("public.pem", public.combined_pem())
        .file("orphan.pem", orphan.chainless_pem())
        .start();
    let set = |name: &str, mode: u32, owner: u32| {
        let path = haproxy.certificate(name);
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        chown(&path, Some(owner), Some(owner + 1)).expect("run this test as root, as in a container");
    };
    set("private.pem", 0o640, 12_345);
    set("public.pem", 0o604, 23_456);
    let stapler = stapler_for(&[&haproxy]).start();
    let all = [&private, &public, &orphan];
    wait_for_staples("stapled after the start", Instant::now(), &haproxy, &all);
    let wanted = ["orphan.pem", "private.pem", "private.pem.ocsp", "public.pem", "public.pem.ocsp"];
    wait_for("exactly these files", PATIENCE, || (listing(&haproxy.certs_dir()) == wanted).then_some(()));
    for name in ["private.pem", "public.pem"] {
        let attributes = |name: &str| {
            let metadata = haproxy.certificate(name).metadata().unwrap();
            (metadata.mode() & 0o7777, metadata.uid(), metadata.gid())
        };
        assert_eq!(attributes(name), attributes(&format!("{name}.ocsp")));
    }
    assert_startable(&haproxy);
    haproxy.restart();
    assert!(staple(&haproxy, &private).is_some() && staple(&haproxy, &public).is_some());
    wait_for_staple(&haproxy, &orphan);
    assert_eq!(listing(&haproxy.certs_dir()), wanted);
    drop(stapler);
}

#[test]
fn what_somebody_tidied_away_is_kept_again() {
    let ca = Ca::new();
    let (chained, orphan) = (ca.leaf("chained.test"), ca.orphan("orphan.test"));
    let haproxy = Haproxy::builder()
        .file("chained.pem", chained.combined_pem())
        .file("orphan.pem", orphan.chainless_pem())
        .start();
    let stapler = stapler_for(&[&haproxy]).start();
    wait_for_staples("stapled after the start", Instant::now(), &haproxy, &[&chained, &orphan]);
    let all_is_kept = || {
        let state = std::fs::read_dir(stapler.state_dir()).map_or(0, Iterator::count);
        (state == 3 && beside(&haproxy, "chained.pem").is_some()).then_some(())
    };
    wait_for("two staples, an issuer and a .ocsp file", PATIENCE, all_is_kept);
    let asked = ca.responder.total_requests();
    std::fs::remove_dir_all(stapler.state_dir()).unwrap();
    wait_for("the state directory to be back", PATIENCE, all_is_kept);
    std::fs::remove_file(haproxy.certificate("chained.pem.ocsp")).unwrap();
    wait_for("the .ocsp file to be back", PATIENCE, all_is_kept);
    assert_eq!(ca.responder.total_requests(), asked, "it is all in memory");
}
