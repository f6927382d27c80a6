//! The staple that HAProxy itself says it holds. Pure.

use std::collections::BTreeSet;

use der::Decode;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use x509_ocsp::{BasicOcspResponse, OcspResponse};

use super::command::Form;
use crate::ocsp::Staple;

/// How the text of each response begins.
const HEADING: &str = "OCSP Response Data:";

/// What of a staple is sent and compared. Outside of this module only a verified [`Staple`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StapleView<'a> {
    /// The response as the CA sent it.
    pub(super) der: &'a [u8],
    /// `producedAt`.
    pub(super) produced_at: Timestamp,
    /// `thisUpdate`.
    pub(super) this_update: Timestamp,
    /// `nextUpdate`.
    pub(super) next_update: Timestamp,
}

impl<'a> From<&'a Staple> for StapleView<'a> {
    fn from(staple: &'a Staple) -> Self {
        Self {
            der: staple.der(),
            produced_at: staple.response().produced_at(),
            this_update: staple.this_update(),
            next_update: staple.next_update(),
        }
    }
}

/// What an entry holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// Nothing yet.
    Nothing,
    /// A response.
    Response(HeldResponse),
    /// Something this program cannot read.
    Unreadable,
}

/// A response that HAProxy holds. Nobody has verified it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldResponse {
    /// The response itself; 2.8 and later.
    pub der: Option<Vec<u8>>,
    /// `producedAt`.
    pub produced_at: Timestamp,
    /// `thisUpdate`.
    pub this_update: Timestamp,
    /// `nextUpdate`.
    pub next_update: Option<Timestamp>,
    /// The signature, where only a text is to be had.
    signature: Vec<u8>,
}

impl Held {
    /// Reads the reply to `show ssl ocsp-response base64 KEY`.
    pub(super) fn from_base64(reply: &str) -> Self {
        let text: String = reply.split_ascii_whitespace().collect();
        if text.is_empty() {
            return Self::Nothing;
        }
        openssl::base64::decode_block(&text)
            .ok()
            .and_then(|der| HeldResponse::from_der(&der))
            .map_or(Self::Unreadable, Self::Response)
    }

    /// Reads the reply to `show ssl ocsp-response KEY`.
    pub(super) fn from_text(reply: &str) -> Self {
        if reply.trim().is_empty() {
            return Self::Nothing;
        }
        from_text(reply).map_or(Self::Unreadable, Self::Response)
    }

    /// The response, if there is one.
    #[must_use]
    pub const fn response(&self) -> Option<&HeldResponse> {
        match self {
            Self::Response(response) => Some(response),
            Self::Nothing | Self::Unreadable => None,
        }
    }
}

/// What many entries hold, as HAProxy showed it on one connection: enough to find what one expects among it, and to
/// look for everything else by itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    /// In base64, each as HAProxy spells it.
    whole: BTreeSet<String>,
    told: Vec<HeldResponse>,
}

impl Shown {
    /// Takes in one reply.
    pub(super) fn add(&mut self, reply: &str, form: Form) {
        match form {
            Form::Base64 => self.whole.extend(reply.lines().filter(|line| !line.is_empty()).map(str::to_owned)),
            Form::Text => self.told.extend(reply.split(HEADING).skip(1).filter_map(from_text)),
        }
    }

    /// Whether this very staple is among it: it names its own certificate, so there is no mistaking it for another's.
    #[must_use]
    pub(super) fn has(&self, staple: &StapleView<'_>) -> bool {
        let is_it = |held: &HeldResponse| !held.signature.is_empty() && held.is(staple);
        (!self.whole.is_empty() && self.whole.contains(&openssl::base64::encode_block(staple.der)))
            || self.told.iter().any(is_it)
    }
}

impl HeldResponse {
    /// None if it is no response.
    pub(super) fn from_der(der: &[u8]) -> Option<Self> {
        let bytes = OcspResponse::from_der(der).ok()?.response_bytes?;
        let basic = BasicOcspResponse::from_der(bytes.response.as_bytes()).ok()?;
        let single = basic.tbs_response_data.responses.first()?;
        let time = |time: &x509_ocsp::OcspGeneralizedTime| Timestamp::try_from(time.0.to_system_time()).ok();
        Some(Self {
            der: Some(der.to_vec()),
            produced_at: time(&basic.tbs_response_data.produced_at)?,
            this_update: time(&single.this_update)?,
            next_update: single.next_update.as_ref().and_then(time),
            signature: basic.signature.raw_bytes().to_vec(),
        })
    }

    /// Whether this is `staple`. Without the bytes, the times and the signature stand for them.
    #[must_use]
    pub fn is(&self, staple: &StapleView<'_>) -> bool {
        self.der.as_ref().map_or_else(
            || {
                self.produced_at == staple.produced_at
                    && self.this_update == staple.this_update
                    && self.next_update == Some(staple.next_update)
                    && (self.signature.is_empty() || contains(staple.der, &self.signature))
            },
            |der| der == staple.der,
        )
    }

    /// Whether the CA said this after `staple`.
    #[must_use]
    pub fn is_newer_than(&self, staple: &StapleView<'_>) -> bool {
        (self.this_update, self.produced_at) > (staple.this_update, staple.produced_at)
    }

    /// What tells it from every other response and can be read from the text as well; none without a signature.
    pub(super) fn digest(&self) -> Option<String> {
        if self.signature.is_empty() {
            return None;
        }
        let next_update = self.next_update.map(|time| time.to_string()).unwrap_or_default();
        let mut bytes = format!("{} {} {next_update} ", self.produced_at, self.this_update).into_bytes();
        bytes.extend(&self.signature);
        Some(openssl::sha::sha256(&bytes).iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

fn from_text(text: &str) -> Option<HeldResponse> {
    let field = |name: &str| text.lines().find_map(|line| line.trim_start().strip_prefix(name)).map(str::trim);
    Some(HeldResponse {
        der: None,
        produced_at: time(field("Produced At:")?)?,
        this_update: time(field("This Update:")?)?,
        next_update: field("Next Update:").and_then(time),
        signature: signature(text),
    })
}

/// `Nov  3 06:55:02 2026 GMT`, as OpenSSL prints a GeneralizedTime.
fn time(text: &str) -> Option<Timestamp> {
    let words: Vec<&str> = text.strip_suffix("GMT")?.split_ascii_whitespace().collect();
    let time = DateTime::strptime("%b %d %H:%M:%S%.f %Y", words.join(" ")).ok()?;
    time.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

/// The first signature of the text is the response's own, those of certificates follow. OpenSSL 1.1 prints it right
/// after its algorithm, 3.0 under a heading; RSASSA-PSS has lines of parameters in between.
fn signature(text: &str) -> Vec<u8> {
    let digits: String = text
        .lines()
        .skip_while(|line| !line.trim_start().starts_with("Signature Algorithm:"))
        .skip(1)
        .map(str::trim)
        .skip_while(|line| !is_octets(line))
        .take_while(|line| is_octets(line))
        .flat_map(|line| line.chars().filter(|c| *c != ':'))
        .collect();
    crate::certificate::parse_hex(&digits).unwrap_or_default()
}

/// `30:46:02:`
fn is_octets(line: &str) -> bool {
    !line.is_empty() && line.chars().all(|c| c.is_ascii_hexdigit() || c == ':')
}
