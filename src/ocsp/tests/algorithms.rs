//! Signatures that anybody can forge, and the extensions that must be understood.

use x509_cert::ext::Extension;
use x509_cert::spki::AlgorithmIdentifierOwned;

use super::*;

#[test]
fn md5_is_refused_on_the_response() {
    let root = Entity::rsa_root("RSA Root");
    let leaf = root.issue(end_entity("leaf.example")).certificate;
    let mut draft = Draft::good(&leaf, &root);
    draft.digest = MessageDigest::md5();
    let error = verify(&draft.sign(), &leaf, &root.certificate, now()).unwrap_err();
    assert_eq!(error, VerifyError::WeakSignature { algorithm: "md5WithRSAEncryption" });
}

#[test]
fn md5_is_refused_on_the_delegate() {
    let root = Entity::rsa_root("RSA Root");
    let leaf = root.issue(end_entity("leaf.example")).certificate;
    let mut delegate = root.issue(responder("Responder"));
    delegate.certificate = resign_with_md5(&delegate.certificate, &root);
    let error = verify(&Draft::delegated(&leaf, &root, &delegate).sign(), &leaf, &root.certificate, now()).unwrap_err();
    let algorithm = "md5WithRSAEncryption";
    assert_eq!(unauthorized(error), Unauthorized::WeakSignature { algorithm });
}

fn resign_with_md5(certificate: &Certificate, issuer: &Entity) -> Certificate {
    let mut fields = x509_cert::Certificate::from_der(certificate.der()).unwrap();
    fields.signature_algorithm.oid = oid("1.2.840.113549.1.1.4");
    fields.tbs_certificate.signature = fields.signature_algorithm.clone();
    let key = issuer.pkey();
    let mut signer = openssl::sign::Signer::new(MessageDigest::md5(), &key).unwrap();
    let signature = signer.sign_oneshot_to_vec(&fields.tbs_certificate.to_der().unwrap()).unwrap();
    fields.signature = der::asn1::BitString::from_bytes(&signature).unwrap();
    Certificate::from_der(&fields.to_der().unwrap()).unwrap()
}

#[test]
fn a_broken_hash_hides_nowhere_in_the_parameters_of_pss() {
    use x509_cert::spki::AlgorithmIdentifierOwned;
    let pss = |hash: &str| {
        let hash = AlgorithmIdentifierOwned { oid: oid(hash), parameters: Some(Null.into()) };
        let parameters = tlv(0x30, &tlv(0xa0, &hash.to_der().unwrap()));
        let parameters = Some(der::Any::from_der(&parameters).unwrap());
        AlgorithmIdentifierOwned { oid: oid("1.2.840.113549.1.1.10"), parameters }
    };
    for (hash, name) in [("2.2", "RSASSA-PSS with MD2"), ("2.4", "RSASSA-PSS with MD4"), ("2.5", "RSASSA-PSS with MD5")]
    {
        assert_eq!(verify::weak_signature(&pss(&format!("1.2.840.113549.{hash}"))), Some(name));
    }
    assert_eq!(verify::weak_signature(&pss("2.16.840.1.101.3.4.2.1")), None);
}

#[test]
fn every_forgeable_signature_is_known_by_its_identifier() {
    let plain = |algorithm: &str| {
        verify::weak_signature(&AlgorithmIdentifierOwned { oid: oid(algorithm), parameters: Some(Null.into()) })
    };
    let weak = [
        ("1.2.840.113549.1.1.2", "md2WithRSAEncryption"),
        ("1.2.840.113549.1.1.3", "md4WithRSAEncryption"),
        ("1.2.840.113549.1.1.4", "md5WithRSAEncryption"),
        ("1.3.14.3.2.2", "md4WithRSA"),
        ("1.3.14.3.2.3", "md5WithRSA"),
        ("1.3.14.7.2.3.1", "md2WithRSASignature"),
    ];
    for (algorithm, name) in weak {
        assert_eq!(plain(algorithm), Some(name));
    }
    // SHA-1, SHA-256, SHA-384 and SHA-512 with RSA, and with ECDSA; Ed25519.
    for strong in
        ["1.2.840.113549.1.1.5", "1.2.840.113549.1.1.11", "1.2.840.10045.4.1", "1.2.840.10045.4.3.2", "1.3.101.112"]
    {
        assert_eq!(plain(strong), None);
    }
}

/// Each extension as a CA would mark it critical, and none that OpenSSL checks further.
#[test]
fn the_critical_extensions_that_are_understood_are_no_obstacle() {
    let world = &*WORLD;
    let understood: [(&[u64], &[u8]); 3] = [
        // subjectAltName: dNSName responder.example
        (&[2, 5, 29, 17], b"\x30\x13\x82\x11responder.example"),
        // basicConstraints, of an end entity
        (&[2, 5, 29, 19], b"\x30\x00"),
        // certificatePolicies: anyPolicy
        (&[2, 5, 29, 32], b"\x30\x08\x30\x06\x06\x04\x55\x1d\x20\x00"),
    ];
    for (identifier, content) in understood {
        let mut params = responder("Responder");
        params.custom_extensions.push(critical(identifier, content));
        let verdict = world.verify(&world.delegated_to(&world.root.issue(params)).sign());
        assert!(verdict.is_ok(), "{identifier:?}: {verdict:?}");
    }
    // keyUsage is always critical here; extKeyUsage for once, with id-kp-OCSPSigning.
    let mut params = responder("Responder");
    params.extended_key_usages.clear();
    params.custom_extensions.push(critical(&[2, 5, 29, 37], b"\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x09"));
    let delegate = world.root.issue(params);
    assert!(world.verify(&world.delegated_to(&delegate).sign()).is_ok());
    let fields = x509_cert::Certificate::from_der(delegate.certificate.der()).unwrap().tbs_certificate;
    let is_critical = |extension: &Extension| extension.critical && extension.extn_id == oid("2.5.29.15");
    assert!(fields.extensions.unwrap().iter().any(is_critical));
}

fn critical(identifier: &[u64], content: &[u8]) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(identifier, content.to_vec());
    extension.set_criticality(true);
    extension
}

#[test]
fn an_extension_of_a_delegate_that_does_not_parse_is_refused() {
    let world = &*WORLD;
    for identifier in [[2, 5, 29, 15], [2, 5, 29, 19], [2, 5, 29, 37]] {
        let mut params = responder("Responder");
        if identifier == [2, 5, 29, 15] {
            params.key_usages.clear();
        }
        if identifier == [2, 5, 29, 37] {
            params.extended_key_usages.clear();
        }
        params.custom_extensions.push(CustomExtension::from_oid_content(&identifier, b"\x04\x00".to_vec()));
        let reason = unauthorized(world.refuses(&world.delegated_to(&world.root.issue(params)).sign()));
        // OpenSSL, which is asked first who issued it, does not take some of them for a certificate of this CA at all.
        let expected = matches!(reason, Unauthorized::Malformed { .. } | Unauthorized::NotIssuedByIssuer);
        assert!(expected, "{identifier:?}: {reason:?}");
    }
}
