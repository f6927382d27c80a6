//! Every way to answer wrongly, each by a name that is also its certificate's, and two ways to answer strangely and well.

use std::time::Duration;

use jiff::SignedDuration;
use x509_ocsp::OcspResponseStatus;

use crate::cast::Cast;
use crate::support::now;
use crate::support::pki::Identity;
use crate::support::responder::Behaviour;
use crate::support::response::{Digest, LIFETIME, Response, cert_id, unknown_extension};
use crate::wire::{Trick, answer, ok};

/// Who plays it.
pub enum Play {
    /// The responder that signs.
    Signed(Behaviour),
    /// The server that breaks HTTP.
    Wire(Trick),
}

/// What is done about a certificate.
pub type Script = fn(&Cast, &Identity) -> Play;

/// One way to misbehave.
pub struct Mode {
    pub name: &'static str,
    /// The stable name of the reason.
    pub kind: &'static str,
    /// What a person is told, among other words.
    pub words: &'static str,
    pub play: Script,
}

/// A word of every remedy, by the reason: what a person is told to do about it.
pub fn remedy(kind: &str) -> &'static str {
    match kind {
        "malformed" | "not_basic" => "proxy or a login page",
        "cert_id_mismatch" => "speaks of another certificate or another CA",
        "cert_id_hash_unsupported" => "answer with the CertID it was asked for",
        "multiple_single_responses" | "no_single_response" => "exactly the one certificate",
        "next_update_before_this_update" => "times contradict each other",
        "not_yet_valid" | "produced_in_future" => "look at the clock of this host first",
        "stale" => "why it has not signed anew",
        "unknown_critical_extension" => "leave the extension out",
        "weak_signature" => "sign with SHA-256 or better",
        "try_later" | "internal_error" => "asked again by itself",
        "unauthorized" | "malformed_request" | "sig_required" | "next_update_missing" | "less_than_300s_left" => {
            "ask the CA"
        }
        "http_status" | "broken" => "asked again by itself",
        "timeout" | "connect" => "may reach the responder",
        "dns" => "check this host's resolver",
        "too_large" | "redirect" => "check what answers under the responder's name",
        _ => "a strict client would refuse this response too",
    }
}

const fn mode(name: &'static str, kind: &'static str, words: &'static str, play: fn(&Cast, &Identity) -> Play) -> Mode {
    Mode { name, kind, words, play }
}

fn behaves(behaviour: Behaviour) -> Play {
    Play::Signed(behaviour)
}

fn edited(edit: impl Fn(&mut Response) + Send + Sync + 'static) -> Play {
    behaves(Behaviour::edited(edit))
}

/// Signed by somebody else, whose certificate comes along.
fn signed_by(leaf: &Identity, signer: &Identity) -> Play {
    let (leaf, signer) = (leaf.clone(), signer.clone());
    edited(move |response| *response = Response::good(&leaf, &signer))
}

fn http(status: u16, headers: &[(&str, &str)], body: &str) -> Play {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    behaves(Behaviour::Http(status, headers, body.as_bytes().to_vec()))
}

fn refuses(status: OcspResponseStatus) -> Play {
    behaves(Behaviour::Refuses(status))
}

fn leads(status: u16, location: &str) -> Play {
    Play::Wire(Trick::Leads(status, location.to_owned()))
}

fn repeats(first: &str, then: &[u8], pause: Duration) -> Play {
    Play::Wire(Trick::Repeats(first.as_bytes().to_vec(), then.to_vec(), pause))
}

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const AT_ONCE: Duration = Duration::ZERO;
const SECOND: Duration = Duration::from_secs(1);

/// Bad responses, well delivered.
pub const FORGERIES: &[Mode] = &[
    mode("expired", "stale", "it is stale: nextUpdate was", |_, _| {
        behaves(Behaviour::GoodAt(now() - 240 * HOUR, 168 * HOUR))
    }),
    mode("future", "not_yet_valid", "is a clock wrong?", |_, _| {
        edited(|response| response.singles[0].this_update = now() + HOUR)
    }),
    mode("born-tomorrow", "produced_in_future", "is a clock wrong?", |_, _| {
        edited(|response| response.produced_at = now() + 24 * HOUR)
    }),
    mode("backwards", "next_update_before_this_update", "lies before its thisUpdate", |_, _| {
        edited(|response| response.singles[0].next_update = Some(response.singles[0].this_update - HOUR))
    }),
    mode("wrong-serial", "cert_id_mismatch", "another certificate: serialNumber", |cast, _| {
        let other = cert_id(Digest::Sha1, &cast.sibling);
        edited(move |response| response.singles[0].cert_id = other.clone())
    }),
    mode("wrong-issuer", "cert_id_mismatch", "another certificate: issuerNameHash", |cast, leaf| {
        let other = other_issuer(cast, leaf);
        edited(move |response| response.singles[0].cert_id = other.clone())
    }),
    mode("mixed-issuers", "cert_id_mismatch", "another certificate: issuerKeyHash", |cast, leaf| {
        let other = other_issuer(cast, leaf);
        edited(move |response| response.singles[0].cert_id.issuer_key_hash = other.issuer_key_hash.clone())
    }),
    mode("stranger", "responder_unauthorized", "the issuer itself did not issue it", |cast, leaf| {
        signed_by(leaf, &cast.stranger)
    }),
    mode("namesake", "signature_invalid", "its signature is not that of", |cast, _| {
        let namesake = cast.namesake.clone();
        edited(move |response| response.signer = namesake.clone())
    }),
    mode("namesake-along", "responder_unauthorized", "the issuer itself did not issue it", |cast, leaf| {
        signed_by(leaf, &cast.namesake)
    }),
    mode("sibling", "responder_unauthorized", "lacks id-kp-OCSPSigning", |cast, leaf| signed_by(leaf, &cast.sibling)),
    mode("ancestor", "responder_unauthorized", "the issuer itself did not issue it", |cast, leaf| {
        signed_by(leaf, &cast.root)
    }),
    mode("expired-delegate", "responder_unauthorized", "it is valid from", |cast, leaf| {
        signed_by(leaf, &cast.expired_delegate)
    }),
    mode("foreign-delegate", "responder_unauthorized", "the issuer itself did not issue it", |cast, leaf| {
        signed_by(leaf, &cast.foreign_delegate)
    }),
    mode("forged-delegate", "responder_unauthorized", "the issuer itself did not issue it", |cast, leaf| {
        signed_by(leaf, &cast.forged_delegate)
    }),
    mode("missing-delegate", "responder_not_found", "neither the issuer nor among the certificates", |cast, leaf| {
        let (leaf, delegate) = (leaf.clone(), cast.delegate.clone());
        edited(move |response| *response = Response::good(&leaf, &delegate).with(|response| response.certs.clear()))
    }),
    mode("broken-signature", "signature_invalid", "its signature is not that of", |_, _| {
        edited(|response| response.break_signature = true)
    }),
    mode("several", "multiple_single_responses", "holds 2 single responses instead of one", |_, _| {
        edited(|response| response.singles.push(response.singles[0].clone()))
    }),
    mode("none", "no_single_response", "holds no single response", |_, _| edited(|response| response.singles.clear())),
    mode("critical", "unknown_critical_extension", "in responseExtensions", |_, _| {
        edited(|response| response.response_extensions.push(unknown_extension(true)))
    }),
    mode("critical-single", "unknown_critical_extension", "in singleExtensions", |_, _| {
        edited(|response| response.singles[0].extensions.push(unknown_extension(true)))
    }),
    mode("for-ever", "next_update_missing", "it has no nextUpdate", |_, _| {
        edited(|response| response.singles[0].next_update = None)
    }),
    mode("dying", "less_than_300s_left", "HAProxy would not", |_, _| {
        behaves(Behaviour::GoodFor(SignedDuration::from_secs(299)))
    }),
    mode("trailing", "malformed", "not a well-formed OCSP response", |_, _| {
        edited(|response| response.trailing = vec![0; 4])
    }),
    mode("truncated", "malformed", "not a well-formed OCSP response", |_, leaf| {
        let good = Response::good(leaf, leaf.issuer()).der();
        behaves(Behaviour::Bytes(good[..good.len() / 2].to_vec()))
    }),
    mode("try-later", "try_later", "answered tryLater", |_, _| refuses(OcspResponseStatus::TryLater)),
    mode("unauthorized", "unauthorized", "answered unauthorized", |_, _| refuses(OcspResponseStatus::Unauthorized)),
    mode("internal-error", "internal_error", "answered internalError", |_, _| {
        refuses(OcspResponseStatus::InternalError)
    }),
];

/// Anything but a response.
pub const FAULTS: &[Mode] = &[
    mode("forbidden", "http_status", "answered HTTP 403", |_, _| http(403, &[], "no")),
    mode("not-found", "http_status", "answered HTTP 404", |_, _| http(404, &[], "")),
    mode("error", "http_status", "answered HTTP 500", |_, _| http(500, &[], "oops")),
    mode("gateway", "http_status", "answered HTTP 502", |_, _| http(502, &[], "")),
    mode("unavailable", "http_status", "answered HTTP 503", |_, _| http(503, &[], "")),
    mode("throttled", "http_status", "answered HTTP 429", |_, _| http(429, &[("retry-after", "20")], "slow down")),
    mode("no-content", "http_status", "answered HTTP 204", |_, _| http(204, &[], "")),
    mode("not-modified", "http_status", "answered HTTP 304", |_, _| http(304, &[], "")),
    mode("html", "malformed", "not a well-formed OCSP response", |_, _| {
        http(200, &[("content-type", "text/html")], "<html>Please log in to the hotel</html>")
    }),
    mode("empty", "malformed", "not a well-formed OCSP response", |_, _| behaves(Behaviour::Bytes(Vec::new()))),
    mode("garbage", "malformed", "not a well-formed OCSP response", |_, _| {
        behaves(Behaviour::Bytes([0x30, 0x80, 0xFF].repeat(500)))
    }),
    mode("gigabyte", "too_large", "sent more than 65536 bytes", |_, _| {
        repeats("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n", &[0x30; 1 << 16], AT_ONCE)
    }),
    mode("chunks", "too_large", "sent more than 65536 bytes", |_, _| {
        let chunk = [b"8000\r\n".as_slice(), &[0x30; 0x8000], b"\r\n"].concat();
        repeats("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &chunk, AT_ONCE)
    }),
    mode("headers", "broken", "broke off", |_, _| {
        repeats("HTTP/1.1 200 OK\r\n", format!("X: {}\r\n", "x".repeat(8000)).as_bytes(), AT_ONCE)
    }),
    mode("promises", "timeout", "gave no whole answer within 10.0 s", |_, _| {
        repeats("", b"HTTP/1.1 100 Continue\r\n\r\n", Duration::from_millis(10))
    }),
    mode("silence", "timeout", "gave no whole answer within 10.0 s", |_, _| Play::Wire(Trick::Silence)),
    mode("drip", "timeout", "gave no whole answer within 10.0 s", |_, _| {
        repeats("HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", b"0", SECOND)
    }),
    mode("drip-head", "timeout", "gave no whole answer within 10.0 s", |_, _| repeats("HTTP/1.1 200 O", b"K", SECOND)),
    mode("reset", "broken", "broke off", |_, _| Play::Wire(Trick::Reset)),
    mode("nothing", "broken", "broke off", |_, _| Play::Wire(Trick::Says(Vec::new()))),
    mode("cut", "broken", "broke off", |_, leaf| {
        let mut whole = answer("200 OK", &[], &Response::good(leaf, leaf.issuer()).der());
        whole.truncate(whole.len() - 20);
        Play::Wire(Trick::Says(whole))
    }),
    mode("no-http", "broken", "broke off", |_, _| Play::Wire(Trick::Says(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()))),
    mode("circle", "redirect", "in a circle", |_, _| leads(302, "/circle")),
    mode("astray", "redirect", "the last of 4 in a row", |_, _| leads(307, "/astray/{n}")),
    mode("to-file", "redirect", "'file:///etc/passwd' is not an http(s) URL", |_, _| leads(302, "file:///etc/passwd")),
    mode("to-metadata", "redirect", "only this host can reach", |_, _| leads(307, "http://169.254.169.254/latest")),
    mode("to-link", "redirect", "only this host can reach", |_, _| leads(301, "http://[fe80::1]/")),
    mode("to-zero", "redirect", "only this host can reach", |_, _| leads(308, "http://0.0.0.0/")),
    mode("to-nowhere", "redirect", "is no URL", |_, _| leads(302, "http://")),
];

/// Strange, and right all the same.
pub const GOOD: &[(&str, Script)] = &[
    ("plain", |_, _| behaves(Behaviour::Good)),
    ("year-2040", |_, _| {
        edited(|response| response.singles[0].next_update = Some("2040-01-01T00:00:00Z".parse().unwrap()))
    }),
    ("mislabelled", |_, leaf| Play::Wire(ok("text/html; charset=utf-8", &Response::good(leaf, leaf.issuer()).der()))),
    ("delegated", |cast, leaf| signed_by(leaf, &cast.delegate)),
    ("uncritical", |_, _| edited(|response| response.response_extensions.push(unknown_extension(false)))),
    ("moved", |_, _| leads(308, "/moved-to/here")),
];

/// What serves the certificate of [`GOOD`]'s `moved`, by the first segment of its new place.
pub const MOVED_TO: &str = "moved-to";

/// Bits to turn in a response, this many, from its first byte to its last.
pub const FLIPS: usize = 16;

/// A good response with one bit turned, `part` of [`FLIPS`] through it.
pub fn flipped(part: usize) -> Behaviour {
    Behaviour::Custom(std::sync::Arc::new(move |response| {
        let mut der = response.der();
        let at = part * (der.len() - 1) / (FLIPS - 1);
        der[at] ^= 1;
        der
    }))
}

/// Due for a refresh within seconds of its birth, and served for some minutes more; from then on `later`.
pub fn nearly_due_then(later: Behaviour) -> Behaviour {
    // HAProxy serves 1000 s for 700, and the refresh is due before three quarters of those are over: at 525.
    let born = now() - SignedDuration::from_secs(521);
    Behaviour::First(Box::new(Behaviour::GoodAt(born, SignedDuration::from_secs(1000))), Box::new(later))
}

/// An answer from before the one that [`nearly_due_then`] gives first.
pub fn older() -> Behaviour {
    Behaviour::GoodAt(now() - 2 * HOUR, LIFETIME)
}

fn other_issuer(cast: &Cast, leaf: &Identity) -> x509_ocsp::CertId {
    let mut id = cert_id(Digest::Sha1, &cast.foreign_delegate);
    assert_eq!(cast.foreign_delegate.issuer().der(), cast.other.der());
    id.serial_number = leaf.parsed().tbs_certificate.serial_number;
    id
}
