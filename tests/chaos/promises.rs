//! What must hold: after every step, and when everybody behaves again.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::site::{CERTIFICATES, Shape, Site};
use super::support::client::{Strict, openssl_judges, strict};
use super::support::pki::KeyKind;
use super::support::stapler::http_get;
use super::support::{PATIENCE, wait_for};

/// What HAProxy itself writes or reads beside a certificate.
const KNOWN: [&str; 4] = [".ocsp", ".issuer", ".pem", ".txt"];
/// Longer than a file takes to be written, shorter than anybody would call it litter.
const A_MOMENT: Duration = Duration::from_secs(5);
/// The most requests about one certificate in a minute.
const BUDGET: usize = 6;
const MINUTE: Duration = Duration::from_secs(60);

/// Every `.ocsp` file that HAProxy would read.
pub(crate) fn ocsp_files(site: &Site) -> Vec<PathBuf> {
    (0..CERTIFICATES.len())
        .map(|certificate| PathBuf::from(format!("{}.ocsp", site.path(certificate).display())))
        .filter(|path| path.exists())
        .collect()
}

/// Somebody tidies them away. The program may be about to do the same.
pub(crate) fn remove_ocsp_files(site: &Site) {
    for path in ocsp_files(site) {
        let _ = std::fs::remove_file(path);
    }
}

/// Insists on everything that holds at any time.
pub(crate) fn assert_kept(site: &mut Site) {
    if let Some(status) = site.stapler.process().exited() {
        panic!("the program ended with {status}");
    }
    assert!(!site.stapler.log().contains("panicked"), "the program panicked");
    if let Ok(health) = http_get(site.stapler.port(), "/healthz") {
        assert_eq!(health.status, 200, "{}", health.text());
    }
    for certificate in 0..CERTIFICATES.len() {
        let shown = site.shown(certificate);
        if let Some(staple) = &shown.staple {
            site.assert_genuine(staple, site.leaf(&shown.certificate), "on the wire");
        }
    }
    for path in ocsp_files(site) {
        // It may be gone again by now.
        if let Ok(response) = std::fs::read(&path) {
            site.assert_genuine_for_some(&response, &path);
        }
    }
    assert_no_litter(site, A_MOMENT);
    let (starts, words) = site.haproxy.accepts();
    assert!(starts, "HAProxy would not start: {words}");
}

fn assert_no_litter(site: &Site, older_than: Duration) {
    // A program that was killed tidies up after itself when it is back.
    let since_start = site.starts.last().unwrap().elapsed();
    for entry in site.directories().iter().flat_map(|directory| std::fs::read_dir(directory).unwrap()) {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let stem = name.trim_end_matches(".ecdsa").trim_end_matches(".rsa");
        if !name.starts_with('.') && KNOWN.iter().any(|known| stem.ends_with(known)) {
            continue;
        }
        let age = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .map_or(Duration::ZERO, |written| written.elapsed().unwrap_or_default());
        assert!(age.min(since_start) <= older_than, "{name} has lain about for {age:?}");
    }
}

/// Waits until every certificate that HAProxy runs and that is in its file is stapled; says how long it took.
pub(crate) fn assert_stapled(site: &mut Site, patience: Duration) {
    let start = Instant::now();
    for (certificate, kind) in CERTIFICATES.iter().enumerate() {
        let now = &site.now[certificate];
        if now.running.as_ref().is_none_or(|running| running.der() != now.in_file.der()) {
            continue;
        }
        let what = format!("a staple for {}", kind.file);
        let left = patience.saturating_sub(start.elapsed());
        let staple = wait_for(&what, left, || {
            let shown = site.shown(certificate);
            assert_eq!(shown.certificate, site.now[certificate].in_file.der(), "{what}");
            shown.staple
        });
        site.assert_genuine(&staple, &site.now[certificate].in_file, "on the wire");
    }
    eprintln!("           everything stapled after {:.3} s", start.elapsed().as_secs_f64());
}

/// Insists that the strictest clients are content, and that all files are where they should be.
pub(crate) fn assert_all_is_well(site: &mut Site) {
    for (certificate, kind) in CERTIFICATES.iter().enumerate() {
        let leaf = site.now[certificate].in_file.clone();
        let staple = site.shown(certificate).staple.unwrap();
        let (verified, words) = openssl_judges(&staple, &leaf);
        assert!(verified && words.contains("leaf.pem: good"), "{}: {words}", kind.file);
        // curl needs the chain, and is shown the ECDSA half of a pair.
        if kind.shape == Shape::Chained && kind.key == KeyKind::Ecdsa {
            assert_eq!(strict(site.haproxy.port(), kind.host, &site.anchor), Strict::Accepted, "{}", kind.file);
        }
        let path = PathBuf::from(format!("{}.ocsp", site.path(certificate).display()));
        if kind.shape == Shape::Orphan {
            assert!(!path.exists(), "HAProxy would not start with {}", path.display());
        } else {
            let held = wait_for(&format!("{}", path.display()), PATIENCE, || std::fs::read(&path).ok());
            site.assert_genuine(&held, &leaf, &path.display().to_string());
        }
    }
    let well = |status: &serde_json::Value| status["states"]["stapled"] == CERTIFICATES.len();
    site.stapler.wait_until("/status to agree", well);
    wait_for("HAProxy to start without a warning", PATIENCE, || site.haproxy.check().0.then_some(()));
    let state = site.stapler.state_dir();
    wait_for("the state directory to be complete", PATIENCE, || {
        let staples = std::fs::read_dir(&state)
            .ok()?
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().ends_with(".ocsp"));
        (staples.count() >= CERTIFICATES.len()).then_some(())
    });
    assert_no_litter(site, A_MOMENT);
}

/// Insists that HAProxy, without the program, starts with everything stapled that a file can staple.
pub(crate) fn assert_stapled_by_files(site: &Site) {
    for (certificate, kind) in CERTIFICATES.iter().enumerate().filter(|(_, kind)| kind.shape != Shape::Orphan) {
        let staple = site.shown(certificate).staple;
        let staple = staple.unwrap_or_else(|| panic!("{} is not stapled by its file", kind.file));
        site.assert_genuine(&staple, &site.now[certificate].in_file, "on the wire");
    }
}

/// Insists that no life of the program asked more often about a certificate than promised.
pub(crate) fn assert_no_storm(site: &Site) {
    let received = site.responder.received();
    let mut serials: Vec<&Vec<u8>> = received.iter().filter_map(|received| received.serial.as_ref()).collect();
    serials.sort_unstable();
    serials.dedup();
    let mut most = 0;
    for serial in serials {
        let times: Vec<Instant> =
            received.iter().filter(|received| received.serial.as_ref() == Some(serial)).map(|each| each.at).collect();
        for (index, first) in times.iter().enumerate() {
            let life = site.starts.iter().filter(|start| *start <= first).count();
            let count = times[index..]
                .iter()
                .filter(|at| at.duration_since(*first) < MINUTE)
                .filter(|at| site.starts.iter().filter(|start| start <= at).count() == life)
                .count();
            assert!(count <= BUDGET, "{count} requests about one certificate within a minute");
            most = most.max(count);
        }
    }
    let (requests, lives) = (received.len(), site.starts.len());
    eprintln!("           {requests} requests in {lives} lives of the program, {most} at most about one in a minute");
}
