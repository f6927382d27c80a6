//! What it answers, in the words of its version.

use std::fmt::Write;

use super::certificates::{Store, hex};
use super::response::Facts;
use super::{Inner, Process, Speaker, Version};

const LOCKED: &str = "Operations on certificates are currently locked!";

impl Inner {
    /// Answers a request; none if no process runs.
    pub(super) fn answer(&mut self, speaker: Speaker, request: &str) -> Option<String> {
        self.process.as_ref()?;
        let (line, payload) = request.split_once('\n').unwrap_or((request, ""));
        let line = line.trim_end_matches(" <<");
        Some(line.split(';').map(|command| self.one(speaker, command, payload)).collect())
    }

    fn one(&mut self, speaker: Speaker, command: &str, payload: &str) -> String {
        if let Some(answer) = self.locked(command) {
            return answer;
        }
        let after = |words: &str| command.strip_prefix(words);
        if command == "set ssl ocsp-response" {
            return self.push(speaker, payload);
        } else if let Some(argument) = after("set ssl cert ") {
            return self.set(speaker, argument, payload);
        } else if let Some(name) = after("commit ssl cert ") {
            return self.commit(speaker, name);
        } else if let Some(name) = after("abort ssl cert ") {
            return self.abort(speaker, name);
        }
        let Some(process) = &self.process else { return String::new() };
        let version = self.version;
        match command {
            "show info" => self.info(process),
            "show cli level" => "admin\n\n".to_owned(),
            "show pools" => "  - Pool buffer (16384 bytes) : 3 allocated (49152 bytes)\n\n".to_owned(),
            "show ssl cert" => process.listing(),
            "show ssl ocsp-response" if version.lists_entries() => process.entries(version),
            "show ssl ocsp-updates" if version >= Version::V2_8 => {
                "OCSP Certid | Path | Next Update | Last Update | Successes | Failures | Last Update Status | Last Update \
                 Status (str)\n\n"
                    .to_owned()
            }
            _ => {
                if let Some(name) = after("show ssl cert ") {
                    process.certificate(name, version)
                } else if let Some(entry) = after("show ssl ocsp-response base64 ").filter(|_| version >= Version::V2_8) {
                    let base64 = |facts: &Facts| format!("{}\n", openssl::base64::encode_block(&facts.der));
                    process.response(entry, version, base64)
                } else if let Some(entry) = after("show ssl ocsp-response ").filter(|_| version.lists_entries()) {
                    process.response(entry, version, |facts| format!("{}\n", facts.text()))
                } else {
                    format!("Unknown command: '{command}', but maybe one of the following ones is a better match:\n\n")
                }
            }
        }
    }

    /// While it works on one certificate, it refuses every command about any.
    fn locked(&mut self, command: &str) -> Option<String> {
        let process = self.process.as_mut()?;
        let about = command.contains(" ssl cert");
        process.locked = process.locked.checked_sub(1).filter(|_| about)?;
        let refused = match command.split(' ').next() {
            Some("show") => "Can't show!",
            Some("commit") => "Can't commit the certificate!",
            Some("abort") => "Can't abort the certificate!",
            _ => "Can't update the certificate!",
        };
        Some(format!("{refused}\n{LOCKED}\n\n"))
    }

    fn info(&self, process: &Process) -> String {
        let uptime = self.clock.now().monotonic.since(process.started).as_secs();
        let start = match self.version {
            Version::V2_2 => String::new(),
            _ => format!("Start_time_sec: {}\n", process.start_time),
        };
        let (version, pid) = (self.version.text(), process.pid);
        format!("Name: HAProxy\nVersion: {version}\nPid: {pid}\nUptime_sec: {uptime}\nStopping: 0\n{start}\n")
    }
}

impl Process {
    fn listing(&self) -> String {
        let mut text = String::new();
        if let Some(open) = &self.transaction {
            writeln!(text, "# transaction\n*{}", open.name).expect("a string grows");
        }
        text.push_str("# filename\n");
        for name in self.names.keys() {
            writeln!(text, "{name}").expect("a string grows");
        }
        text + "\n"
    }

    fn certificate(&self, name: &str, version: Version) -> String {
        let uncommitted = |name: &str| self.transaction.as_ref().filter(|open| open.name == name);
        if let Some(response) = name.strip_prefix('*').and_then(|name| name.strip_suffix(".ocsp")) {
            let held = uncommitted(response).and_then(|open| open.store.ocsp.as_deref());
            let facts = held.and_then(|der| Facts::read(der).ok());
            return facts.map_or_else(|| "\n".to_owned(), |facts| format!("{}\n", facts.text()));
        }
        let (store, entry) = match name.strip_prefix('*') {
            Some(name) => (uncommitted(name).map(|open| &open.store), None),
            None => {
                let loaded = self.names.get(name);
                (loaded.map(|loaded| &loaded.store), loaded.and_then(|loaded| loaded.entry.as_ref()))
            }
        };
        let Some(store) = store else {
            return "Can't display the certificate: Not found or the certificate is a bundle!\n\n".to_owned();
        };
        Self::details(name, store, entry, version)
    }

    fn details(name: &str, store: &Store, entry: Option<&Vec<u8>>, version: Version) -> String {
        let mut text = format!("Filename: {name}\n");
        if version >= Version::V3_2 {
            write!(text, "Crt filename: {name}\nOCSP filename: {name}.ocsp\n").expect("a string grows");
        }
        write!(
            text,
            "Status: Used\nSerial: {}\nSHA1 FingerPrint: {}\n",
            store.leaf.serial_number(),
            store.leaf.fingerprint()
        )
        .expect("a string grows");
        if version.lists_entries() {
            let key = entry.map(|key| hex(key)).unwrap_or_default();
            writeln!(text, "OCSP Response Key: {key}").expect("a string grows");
        }
        text + "\n"
    }

    fn entries(&self, version: Version) -> String {
        let mut text = "# Certificate IDs\n".to_owned();
        for (key, entry) in &self.entries {
            writeln!(text, "Certificate ID key : {}", hex(key)).expect("a string grows");
            if version >= Version::V2_8 {
                let path = self.stapled_from(key).into_iter().next().unwrap_or_default();
                writeln!(text, "Certificate path : {path}").expect("a string grows");
            }
            write!(
                text,
                " Certificate ID:\n   Issuer Name Hash: {}\n   Issuer Key Hash: {}\n   Serial Number: {}\n\n",
                hex(entry.id.issuer_name_hash.as_bytes()),
                hex(entry.id.issuer_key_hash.as_bytes()),
                hex(entry.id.serial_number.as_bytes()),
            )
            .expect("a string grows");
        }
        text + "\n"
    }

    /// What an entry holds, by its key or, from 2.8 on, by the name of a certificate that is stapled from it.
    fn response(&self, entry: &str, version: Version, show: impl Fn(&Facts) -> String) -> String {
        let by_name = self.names.get(entry).filter(|_| version >= Version::V2_8);
        let found = match by_name {
            Some(name) => name.entry.as_ref().and_then(|key| self.entries.get(key)),
            None => self.entries.iter().find(|(key, _)| hex(key) == entry).map(|(_, entry)| entry),
        };
        match (found, by_name) {
            (Some(entry), _) => entry.response.as_ref().map_or_else(|| "\n".to_owned(), |facts| show(facts)),
            (None, Some(_)) => "'show ssl ocsp-response' expects a valid certid or certificate path.\n\n".to_owned(),
            (None, None) if version >= Version::V2_8 => {
                "Certificate ID or path does not match any certificate.\n\n".to_owned()
            }
            (None, None) => "Certificate ID does not match any certificate.\n\n".to_owned(),
        }
    }
}
