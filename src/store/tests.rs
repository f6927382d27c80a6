use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::*;
use crate::haproxy::{Journal, Process};

struct Place {
    directory: TempDir,
    store: Store,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path().join("state"), OcspFiles::Auto);
        Self { directory, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    fn names(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(directory)).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn beside(certificate: &Path) -> PathBuf {
    let mut name = certificate.as_os_str().to_owned();
    name.push(".ocsp");
    name.into()
}

fn fingerprint(number: u8) -> Fingerprint {
    format!("{number:040X}").parse().unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn set_written(path: &Path, seconds: u64) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
}

#[test]
fn state_is_kept_per_fingerprint() {
    let place = Place::new();
    let store = &place.store;
    let one = fingerprint(0xA1);
    assert_eq!(store.load(one).unwrap(), None);
    assert!(!place.path("state").exists());
    assert_eq!(store.save_state(one, STAPLE, b"staple").unwrap(), Written::Replaced);
    assert_eq!(store.save_state(one, STAPLE, b"staple").unwrap(), Written::Unchanged);
    assert_eq!(store.save_state(one, ISSUER, &seal(b"issuer")).unwrap(), Written::Replaced);
    assert_eq!(store.load(one).unwrap().as_deref(), Some(&b"staple"[..]));
    assert_eq!(store.load_issuer(one).unwrap().as_deref(), Some(&b"issuer"[..]));
    assert_eq!(store.load(fingerprint(0xA2)).unwrap(), None);
    assert_eq!(place.names("state"), [format!("{one}.issuer"), format!("{one}.ocsp")]);
    assert_eq!(mode(&place.path("state")), 0o750);
    assert_eq!(mode(&place.path(&format!("state/{one}.ocsp"))), 0o640);
}

#[test]
fn an_unchanged_file_is_not_touched() {
    let place = Place::new();
    let certificate = place.write("a.pem", b"");
    place.store.keep_bytes(&beside(&certificate), &certificate, b"staple").unwrap();
    let before = fs::metadata(beside(&certificate)).unwrap();
    assert_eq!(place.store.keep_bytes(&beside(&certificate), &certificate, b"staple").unwrap(), Written::Unchanged);
    let after = fs::metadata(beside(&certificate)).unwrap();
    assert_eq!((before.ino(), before.ctime_nsec()), (after.ino(), after.ctime_nsec()));
}

#[test]
fn a_file_beside_a_certificate_is_as_readable_as_the_certificate() {
    let place = Place::new();
    for wanted in [0o600, 0o640, 0o644, 0o400, 0o755] {
        let certificate = place.write(&format!("{wanted:o}.pem"), b"");
        fs::set_permissions(&certificate, Permissions::from_mode(wanted)).unwrap();
        assert_eq!(place.store.keep_bytes(&beside(&certificate), &certificate, b"old").unwrap(), Written::Replaced);
        assert_eq!(place.store.keep_bytes(&beside(&certificate), &certificate, b"new").unwrap(), Written::Replaced);
        assert_eq!(mode(&beside(&certificate)), wanted & 0o666);
        assert_eq!(place.store.read_beside(&beside(&certificate)).unwrap().as_deref(), Some(&b"new"[..]));
    }
    assert_eq!(place.names("").len(), 10, "no temporary file stays");
}

#[test]
fn an_unchanged_file_that_haproxy_could_not_read_is_mended() {
    let place = Place::new();
    let certificate = place.write("a.pem", b"");
    fs::set_permissions(&certificate, Permissions::from_mode(0o640)).unwrap();
    let ocsp = place.write("a.pem.ocsp", b"staple");
    for (is, becomes) in [(0o600, 0o640), (0o644, 0o644), (0o660, 0o660)] {
        fs::set_permissions(&ocsp, Permissions::from_mode(is)).unwrap();
        assert_eq!(place.store.keep_bytes(&beside(&certificate), &certificate, b"staple").unwrap(), Written::Unchanged);
        assert_eq!(mode(&ocsp), becomes);
    }
}

#[test]
fn beside_a_symbolic_link_means_beside_the_link() {
    let place = Place::new();
    place.write("archive/cert1.pem", b"");
    fs::create_dir(place.path("live")).unwrap();
    let link = place.path("live/cert.pem");
    symlink("../archive/cert1.pem", &link).unwrap();
    place.store.keep_bytes(&beside(&link), &link, b"staple").unwrap();
    assert_eq!(place.names("live"), ["cert.pem", "cert.pem.ocsp"]);
    assert_eq!(place.names("archive"), ["cert1.pem"]);
}

#[test]
fn beside_a_kubernetes_secret_the_file_outlives_a_swap() {
    let place = Place::new();
    place.write("..2026_01/tls.crt", b"old");
    place.write("..2026_02/tls.crt", b"new");
    symlink("..2026_01", place.path("..data")).unwrap();
    let certificate = place.path("tls.crt");
    symlink("..data/tls.crt", &certificate).unwrap();
    place.store.keep_bytes(&beside(&certificate), &certificate, b"staple").unwrap();
    symlink("..2026_02", place.path("..data_tmp")).unwrap();
    fs::rename(place.path("..data_tmp"), place.path("..data")).unwrap();
    assert_eq!(place.store.read_beside(&beside(&certificate)).unwrap().as_deref(), Some(&b"staple"[..]));
    assert_eq!(place.names("..2026_01"), ["tls.crt"]);
}

#[test]
fn an_empty_file_is_something_and_a_huge_one_is_refused() {
    let place = Place::new();
    let certificate = place.write("a.pem", b"");
    assert_eq!(place.store.read_beside(&beside(&certificate)).unwrap(), None);
    place.write("a.pem.ocsp", b"");
    assert_eq!(place.store.read_beside(&beside(&certificate)).unwrap(), Some(vec![]));
    place.write("a.pem.ocsp", &[0; 64 * 1024]);
    assert_eq!(place.store.read_beside(&beside(&certificate)).unwrap().map(|der| der.len()), Some(64 * 1024));
    place.write("a.pem.ocsp", &[0; 64 * 1024 + 1]);
    let error = place.store.read_beside(&beside(&certificate)).unwrap_err();
    assert_eq!((error.kind(), error.operation), ("too_large", Operation::Read));
    // And yet it can be replaced.
    assert_eq!(place.store.keep_bytes(&beside(&certificate), &certificate, b"staple").unwrap(), Written::Replaced);
}

#[test]
fn only_the_expected_bytes_are_removed() {
    let place = Place::new();
    let certificate = place.write("a.pem", b"");
    assert!(!place.store.remove_bytes(&beside(&certificate), b"ours").unwrap());
    place.write("a.pem.ocsp", b"theirs");
    assert!(!place.store.remove_bytes(&beside(&certificate), b"ours").unwrap());
    place.write("a.pem.ocsp", b"ours");
    assert!(place.store.remove_bytes(&beside(&certificate), b"ours").unwrap());
    assert_eq!(place.names(""), ["a.pem"]);
}

#[test]
fn switched_off_means_no_file_is_touched() {
    let place = Place::new();
    let store = Store::new(place.path("state"), OcspFiles::Never);
    let certificate = place.write("a.pem", b"");
    assert_eq!(store.keep_bytes(&beside(&certificate), &certificate, b"staple").unwrap(), Written::NotWanted);
    assert_eq!(place.names(""), ["a.pem"]);
    place.write("a.pem.ocsp", b"staple");
    assert!(!store.remove_bytes(&beside(&certificate), b"staple").unwrap());
    assert_eq!(store.read_beside(&beside(&certificate)).unwrap().as_deref(), Some(&b"staple"[..]));
}

#[test]
fn temporary_files_have_a_name_that_haproxy_passes_over_and_is_recognised() {
    for name in ["a.pem.ocsp", "a.ocsp", "AB12.issuer"] {
        let directory = tempfile::tempdir().unwrap();
        let temporary = tempfile_named(directory.path(), name);
        assert!(temporary.starts_with('.') && temporary.ends_with(".ocsp"), "{temporary}");
        assert!(file::is_temporary(OsStr::new(&temporary)), "{temporary}");
    }
    for other in [
        "a.pem.ocsp",
        ".a.pem.ocsp",
        ".a.pem.abcdefgh.ocsp",
        "a.pem.staplerabcdefgh.ocsp",
        ".staplerabcdefgh.ocsp",
        "..staplerabcdefgh.ocsp",
        ".a.pem.staplerabcdefg.ocsp",
        ".a.pem.staplerabcd-fgh.ocsp",
        ".a.pem.staplerabcdefgh.pem",
    ] {
        assert!(!file::is_temporary(OsStr::new(other)), "{other}");
    }
}

fn tempfile_named(directory: &Path, name: &str) -> String {
    let temporary = file::temporary_file(directory, OsStr::new(name)).unwrap();
    temporary.path().file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn what_a_crash_left_behind_is_removed_and_nothing_else() {
    let place = Place::new();
    let certificate = place.write("certs/a.pem", b"");
    place.write("certs/.a.pem.staplerAbCd1234.ocsp", b"half");
    place.write("certs/.b.pem.staplerAbCd1234.ocsp", b"half");
    place.write("certs/.theirs.pem.AbCd1234.ocsp", b"");
    place.store.keep_bytes(&beside(&certificate), &certificate, b"staple").unwrap();
    assert_eq!(place.names("certs"), [".theirs.pem.AbCd1234.ocsp", "a.pem", "a.pem.ocsp"]);
}

#[test]
fn sweeping_removes_old_state_of_unknown_certificates() {
    let place = Place::new();
    let (kept, gone, fresh) = (fingerprint(1), fingerprint(2), fingerprint(3));
    for one in [kept, gone, fresh] {
        place.store.save_state(one, STAPLE, b"staple").unwrap();
        place.store.save_state(one, ISSUER, b"issuer").unwrap();
    }
    let lower_case = format!("{:040x}.ocsp", 0xAB);
    for name in ["notes.txt", ".x.staplerAbCd1234.ocsp", &lower_case] {
        place.write(&format!("state/{name}"), b"");
    }
    fs::create_dir(place.path(&format!("state/{:040X}", 9))).unwrap();
    let leftover = place.path("state/.x.staplerAbCd1234.ocsp");
    for name in place.names("state") {
        let path = place.path(&format!("state/{name}"));
        if path.is_file() && !name.starts_with(&fresh.to_string()) {
            set_written(&path, 1000);
        }
    }
    let keep = BTreeSet::from([kept]);
    assert_eq!(place.store.sweep(&keep, at(1000)).unwrap(), 0);
    assert!(!leftover.exists(), "of a process that died, whatever its age");
    // By now it can be somebody's who is at work.
    fs::write(&leftover, b"").unwrap();
    assert_eq!(place.store.sweep(&keep, at(1001)).unwrap(), 2);
    fs::remove_file(&leftover).unwrap();
    let names = place.names("state");
    assert_eq!(names.len(), 7, "{names:?}");
    assert!(!names.iter().any(|name| name.starts_with(&gone.to_string()) || name.starts_with('.')));
    let nothing = Store::new(place.path("nothing"), OcspFiles::Auto);
    assert_eq!(nothing.sweep(&keep, at(1001)).unwrap(), 0);
}

#[test]
fn a_failure_says_what_where_and_what_to_do() {
    let place = Place::new();
    let certificate = place.path("gone/a.pem");
    let error = place.store.keep_bytes(&beside(&certificate), &certificate, b"staple").unwrap_err();
    assert_eq!((error.kind(), error.operation, &error.path), ("not_found", Operation::Read, &certificate));

    place.write("file", b"");
    let store = Store::new(place.path("file/state"), OcspFiles::Auto);
    let error = store.save_state(fingerprint(1), STAPLE, b"staple").unwrap_err();
    assert_eq!((error.kind(), error.operation), ("not_a_file", Operation::Write));
    assert_eq!(store.load(fingerprint(1)).unwrap_err().kind(), "not_a_file");

    let certificate = place.write("b.pem", b"");
    fs::create_dir(place.path("b.pem.ocsp")).unwrap();
    let error = place.store.keep_bytes(&beside(&certificate), &certificate, b"staple").unwrap_err();
    assert_eq!((error.kind(), error.operation), ("not_a_file", Operation::Write));
    let path = place.path("b.pem.ocsp");
    assert_eq!(error.summary(), format!("cannot write {}: Is a directory (os error 21)", path.display()));
    assert_eq!(place.names(""), ["b.pem", "b.pem.ocsp", "file"]);

    for (kind, place, word, remedy) in [
        (io::ErrorKind::ReadOnlyFilesystem, error::Place::StateDirectory, "read_only", "STAPLER_STATE_DIR"),
        (io::ErrorKind::ReadOnlyFilesystem, error::Place::BesideCertificate, "read_only", "STAPLER_OCSP_FILES=never"),
        (io::ErrorKind::QuotaExceeded, error::Place::StateDirectory, "no_space", "quota"),
        (io::ErrorKind::PermissionDenied, error::Place::BesideCertificate, "permission", "STAPLER_OCSP_FILES=never"),
    ] {
        let error = StoreError::new(Operation::Write, place, "/x".into(), kind.into());
        assert_eq!(error.kind(), word);
        assert!(error.to_string().starts_with("cannot write /x: "), "{error}");
        assert!(error.summary().starts_with("cannot write files in /: "), "{}", error.summary());
        assert!(error.remedy().contains(remedy), "{}", error.remedy());
    }
}

/// Only a privileged user can give files away; tests/disk.rs has what becomes of it otherwise.
#[test]
fn a_privileged_process_gives_the_file_the_owner_of_the_certificate() {
    let place = Place::new();
    let certificate = place.write("a.pem", b"");
    if let Err(error) = chown(&certificate, Some(1234), Some(2345)) {
        panic!("this test has to run as root, as in a container, to chown a file: {error}");
    }
    fs::set_permissions(&certificate, Permissions::from_mode(0o640)).unwrap();
    place.store.keep_bytes(&beside(&certificate), &certificate, b"staple").unwrap();
    let metadata = fs::metadata(beside(&certificate)).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (1234, 2345, 0o640));
}

/// Root's command beside a daemon that is somebody else.
#[test]
fn a_privileged_process_leaves_the_state_to_the_owner_of_its_directory() {
    let place = Place::new();
    let state = place.path("state");
    fs::create_dir(&state).unwrap();
    if let Err(error) = chown(&state, Some(1234), Some(2345)) {
        panic!("this test has to run as root, as in a container, to chown a directory: {error}");
    }
    place.store.save_state(fingerprint(1), STAPLE, b"staple").unwrap();
    let _open = place.store.open_journal(journal("/a.sock")).unwrap();
    for name in place.names("state") {
        let metadata = fs::metadata(state.join(&name)).unwrap();
        assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (1234, 2345, 0o640), "{name}");
    }
}

fn journal(haproxy: &str) -> Journal {
    let process = Process::parse("Pid: 7\nVersion: 3.0.11\nUptime_sec: 5\nStart_time_sec: 1000\n").unwrap();
    Journal::new(haproxy, &process, [], at(1005))
}

#[test]
fn a_journal_is_found_when_its_writer_is_gone_and_not_before() {
    let place = Place::new();
    let store = &place.store;
    assert!(store.left_journal("/a.sock").unwrap().is_none());
    assert!(!place.path("state").exists());
    let open = store.open_journal(journal("/a.sock")).unwrap();
    assert!(store.left_journal("/a.sock").unwrap().is_none(), "its writer is at work");
    drop(open);
    assert!(store.left_journal("/b.sock").unwrap().is_none());
    let left = store.left_journal("/a.sock").unwrap().unwrap();
    assert_eq!(left.journal(), &journal("/a.sock"));
    assert!(store.left_journal("/a.sock").unwrap().is_none(), "another start is looking into it");
    left.remove().unwrap();
    assert_eq!(place.names("state").len(), 0);
}

#[test]
fn a_journal_is_replaced_by_the_next_and_removed_only_by_its_own_writer() {
    let place = Place::new();
    let first = place.store.open_journal(journal("/a.sock")).unwrap();
    let second = place.store.open_journal(journal("/a.sock")).unwrap();
    first.remove().unwrap();
    assert_eq!(place.names("state").len(), 1);
    second.remove().unwrap();
    assert_eq!(place.names("state").len(), 0);
}

#[test]
fn what_is_no_journal_is_removed_from_its_place() {
    let place = Place::new();
    drop(place.store.open_journal(journal("/a.sock")).unwrap());
    let name = format!("state/{}", place.names("state")[0]);
    for content in [&b""[..], b"{\"haproxy\":", b"{}", &[0xFF; 9]] {
        place.write(&name, content);
        assert!(place.store.left_journal("/a.sock").unwrap().is_none());
        assert_eq!(place.names("state").len(), 0);
    }
}

#[test]
fn an_old_journal_is_swept() {
    let place = Place::new();
    drop(place.store.open_journal(journal("/gone.sock")).unwrap());
    place.write("state/notes.journal", b"");
    for name in place.names("state") {
        set_written(&place.path(&format!("state/{name}")), 1000);
    }
    assert_eq!(place.store.sweep(&BTreeSet::new(), at(1001)).unwrap(), 1);
    assert_eq!(place.names("state"), ["notes.journal"]);
}

#[test]
fn a_journal_that_cannot_be_written_says_so() {
    let place = Place::new();
    place.write("file", b"");
    let store = Store::new(place.path("file/state"), OcspFiles::Auto);
    let error = store.open_journal(journal("/a.sock")).unwrap_err();
    assert_eq!((error.kind(), error.operation), ("not_a_file", Operation::Write));
    assert_eq!(store.try_state_directory().unwrap_err().kind(), "not_a_file");
    place.store.try_state_directory().unwrap();
    assert_eq!(place.names("state").len(), 0);
}
