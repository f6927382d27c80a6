//! An OCSP response as HAProxy sees it: it checks times and names, and no signature.

use std::fmt::Write;
use std::sync::Arc;

use der::{Decode, Encode, SliceReader};
use jiff::{SignedDuration, Timestamp};
use x509_ocsp::{BasicOcspResponse, CertStatus, OcspGeneralizedTime, OcspResponse, OcspResponseStatus};

/// HAProxy's allowance for clocks that differ, and how long before nextUpdate it stops stapling.
const ALLOWANCE: SignedDuration = SignedDuration::from_secs(300);

/// A response that it took.
pub(super) struct Facts {
    pub(super) der: Arc<[u8]>,
    pub(super) cert_id: Vec<u8>,
    produced_at: Timestamp,
    this_update: Timestamp,
    next_update: Option<Timestamp>,
    status: &'static str,
    signature: Vec<u8>,
}

impl Facts {
    /// Takes a response, for the entry with this key if one is meant, or says in HAProxy's words why not.
    pub(super) fn load(der: &[u8], key: Option<&[u8]>, now: Timestamp) -> Result<Self, String> {
        let facts = Self::read(der)?;
        let refuse = |reason: &str| Err(reason.to_owned());
        if facts.status == "unknown" {
            return refuse("OCSP single response: certificate status is unknown.");
        }
        let Some(next_update) = facts.next_update else {
            return refuse("OCSP single response: missing nextupdate.");
        };
        if facts.this_update > now + ALLOWANCE || next_update < now - ALLOWANCE {
            return refuse("OCSP single response: no longer valid..");
        }
        if key.is_some_and(|key| key != facts.cert_id) {
            return refuse("OCSP single response: Certificate ID does not match any certificate or issuer.");
        }
        Ok(facts)
    }

    /// Reads one, whatever it says.
    pub(super) fn read(der: &[u8]) -> Result<Self, String> {
        let refuse = |reason: &str| Err(reason.to_owned());
        // What follows the response does not bother HAProxy.
        let response = SliceReader::new(der).and_then(|mut reader| OcspResponse::decode(&mut reader));
        let Ok(response) = response else { return refuse("Unable to parse OCSP response.") };
        if response.response_status != OcspResponseStatus::Successful {
            return refuse("OCSP response status not successful.");
        }
        let basic =
            response.response_bytes.and_then(|bytes| BasicOcspResponse::from_der(bytes.response.as_bytes()).ok());
        let Some(basic) = basic else { return refuse("Failed to get basic response from OCSP Response.") };
        let [single] = basic.tbs_response_data.responses.as_slice() else {
            return refuse("OCSP response ignored because contains multiple single responses (2).");
        };
        let status = match single.cert_status {
            CertStatus::Good(_) => "good",
            CertStatus::Revoked(_) => "revoked",
            CertStatus::Unknown(_) => "unknown",
        };
        Ok(Self {
            der: der.into(),
            cert_id: single.cert_id.to_der().expect("a CertID in DER"),
            produced_at: time(&basic.tbs_response_data.produced_at),
            this_update: time(&single.this_update),
            next_update: single.next_update.as_ref().map(time),
            status,
            signature: basic.signature.raw_bytes().to_vec(),
        })
    }

    /// Whether it is stapled at this moment.
    pub(super) fn is_stapled(&self, now: Timestamp) -> bool {
        self.next_update.is_some_and(|next_update| now <= next_update - ALLOWANCE)
    }

    /// As OpenSSL prints it, as far as anybody reads it.
    pub(super) fn text(&self) -> String {
        let date = |at: Timestamp| at.strftime("%b %e %H:%M:%S %Y GMT").to_string();
        let next_update = self.next_update.map(|at| format!("    Next Update: {}\n", date(at))).unwrap_or_default();
        let mut text = format!(
            "OCSP Response Data:\n    OCSP Response Status: successful (0x0)\n    Response Type: Basic OCSP Response\n    \
             Version: 1 (0x0)\n    Produced At: {}\n    Responses:\n    Cert Status: {}\n    This Update: {}\n\
             {next_update} \n    Signature Algorithm: ED25519\n    Signature Value:\n",
            date(self.produced_at),
            self.status,
            date(self.this_update),
        );
        for line in self.signature.chunks(18) {
            let octets: Vec<String> = line.iter().map(|octet| format!("{octet:02x}")).collect();
            writeln!(text, "        {}", octets.join(":")).expect("a string grows");
        }
        text
    }
}

fn time(time: &OcspGeneralizedTime) -> Timestamp {
    Timestamp::try_from(time.0.to_system_time()).expect("a date in range")
}
