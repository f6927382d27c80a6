//! One command of HAProxy's Runtime API as bytes. Pure: nothing here connects to anything.

use std::fmt;

use super::inventory::EntryName;

/// Base64 characters a line. Every HAProxy takes such lines; HAProxy 3.4 hangs on one very long line, and shorter ones
/// waste bytes of `tune.bufsize` on line ends.
const LINE: usize = 1024;
/// Bytes of pipelined commands on one connection: half of the default `tune.bufsize`.
const PIPELINE: usize = 8_000;

/// `tune.bufsize`, unless somebody set it.
pub const DEFAULT_BUFFER: usize = 16_384;
/// The largest `.ocsp` file, in bytes, that HAProxy reads at its start with the default `tune.bufsize`.
pub const FILE_LIMIT: usize = DEFAULT_BUFFER;
/// What HAProxy needs of a buffer beside a response: its reserve, the command, the line ends.
const RESERVE: usize = 384;

/// The largest response, in bytes of DER, that a HAProxy with buffers of this size takes and shows again, for a
/// certificate of this name. Until 3.3 a command and its base64 must fit one buffer less its reserve; 3.4 takes more, but
/// shows nothing of a response whose base64 does not fit.
#[must_use]
pub const fn response_limit(name: &str, buffer: usize) -> usize {
    // A name may be escaped, and stands beside four base64 characters for every three bytes.
    (buffer.saturating_sub(RESERVE) / 4 * 3).saturating_sub(2 * name.len())
}

/// A request: one line of commands joined by `;`, and the payload of the last one.
///
/// The lines end with LF alone: HAProxy 3.0 and later wait for ever for the end of a payload with CRLF.
#[derive(Clone, PartialEq, Eq)]
pub struct Command {
    parts: Vec<String>,
    payload: Option<String>,
}

/// In which form HAProxy shows a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The response itself; since 2.8.
    Base64,
    /// What OpenSSL prints of it; since 2.5.
    Text,
}

impl Command {
    /// The bytes to send; `prefix` goes before every command (`@1 ` for a master socket).
    #[must_use]
    pub fn encode(&self, prefix: &str) -> String {
        let line = self.parts.iter().map(|part| format!("{prefix}{part}")).collect::<Vec<_>>().join(";");
        match &self.payload {
            // The payload ends with an empty line.
            Some(payload) => format!("{line} <<\n{}\n\n", payload.trim_end()),
            None => format!("{line}\n"),
        }
    }

    /// `show info`.
    #[must_use]
    pub fn show_info() -> Self {
        Self::line("show info")
    }

    /// `show cli level`.
    #[must_use]
    pub fn show_cli_level() -> Self {
        Self::line("show cli level")
    }

    /// `show pools`: what memory is used for, and so the size of a buffer.
    #[must_use]
    pub fn show_pools() -> Self {
        Self::line("show pools")
    }

    /// `show ssl cert`: the open transaction and all names.
    #[must_use]
    pub fn show_certificates() -> Self {
        Self::line("show ssl cert")
    }

    /// `show ssl cert NAME` for every name, in as few requests as fit. Names that cannot be sent are left out.
    #[must_use]
    pub fn show_certificate_details<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<Self> {
        // A leading asterisk would ask for the open transaction.
        let names = names.into_iter().filter(|name| !name.starts_with('*')).filter_map(|name| escape(name).ok());
        Self::pipelines(names.map(|name| format!("show ssl cert {name}")))
    }

    /// `show ssl cert *NAME`: the certificate as the open transaction would have it.
    ///
    /// # Errors
    /// When the name cannot be sent.
    pub fn show_uncommitted(name: &str) -> Result<Self, Unsendable> {
        Ok(Self::line(&format!("show ssl cert *{}", escape(name)?)))
    }

    /// `show ssl cert *NAME.ocsp`: the response in the open transaction, as OpenSSL prints it. Since 2.5.
    ///
    /// # Errors
    /// When the name cannot be sent.
    pub fn show_uncommitted_response(name: &str) -> Result<Self, Unsendable> {
        Ok(Self::line(&format!("show ssl cert *{}.ocsp", escape(name)?)))
    }

    /// `show ssl ocsp-response`: the keys of all entries. Since 2.5.
    #[must_use]
    pub fn show_entries() -> Self {
        Self::line("show ssl ocsp-response")
    }

    /// `show ssl ocsp-response base64 ENTRY`: the response itself. Since 2.8.
    ///
    /// # Errors
    /// When the name cannot be sent.
    pub fn show_response(entry: &EntryName) -> Result<Self, Unsendable> {
        Ok(Self::line(&format!("show ssl ocsp-response base64 {}", word(entry)?)))
    }

    /// `show ssl ocsp-response ENTRY`: the response as OpenSSL prints it. Since 2.5.
    ///
    /// # Errors
    /// When the name cannot be sent.
    pub fn show_response_text(entry: &EntryName) -> Result<Self, Unsendable> {
        Ok(Self::line(&format!("show ssl ocsp-response {}", word(entry)?)))
    }

    /// One of the two above for every entry, in as few requests as fit. Names that cannot be sent are left out.
    #[must_use]
    pub fn show_responses<'a>(entries: impl IntoIterator<Item = &'a EntryName>, form: Form) -> Vec<Self> {
        let kind = match form {
            Form::Base64 => "base64 ",
            Form::Text => "",
        };
        let words = entries.into_iter().filter_map(|entry| word(entry).ok());
        Self::pipelines(words.map(|word| format!("show ssl ocsp-response {kind}{word}")))
    }

    /// `show ssl ocsp-updates`: what HAProxy updates by itself. Since 2.8.
    #[must_use]
    pub fn show_native_updates() -> Self {
        Self::line("show ssl ocsp-updates")
    }

    /// `set ssl ocsp-response`.
    #[must_use]
    pub fn set_response(der: &[u8]) -> Self {
        Self { parts: vec!["set ssl ocsp-response".to_owned()], payload: Some(base64_lines(der, LINE)) }
    }

    /// `set ssl cert NAME.ocsp`: puts a response into a transaction on the certificate.
    ///
    /// # Errors
    /// When the name cannot be sent.
    pub fn set_certificate_response(name: &str, der: &[u8]) -> Result<Self, Unsendable> {
        Ok(Self { parts: vec![format!("set ssl cert {}.ocsp", escape(name)?)], payload: Some(base64_lines(der, LINE)) })
    }

    /// `set ssl cert NAME.issuer`: puts the issuer's certificate into a transaction on the certificate.
    ///
    /// # Errors
    /// When the name cannot be sent.
    pub fn set_certificate_issuer(name: &str, der: &[u8]) -> Result<Self, Unsendable> {
        let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----", base64_lines(der, 64));
        Ok(Self { parts: vec![format!("set ssl cert {}.issuer", escape(name)?)], payload: Some(pem) })
    }

    /// `commit ssl cert NAME`.
    ///
    /// # Errors
    /// When the name cannot be sent.
    pub fn commit(name: &str) -> Result<Self, Unsendable> {
        Ok(Self::line(&format!("commit ssl cert {}", escape(name)?)))
    }

    /// `abort ssl cert NAME`.
    ///
    /// # Errors
    /// When the name cannot be sent.
    pub fn abort(name: &str) -> Result<Self, Unsendable> {
        Ok(Self::line(&format!("abort ssl cert {}", escape(name)?)))
    }

    /// `abort ssl cert /`: no certificate is the root directory, so there is nothing to abort, and the refusal tells
    /// whether a transaction is open.
    #[must_use]
    pub fn ask_for_transaction() -> Self {
        Self::line("abort ssl cert /")
    }

    /// Whether it is the question that comes right before a transaction is opened, if none is.
    #[must_use]
    pub fn asks_for_transaction(&self) -> bool {
        *self == Self::ask_for_transaction()
    }

    /// Whether the answer to that question is that none is open.
    #[must_use]
    pub fn is_answered_by_none(&self, reply: &str) -> bool {
        self.asks_for_transaction() && reply.trim() == "No ongoing transaction!"
    }

    /// Whether it commits a transaction.
    #[must_use]
    pub fn is_commit(&self) -> bool {
        self.starts_with("commit ssl cert ")
    }

    /// This one, which has no payload, and `next` in one request; none if they would not fit.
    pub(super) fn then(&self, next: &Self) -> Option<Self> {
        let line: usize = self.parts.iter().chain(&next.parts).map(|part| cost(part)).sum();
        let payload = next.payload.as_ref().map_or(0, String::len);
        (self.payload.is_none() && line + payload <= PIPELINE).then(|| Self {
            parts: self.parts.iter().chain(&next.parts).cloned().collect(),
            payload: next.payload.clone(),
        })
    }

    fn starts_with(&self, words: &str) -> bool {
        self.parts.first().is_some_and(|part| part.starts_with(words))
    }

    /// These commands, in as few requests as fit.
    fn pipelines(parts: impl IntoIterator<Item = String>) -> Vec<Self> {
        let mut requests: Vec<Self> = Vec::new();
        let mut length = PIPELINE;
        for part in parts {
            let cost = cost(&part);
            length += cost;
            match requests.last_mut() {
                Some(request) if length <= PIPELINE => request.parts.push(part),
                _ => {
                    length = cost;
                    requests.push(Self { parts: vec![part], payload: None });
                }
            }
        }
        requests
    }

    fn line(text: &str) -> Self {
        Self { parts: vec![text.to_owned()], payload: None }
    }
}

/// What a command takes of its line, with a master's prefix.
const fn cost(part: &str) -> usize {
    part.len() + "@1 ;".len()
}

/// The first command, without the payload: for messages.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.parts.first().map_or("", String::as_str);
        let (few, more) = first.char_indices().nth(120).map_or((first, ""), |(at, _)| (first.split_at(at).0, "…"));
        write!(f, "{few}{more}")?;
        match self.parts.len() {
            0 | 1 => Ok(()),
            parts => write!(f, " (and {} more)", parts - 1),
        }
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A name that no quoting brings through HAProxy's command line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name {0:?} holds characters that HAProxy's command line cannot take; rename the file")]
pub struct Unsendable(pub String);

fn word(entry: &EntryName) -> Result<String, Unsendable> {
    match entry {
        // Opaque, and hexadecimal all the same: anything else would be more than a word.
        EntryName::Key(key) if !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_hexdigit()) => Ok(key.clone()),
        EntryName::Key(key) => Err(Unsendable(key.clone())),
        EntryName::Certificate(name) => escape(name),
    }
}

/// Quotes a name for the command line: words end at spaces, commands at `;`, and `<<` starts a payload. HAProxy drops
/// one backslash before any character.
pub(super) fn escape(name: &str) -> Result<String, Unsendable> {
    // A name that was not UTF-8 came with replacement characters: the real one is lost.
    if name.is_empty() || name.chars().any(|c| c.is_control() || c == char::REPLACEMENT_CHARACTER) {
        return Err(Unsendable(name.to_owned()));
    }
    let mut escaped = String::with_capacity(name.len());
    for c in name.chars() {
        if matches!(c, '\\' | ' ' | ';' | '<' | '#' | '"' | '\'') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    Ok(escaped)
}

fn base64_lines(bytes: &[u8], width: usize) -> String {
    // base64 is ASCII: every byte is a character.
    let text = openssl::base64::encode_block(bytes);
    let mut lines = String::with_capacity(text.len() + text.len() / width + 1);
    let mut left = text.as_str();
    while let Some((line, rest)) = left.split_at_checked(width).filter(|(_, rest)| !rest.is_empty()) {
        lines.push_str(line);
        lines.push('\n');
        left = rest;
    }
    lines.push_str(left);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_wrapped_and_ends_with_an_empty_line() {
        let command = Command::set_response(&[0; 1000]);
        let sent = command.encode("");
        assert!(sent.starts_with("set ssl ocsp-response <<\nAAAA"));
        assert!(sent.ends_with("==\n\n"));
        assert_eq!(sent.lines().map(str::len).collect::<Vec<_>>(), [24, 1024, 312, 0]);
        assert!(!sent.contains('\r'));
        assert!(command.encode("@1 ").starts_with("@1 set ssl ocsp-response <<\n"));
    }

    #[test]
    fn an_issuer_goes_out_as_pem() {
        let sent = Command::set_certificate_issuer("a.pem", &[7; 60]).unwrap().encode("");
        assert!(sent.starts_with("set ssl cert a.pem.issuer <<\n-----BEGIN CERTIFICATE-----\nBwcH"));
        assert!(sent.ends_with("\n-----END CERTIFICATE-----\n\n"));
        assert!(sent.lines().all(|line| line.len() <= 64));
    }

    #[test]
    fn names_are_quoted_or_refused() {
        assert_eq!(Command::commit(r"/c/s p;c\x.pem").unwrap().encode(""), "commit ssl cert /c/s\\ p\\;c\\\\x.pem\n");
        assert_eq!(Command::abort("/c/x<<y").unwrap().encode("@1 "), "@1 abort ssl cert /c/x\\<\\<y\n");
        for bad in ["", "a\nb", "a\rb", "a\0b", "a\tb", "a\u{fffd}b"] {
            assert_eq!(Command::commit(bad), Err(Unsendable(bad.to_owned())));
            assert_eq!(Command::set_certificate_response(bad, b""), Err(Unsendable(bad.to_owned())));
        }
    }

    #[test]
    fn details_are_asked_for_in_requests_that_fit() {
        let names: Vec<String> = (0..1000).map(|n| format!("/etc/haproxy/certs/site-{n:04}.pem")).collect();
        let requests = Command::show_certificate_details(names.iter().map(String::as_str));
        assert!(requests.len() > 2);
        let sent: Vec<String> = requests.iter().map(|request| request.encode("@1 ")).collect();
        assert!(sent.iter().all(|line| line.len() <= PIPELINE && line.matches('\n').count() == 1));
        assert_eq!(sent.iter().map(|line| line.matches("@1 show ssl cert ").count()).sum::<usize>(), 1000);
        assert!(Command::show_certificate_details(["a\nb", "*a"]).is_empty());
        let long = "x".repeat(2 * PIPELINE);
        assert_eq!(Command::show_certificate_details([long.as_str(), "b"]).len(), 2);
    }

    #[test]
    fn messages_show_no_payload() {
        assert_eq!(Command::set_response(&[1, 2, 3]).to_string(), "set ssl ocsp-response");
        assert_eq!(Command::show_certificate_details(["a", "b"])[0].to_string(), "show ssl cert a (and 1 more)");
    }
}
