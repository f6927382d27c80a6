//! HAProxy's one transaction for everybody.

use std::sync::Arc;

use super::certificates::Store;
use super::response::Facts;
use super::{Deed, Inner, Speaker, Version};

pub(super) struct Transaction {
    pub(super) owner: Speaker,
    pub(super) name: String,
    pub(super) store: Store,
}

impl Inner {
    /// `set ssl cert NAME`, `NAME.ocsp`, `NAME.issuer`.
    pub(super) fn set(&mut self, speaker: Speaker, argument: &str, payload: &str) -> String {
        let version = self.version;
        let Some(process) = &mut self.process else { return String::new() };
        let (name, kind) = match argument.rsplit_once('.') {
            Some((name, kind @ ("ocsp" | "issuer"))) => (name, kind),
            _ => (argument, ""),
        };
        let other = process.transaction.as_ref().filter(|open| open.name != name);
        if let Some(open) = other.filter(|_| !version.mixes_transactions()) {
            return format!(
                "The ongoing transaction is about '{}' but you are trying to set '{name}'\nCan't update {argument}!\n\n",
                open.name
            );
        }
        let mut store = match (&process.transaction, process.names.get(name)) {
            (Some(open), _) => open.store.clone(),
            (None, Some(loaded)) => loaded.store.clone(),
            (None, None) => {
                return format!(
                    "Can't replace a certificate which is not referenced by the configuration!\nCan't update {argument}!\n\n"
                );
            }
        };
        match kind {
            "ocsp" => {
                let base64: String = payload.split_ascii_whitespace().collect();
                let Ok(der) = openssl::base64::decode_block(&base64) else {
                    return format!("Can't load the payload\nCan't update {argument}!\n\n");
                };
                store.ocsp = Some(der);
            }
            "issuer" => store.tell_issuer(payload.as_bytes()),
            _ => match Store::from_pem(payload.as_bytes()) {
                Some(new) => store = new,
                None => return format!("unable to load certificate\nCan't update {argument}!\n\n"),
            },
        }
        match &mut process.transaction {
            Some(open) => {
                open.store = store;
                self.deeds.push((speaker, Deed::Edited { name: open.name.clone(), owner: open.owner }));
                format!("Transaction updated for certificate {}!\n\n", open.name)
            }
            None => {
                process.transaction = Some(Transaction { owner: speaker, name: name.to_owned(), store });
                self.deeds.push((speaker, Deed::Opened { name: name.to_owned() }));
                format!("Transaction created for certificate {name}!\n\n")
            }
        }
    }

    /// `commit ssl cert NAME`.
    pub(super) fn commit(&mut self, speaker: Speaker, name: &str) -> String {
        let (version, now) = (self.version, self.clock.now().wall);
        let Some(process) = &mut self.process else { return String::new() };
        let Some(open) = process.transaction.take_if(|open| open.name == name) else {
            return match &process.transaction {
                Some(open) => format!(
                    "The ongoing transaction is about '{}' but you are trying to set '{name}'\nCan't commit {name}!\n\n",
                    open.name
                ),
                None => format!("No ongoing transaction! !\nCan't commit {name}!\n\n"),
            };
        };
        self.deeds.push((speaker, Deed::Committed { name: name.to_owned(), owner: open.owner }));
        if open.store.is_impossible() {
            // Only 2.2 keeps it.
            process.transaction = Some(open).filter(|_| version == Version::V2_2);
            return format!("Committing {name}.\nFailed!\n\n");
        }
        let before: Vec<(String, Option<Arc<[u8]>>)> = process
            .names
            .keys()
            .map(|name| (name.clone(), process.held(name).map(|facts| facts.der.clone())))
            .collect();
        let complaint = process.bring_in(name, open.store, now);
        self.writes += usize::from(process.held(name).is_some());
        for (each, before) in before {
            // Others may be stapled from the same entry.
            let after = process.held(&each).map(|facts| facts.der.clone());
            if let Some(after) = after.filter(|after| each == name || before.as_ref() != Some(after)) {
                self.deeds.push((speaker, Deed::Wrote { name: each, before, after }));
            }
        }
        match complaint.filter(|_| version >= Version::V2_8) {
            Some(reason) => format!("Committing {name}\nLoading: {reason} Content will be ignored.\n.\nSuccess!\n\n"),
            None => format!("Committing {name}.\nSuccess!\n\n"),
        }
    }

    /// `abort ssl cert NAME`.
    pub(super) fn abort(&mut self, speaker: Speaker, name: &str) -> String {
        let Some(process) = &mut self.process else { return String::new() };
        match process.transaction.take_if(|open| open.name == name) {
            Some(open) => {
                self.deeds.push((speaker, Deed::Aborted { name: name.to_owned(), owner: open.owner }));
                format!("Transaction aborted for certificate '{name}'!\n\n")
            }
            None => match &process.transaction {
                Some(open) => format!(
                    "The ongoing transaction is about '{}' but you are trying to abort a transaction for '{name}'\n\n",
                    open.name
                ),
                None => "No ongoing transaction!\n\n".to_owned(),
            },
        }
    }

    /// `set ssl ocsp-response`.
    pub(super) fn push(&mut self, speaker: Speaker, payload: &str) -> String {
        let now = self.clock.now().wall;
        let Some(process) = &mut self.process else { return String::new() };
        let base64: String = payload.split_ascii_whitespace().collect();
        let Ok(der) = openssl::base64::decode_block(&base64) else {
            return "'set ssl ocsp-response' received invalid base64 encoded response.\n\n".to_owned();
        };
        let facts = match Facts::load(&der, None, now) {
            Ok(facts) => facts,
            Err(reason) => return format!("{reason}\n\n"),
        };
        let names = process.stapled_from(&facts.cert_id);
        let Some(entry) = process.entries.get_mut(&facts.cert_id) else {
            return "OCSP single response: Certificate ID does not match any certificate or issuer.\n\n".to_owned();
        };
        let before = entry.response.replace(facts.into()).map(|facts| facts.der.clone());
        self.writes += 1;
        let after: Arc<[u8]> = der.into();
        let wrote = names.into_iter().map(|name| Deed::Wrote { name, before: before.clone(), after: after.clone() });
        self.deeds.extend(wrote.map(|deed| (speaker, deed)));
        "OCSP Response updated!\n\n".to_owned()
    }
}
