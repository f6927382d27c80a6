//! Transactions that a crash of ours left open.

use super::*;

/// A response by `openssl ocsp`.
const RESPONSE: &str = "MIH/CgEAoIH5MIH2BgkrBgEFBQcwAQEEgegwgeUwgYuhEjAQMQ4wDAYDVQQDDAVuYXRjYRgPMjAyNjExMjMwODI0MDBaMGQwYjA6MAkGBSsO\
    AwIaBQAEFJZq9d1pfAVbZsr4EfntvytLCv22BBRyKt+AHy9O21AwnOlcXtea8F5/0QIBEYAAGA8yMDI2MTEyMzA4MjQwMFqgERgPMjAyNjEx\
    MjYwODI0MDBaMAoGCCqGSM49BAMCA0kAMEYCIQDLDpuRQsYI3j8yqEpeFyBb7VGAtjz53PizsiybRLuXFQIhAPNhAr5UpZl/pqsUOrKAiPpK\
    bqIBRxQRU6lXULnOOmOU";
/// The same as HAProxy prints it.
const RESPONSE_TEXT: &str = "OCSP Response Data:\n\
    \x20   OCSP Response Status: successful (0x0)\n\
    \x20   Response Type: Basic OCSP Response\n\
    \x20   Version: 1 (0x0)\n\
    \x20   Responder Id: CN = natca\n\
    \x20   Produced At: Nov 23 08:24:00 2026 GMT\n\
    \x20   Responses:\n\
    \x20   Certificate ID:\n\
    \x20     Hash Algorithm: sha1\n\
    \x20     Issuer Name Hash: 966AF5DD697C055B66CAF811F9EDBF2B4B0AFDB6\n\
    \x20     Issuer Key Hash: 722ADF801F2F4EDB50309CE95C5ED79AF05E7FD1\n\
    \x20     Serial Number: 11\n\
    \x20   Cert Status: good\n\
    \x20   This Update: Nov 23 08:24:00 2026 GMT\n\
    \x20   Next Update: Nov 26 08:24:00 2026 GMT\n\
    \x20\n\
    \x20   Signature Algorithm: ecdsa-with-SHA256\n\
    \x20   Signature Value:\n\
    \x20       30:46:02:21:00:cb:0e:9b:91:42:c6:08:de:3f:32:a8:4a:5e:\n\
    \x20       17:20:5b:ed:51:80:b6:3c:f9:dc:f8:b3:b2:2c:9b:44:bb:97:\n\
    \x20       15:02:21:00:f3:61:02:be:54:a5:99:7f:a6:ab:14:3a:b2:80:\n\
    \x20       88:fa:4a:6e:a2:01:47:14:11:53:a9:57:50:b9:ce:3a:63:94";

/// A certificate as `show ssl cert` has it.
fn shown(name: &str, fingerprint: char) -> String {
    let fingerprint = String::from(fingerprint).repeat(40);
    format!("Filename: {name}\nStatus: Used\nSerial: 0A\nSHA1 FingerPrint: {fingerprint}\nOCSP Response Key: \n\n")
}

const ABORTED: &str = "Transaction aborted for certificate '/c/a.pem'!\n\n";
const NOTHING_SHOWN: &str = "Can't display the certificate: Not found or the certificate is a bundle!\n\n";

/// What becomes of an open transaction on /c/a.pem that we had written down, with a response of /c/a.pem's issuer.
async fn leftover<const N: usize>(
    version: &str,
    names: &[&str],
    steps: [(&'static str, &str); N],
) -> Result<Leftover, HaproxyError> {
    let api = Script::new(steps);
    let process = process(version);
    let mut planned = Vec::new();
    let response = openssl::base64::decode_block(RESPONSE).unwrap();
    for name in names {
        planned.push((*name, StapleView { der: &response, ..staple() }));
    }
    let journal = Journal::new("/admin.sock", &process, planned, time("2026-11-20T00:00:00Z"));
    let outcome = abort_leftover(&api, &process, &journal, "/c/a.pem").await;
    api.is_done();
    outcome
}

#[tokio::test]
async fn a_leftover_is_aborted_only_if_nothing_in_it_is_a_strangers() {
    let (uncommitted, loaded) = (shown("*/c/a.pem", 'A'), shown("/c/a.pem", 'A'));
    let renewed = shown("*/c/a.pem", 'B');
    let theirs = RESPONSE_TEXT.replace("30:46:02:21", "30:40:02:1E");
    let outcome = leftover(
        "3.0.11",
        &["/c/b.pem", "/c/a.pem"],
        [
            ("show ssl cert */c/a.pem", &uncommitted),
            ("show ssl cert /c/a.pem", &loaded),
            ("show ssl cert */c/a.pem.ocsp", RESPONSE_TEXT),
            ("abort ssl cert /c/a.pem", ABORTED),
        ],
    );
    assert_eq!(outcome.await, Ok(Leftover::Aborted));

    // Another name, another certificate, another response, none.
    assert_eq!(leftover("3.0.11", &["/c/b.pem", "/c/a"], []).await, Ok(Leftover::Foreign));
    let outcome =
        leftover("3.0.11", &["/c/a.pem"], [("show ssl cert */c/a.pem", &renewed), ("show ssl cert /c/a.pem", &loaded)]);
    assert_eq!(outcome.await, Ok(Leftover::Foreign));
    for response in [theirs.as_str(), "\n", NOTHING_SHOWN] {
        let outcome = leftover(
            "3.0.11",
            &["/c/a.pem"],
            [
                ("show ssl cert */c/a.pem", &uncommitted),
                ("show ssl cert /c/a.pem", &loaded),
                ("show ssl cert */c/a.pem.ocsp", response),
            ],
        );
        assert_eq!(outcome.await, Ok(Leftover::Foreign), "{response}");
    }
    // In doubt it is asked again.
    let outcome = leftover("3.0.11", &["/c/a.pem"], [("show ssl cert */c/a.pem", LOCKED); 5]);
    assert_eq!(outcome.await, Err(HaproxyError::Locked));
}

#[tokio::test]
async fn old_haproxy_shows_less_of_a_leftover() {
    let (uncommitted, loaded) = (shown("*/c/a.pem", 'A'), shown("/c/a.pem", 'A'));
    let outcome = leftover(
        "2.2.9",
        &["/c/a.pem"],
        [
            ("show ssl cert */c/a.pem", &uncommitted),
            ("show ssl cert /c/a.pem", &loaded),
            ("abort ssl cert /c/a.pem", ABORTED),
        ],
    );
    assert_eq!(outcome.await, Ok(Leftover::Aborted));
    // A bundle: nothing is shown of it, neither before nor after.
    let views = [("show ssl cert */c/a.pem", NOTHING_SHOWN), ("show ssl cert /c/a.pem", NOTHING_SHOWN)];
    let [first, second] = views;
    let outcome = leftover("2.2.9", &["/c/a.pem.rsa"], [first, second, ("abort ssl cert /c/a.pem", ABORTED)]);
    assert_eq!(outcome.await, Ok(Leftover::Aborted));
    assert_eq!(leftover("2.4.30", &["/c/a.pem"], views).await, Ok(Leftover::Foreign));
}

#[test]
fn a_response_has_one_digest_in_both_forms() {
    let der = Held::from_base64(RESPONSE);
    let digest = der.response().unwrap().digest();
    assert!(digest.is_some());
    let text = Held::from_text(RESPONSE_TEXT);
    assert_eq!(text.response().unwrap().digest(), digest);
    // RSASSA-PSS prints its parameters first.
    let parameters = "ecdsa-with-SHA256\n    Hash Algorithm: sha256\n    Salt Length: 0x20";
    let text = Held::from_text(&RESPONSE_TEXT.replacen("ecdsa-with-SHA256", parameters, 1));
    assert_eq!(text.response().unwrap().digest(), digest);
}
