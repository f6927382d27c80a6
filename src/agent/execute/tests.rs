//! Every file of the state directory, damaged at every byte: nothing wrong is believed, and what is right comes back.

use std::fs;

use tempfile::TempDir;

use super::*;
use crate::clock::later;
use crate::ocsp::tests::pki::{Draft, Entity, at, end_entity, now, responder};
use crate::settings::OcspFiles;

struct Place {
    directory: TempDir,
    store: Store,
    leaf: Certificate,
    issuer: Issuer,
    staple: Staple,
}

impl Place {
    /// A staple by the CA's delegate, whose certificate comes with it: there is more to be damaged.
    fn new() -> Self {
        let root = Entity::root("Root");
        let leaf = root.issue(end_entity("leaf.example")).certificate;
        let delegate = root.issue(responder("Responder"));
        let issuer =
            Issuer::find(&leaf, std::slice::from_ref(&root.certificate), IssuerSource::AuthorityInfoAccess).unwrap();
        let response = Draft::delegated(&leaf, &root, &delegate).sign();
        let staple = verified(&response, &leaf, issuer.certificate(), now()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path().to_owned(), OcspFiles::Auto);
        let place = Self { directory, store, leaf, issuer, staple };
        place.keep();
        place
    }

    fn path(&self, kind: &str) -> PathBuf {
        self.directory.path().join(format!("{}.{kind}", self.leaf.fingerprint()))
    }

    fn do_it(&self, task: DiskTask) -> DiskDone {
        disk(&self.store, task, now(), Some(now()))
    }

    /// As the program does with what it has verified and does not find on disk.
    fn keep(&self) {
        let (fingerprint, issuer) = (self.leaf.fingerprint(), self.issuer.clone());
        let kept = self.do_it(DiskTask::KeepIssuer { fingerprint, issuer });
        assert!(matches!(kept, DiskDone::IssuerKept { error: None, .. }), "{kept:?}");
        let (staple, beside) = (self.staple.clone(), BTreeMap::new());
        let kept = self.do_it(DiskTask::Keep { fingerprint, staple, beside });
        assert!(matches!(kept, DiskDone::Kept { state: Ok(_), .. }), "{kept:?}");
    }

    /// As the program does at its start; the issuer is not in any file of the certificate.
    fn restore(&self) -> Restored {
        let (leaf, beside) = (self.leaf.clone(), Vec::new());
        match self.do_it(DiskTask::Restore { leaf, issuer: None, beside, known: None }) {
            DiskDone::Restored(restored) => *restored,
            other => panic!("{other:?}"),
        }
    }

    /// Damages a file in one way after the other, and sees what is made of it and that it heals.
    fn endure(&self, kind: &str, judge: impl Fn(&Restored, &str)) {
        let whole = fs::read(self.path(kind)).unwrap();
        for (index, (what, damaged)) in damages(&whole).into_iter().enumerate() {
            fs::write(self.path(kind), &damaged).unwrap();
            let restored = self.restore();
            judge(&restored, &what);
            assert!(restored.trouble.is_none(), "{what}: {:?}", restored.trouble);
            // Writing waits for the disk, and is the same for all of them.
            if index % 64 == 0 {
                self.keep();
                assert!(fs::read(self.path(kind)).unwrap() == whole, "{what}: it did not heal");
            }
        }
    }
}

/// Every truncation, and at every byte a bit turned and all of them.
fn damages(whole: &[u8]) -> Vec<(String, Vec<u8>)> {
    let cut = (0..whole.len()).map(|length| (format!("cut at {length}"), whole[..length].to_vec()));
    let changed = (0..whole.len()).flat_map(|index| {
        let old = whole[index];
        [old ^ (1 << (index % 8)), !old].into_iter().map(move |new| {
            let mut damaged = whole.to_vec();
            damaged[index] = new;
            (format!("byte {index} turned from {old:#04x} to {new:#04x}"), damaged)
        })
    });
    let longer = [whole, &[0]].concat();
    cut.chain(changed).chain([("one byte longer".to_owned(), longer)]).collect()
}

fn meaning(staple: &Staple) -> String {
    format!("{:?}", staple.response())
}

#[test]
fn what_is_whole_is_restored() {
    let place = Place::new();
    let restored = place.restore();
    assert_eq!((restored.state.as_ref(), restored.issuer.as_ref()), (Some(&place.staple), Some(&place.issuer)));
}

#[test]
fn a_damaged_staple_is_not_believed() {
    let place = Place::new();
    place.endure("ocsp", |restored, what| {
        // Bytes that nobody signed and nobody looks at may differ: the two unused bits of a signature's encoding.
        if let Some(staple) = &restored.state {
            assert_eq!(meaning(staple), meaning(&place.staple), "{what}");
        }
    });
}

#[test]
fn a_damaged_issuer_is_not_taken() {
    let place = Place::new();
    place.endure("issuer", |restored, what| assert!(restored.issuer.is_none() && restored.state.is_none(), "{what}"));
}

#[test]
fn a_damaged_journal_is_never_in_the_way() {
    let place = Place::new();
    let info = "Version: 3.4.7\nPid: 7\nUptime_sec: 1\nStart_time_sec: 1795000000\n";
    let process = Process::parse(info).unwrap();
    let journal = Journal::new("/a.sock", &process, [("a.pem", StapleView::from(&place.staple))], at(0));
    drop(place.store.open_journal(journal.clone()).unwrap());
    let entries = || fs::read_dir(place.directory.path()).unwrap().map(|entry| entry.unwrap().path());
    let path = entries().find(|path| path.extension().is_some_and(|end| end == "journal")).unwrap();
    let whole = fs::read(&path).unwrap();
    for (what, damaged) in damages(&whole) {
        fs::write(&path, &damaged).unwrap();
        let left = place.store.left_journal("/a.sock").unwrap();
        let Some(left) = left else {
            assert!(!path.exists(), "{what}: it is in the way");
            continue;
        };
        assert_eq!(left.journal().haproxy(), "/a.sock", "{what}");
        left.remove().unwrap();
        assert!(!path.exists(), "{what}");
    }
}

/// A crt-store may name a `.ocsp` file anywhere, and HAProxy does not start without it.
#[test]
fn a_kept_file_is_missed_wherever_it_lay() {
    let (place, elsewhere) = (Place::new(), TempDir::new().unwrap());
    let path = elsewhere.path().join("site.ocsp");
    fs::write(&path, place.staple.der()).unwrap();
    let settled = Clock::system().stamps_now().map(|now| later(now, Duration::from_secs(60)));
    let look = || {
        let kept = vec![Kept::Staple(place.leaf.fingerprint()), Kept::Beside(path.clone())];
        match disk(&place.store, DiskTask::FindLost { kept }, now(), settled) {
            DiskDone::Lost { lost, kept_in } => (lost, kept_in),
            other => panic!("{other:?}"),
        }
    };
    let (lost, kept_in) = look();
    assert!(lost.is_empty() && kept_in.are_unchanged(settled), "{lost:?}");
    std::thread::sleep(Duration::from_millis(20));
    fs::remove_file(&path).unwrap();
    assert!(!kept_in.are_unchanged(settled));
    assert!(look().0.into_iter().eq([Kept::Beside(path.clone())]));
}
