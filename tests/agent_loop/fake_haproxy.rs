//! A HAProxy 2.8 as far as the agent talks to it: it answers commands, knows entries, and can be reloaded.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex};

use haproxy_stapler::certificate::Certificate;
use haproxy_stapler::haproxy::{Address, Command, RuntimeApi, SocketError};
use haproxy_stapler::ocsp::CertId;

/// Cloned handles talk to the same HAProxy.
#[derive(Clone)]
pub(crate) struct FakeHaproxy(Arc<Mutex<Inner>>);

struct Inner {
    up: bool,
    pid: u32,
    loaded: BTreeMap<String, Loaded>,
    transaction: Option<(String, Vec<u8>)>,
    writes: usize,
}

#[derive(Clone)]
struct Loaded {
    certificate: Certificate,
    id: CertId,
    /// The entry and what it holds; none until stapling is switched on.
    entry: Option<Vec<u8>>,
}

impl FakeHaproxy {
    pub(crate) fn new() -> Self {
        let inner = Inner { up: true, pid: 100, loaded: BTreeMap::new(), transaction: None, writes: 0 };
        Self(Arc::new(Mutex::new(inner)))
    }

    /// Loads a certificate without a `.ocsp` file.
    pub(crate) fn load(&self, name: &str, certificate: &Certificate, issuer: &Certificate) {
        let id = CertId::new(certificate, issuer).unwrap();
        let loaded = Loaded { certificate: certificate.clone(), id, entry: None };
        self.0.lock().unwrap().loaded.insert(name.to_owned(), loaded);
    }

    /// A new process that has forgotten everything it was told.
    pub(crate) fn reload(&self) {
        let mut inner = self.0.lock().unwrap();
        inner.pid += 1;
        inner.transaction = None;
        inner.loaded.values_mut().for_each(|loaded| loaded.entry = None);
    }

    /// Somebody else opens a transaction on a certificate, or ends it.
    pub(crate) fn set_foreign_transaction(&self, name: Option<&str>) {
        self.0.lock().unwrap().transaction = name.map(|name| (name.to_owned(), Vec::new()));
    }

    pub(crate) fn set_up(&self, up: bool) {
        self.0.lock().unwrap().up = up;
    }

    /// What it would staple.
    pub(crate) fn staple(&self, name: &str) -> Option<Vec<u8>> {
        self.0.lock().unwrap().loaded[name].entry.clone()
    }

    /// How many commands changed something.
    pub(crate) fn writes(&self) -> usize {
        self.0.lock().unwrap().writes
    }
}

impl RuntimeApi for FakeHaproxy {
    async fn exchange(&self, command: &Command) -> Result<String, SocketError> {
        let mut inner = self.0.lock().unwrap();
        if inner.up {
            Ok(inner.answer(&command.encode("")))
        } else {
            let address: Address = "/fake.sock".parse().unwrap();
            Err(SocketError::NotFound { address })
        }
    }
}

impl Inner {
    fn answer(&mut self, text: &str) -> String {
        let (line, payload) = text.split_once('\n').unwrap();
        let payload: String = payload.split_ascii_whitespace().collect();
        let line = line.trim_end_matches(" <<");
        if line.starts_with("show ssl cert ") {
            return line.split(';').map(|part| self.details(part.trim_start_matches("show ssl cert "))).collect();
        }
        let decoded = || openssl::base64::decode_block(&payload).unwrap();
        match line {
            "show info" => format!("Version: 2.8.99\nPid: {}\nUptime_sec: 1\nStopping: 0\n\n", self.pid),
            "show cli level" => "admin\n\n".to_owned(),
            "show ssl cert" => {
                let names: String = self.loaded.keys().fold(String::new(), |all, name| format!("{all}{name}\n"));
                match &self.transaction {
                    Some((name, _)) => format!("# transaction\n*{name}\n# filename\n{names}\n"),
                    None => format!("# filename\n{names}\n"),
                }
            }
            "show ssl ocsp-response" => self.entries(),
            "show ssl ocsp-updates" => "OCSP Certid | Path | Next Update | Last Update\n\n".to_owned(),
            "set ssl ocsp-response" => self.push(decoded()),
            _ => {
                if let Some(key) = line.strip_prefix("show ssl ocsp-response base64 ") {
                    let held = self.loaded.values().find(|loaded| hex(loaded.id.der()) == key);
                    let held = held.and_then(|loaded| loaded.entry.clone());
                    return held.map_or_else(
                        || "Certificate ID or path does not match any certificate.\n".to_owned(),
                        |der| format!("{}\n", openssl::base64::encode_block(&der)),
                    );
                }
                if let Some(name) = line.strip_prefix("set ssl cert ") {
                    let name = name.trim_end_matches(".ocsp").to_owned();
                    assert_eq!(self.transaction, None, "somebody else has a transaction open");
                    let reply = format!("Transaction created for certificate {name}!\n\n");
                    self.transaction = Some((name, decoded()));
                    return reply;
                }
                if let Some(name) = line.strip_prefix("commit ssl cert ") {
                    let (about, der) = self.transaction.take().unwrap();
                    assert_eq!(about, name);
                    self.writes += 1;
                    self.loaded.get_mut(name).unwrap().entry = Some(der);
                    return format!("Committing {name}.\nSuccess!\n\n");
                }
                panic!("nobody said that the agent would say '{line}'")
            }
        }
    }

    fn details(&self, name: &str) -> String {
        let loaded = &self.loaded[name];
        let key = loaded.entry.as_ref().map(|_| hex(loaded.id.der())).unwrap_or_default();
        let certificate = &loaded.certificate;
        format!(
            "Filename: {name}\nStatus: Used\nSerial: {}\nSHA1 FingerPrint: {}\nOCSP Response Key: {key}\n\n",
            certificate.serial_number(),
            certificate.fingerprint(),
        )
    }

    fn entries(&self) -> String {
        let mut text = "# Certificate IDs\n".to_owned();
        for (name, loaded) in self.loaded.iter().filter(|(_, loaded)| loaded.entry.is_some()) {
            let id = &loaded.id;
            write!(
                text,
                "Certificate ID key : {}\nCertificate path : {name}\n Certificate ID:\n   Issuer Name Hash: {}\n   \
                 Issuer Key Hash: {}\n   Serial Number: {}\n\n",
                hex(id.der()),
                hex(id.issuer_name_hash()),
                hex(id.issuer_key_hash()),
                id.serial_number(),
            )
            .unwrap();
        }
        text
    }

    fn push(&mut self, der: Vec<u8>) -> String {
        let place = self.loaded.values_mut().find(|loaded| contains(&der, loaded.id.der()));
        match place.and_then(|loaded| loaded.entry.as_mut()) {
            Some(entry) => {
                *entry = der;
                self.writes += 1;
                "OCSP Response updated!\n\n".to_owned()
            }
            None => "OCSP single response: Certificate ID does not match any certificate or issuer.\n\n".to_owned(),
        }
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}
