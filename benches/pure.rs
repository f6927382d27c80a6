//! `cargo bench --bench pure`: what costs the program its time where no peer does.

#![allow(missing_docs, clippy::disallowed_methods, clippy::unwrap_used, reason = "a benchmark: it runs in real time")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use haproxy_stapler::certificate::{Certificate, IssuerSource};
use haproxy_stapler::clock::{Clock, Moment};
use haproxy_stapler::metrics::{self, Counters};
use haproxy_stapler::ocsp::{self, CertId, Staple};
use haproxy_stapler::report;
use haproxy_stapler::schedule::{Attempt, Jitter, Life, Progress};
use haproxy_stapler::settings::Cardinality;
use haproxy_stapler::status::{
    Care, CertificateStatus, Health, KeptStatus, OcspStatus, Presence, ServedStatus, StapleStatus, State, Status,
};
use haproxy_stapler::status_page::{self, Query};
use jiff::{SignedDuration, Timestamp};
use support::pki::{Identity, KeyKind};
use support::response::Response;

/// Rows of /metrics, and certificates on the schedule.
const MANY: u32 = 10_000;

/// One response from the bytes to the proof that HAProxy may have it.
fn judge(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("verify");
    group.throughput(Throughput::Elements(1));
    for (name, kind) in [("ECDSA", KeyKind::Ecdsa), ("RSA", KeyKind::Rsa)] {
        let authority = Identity::root_with("Root", kind);
        let delegate = authority.delegate("Signer").key(kind).issue();
        let leaf = authority.leaf("leaf.test").issue();
        let [certificate, issuer] = [&leaf, &authority].map(|identity| Certificate::from_der(identity.der()).unwrap());
        let id = CertId::new(&certificate, &issuer).unwrap();
        for (who, signer) in [("signed by the issuer", &authority), ("signed by a delegate", &delegate)] {
            let (der, now) = (Response::good(&leaf, signer).der(), Timestamp::now());
            group.bench_function(format!("{name}, {who}"), |bencher| {
                bencher.iter(|| {
                    let response = ocsp::verify(black_box(&der), &certificate, &issuer, now).unwrap();
                    Staple::new(response, &id, now).unwrap()
                });
            });
        }
    }
    group.finish();
}

/// When every one of many certificates is to be asked for next.
fn schedule(criterion: &mut Criterion) {
    let now = Clock::system().now();
    let hour = SignedDuration::from_hours(1);
    let life = Life {
        this_update: now.wall - hour,
        end: now.wall + 100 * hour,
        effective_end: now.wall + 100 * hour - SignedDuration::from_mins(5),
    };
    let renewed = after(Attempt::Renewed, now);
    let failed = after(Attempt::Failed, now);
    let mut group = criterion.benchmark_group("schedule");
    group.throughput(Throughput::Elements(MANY.into()));
    for (name, progress) in [("after a success", renewed), ("after a failure", failed)] {
        group.bench_function(format!("{MANY} certificates {name}"), |bencher| {
            bencher.iter(|| {
                (0..MANY).fold(now.monotonic, |earliest, number| {
                    let mut hash = [0; 20];
                    for (byte, digit) in hash.iter_mut().zip(number.to_le_bytes()) {
                        *byte = digit;
                    }
                    let jitter = Jitter::from_hash(&hash);
                    let interval = Duration::from_secs(3600);
                    earliest.max(black_box(&progress).next_attempt(Some(life), jitter, interval, now))
                })
            });
        });
    }
    group.finish();
}

fn after(attempt: Attempt, now: Moment) -> Progress {
    let mut progress = Progress::default();
    progress.record(attempt, 1, None, now.monotonic);
    progress
}

/// One scrape of /metrics and one look at /status, but for the socket.
fn scrape(criterion: &mut Criterion) {
    let now = Timestamp::now();
    let counters = Counters::new().unwrap();
    let status = Status {
        started_at: Some(now),
        last_pass_at: Some(now),
        certificates: (0..MANY).map(|number| stapled(number, now).into()).collect(),
        ..Status::default()
    };
    let mut group = criterion.benchmark_group("metrics");
    group.throughput(Throughput::Elements(MANY.into()));
    for (name, cardinality) in [("each", Cardinality::PerCertificate), ("none", Cardinality::Aggregate)] {
        group.bench_function(format!("{MANY} certificates, series of {name}"), |bencher| {
            bencher.iter(|| metrics::render(&counters, black_box(&status), cardinality, now).unwrap());
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("report");
    group.throughput(Throughput::Elements(MANY.into()));
    group.bench_function(format!("{MANY} certificates, each with its steps"), |bencher| {
        bencher.iter(|| report::text(black_box(&status), Health::Ok, None, now));
    });
    group.finish();
    let mut group = criterion.benchmark_group("status_page");
    for (what, asked) in [("first page", ""), ("search", "q=site-09999&state=stapled")] {
        let query = Query::parse(asked);
        group.bench_function(format!("{MANY} certificates, {what}"), |bencher| {
            bencher.iter(|| status_page::render(black_box(&status), Health::Ok, &query, now));
        });
    }
    group.finish();
}

/// A row as most rows are.
fn stapled(number: u32, now: Timestamp) -> CertificateStatus {
    let hour = SignedDuration::from_hours(1);
    let (this_update, next_update) = (now - hour, now + 100 * hour);
    let name = format!("/etc/haproxy/certs/site-{number:05}.example.pem");
    CertificateStatus {
        certificate: name.as_str().into(),
        state: State::Stapled,
        state_since: Some(now),
        ocsp_status: OcspStatus::Good,
        detail: "stapled".to_owned(),
        trouble: None,
        troubles: Vec::new(),
        care: Care::Stapler,
        files: vec![name.clone()],
        subject: format!("CN=site-{number:05}.example").into(),
        issuer: "C=XX, O=Example, CN=Example Issuing CA".into(),
        issuer_source: Some(IssuerSource::Chain),
        serial_number: format!("{:040X}", u128::from(number)).into(),
        fingerprint: format!("{:040X}", u128::from(number)).into(),
        responders: ["http://ocsp.example/".to_owned()].into(),
        no_responder: None,
        must_staple: false,
        not_after: Some(now + 1000 * hour),
        staple: Some(StapleStatus {
            this_update,
            next_update,
            produced_at: this_update,
            effective_end: next_update - SignedDuration::from_mins(5),
            signer: "issuer",
            responder_id: "CN=Example Issuing CA".to_owned(),
        }),
        kept: KeptStatus { in_state_directory: true, ocsp_files: vec![format!("{name}.ocsp")], no_ocsp_file: None },
        loaded: vec![Presence { haproxy: "/var/run/haproxy/admin.sock".into(), entry: Some(true), pending: false }],
        served: vec![ServedStatus { haproxy: "/var/run/haproxy/admin.sock".into(), this_update, next_update }],
        expired: Vec::new(),
        last_attempt_at: Some(now),
        last_success_at: Some(now),
        refresh_due_at: Some(now + 50 * hour),
        failures: 0,
    }
}

criterion_group!(benches, judge, schedule, scrape);
criterion_main!(benches);
