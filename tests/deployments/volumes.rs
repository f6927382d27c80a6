//! Volumes that others fill: Kubernetes secrets, cert-manager, certbot; and volumes mounted at different paths.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::site::{Authority, impatient, wait_for_passes, wait_for_state};
use crate::support::client::stapled_bytes;
use crate::support::haproxy::Haproxy;
use crate::support::pki::Identity;
use crate::support::volume::Volume;
use crate::{assert_startable, version, wait_for_all, wait_for_file, wait_for_staple, warnings, write};

const BINARY: &str = env!("CARGO_BIN_EXE_haproxy-stapler");

/// Fills a volume as the kubelet does: a directory for each generation, and one link that says which counts.
fn project(volume: &Volume, generation: &str, files: &[(&str, String)]) {
    let directory = volume.path(generation);
    fs::create_dir(&directory).unwrap();
    for (name, content) in files {
        fs::write(directory.join(name), content).unwrap();
        if !volume.path(name).exists() {
            symlink(Path::new("..data").join(name), volume.path(name)).unwrap();
        }
    }
    let before = fs::read_link(volume.path("..data"));
    symlink(generation, volume.path("..data_tmp")).unwrap();
    fs::rename(volume.path("..data_tmp"), volume.path("..data")).unwrap();
    if let Ok(before) = before {
        fs::remove_dir_all(volume.path(&before.display().to_string())).unwrap();
    }
}

fn chained(leaf: &Identity) -> String {
    format!("{}{}", leaf.pem(), leaf.issuer().pem())
}

/// A secret of type `kubernetes.io/tls`, with what cert-manager adds.
fn secret(leaf: &Identity) -> Vec<(&'static str, String)> {
    vec![
        ("ca.crt", leaf.issuer().pem()),
        ("tls.crt", chained(leaf)),
        ("tls.key", leaf.key_pem()),
        ("tls-combined.pem", leaf.combined_pem()),
    ]
}

fn a_secret_volume_is_stapled_at_run_time(loaded: &str) {
    let authority = Authority::start();
    let (old, new) = (authority.leaf("site.test"), authority.leaf("site.test"));
    let volume = Volume::new();
    project(&volume, "..2026_11_22", &secret(&old));
    volume.set("ro");
    let mut builder = Haproxy::builder().bind(&format!("crt {}", volume.path(loaded).display()));
    if loaded == "tls.crt" {
        builder = builder.global("ssl-load-extra-del-ext");
    }
    let mut haproxy = builder.start();
    let mut stapler = impatient(BINARY)
        .env("STAPLER_CERTS", volume.root())
        .env("STAPLER_SOCKETS", haproxy.socket())
        .env("STAPLER_OCSP_FILES", "never")
        .start();
    let staple = wait_for_staple(haproxy.port(), &old);
    let status = wait_for_all(&mut stapler, 1);
    assert_eq!(status["status"], "ok");

    volume.set("rw");
    project(&volume, "..2026_11_23", &secret(&new));
    volume.set("ro");
    let status = stapler.wait_until("the other certificate to be seen", |status| {
        let row = crate::certificate(status, loaded);
        row.is_some_and(|row| row["detail"].as_str().unwrap().contains("reload HAProxy"))
    });
    assert_eq!(crate::state(&status, loaded), "stapled", "what HAProxy runs still is");
    assert_eq!(stapled_bytes(haproxy.port(), "site.test"), Some(staple));
    haproxy.reload();
    wait_for_staple(haproxy.port(), &new);
    wait_for_all(&mut stapler, 1);
    let names = volume.names(".");
    assert_eq!(names, ["..2026_11_23", "..data", "ca.crt", "tls-combined.pem", "tls.crt", "tls.key"]);
    assert_eq!(warnings(&stapler), Vec::<String>::new(), "a volume that cannot be written to is no news");
}

#[test]
fn a_kubernetes_secret() {
    if version().is_at_least(2, 3) {
        a_secret_volume_is_stapled_at_run_time("tls.crt");
    }
}

#[test]
fn a_combined_pem_of_cert_manager() {
    a_secret_volume_is_stapled_at_run_time("tls-combined.pem");
}

/// Certbot's `archive` and `live`, and the combined file that a deploy hook adds for HAProxy.
fn certbot(haproxy_dir: &Path, number: u32, leaf: &Identity) {
    let (archive, live) = (haproxy_dir.join("archive/site.test"), haproxy_dir.join("live/site.test"));
    fs::create_dir_all(&archive).unwrap();
    fs::create_dir_all(&live).unwrap();
    fs::write(live.join("README"), "This directory contains your keys and certificates.\n").unwrap();
    for (name, content) in [
        ("cert", leaf.pem()),
        ("chain", leaf.issuer().pem()),
        ("fullchain", chained(leaf)),
        ("privkey", leaf.key_pem()),
        ("haproxy", leaf.combined_pem()),
    ] {
        fs::write(archive.join(format!("{name}{number}.pem")), content).unwrap();
        let fresh = live.join(format!(".{name}"));
        symlink(format!("../../archive/site.test/{name}{number}.pem"), &fresh).unwrap();
        fs::rename(fresh, live.join(format!("{name}.pem"))).unwrap();
    }
}

#[test]
fn the_links_of_certbot() {
    let authority = Authority::start();
    let (old, new) = (authority.leaf("site.test"), authority.leaf("site.test"));
    let builder = Haproxy::builder();
    certbot(builder.dir(), 1, &old);
    let live = builder.dir().join("live/site.test");
    let mut haproxy = builder.bind(&format!("crt {}", live.join("haproxy.pem").display())).start();
    let mut stapler = impatient(BINARY).env("STAPLER_CERTS", &live).env("STAPLER_SOCKETS", haproxy.socket()).start();
    let staple = wait_for_staple(haproxy.port(), &old);
    wait_for_all(&mut stapler, 1);
    let ocsp = live.join("haproxy.pem.ocsp");
    wait_for_file(&ocsp, &staple);
    assert!(!haproxy.dir().join("archive/site.test/haproxy1.pem.ocsp").exists(), "HAProxy looks beside the link");

    certbot(haproxy.dir(), 2, &new);
    let renewed = crate::wait_for("the renewed certificate's staple", crate::PATIENCE, || {
        fs::read(&ocsp).ok().filter(|der| *der != staple)
    });
    assert_startable(&haproxy);
    haproxy.reload();
    assert_eq!(stapled_bytes(haproxy.port(), "site.test"), Some(renewed), "the first handshake after the reload");
    wait_for_all(&mut stapler, 1);
    assert_eq!(warnings(&stapler), Vec::<String>::new());
}

fn a_volume_mounted_at_another_path(mapped: bool) {
    let authority = Authority::start();
    let (old, new) = (authority.leaf("site.test"), authority.leaf("site.test"));
    let builder = Haproxy::builder();
    let theirs = write(&builder, "theirs/certs/site.pem", old.combined_pem());
    let haproxy = builder.bind(&format!("crt {}", theirs.display())).start();
    // The same directory by another name, as another container sees it.
    let ours = haproxy.dir().join("ours");
    symlink(haproxy.dir().join("theirs"), &ours).unwrap();
    let map = format!("{}={}", theirs.parent().unwrap().display(), ours.join("certs").display());
    let mut program = impatient(BINARY).env("STAPLER_CERTS", ours.join("certs"));
    if mapped {
        program = program.env("STAPLER_PATH_MAP", map);
    }
    let mut stapler = program.env("STAPLER_SOCKETS", haproxy.socket()).start();
    let staple = wait_for_staple(haproxy.port(), &old);
    wait_for_file(&theirs.with_extension("pem.ocsp"), &staple);
    let status = wait_for_all(&mut stapler, 1);
    assert_eq!(status["certificates"][0]["certificate"], theirs.display().to_string(), "HAProxy's name");

    // Only a map tells that the file is the one that HAProxy will load under its name.
    fs::write(&theirs, new.combined_pem()).unwrap();
    if mapped {
        stapler.wait_until("the other certificate to be seen", |status| {
            status["certificates"][0]["detail"].as_str().unwrap().contains("reload HAProxy")
        });
    } else {
        wait_for_state(&mut stapler, "ours/certs/site.pem", "not_loaded");
    }
    wait_for_passes(&mut stapler, 1);
    assert_eq!(stapler.status().unwrap()["certificates"].as_array().unwrap().len(), if mapped { 1 } else { 2 });
    assert_startable(&haproxy);
}

#[test]
fn a_volume_mounted_at_another_path_with_a_map() {
    a_volume_mounted_at_another_path(true);
}

#[test]
fn a_volume_mounted_at_another_path_that_fingerprints_tell() {
    a_volume_mounted_at_another_path(false);
}
