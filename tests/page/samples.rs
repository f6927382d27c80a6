//! Snapshots of sites that are well, ill, large and hostile, at one fixed moment.

use std::sync::Arc;
use std::time::Duration;

use haproxy_stapler::status::{
    Care, CertificateStatus, HandshakeStatus, HaproxyStatus, KeptStatus, NoResponder, OcspStatus, Presence,
    ProbeStatus, ServedStatus, Sight, StapleStatus, State, Status, Step, Trouble,
};
use jiff::{SignedDuration, Timestamp};

/// HAProxy's two sockets.
pub const FIRST: &str = "/var/run/haproxy/admin.sock";
pub const SECOND: &str = "ipv4@10.20.0.12:9999";

/// When it is: in the small hours.
pub fn now() -> Timestamp {
    "2026-11-25T03:12:40Z".parse().unwrap()
}

/// So many minutes from then.
pub fn minutes(minutes: i64) -> Timestamp {
    now() + SignedDuration::from_mins(minutes)
}

/// A certificate that is stapled by this HAProxy, and `over` percent of the staple's week are over.
pub fn stapled(name: &str, haproxies: &[&str], over: i64) -> CertificateStatus {
    let week = 7 * 24 * 60;
    // No minute ends while somebody looks.
    let this_update = minutes(-week * over / 100) + SignedDuration::from_secs(30);
    let next_update = this_update + SignedDuration::from_mins(week);
    let host = name.trim_end_matches(".pem");
    // As different as random ones, and the same each time.
    let digits = host
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let serial = format!("{digits:016X}{:04X}", digits.rotate_left(9) >> 48);
    CertificateStatus {
        certificate: format!("/etc/haproxy/certs/{name}").into(),
        state: State::Stapled,
        state_since: Some(minutes(-week * over / 100 + 3)),
        ocsp_status: OcspStatus::Good,
        detail: format!("good until {next_update}"),
        trouble: None,
        troubles: Vec::new(),
        care: Care::Stapler,
        files: vec![format!("/etc/haproxy/certs/{name}")],
        subject: format!("CN={host}").into(),
        issuer: "CN=Example Issuing CA G2,O=Example Trust".into(),
        issuer_source: Some(haproxy_stapler::certificate::IssuerSource::Chain),
        fingerprint: format!("{serial:0<40}").into(),
        serial_number: serial.into(),
        responders: ["http://ocsp.example.com".to_owned()].into(),
        no_responder: None,
        must_staple: false,
        not_after: Some(minutes(90 * 24 * 60)),
        staple: Some(StapleStatus {
            this_update,
            next_update,
            produced_at: this_update,
            effective_end: next_update - SignedDuration::from_secs(300),
            signer: "delegated",
            responder_id: "CN=Example OCSP Signer".to_owned(),
        }),
        kept: KeptStatus {
            in_state_directory: true,
            ocsp_files: vec![format!("/etc/haproxy/certs/{name}.ocsp")],
            no_ocsp_file: None,
        },
        loaded: haproxies
            .iter()
            .map(|haproxy| Presence { haproxy: (*haproxy).into(), entry: Some(true), pending: false })
            .collect(),
        expired: Vec::new(),
        served: haproxies
            .iter()
            .map(|haproxy| ServedStatus { haproxy: (*haproxy).into(), this_update, next_update })
            .collect(),
        last_attempt_at: Some(minutes(-week * over / 100 + 3)),
        last_success_at: Some(minutes(-week * over / 100 + 3)),
        refresh_due_at: Some(
            (this_update + SignedDuration::from_mins(week * 54 / 100)).max(minutes(2) + SignedDuration::from_secs(30)),
        ),
        failures: 0,
    }
}

/// The same certificate when something is wrong at a step.
pub fn troubled(mut certificate: CertificateStatus, state: State, trouble: Trouble) -> CertificateStatus {
    certificate.state = state;
    certificate.detail.clone_from(&trouble.detail);
    certificate.trouble = Some(trouble.clone());
    certificate.troubles = vec![trouble];
    certificate
}

/// What is wrong at a step.
pub fn trouble(step: Step, kind: &'static str, detail: &str, remedy: &str) -> Trouble {
    Trouble { step: Some(step), kind, detail: detail.to_owned(), remedy: remedy.to_owned() }
}

/// The CA cannot be reached.
pub fn unreachable() -> Trouble {
    let detail = "cannot connect to 'http://ocsp.example.com': Connection refused (os error 111)";
    trouble(
        Step::Fetched,
        "connect",
        detail,
        "check that this host may reach the responder (TCP 80 out), or set HTTP_PROXY",
    )
}

/// Served, but its refreshes fail.
pub fn failing(name: &str, haproxies: &[&str], over: i64) -> CertificateStatus {
    let mut certificate = troubled(stapled(name, haproxies, over), State::RefreshFailing, unreachable());
    let until = certificate.served[0].next_update;
    certificate.detail = format!("served until {until}, but refreshes fail: {}", certificate.detail);
    certificate.state_since = Some(minutes(-205));
    certificate.failures = 41;
    certificate.last_attempt_at = Some(minutes(-3));
    certificate.refresh_due_at = Some(minutes(2) + SignedDuration::from_secs(30));
    certificate
}

/// Should be stapled, and is not.
pub fn unstapled(name: &str, haproxies: &[&str]) -> CertificateStatus {
    let mut certificate = troubled(stapled(name, haproxies, 100), State::Unstapled, unreachable());
    certificate.staple = None;
    certificate.served.clear();
    certificate.ocsp_status = OcspStatus::None;
    certificate.state_since = Some(minutes(-17));
    certificate.failures = 187;
    certificate.last_attempt_at = Some(minutes(-1));
    certificate.refresh_due_at = Some(minutes(4) + SignedDuration::from_secs(30));
    certificate
}

/// Nobody to ask: nothing is wrong.
pub fn without_responder(name: &str, haproxies: &[&str]) -> CertificateStatus {
    let mut certificate = stapled(name, haproxies, 0);
    certificate.state = State::NoResponder;
    certificate.issuer = "CN=R12,O=Let's Encrypt,C=US".into();
    certificate.ocsp_status = OcspStatus::None;
    certificate.no_responder = Some(NoResponder::NotNamed);
    certificate.detail = NoResponder::NotNamed.to_string();
    certificate.responders = Arc::default();
    (certificate.staple, certificate.refresh_due_at) = (None, None);
    (certificate.last_attempt_at, certificate.last_success_at) = (None, None);
    certificate.kept = KeptStatus::default();
    certificate.served.clear();
    certificate
}

/// A HAProxy that answers.
pub fn up(haproxy: &str) -> HaproxyStatus {
    HaproxyStatus {
        haproxy: haproxy.into(),
        up: Some(true),
        version: Some("3.2.22".to_owned()),
        pid: Some(4711),
        reads_back: Some(true),
        reloads: 3,
        loaded: 0,
        served: 0,
        unmatched: Vec::new(),
        trouble: None,
        warnings: Vec::new(),
    }
}

/// A HAProxy that does not.
pub fn down(haproxy: &str) -> HaproxyStatus {
    let detail = "cannot connect: Connection refused (os error 111)";
    let remedy = "look whether HAProxy runs, and whether its stats socket listens there";
    HaproxyStatus {
        up: Some(false),
        trouble: Some(Trouble { step: None, kind: "connect", detail: detail.to_owned(), remedy: remedy.to_owned() }),
        ..up(haproxy)
    }
}

/// What one kind of client saw.
pub fn probe(target: &str, servername: &str, sight: Sight, detail: &str) -> ProbeStatus {
    let wrong =
        trouble(Step::Handshake, "no_staple", detail, "`haproxy-stapler explain` says where the staple got stuck");
    ProbeStatus {
        target: target.to_owned(),
        servername: servername.to_owned(),
        probed_at: Some(minutes(-1)),
        sight: Some(sight),
        detail: detail.to_owned(),
        next_update: Some(minutes(600)),
        handshakes: vec![HandshakeStatus {
            protocol: "TLSv1.3",
            key_type: "ecdsa",
            sight,
            detail: detail.to_owned(),
            troubles: if sight == Sight::Good { Vec::new() } else { vec![wrong] },
            subject: None,
            fingerprint: None,
            ocsp_status: OcspStatus::Good,
            this_update: None,
            next_update: None,
        }],
    }
}

/// A site of these certificates, with HAProxies that count them.
pub fn site(
    certificates: impl IntoIterator<Item = impl Into<Arc<CertificateStatus>>>,
    mut haproxy: Vec<HaproxyStatus>,
) -> Status {
    let certificates: Vec<Arc<CertificateStatus>> = certificates.into_iter().map(Into::into).collect();
    for each in &mut haproxy {
        let is = |name: &Arc<str>| *name == each.haproxy;
        each.loaded = certificates.iter().filter(|one| one.loaded.iter().any(|at| is(&at.haproxy))).count();
        each.served = certificates.iter().filter(|one| one.served.iter().any(|at| is(&at.haproxy))).count();
    }
    Status {
        started_at: Some(minutes(-12 * 24 * 60 - 95)),
        last_pass_at: Some(minutes(0) - SignedDuration::from_secs(8)),
        refresh_interval: Duration::from_secs(3600),
        haproxy,
        certificates,
        probes: Vec::new(),
        troubles: Vec::new(),
    }
}

/// A night on which much goes wrong.
pub fn night() -> Status {
    let both = &[FIRST, SECOND][..];
    let mut must = unstapled("pay.example.com.pem", both);
    must.must_staple = true;
    let mut revoked = stapled("old-api.example.com.pem", both, 22);
    revoked.ocsp_status = OcspStatus::Revoked;
    revoked.state = State::Revoked;
    revoked.detail = "the CA says it is revoked, and that answer is stapled".to_owned();
    let mut unreadable = stapled("typo.pem", &[], 0);
    unreadable = troubled(
        unreadable,
        State::Unreadable,
        trouble(Step::Parsed, "no_certificate", "holds no certificate", "put the certificate into the file"),
    );
    (unreadable.staple, unreadable.not_after, unreadable.refresh_due_at) = (None, None, None);
    (unreadable.last_attempt_at, unreadable.last_success_at) = (None, None);
    unreadable.ocsp_status = OcspStatus::None;
    unreadable.care = Care::Nobody;
    (unreadable.subject, unreadable.issuer) = (Arc::default(), Arc::default());
    unreadable.fingerprint = Arc::default();
    let mut spare = stapled("spare.example.com.pem", &[], 12);
    spare.state = State::NotLoaded;
    spare.detail = "on disk, but no HAProxy has loaded it".to_owned();
    let mut certificates = vec![
        must,
        failing("shop.example.com.pem", both, 96),
        failing("api.example.com.pem", both, 71),
        revoked,
        unreadable,
        spare,
        without_responder("blog.example.com.pem", both),
        stapled("www.example.com.pem", both, 31),
        stapled("static.example.com.pem", both, 47),
        stapled("mail.example.com.pem", &[FIRST], 5),
    ];
    certificates.sort_by(|a, b| a.certificate.cmp(&b.certificate));
    let mut second = up(SECOND);
    second.pid = Some(902);
    let mut status = site(certificates, vec![up(FIRST), second]);
    status.probes = vec![
        probe("10.20.0.10:443", "www.example.com", Sight::Good, "every client sees a good staple"),
        probe("10.20.0.10:443", "pay.example.com", Sight::NotStapled, "TLSv1.3 with ecdsa keys: no staple was sent"),
    ];
    status
}

/// The worst of nights: nothing but one HAProxy is left.
pub fn catastrophe() -> Status {
    let mut status = night();
    status.haproxy[1] = HaproxyStatus { unmatched: vec!["/etc/haproxy/certs/stray.pem".to_owned()], ..down(SECOND) };
    status.troubles = vec![Trouble {
        step: None,
        kind: "no_space",
        detail: "cannot write '/var/lib/haproxy-stapler/4f5a.staple': No space left on device (os error 28)".to_owned(),
        remedy: "make room on that volume; it is tried again every 30 s".to_owned(),
    }];
    status
}

/// A quiet day.
pub fn day() -> Status {
    let certificates = (0..8).map(|number| stapled(&format!("site-{number}.example.com.pem"), &[FIRST], number * 7));
    let mut status = site(certificates, vec![up(FIRST)]);
    status.probes = vec![probe("10.20.0.10:443", "", Sight::Good, "every client sees a good staple")];
    status
}

/// Two thousand, a few of them in trouble.
pub fn many(number: usize) -> Status {
    let certificates = (0..number).map(|index| {
        let name = format!("customer-{index:04}.example.net.pem");
        match index {
            17 | 1204 => unstapled(&name, &[FIRST, SECOND]),
            _ if index % 400 == 99 => failing(&name, &[FIRST, SECOND], 88),
            _ if index % 10 == 3 => without_responder(&name, &[FIRST, SECOND]),
            _ => stapled(&name, &[FIRST, SECOND], i64::try_from(index % 50).unwrap()),
        }
    });
    site(certificates, vec![up(FIRST), up(SECOND)])
}
