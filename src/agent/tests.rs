//! The pure part of the agent: what is folded into the world, and what the snapshot then says.

mod failures;
mod probes;
mod samples;
mod ways;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, KeyPair};

use super::Cadence;
use super::fold::{DiskDone, Done, Restored, fold};
use super::journal::Surveyed;
use super::world::World;
use crate::certificate::{Certificate, Fingerprint};
use crate::clock::{Moment, Monotonic};
use crate::discovery::{CertificateFile, Content, FileError, Scan};
use crate::explain::{Finding, Outcome, explain};
use crate::haproxy::{HaproxyError, LoadedCertificate, LoadedStatus, News, Process, SocketError, Stapling, Survey};
use crate::metrics::Counters;
use crate::pem::Bundle;
use crate::settings::Settings;
use crate::status::{CertificateStatus, Status, Step, Trouble};

const NAME: &str = "/certs/site.pem";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn now() -> Moment {
    Moment { wall: at(0), monotonic: Monotonic::new(Duration::from_secs(10)) }
}

/// A leaf with a responder and a place to download its issuer from, and that issuer.
fn certificates() -> (Certificate, Certificate) {
    let parse = |certificate: &rcgen::Certificate| Certificate::from_der(certificate.der()).unwrap();
    let params = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_after = time::OffsetDateTime::from_unix_timestamp(at(86_400).as_second()).unwrap();
        params
    };
    let (mut root, root_key) = (params("Root"), KeyPair::generate().unwrap());
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root_certificate = root.self_signed(&root_key).unwrap();
    let mut leaf = params("site.test");
    // OCSP - URI:http://o/ and CA Issuers - URI:http://i/
    let access = b"\x30\x30\x30\x16\x06\x08\x2b\x06\x01\x05\x05\x07\x30\x01\x86\x0ahttp://o.t\
                   \x30\x16\x06\x08\x2b\x06\x01\x05\x05\x07\x30\x02\x86\x0ahttp://i.t";
    let oid = [1, 3, 6, 1, 5, 5, 7, 1, 1];
    leaf.custom_extensions.push(CustomExtension::from_oid_content(&oid, access.to_vec()));
    let issuer = rcgen::Issuer::from_params(&root, root_key);
    let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
    (parse(&leaf), parse(&root_certificate))
}

/// A world with one certificate.
struct Scene {
    world: World,
    counters: Counters,
    leaf: Certificate,
}

impl Scene {
    /// What a scan finds under the one name.
    fn with(content: Result<Bundle, FileError>, leaf: Certificate) -> Self {
        Self::with_settings(&[], content, leaf)
    }

    /// The same with settings.
    fn with_settings(more: &[(&str, &str)], content: Result<Bundle, FileError>, leaf: Certificate) -> Self {
        let pairs = [("STAPLER_SOCKETS", "/s")].into_iter().chain(more.iter().copied());
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings = Settings::parse(pairs).unwrap().settings;
        let world = World::new(Arc::new(settings), Cadence::default(), now());
        let mut scene = Self { world, counters: Counters::new().unwrap(), leaf };
        let content = content.map(|bundle| {
            let ocsp_path = PathBuf::from(format!("{NAME}.ocsp"));
            Arc::new(Content::new(bundle, Vec::new(), None, ocsp_path))
        });
        // A look at a socket comes first: a file that is not there may be found elsewhere until then.
        scene.fold(Done::Look { peer: 0, outcome: Err(SocketError::Empty { address: samples::address() }.into()) });
        let files = vec![CertificateFile { path: NAME.into(), content }];
        let scan = Some(Scan { files, problems: Vec::new() });
        scene.fold(Done::Scan { scan, in_place: false });
        let fingerprint = scene.fingerprint();
        let restored = Restored {
            fingerprint,
            issuer: None,
            kept_issuer: false,
            state: None,
            beside: BTreeMap::new(),
            trouble: None,
        };
        scene.fold(Done::Disk(vec![DiskDone::Restored(Box::new(restored))]));
        scene
    }

    /// With its issuer in the file.
    fn new() -> Self {
        let (leaf, root) = certificates();
        Self::with(Ok(Bundle { leaf: leaf.clone(), chain: vec![root] }), leaf)
    }

    /// Without.
    fn orphan() -> Self {
        let (leaf, _) = certificates();
        Self::with(Ok(Bundle { leaf: leaf.clone(), chain: Vec::new() }), leaf)
    }

    fn fingerprint(&self) -> Fingerprint {
        self.leaf.fingerprint()
    }

    fn fold(&mut self, done: Done) {
        self.fold_at(done, now());
    }

    fn fold_at(&mut self, done: Done, now: Moment) {
        fold(&mut self.world, done, &self.counters, now);
    }

    fn survey(&mut self, outcome: Result<Survey, HaproxyError>) {
        let process = Process::parse("Pid: 7\nVersion: 3.0.1\nUptime_sec: 99\n").unwrap();
        self.fold(Done::Look { peer: 0, outcome: Ok(process) });
        let surveyed = Surveyed { outcome, aborted: None, trouble: None };
        self.fold(Done::Survey { peer: 0, surveyed });
    }

    /// HAProxy has it.
    fn load(&mut self) {
        let loaded = LoadedCertificate {
            name: NAME.to_owned(),
            bundle: None,
            fingerprint: Some(self.fingerprint()),
            serial_number: None,
            status: LoadedStatus::Used,
            stapling: Stapling::On,
            file: None,
            ocsp_file: None,
        };
        let news = News::Whole { loaded: vec![loaded], entries: None, seen: None };
        self.survey(Ok(Survey { news, native_updates: Vec::new(), transaction_open: None }));
    }

    fn status(&self) -> (CertificateStatus, Status) {
        let status = self.world.status(&Status::default(), now());
        (CertificateStatus::clone(status.certificates.first().unwrap()), status)
    }

    fn finding(&self, step: Step) -> Finding {
        let (certificate, status) = self.status();
        let findings = explain(&certificate, &status);
        assert_eq!(findings.iter().map(|finding| finding.step).collect::<Vec<_>>(), Step::ALL);
        findings.into_iter().find(|finding| finding.step == step).unwrap()
    }

    /// Insists that the way stops where the trouble stands, with all that is known of it.
    fn assert_stops(&self, trouble: &Trouble) {
        let step = trouble.step.unwrap();
        let finding = self.finding(step);
        assert_eq!((finding.outcome, finding.reason), (Outcome::Failed, Some(trouble.kind)), "{finding:?}");
        assert!(finding.evidence.contains(&trouble.detail), "{finding:?} lacks {trouble:?}");
        assert_eq!(finding.remedy, Some(Trouble::sentence(&trouble.remedy)));
        assert_is_told(trouble);
    }
}

/// A stable name, evidence, and a sentence that says what to do.
fn assert_is_told(trouble: &Trouble) {
    let kind = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    assert!(!trouble.kind.is_empty() && trouble.kind.chars().all(kind), "{trouble:?}");
    assert!(trouble.detail.len() > 5 && !trouble.detail.contains('\n'), "{trouble:?}");
    let sentence = Trouble::sentence(&trouble.remedy);
    assert!((15..250).contains(&sentence.len()) && sentence.ends_with('.') && !sentence.contains("  "), "{trouble:?}");
}
