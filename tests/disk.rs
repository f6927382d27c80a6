//! Disks that are full, read-only or somebody else's. Mounting and changing users needs root, as in a container.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by panicking")]

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use haproxy_stapler::certificate::{Certificate, Fingerprint};
use haproxy_stapler::discovery::{CertificateFile, FileError, ProblemError, Scanner};
use haproxy_stapler::ocsp::{self, CertId, Staple};
use haproxy_stapler::settings::{OcspFiles, PathMap};
use haproxy_stapler::store::{Place, Store, StoreError, Written};

mod support;

use support::pki::Identity;
use support::process::put_program;
use support::response::Response;
use support::volume::{Volume, must_succeed};

fn ocsp_of(certificate: &Path) -> PathBuf {
    certificate.with_file_name(format!("{}.ocsp", certificate.file_name().unwrap().display()))
}

/// Two staples that a CA made one after the other.
fn old_and_new() -> (Staple, Staple) {
    let ca = Identity::root("Disk Test CA");
    let leaf = ca.leaf("disk.test").issue();
    let (certificate, issuer) = (Certificate::from_der(leaf.der()).unwrap(), Certificate::from_der(ca.der()).unwrap());
    let now = support::now();
    let staple = |days: i64| {
        let this_update = now - jiff::SignedDuration::from_hours(24 * days);
        let der = Response::good_at(&leaf, &ca, this_update, jiff::SignedDuration::from_hours(24 * 7)).der();
        let response = ocsp::verify(&der, &certificate, &issuer, now).unwrap();
        Staple::new(response, &CertId::new(&certificate, &issuer).unwrap(), now).unwrap()
    };
    (staple(2), staple(1))
}

fn fingerprint(number: u8) -> Fingerprint {
    format!("{number:040X}").parse().unwrap()
}

fn kind_and_place(result: Result<Written, StoreError>) -> (&'static str, Place) {
    let error = result.unwrap_err();
    (error.kind(), error.place)
}

#[test]
fn a_full_disk_costs_the_write_and_nothing_that_was_there() {
    let volume = Volume::new();
    let store = Store::new(volume.path("state"), OcspFiles::Auto);
    let (old, new) = old_and_new();
    let certificate = volume.path("a.pem");
    fs::write(&certificate, "certificate").unwrap();
    assert_eq!(store.save(fingerprint(1), &old).unwrap(), Written::Replaced);
    assert_eq!(store.keep_beside(&ocsp_of(&certificate), &certificate, &old).unwrap(), Written::Replaced);
    volume.fill();

    assert_eq!(kind_and_place(store.save(fingerprint(1), &new)), ("no_space", Place::StateDirectory));
    assert_eq!(
        kind_and_place(store.keep_beside(&ocsp_of(&certificate), &certificate, &new)),
        ("no_space", Place::BesideCertificate)
    );
    assert_eq!(store.load(fingerprint(1)).unwrap().as_deref(), Some(old.der()));
    assert_eq!(store.read_beside(&ocsp_of(&certificate)).unwrap().as_deref(), Some(old.der()));
    assert_eq!(store.keep_beside(&ocsp_of(&certificate), &certificate, &old).unwrap(), Written::Unchanged);
    assert_eq!(volume.names(""), ["a.pem", "a.pem.ocsp", "ballast", "state"]);
    assert_eq!(volume.names("state"), [format!("{}.ocsp", fingerprint(1))]);

    volume.empty();
    assert_eq!(store.save(fingerprint(1), &new).unwrap(), Written::Replaced);
    assert_eq!(store.keep_beside(&ocsp_of(&certificate), &certificate, &new).unwrap(), Written::Replaced);
}

#[test]
fn a_read_only_disk_is_read_all_the_same_and_heals() {
    let volume = Volume::new();
    let store = Store::new(volume.path("state"), OcspFiles::Auto);
    let (old, new) = old_and_new();
    let certificate = volume.path("a.pem");
    fs::write(&certificate, "certificate").unwrap();
    store.save(fingerprint(1), &old).unwrap();
    store.keep_beside(&ocsp_of(&certificate), &certificate, &old).unwrap();
    volume.set("ro");

    assert_eq!(store.load(fingerprint(1)).unwrap().as_deref(), Some(old.der()));
    assert_eq!(store.keep_beside(&ocsp_of(&certificate), &certificate, &old).unwrap(), Written::Unchanged);
    assert_eq!(kind_and_place(store.save(fingerprint(2), &new)), ("read_only", Place::StateDirectory));
    assert_eq!(
        kind_and_place(store.keep_beside(&ocsp_of(&certificate), &certificate, &new)),
        ("read_only", Place::BesideCertificate)
    );
    assert_eq!(store.remove_beside(&ocsp_of(&certificate), &old).unwrap_err().kind(), "read_only");
    let elsewhere = Store::new(volume.path("not/yet/there"), OcspFiles::Auto);
    assert_eq!(kind_and_place(elsewhere.save(fingerprint(2), &new)), ("read_only", Place::StateDirectory));
    let later = jiff::Timestamp::MAX;
    assert_eq!(store.sweep(&[].into(), later).unwrap_err().kind(), "read_only");

    volume.set("rw");
    assert_eq!(store.keep_beside(&ocsp_of(&certificate), &certificate, &new).unwrap(), Written::Replaced);
    assert!(store.remove_beside(&ocsp_of(&certificate), &new).unwrap());
    assert_eq!(store.sweep(&[].into(), later).unwrap(), 1);
}

/// Names the directory that the test process which this one starts under another user is to work in.
const WORKPLACE: &str = "DISK_TEST_WORKPLACE";
const NOBODY: u32 = 65534;

/// Root may do anything, so the test starts itself again as somebody who may not.
#[test]
fn another_user_is_told_what_it_may_not_do_and_can_do_the_rest() {
    if let Some(workplace) = std::env::var_os(WORKPLACE) {
        return as_somebody_else(Path::new(&workplace));
    }
    let directory = tempfile::tempdir().unwrap();
    let set_mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    set_mode(directory.path(), 0o755);
    for (name, mode) in [("closed", 0o755), ("hidden", 0o700), ("open", 0o777)] {
        let place = directory.path().join(name);
        fs::create_dir(&place).unwrap();
        for (name, mode) in [("private.pem", 0o600), ("group.pem", 0o640), ("public.pem", 0o644)] {
            fs::write(place.join(name), "certificate").unwrap();
            set_mode(&place.join(name), mode);
        }
        set_mode(&place, mode);
    }
    // The build directory may be out of the other user's reach.
    let program = directory.path().join("disk-test");
    put_program(&program, &fs::read(std::env::current_exe().unwrap()).unwrap());
    let output = Command::new(program)
        .args(["--exact", "another_user_is_told_what_it_may_not_do_and_can_do_the_rest"])
        .env(WORKPLACE, directory.path())
        .current_dir(directory.path())
        .uid(NOBODY)
        .gid(NOBODY)
        .output();
    let output = must_succeed("run as another user; run this test as root, as in a container", output);
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    for name in ["private.pem", "group.pem", "public.pem"] {
        let ocsp = fs::metadata(ocsp_of(&directory.path().join("open").join(name))).unwrap();
        assert_eq!((ocsp.uid(), ocsp.mode() & 0o777), (NOBODY, 0o644), "{name}");
    }
}

fn as_somebody_else(workplace: &Path) {
    let store = Store::new(workplace.join("state"), OcspFiles::Auto);
    let (staple, _) = old_and_new();
    assert_eq!(kind_and_place(store.save(fingerprint(1), &staple)), ("permission", Place::StateDirectory));
    let beside = |path: &str| {
        let certificate = workplace.join(path);
        store.keep_beside(&ocsp_of(&certificate), &certificate, &staple)
    };
    assert_eq!(kind_and_place(beside("closed/public.pem")), ("permission", Place::BesideCertificate));
    assert_eq!(kind_and_place(beside("hidden/public.pem")), ("permission", Place::BesideCertificate));
    // The owner cannot be given, so the file is made readable to everyone instead.
    for name in ["open/private.pem", "open/group.pem", "open/public.pem"] {
        assert_eq!(beside(name).unwrap(), Written::Replaced);
        assert_eq!(beside(name).unwrap(), Written::Unchanged);
    }

    let private = workplace.join("open/private.pem");
    let scan = Scanner::new(vec![private.clone(), workplace.join("hidden")], PathMap::default()).scan(&[]);
    assert_eq!(scan.files, [CertificateFile { path: private, content: Err(FileError::Permission) }]);
    assert!(matches!(scan.problems[..], [ref problem] if matches!(problem.error, ProblemError::Unreadable { .. })));
}
