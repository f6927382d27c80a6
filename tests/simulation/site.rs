//! The files: certificates that somebody else puts there, and what the program keeps.

use std::fs::{self, File, FileTimes};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::pool::{ELDER, EPOCH, KINDS, LeafId, POOL, Shape, TWIN, fingerprint, leaf_of, place_of};
use super::support::dice::Dice;
use super::support::volume::Volume;

/// Two small disks, one for each of the directories. Mounted once and used by one run after the other.
pub(crate) struct Disks {
    certs: Volume,
    state: Volume,
}

impl Disks {
    pub(crate) fn mount() -> Self {
        Self { certs: Volume::of(512), state: Volume::of(512) }
    }
}

/// A disk of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Certs,
    State,
}

/// How a disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    Well,
    Full,
    ReadOnly,
}

/// What is in a certificate's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// What should be there.
    Whole,
    /// The certificate and its key; the chain, or the file with the issuer, is not there.
    Chainless,
    /// Half of what should be there.
    Half,
    /// There is no file.
    Away,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) leaf: LeafId,
    pub(crate) content: Content,
    /// Since when.
    pub(crate) since: Duration,
}

pub(crate) struct Site {
    disks: Arc<Disks>,
    /// By place; none where this site has no such certificate.
    pub(crate) places: Vec<Option<Place>>,
    certs_health: Health,
    state_health: Health,
}

impl Site {
    /// A site with certificates in these places, on clean disks.
    pub(crate) fn new(disks: Arc<Disks>, places: &[usize]) -> Self {
        let mut site =
            Self { disks, places: vec![None; KINDS.len()], certs_health: Health::Well, state_health: Health::Well };
        for volume in [&site.disks.certs, &site.disks.state] {
            for entry in fs::read_dir(volume.root()).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
            }
        }
        fs::create_dir(site.certs()).unwrap();
        for place in places {
            let leaf = leaf_of(if *place == TWIN { ELDER } else { *place }, 0);
            site.put(*place, leaf, Content::Whole, Duration::ZERO);
        }
        site
    }

    pub(crate) fn certs(&self) -> PathBuf {
        self.disks.certs.path("certs")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.disks.state.path("state")
    }

    pub(crate) fn leaf_of(&self, der: &[u8]) -> Option<LeafId> {
        POOL.by_der.get(der).copied()
    }

    /// The places that there are.
    pub(crate) fn used(&self) -> impl Iterator<Item = usize> + use<> {
        let used: Vec<usize> = (0..KINDS.len()).filter(|place| self.places[*place].is_some()).collect();
        used.into_iter()
    }

    /// Whether somebody's certificate files can be written at the moment.
    pub(crate) fn takes_certificates(&self) -> bool {
        self.certs_health == Health::Well
    }

    pub(crate) fn health(&self, which: Which) -> Health {
        match which {
            Which::Certs => self.certs_health,
            Which::State => self.state_health,
        }
    }

    /// The next certificate of a place.
    pub(crate) fn renewed(&self, place: usize) -> Option<LeafId> {
        let leaf = self.places[place]?.leaf + 1;
        let own = if place == TWIN { ELDER } else { place };
        (place_of(leaf) == own).then_some(leaf)
    }

    /// Puts a certificate into its file, as everybody should: all at once.
    pub(crate) fn put(&mut self, place: usize, leaf: LeafId, content: Content, at: Duration) {
        let (path, issuer_path) = (self.path(place, ""), self.path(place, ".issuer"));
        let identity = &POOL.leaves[leaf];
        let kind = &KINDS[place];
        let pem = match (content, kind.shape) {
            (Content::Whole, Shape::Chained) => identity.combined_pem(),
            _ => identity.chainless_pem(),
        };
        if kind.shape == Shape::IssuerBeside {
            if content == Content::Chainless {
                let _ = fs::remove_file(&issuer_path);
            } else {
                replace(&issuer_path, identity.issuer().pem().as_bytes());
            }
        }
        match content {
            Content::Away => drop(fs::remove_file(&path)),
            Content::Half => replace(&path, &pem.as_bytes()[..pem.len() / 3]),
            Content::Whole | Content::Chainless => replace(&path, pem.as_bytes()),
        }
        self.places[place] = Some(Place { leaf, content, since: at });
    }

    /// The `.ocsp` file of a place: which file it is, and what is in it.
    pub(crate) fn ocsp(&self, place: usize) -> PathBuf {
        self.path(place, ".ocsp")
    }

    pub(crate) fn set_health(&mut self, which: Which, health: Health) {
        let (volume, was) = match which {
            Which::Certs => (&self.disks.certs, &mut self.certs_health),
            Which::State => (&self.disks.state, &mut self.state_health),
        };
        match *was {
            Health::Full => volume.empty(),
            Health::ReadOnly => volume.set("rw"),
            Health::Well => {}
        }
        match health {
            Health::Full => volume.fill(),
            Health::ReadOnly => volume.set("ro"),
            Health::Well => {}
        }
        *was = health;
    }

    /// Somebody tidies the state directory away.
    pub(crate) fn lose_state(&self) {
        if self.state_health != Health::ReadOnly && self.state().exists() {
            fs::remove_dir_all(self.state()).unwrap();
        }
    }

    /// Files of the state directory hold something else, of each kind of damage one.
    pub(crate) fn corrupt_state(&self, dice: &mut Dice) {
        if self.state_health != Health::Well {
            return;
        }
        let files = self.state_files();
        let bytes: Vec<Vec<u8>> = files.iter().map(|path| fs::read(path).unwrap()).collect();
        for (index, path) in files.iter().enumerate().filter(|(_, path)| !is_journal(path)) {
            let mut changed = bytes[index].clone();
            match dice.below(5) {
                0 => changed.truncate(changed.len() / 2),
                1 if !changed.is_empty() => *changed.last_mut().unwrap() ^= 1,
                2 => changed = bytes[dice.below(bytes.len())].clone(),
                3 => changed.push(0),
                _ => continue,
            }
            replace(path, &changed);
        }
    }

    /// The responses that the program finds for a certificate at a start, if it would know the issuer then.
    pub(crate) fn kept(&self, leaf: LeafId) -> Vec<Vec<u8>> {
        let fingerprint = fingerprint(POOL.leaves[leaf].der());
        let file = |kind: &str| fs::read(self.state().join(format!("{fingerprint}.{kind}"))).ok();
        let orphan = KINDS[place_of(leaf)].shape == Shape::Orphan;
        let holders = self.used().filter(|place| {
            self.places[*place].is_some_and(|known| known.leaf == leaf && known.content == Content::Whole)
        });
        let holders: Vec<usize> = holders.collect();
        // A downloaded issuer is kept with its hash.
        let knows_issuer = || {
            let issuer = POOL.other.der();
            file("issuer").is_some_and(|kept| kept == [issuer, &openssl::sha::sha256(issuer)].concat())
        };
        if holders.is_empty() || orphan && !knows_issuer() {
            return Vec::new();
        }
        let beside = holders.into_iter().filter_map(|place| fs::read(self.ocsp(place)).ok());
        beside.chain(file("ocsp")).collect()
    }

    /// What the program keeps in its state directory, sorted.
    pub(crate) fn state_files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.state()).into_iter().flatten();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    /// A write that was cut off leaves its temporary file.
    pub(crate) fn leave_torn_file(&self, which: Which, place: usize) {
        let directory = match which {
            Which::Certs => self.certs(),
            Which::State => self.state(),
        };
        if self.health(which) == Health::Well && directory.exists() {
            let name = format!(".{}.staplerXyZ12345.ocsp", KINDS[place].file);
            fs::write(directory.join(name), b"half of a respon").unwrap();
        }
    }

    /// Every file beside the certificates, sorted.
    pub(crate) fn beside(&self) -> Vec<String> {
        self.disks.certs.names("certs")
    }

    /// Files that were just written have a real time, which is none of ours: they get the machine's.
    pub(crate) fn stamp(&self, now: Timestamp) {
        let epoch = SystemTime::from(*EPOCH) - Duration::from_secs(86_400);
        for entry in fs::read_dir(self.state()).into_iter().flatten().flatten() {
            if entry.metadata().and_then(|metadata| metadata.modified()).is_ok_and(|at| at < epoch)
                && let Ok(file) = File::open(entry.path())
            {
                let _ = file.set_times(FileTimes::new().set_modified(SystemTime::from(now)));
            }
        }
    }

    fn path(&self, place: usize, extra: &str) -> PathBuf {
        self.certs().join(format!("{}{extra}", KINDS[place].file))
    }
}

impl Drop for Site {
    /// The disks are somebody else's next.
    fn drop(&mut self) {
        self.set_health(Which::Certs, Health::Well);
        self.set_health(Which::State, Health::Well);
    }
}

fn is_journal(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "journal")
}

fn replace(path: &Path, bytes: &[u8]) {
    let fresh = path.with_file_name(".fresh");
    fs::write(&fresh, bytes).unwrap();
    fs::rename(fresh, path).unwrap();
}
