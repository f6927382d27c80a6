//! Any bytes as a PEM file, a caIssuers body and a certificate.

use haproxy_stapler::ca_issuers;
use haproxy_stapler::certificate::{Certificate, Fingerprint, Issuer, IssuerSource, SerialNumber};
use haproxy_stapler::pem::{self, Bundle, Pool};
use openssl::x509::X509;

use super::fixture::FIXTURE;

/// More than any CA sends.
const MOST_DOWNLOADED: usize = 16;

/// Reads the bytes in all three ways.
pub fn check(input: &[u8]) -> bool {
    let downloaded = ca_issuers::certificates(input);
    assert!(downloaded.len() <= MOST_DOWNLOADED);
    let in_pem = pem::certificates(input);
    let pool = Pool::default();
    match (&in_pem, Bundle::from_pem(input, &pool)) {
        (Ok(certificates), Ok(bundle)) => {
            assert!(!certificates.is_empty());
            assert_eq!([std::slice::from_ref(&bundle.leaf), bundle.chain.as_slice()].concat(), *certificates);
            assert!(Bundle::from_pem(input, &pool).is_ok_and(|again| again == bundle), "with a pool that knows them");
            hold_issuer(&bundle.leaf, bundle.issuer(&downloaded).as_ref());
            let _ = bundle.issuer_for_haproxy(&downloaded);
        }
        (Err(error), Err(same)) => assert_eq!(*error, same),
        (one, other) => panic!("{one:?} and {other:?}"),
    }
    let der = Certificate::from_der(input).ok();
    let mut read: Vec<&Certificate> = downloaded.iter().chain(in_pem.iter().flatten()).chain(&der).collect();
    read.dedup();
    for certificate in &read {
        hold(certificate);
    }
    hold_issuer(&FIXTURE.leaf, Issuer::find(&FIXTURE.leaf, &downloaded, IssuerSource::AuthorityInfoAccess).as_ref());
    !read.is_empty()
}

/// What is read is kept as it came, and comes back the same.
fn hold(certificate: &Certificate) {
    assert_eq!(Certificate::from_der(certificate.der()).as_ref(), Ok(certificate));
    // OpenSSL may write what it read differently; whatever it writes is read again.
    let pem = X509::from_der(certificate.der()).and_then(|x509| x509.to_pem()).expect("OpenSSL read it before");
    assert!(pem::certificates(&pem).is_ok_and(|again| again.len() == 1));
    assert_eq!(certificate.fingerprint().to_string().parse::<Fingerprint>().ok(), Some(certificate.fingerprint()));
    let serial = certificate.serial_number();
    assert_eq!(SerialNumber::from_hex(&serial.to_string()).as_ref(), Some(serial));
    assert!(certificate.ocsp_responders().iter().chain(certificate.ca_issuers()).all(|uri| !uri.trim().is_empty()));
}

/// An issuer is who signed, by OpenSSL's word.
fn hold_issuer(leaf: &Certificate, issuer: Option<&Issuer>) {
    if let Some(issuer) = issuer {
        let x509 = |certificate: &Certificate| X509::from_der(certificate.der()).expect("OpenSSL read it before");
        let key = x509(issuer.certificate()).public_key().expect("a key that signed");
        assert!(x509(leaf).verify(&key).is_ok_and(|signed| signed), "it signed nothing");
    }
}
