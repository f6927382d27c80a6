//! The series of the certificates, written straight into the text of a scrape. No IO.
//!
//! They are not gauges of a registry: ten thousand certificates have a hundred and fifty thousand of them, and a registry
//! made for one scrape and thrown away again took a second and a quarter of a gigabyte.

use std::fmt::Write;

use jiff::Timestamp;

use super::{PREFIX, seconds, truth};
use crate::status::{CertificateStatus, OcspStatus, StapleStatus, Status};
use crate::uri::host_of;

/// One family of gauges that has series a certificate.
pub(super) struct Family {
    /// Without the prefix.
    pub(super) name: &'static str,
    help: &'static str,
    /// What one certificate adds to it.
    of: fn(&mut Samples<'_>, &CertificateStatus, Timestamp),
}

/// All of them, by name.
pub(super) const FAMILIES: [Family; 12] = [
    Family {
        name: "certificate_info",
        help: "Who a certificate is.",
        of: |samples, certificate, _| {
            let responder = certificate.responder().map(|url| host_of(url)).unwrap_or_default();
            samples.add(
                &[
                    ("issuer", &certificate.issuer),
                    ("responder", &responder),
                    ("serial", &certificate.serial_number),
                    ("subject", &certificate.subject),
                ],
                1.0,
            );
        },
    },
    Family {
        name: "certificate_must_staple",
        help: "Whether the certificate demands a staple (RFC 7633).",
        of: |samples, certificate, _| {
            if certificate.not_after.is_some() {
                samples.add(&[], truth(certificate.must_staple));
            }
        },
    },
    Family {
        name: "certificate_not_after_timestamp_seconds",
        help: "End of the certificate's validity.",
        of: |samples, certificate, _| samples.add_instant(certificate.not_after),
    },
    Family {
        name: "certificate_state",
        help: "The present state of a certificate.",
        of: |samples, certificate, _| samples.add(&[("state", certificate.state.label())], 1.0),
    },
    Family {
        name: "ocsp_status",
        help: "What the CA's last valid answer says.",
        of: |samples, certificate, _| {
            for each in OcspStatus::ALL {
                samples.add(&[("status", each.label())], truth(each == certificate.ocsp_status));
            }
        },
    },
    Family {
        name: "served_staple_next_update_timestamp_seconds",
        help: "nextUpdate of the staple HAProxy says it holds, also when that has expired.",
        of: |samples, certificate, _| {
            for each in certificate.held() {
                samples.add(&[("haproxy", &each.haproxy)], seconds(each.next_update));
            }
        },
    },
    Family {
        name: "staple_age_seconds",
        help: "Now minus thisUpdate of the staple HAProxy serves.",
        of: |samples, certificate, now| {
            if let Some(age) = certificate.staple_age(now) {
                samples.add(&[], age.as_secs_f64());
            }
        },
    },
    Family {
        name: "staple_last_success_timestamp_seconds",
        help: "When a valid response last came.",
        of: |samples, certificate, _| samples.add_instant(certificate.last_success_at),
    },
    Family {
        name: "staple_next_update_timestamp_seconds",
        help: "nextUpdate of the verified staple held.",
        of: |samples, certificate, _| samples.add_staple(certificate, |staple| staple.next_update),
    },
    Family {
        name: "staple_produced_at_timestamp_seconds",
        help: "producedAt of the verified staple held.",
        of: |samples, certificate, _| samples.add_staple(certificate, |staple| staple.produced_at),
    },
    Family {
        name: "staple_refresh_due_timestamp_seconds",
        help: "When the CA will be asked next.",
        of: |samples, certificate, _| samples.add_instant(certificate.refresh_due_at),
    },
    Family {
        name: "staple_this_update_timestamp_seconds",
        help: "thisUpdate of the verified staple held.",
        of: |samples, certificate, _| samples.add_staple(certificate, |staple| staple.this_update),
    },
];

impl Family {
    /// Writes the family, in text format 0.0.4; nothing if no certificate has such a series.
    pub(super) fn write(&self, text: &mut String, status: &Status, now: Timestamp) {
        let mut samples = Samples { text, family: self, begun: false, certificate: "" };
        for certificate in &status.certificates {
            samples.certificate = &certificate.certificate;
            (self.of)(&mut samples, certificate, now);
        }
    }
}

/// Where the samples of one family go.
struct Samples<'a> {
    text: &'a mut String,
    family: &'a Family,
    begun: bool,
    /// Whose sample is the next.
    certificate: &'a str,
}

impl Samples<'_> {
    /// One sample. The label `certificate` comes before the others in the alphabet, too.
    fn add(&mut self, labels: &[(&str, &str)], value: f64) {
        let Family { name, help, .. } = self.family;
        let text = &mut *self.text;
        // A String takes everything that is written to it.
        if !std::mem::replace(&mut self.begun, true) {
            let _ = writeln!(text, "# HELP {PREFIX}_{name} {help}\n# TYPE {PREFIX}_{name} gauge");
        }
        text.extend([PREFIX, "_", name, "{certificate=\""]);
        escape(text, self.certificate);
        for (label, value) in labels {
            text.extend(["\",", label, "=\""]);
            escape(text, value);
        }
        let _ = writeln!(text, "\"}} {value}");
    }

    fn add_instant(&mut self, at: Option<Timestamp>) {
        if let Some(at) = at {
            self.add(&[], seconds(at));
        }
    }

    fn add_staple(&mut self, certificate: &CertificateStatus, at: impl FnOnce(&StapleStatus) -> Timestamp) {
        self.add_instant(certificate.staple.as_ref().map(at));
    }
}

/// A label's value as the format wants it. Names come from files and certificates, where anything may be.
fn escape(text: &mut String, value: &str) {
    for part in value.split_inclusive(['\\', '"', '\n']) {
        let mut letters = part.chars();
        match letters.next_back() {
            Some('\n') => text.extend([letters.as_str(), "\\n"]),
            Some(special @ ('\\' | '"')) => {
                text.extend([letters.as_str(), "\\"]);
                text.push(special);
            }
            _ => text.push_str(part),
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{Encoder, GaugeVec, Opts, Registry, TextEncoder};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn families_stand_in_the_order_of_their_names() {
        assert!(FAMILIES.is_sorted_by_key(|family| family.name));
    }

    #[test]
    fn a_family_without_series_is_not_mentioned() {
        let mut text = String::new();
        for family in &FAMILIES {
            family.write(&mut text, &Status::default(), Timestamp::UNIX_EPOCH);
        }
        assert_eq!(text, "");
    }

    proptest! {
        /// The library that writes the other series is the reference.
        #[test]
        fn samples_are_written_as_the_library_would(
            value in "(?s)[\\\\\"\n a-z{}é]{0,20}",
            number in prop_oneof![any::<f64>(), any::<u32>().prop_map(f64::from)],
        ) {
            let family = Family { name: "thing", help: "A thing.", of: |_, _, _| {} };
            let mut text = String::new();
            let mut samples = Samples { text: &mut text, family: &family, begun: false, certificate: &value };
            samples.add(&[("state", &value)], number);

            let registry = Registry::new();
            let opts = Opts::new(format!("{PREFIX}_thing"), "A thing.");
            let gauge = GaugeVec::new(opts, &["certificate", "state"]).unwrap();
            registry.register(Box::new(gauge.clone())).unwrap();
            gauge.with_label_values(&[&value, &value]).set(number);
            let mut expected = Vec::new();
            TextEncoder::new().encode(&registry.gather(), &mut expected).unwrap();
            prop_assert_eq!(text, String::from_utf8(expected).unwrap());
        }
    }
}
