use std::fs::File;
use std::io;
use std::os::unix::fs::symlink;
use std::time::Duration;

use openssl::x509::X509;
use tempfile::TempDir;

use super::*;
use crate::settings::Settings;

struct Minted {
    certificate: String,
    key: String,
}

impl Minted {
    fn new(name: &str) -> Self {
        let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        Self { certificate: cert.pem(), key: signing_key.serialize_pem() }
    }

    fn combined(&self) -> String {
        format!("{}{}", self.certificate, self.key)
    }
}

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }
}

fn scanner(root: impl Into<PathBuf>) -> Scanner {
    Scanner::new(vec![root.into()], PathMap::default())
}

fn path_map(text: &str) -> PathMap {
    Settings::parse([("STAPLER_PATH_MAP".to_owned(), text.to_owned())]).unwrap().settings.path_map
}

fn paths(scan: &Scan) -> Vec<&Path> {
    scan.files.iter().map(|file| file.path.as_path()).collect()
}

fn kinds(scan: &Scan) -> Vec<(&Path, &'static str)> {
    scan.files
        .iter()
        .map(|file| (file.path.as_path(), file.content.as_ref().map_or_else(FileError::kind, |_| "ok")))
        .collect()
}

fn only(scan: &Scan) -> &Arc<Content> {
    assert_eq!(scan.files.len(), 1, "{scan:?}");
    scan.files[0].content.as_ref().unwrap()
}

#[test]
fn a_directory_is_read_as_haproxy_reads_it() {
    let place = Place::new();
    let minted = Minted::new("a.example");
    let b = place.write("certs/b.pem", minted.combined());
    let a = place.write("certs/a.pem", minted.combined());
    let bare = place.write("certs/no-extension", &minted.certificate);
    for ignored in ["a.pem.key", "a.pem.ocsp", "a.pem.sctl", ".hidden.pem", "..pem", "sub/c.pem"] {
        place.write(&format!("certs/{ignored}"), minted.combined());
    }
    place.write("certs/privkey.pem", &minted.key);
    place.write("certs/dhparam", "-----BEGIN DH PARAMETERS-----\nMAo=\n-----END DH PARAMETERS-----\n");
    place.write("certs/README.md", "put certificates here\n");
    place.write("certs/list.txt", "a.pem example.com\n");
    let elsewhere = place.write("elsewhere/real.pem", minted.combined());
    let link = place.path("certs/link.pem");
    symlink(elsewhere, &link).unwrap();
    let scan = scanner(place.path("certs")).scan(&[]);
    assert_eq!(paths(&scan), [&*a, &*b, &*link, &*bare]);
    assert!(scan.files.iter().all(|file| file.content.is_ok()));
    assert_eq!(scan.problems, []);
}

#[test]
fn what_is_named_like_a_certificate_and_holds_none_is_told() {
    let place = Place::new();
    let minted = Minted::new("a.example");
    let der = X509::from_pem(minted.certificate.as_bytes()).unwrap().to_der().unwrap();
    let cut = minted.certificate.len() / 2;
    let binary = place.write("binary", &der);
    let changed = minted.certificate.replacen("MII", "!!!", 1);
    let encoding = place.write("encoding.pem", changed);
    let empty = place.write("empty.crt", "");
    let half = place.write("half.pem", &minted.certificate[..cut]);
    let huge = place.write("huge.pem", vec![b'x'; 1024 * 1024 + 1]);
    let nowhere = place.path("nowhere.pem");
    symlink("/nonexistent/file", &nowhere).unwrap();
    let scan = scanner(place.0.path()).scan(&[]);
    assert_eq!(
        kinds(&scan),
        [
            (&*binary, "no_certificate"),
            (&*empty, "empty"),
            (&*encoding, "malformed_pem"),
            (&*half, "malformed_pem"),
            (&*huge, "too_large"),
            (&*nowhere, "dangling_link"),
        ]
    );
    assert_eq!(scan.files[4].content, Err(FileError::TooLarge { size: 1024 * 1024 + 1 }));
    assert_eq!(scan.problems, []);
}

#[test]
fn what_is_no_certificate_inside_its_armour_is_told() {
    let place = Place::new();
    // A key's DER in a certificate's armour.
    let key = Minted::new("a.example").key.replace("PRIVATE KEY", "CERTIFICATE");
    let path = place.write("a.pem", key);
    let scan = scanner(&path).scan(&[]);
    assert!(matches!(kinds(&scan)[..], [(_, "malformed_pem" | "malformed_certificate")]), "{scan:?}");
}

#[test]
fn a_kubernetes_secret_is_followed_through_its_swaps() {
    let place = Place::new();
    let (old, new) = (Minted::new("old.example"), Minted::new("new.example"));
    for (version, minted) in [("..2026_01", &old), ("..2026_02", &new)] {
        place.write(&format!("{version}/tls.crt"), &minted.certificate);
        place.write(&format!("{version}/tls.key"), &minted.key);
    }
    symlink("..2026_01", place.path("..data")).unwrap();
    symlink("..data/tls.crt", place.path("tls.crt")).unwrap();
    symlink("..data/tls.key", place.path("tls.key")).unwrap();
    let mut scanner = scanner(place.0.path());
    let first = scanner.scan(&[]);
    assert_eq!(paths(&first), [place.path("tls.crt")]);
    symlink("..2026_02", place.path("..data_tmp")).unwrap();
    fs::rename(place.path("..data_tmp"), place.path("..data")).unwrap();
    let second = scanner.scan(&[]);
    assert_eq!(paths(&second), [place.path("tls.crt")]);
    assert_ne!(only(&first).bundle.leaf, only(&second).bundle.leaf);
}

#[test]
fn a_file_is_read_again_only_when_it_or_its_issuer_changed() {
    let place = Place::new();
    let (leaf, issuer) = (Minted::new("a.example"), Minted::new("issuer.example"));
    let path = place.write("a.pem", leaf.combined());
    let mut scanner = scanner(place.0.path());
    let first = scanner.scan(&[]);
    assert!(only(&first).issuer_file.is_empty());
    assert!(Arc::ptr_eq(only(&first), only(&scanner.scan(&[]))));

    place.write("a.pem.issuer", &issuer.certificate);
    let with_issuer = scanner.scan(&[]);
    assert_eq!(only(&with_issuer).issuer_file.len(), 1);
    assert_eq!(only(&with_issuer).bundle, only(&first).bundle);

    // Touched: the file was read, but says the same.
    let later = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
    assert!(Arc::ptr_eq(only(&with_issuer), only(&scanner.scan(&[]))));

    place.write("a.pem", Minted::new("b.example").combined());
    assert_ne!(only(&scanner.scan(&[])).bundle, only(&first).bundle);

    fs::remove_file(path).unwrap();
    assert_eq!(paths(&scanner.scan(&[])), Vec::<&Path>::new());
}

#[test]
fn a_broken_issuer_file_is_noted_and_costs_nothing_else() {
    let place = Place::new();
    let path = place.write("a.pem", Minted::new("a.example").combined());
    place.write("a.pem.issuer", "not a certificate");
    let mut scanner = scanner(&path);
    let scan = scanner.scan(&[]);
    assert_eq!(only(&scan).issuer_file_error, Some(FileError::NoCertificate));
    fs::remove_file(place.path("a.pem.issuer")).unwrap();
    fs::create_dir(place.path("a.pem.issuer")).unwrap();
    assert_eq!(only(&scanner.scan(&[])).issuer_file_error, Some(FileError::NotAFile));
}

#[test]
fn a_missing_root_and_an_empty_directory_are_problems_that_heal() {
    let place = Place::new();
    let root = place.path("certs");
    let mut scanner = scanner(&root);
    let missing = Problem { path: root.clone(), error: ProblemError::Missing };
    assert!(missing.to_string().starts_with(&format!("{}: STAPLER_CERTS names it", root.display())));
    assert_eq!(scanner.scan(&[]), Scan { files: vec![], problems: vec![missing] });
    fs::create_dir(&root).unwrap();
    place.write("certs/README", "");
    let empty = Problem { path: root, error: ProblemError::Empty };
    assert_eq!(scanner.scan(&[]).problems, [empty]);
    place.write("certs/a.pem", Minted::new("a.example").combined());
    let scan = scanner.scan(&[]);
    assert_eq!(scan.problems, []);
    only(&scan);
}

#[test]
fn a_root_may_be_one_file_or_the_base_name_of_a_bundle() {
    let place = Place::new();
    let minted = Minted::new("a.example");
    let single = place.write("single", minted.combined());
    let rsa = place.write("bundle.pem.rsa", minted.combined());
    let ecdsa = place.write("bundle.pem.ecdsa", minted.combined());
    let key = place.write("private", &minted.key);
    let under_a_file = single.join("below");
    let roots = vec![single.clone(), place.path("bundle.pem"), key.clone(), under_a_file.clone()];
    let scan = Scanner::new(roots, PathMap::default()).scan(&[]);
    assert_eq!(kinds(&scan), [(&*ecdsa, "ok"), (&*rsa, "ok"), (&*single, "ok")]);
    let problems = [
        Problem { path: key, error: ProblemError::Empty },
        Problem { path: under_a_file, error: ProblemError::Missing },
    ];
    assert_eq!(scan.problems, problems);
}

#[test]
fn a_crt_list_leads_to_its_certificates() {
    let place = Place::new();
    let minted = Minted::new("a.example");
    let relative = place.write("etc/relative.pem", minted.combined());
    let mapped = place.write("own/mapped.pem", minted.combined());
    let stored = place.write("store/site.pem", minted.combined());
    let bundle = place.write("own/bundle.pem.ecdsa", minted.combined());
    let text = place.write("own/text.pem", "nothing");
    let list = "# comment\nrelative.pem [alpn h2] a.example !b.example\nmissing.pem\n/haproxy/mapped.pem\n\
                /haproxy/bundle.pem\n/haproxy/gone.pem\n@web/site.pem\n@other/site.pem\n/haproxy/text.pem\nrelative.pem";
    let root = place.write("etc/crt-list.txt", list);
    let own = place.path("own");
    let store = place.path("store");
    let map = path_map(&format!("/haproxy={},@web={}", own.display(), store.display()));
    let scan = Scanner::new(vec![root.clone()], map).scan(&[]);
    assert_eq!(
        kinds(&scan),
        [
            (&*place.path("etc/missing.pem"), "not_found"),
            (&*relative, "ok"),
            (&*bundle, "ok"),
            (&*own.join("gone.pem"), "not_found"),
            (&*mapped, "ok"),
            (&*text, "no_certificate"),
            (&*stored, "ok"),
        ]
    );
    assert_eq!(scan.problems.len(), 1);
    assert_eq!((&scan.problems[0].path, scan.problems[0].error.kind()), (&root, "crt_list"));
    fs::write(&root, "\n").unwrap();
    let empty = Problem { path: root.clone(), error: ProblemError::Empty };
    assert_eq!(scanner(&root).scan(&[]), Scan { files: vec![], problems: vec![empty] });
}

#[test]
fn what_haproxy_has_loaded_is_read_where_it_can_be_found() {
    let place = Place::new();
    let minted = Minted::new("a.example");
    let a = place.write("certs/a.pem", minted.combined());
    let other = place.write("other/b.pem", minted.combined());
    let rsa = place.write("other/c.pem.rsa", minted.combined());
    let readme = place.write("other/README", "text");
    let also = [
        a.clone(),
        other.clone(),
        place.path("other/c.pem"),
        place.path("other/gone.pem"),
        a.join("below"),
        PathBuf::from("@web/site"),
        readme.clone(),
    ];
    let scan = scanner(place.path("certs")).scan(&also);
    assert_eq!(kinds(&scan), [(&*a, "ok"), (&*readme, "no_certificate"), (&*other, "ok"), (&*rsa, "ok")]);
    assert_eq!(scan.problems, []);
}

#[test]
fn what_the_operating_system_says_has_a_stable_kind() {
    for (error, kind) in [
        (io::ErrorKind::NotFound, "not_found"),
        (io::ErrorKind::NotADirectory, "not_found"),
        (io::ErrorKind::PermissionDenied, "permission"),
        (io::ErrorKind::StaleNetworkFileHandle, "io"),
    ] {
        assert_eq!(FileError::from(io::Error::from(error)).kind(), kind);
    }
}

#[test]
fn the_companions_of_a_certificate_are_where_haproxy_looks_for_them() {
    let place = Place::new();
    let (site, ca) = (Minted::new("site.example"), Minted::new("ca.example"));
    let ocsp = |path: &Path| only(&scanner(path).scan(&[])).ocsp_path.strip_prefix(place.0.path()).unwrap().to_owned();
    let pem = place.write("a.pem.rsa", site.combined());
    place.write("a.pem.key", &site.key);
    assert_eq!(ocsp(&pem), Path::new("a.pem.rsa.ocsp"));

    // `ssl-load-extra-del-ext`, which shows in the key's name.
    let split = place.write("b.crt", &site.certificate);
    assert_eq!(ocsp(&split), Path::new("b.crt.ocsp"));
    place.write("b.key", &site.key);
    assert_eq!(ocsp(&split), Path::new("b.ocsp"));
    place.write("b.crt.key", &site.key);
    assert_eq!(ocsp(&split), Path::new("b.crt.ocsp"));

    // A copy of the key beside a file that has its own shows nothing; an issuer does.
    let combined = place.write("c.crt", site.combined());
    place.write("c.key", &site.key);
    assert_eq!(ocsp(&combined), Path::new("c.crt.ocsp"));
    let mut scanner = scanner(&combined);
    assert!(only(&scanner.scan(&[])).issuer_file.is_empty());
    place.write("c.issuer", &ca.certificate);
    let found = scanner.scan(&[]);
    assert_eq!((&*only(&found).ocsp_path, only(&found).issuer_file.len()), (&*place.path("c.ocsp"), 1));
    place.write("c.crt.issuer", &ca.certificate);
    let found = scanner.scan(&[]);
    assert_eq!((&*only(&found).ocsp_path, only(&found).issuer_file.len()), (&*place.path("c.crt.ocsp"), 1));
}

/// When everything that was written just now is long settled.
fn later() -> Option<Timestamp> {
    crate::clock::Clock::system().stamps_now().map(|now| crate::clock::later(now, Duration::from_secs(60)))
}

/// What is written next has another time than what was.
fn tick() {
    std::thread::sleep(Duration::from_millis(20));
}

#[test]
fn what_is_as_it_was_is_not_told_again() {
    let place = Place::new();
    let minted = Minted::new("a.example");
    let a = place.write("certs/a.pem", minted.combined());
    place.write("certs/README", "no certificate");
    place.write("certs/sub/b.pem", minted.combined());
    let mut scanner = scanner(place.path("certs"));
    let now = later();
    assert_eq!(scanner.look(&[], now).unwrap().files.len(), 1);
    assert_eq!(scanner.look(&[], now), None);
    assert!(scanner.look(&[], None).is_some(), "by another clock nothing can be told");
    assert!(scanner.look(&[], now).is_some(), "nor from what was seen then");
    assert_eq!(scanner.look(&[], now), None);

    assert!(scanner.look(std::slice::from_ref(&a), now).is_some(), "something else is asked");
    assert_eq!(scanner.look(std::slice::from_ref(&a), now), None);
    assert!(scanner.look(&[a.clone(), place.path("elsewhere.pem")], now).is_some());
    place.write("elsewhere.pem", minted.combined());
    let found = scanner.look(&[a, place.path("elsewhere.pem")], now).unwrap();
    assert_eq!(found.files.len(), 2, "no directory tells that it came");
}

#[test]
fn every_change_is_told() {
    let place = Place::new();
    let (a, b) = (Minted::new("a.example"), Minted::new("b.example"));
    let path = place.write("certs/a.pem", a.combined());
    let mut scanner = scanner(place.path("certs"));
    let changes: [(&str, &dyn Fn()); 7] = [
        ("a file is written over", &|| drop(place.write("certs/a.pem", b.combined()))),
        ("a file comes", &|| drop(place.write("certs/b.pem", b.combined()))),
        ("a file goes", &|| fs::remove_file(place.path("certs/b.pem")).unwrap()),
        ("an issuer comes", &|| drop(place.write("certs/a.pem.issuer", &a.certificate))),
        ("an issuer is written over", &|| drop(place.write("certs/a.pem.issuer", &b.certificate))),
        ("a staple comes", &|| drop(place.write("certs/a.pem.ocsp", ""))),
        ("a directory is swapped", &|| {
            place.write("other/c.pem", a.combined());
            fs::rename(place.path("certs"), place.path("old")).unwrap();
            fs::rename(place.path("other"), place.path("certs")).unwrap();
        }),
    ];
    for (what, change) in changes {
        scanner.look(&[], later());
        assert_eq!(scanner.look(&[], later()), None, "before {what}");
        tick();
        change();
        assert!(scanner.look(&[], later()).is_some(), "{what}");
    }
    scanner.look(&[], later());
    let much_later = later().map(|now| crate::clock::later(now, Duration::from_secs(600)));
    assert!(scanner.look(&[], much_later).is_some(), "not every file system tells");
    assert!(!path.exists());
}

#[test]
fn what_cannot_be_held_against_the_disk_is_looked_at_each_time() {
    let place = Place::new();
    let minted = Minted::new("a.example");
    place.write("certs/a.pem", minted.combined());
    symlink("nowhere.pem", place.path("certs/b.pem")).unwrap();
    let mut broken = scanner(place.path("certs"));
    let list = place
        .write("list.txt", format!("{}\n{}\n", place.path("certs/a.pem").display(), place.path("c.pem").display()));
    let mut lacking = scanner(list);
    let mut missing = scanner(place.path("missing"));
    for scanner in [&mut broken, &mut lacking, &mut missing] {
        assert!(scanner.look(&[], later()).is_some());
        assert!(scanner.look(&[], later()).is_some());
    }
    place.write("c.pem", minted.combined());
    assert_eq!(kinds(&lacking.look(&[], later()).unwrap()).iter().filter(|(_, kind)| *kind == "ok").count(), 2);
    assert_eq!(lacking.look(&[], later()), None, "a list whose certificates are all there");
}
