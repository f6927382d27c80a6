//! crt-lists: HAProxy's files that name certificates, one a line, with options and SNI filters.
//!
//! `certificate [options] [!]filter...`, split at white space and brackets. There is no quoting and no escaping: a
//! quote or a backslash is part of a name, as trying it on HAProxy 2.2 to 3.4 shows. Only the certificates matter here.

/// One line that names a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The certificate as written: a path, perhaps relative, or the name of one in a crt-store (`@store/alias`).
    pub certificate: String,
    /// Where it stands, from 1.
    pub line_number: usize,
}

/// What a crt-list says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CrtList {
    /// The certificates, in the file's order; one may be named several times.
    pub entries: Vec<Entry>,
    /// Lines for which HAProxy would refuse the whole list at its next start.
    pub refusals: Vec<Refusal>,
}

/// A line that HAProxy does not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line_number}: {reason}, so HAProxy will refuse this crt-list at its next start")]
pub struct Refusal {
    /// Where it stands, from 1.
    pub line_number: usize,
    /// Why.
    pub reason: &'static str,
}

impl CrtList {
    /// Reads a crt-list. A line that HAProxy would refuse costs that line only: the certificates of the others are
    /// being served and want their staples.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut list = Self::default();
        let mut number = 0;
        for (line, line_number) in text.split_inclusive('\n').zip(1..) {
            number = line_number;
            // Only the first column makes a comment; an indented `#` is a certificate of that name.
            if line.starts_with('#') {
                continue;
            }
            let line = line.trim_matches(is_space);
            if line.is_empty() {
                continue;
            }
            let certificate = line.split(|letter| is_space(letter) || is_bracket(letter)).next().unwrap_or_default();
            if let Some(reason) = refusal(line) {
                list.refusals.push(Refusal { line_number, reason });
            }
            if !certificate.is_empty() {
                list.entries.push(Entry { certificate: certificate.to_owned(), line_number });
            }
        }
        if !text.is_empty() && !text.ends_with('\n') {
            // Fatal since 2.4: the file may have been cut off.
            list.refusals.push(Refusal { line_number: number, reason: "the last line does not end in a line feed" });
        }
        list
    }
}

fn refusal(line: &str) -> Option<&'static str> {
    let brackets: String = line.chars().filter(|letter| is_bracket(*letter)).collect();
    if line.starts_with(is_bracket) {
        return Some("it does not start with a certificate");
    }
    // An option list that is never closed passes: it is not read at all.
    match brackets.as_str() {
        "" | "[" | "[]" => None,
        brackets if brackets.starts_with(']') => Some("']' comes before '['"),
        _ => Some("there is more than one pair of brackets"),
    }
}

/// C's `isspace`.
fn is_space(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

fn is_bracket(letter: char) -> bool {
    matches!(letter, '[' | ']')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(text: &str) -> Vec<(String, usize)> {
        CrtList::parse(text).entries.into_iter().map(|entry| (entry.certificate, entry.line_number)).collect()
    }

    fn refusals(text: &str) -> Vec<(usize, &'static str)> {
        CrtList::parse(text).refusals.into_iter().map(|refusal| (refusal.line_number, refusal.reason)).collect()
    }

    #[test]
    fn names_are_found_among_options_filters_and_comments() {
        let text = "# a comment\n\
                    a.pem\n\
                    \n\
                    \t b.pem [alpn h2 ssl-min-ver TLSv1.2] example.com !www.example.com *.example.org  \r\n\
                    /etc/haproxy/c.pem[verify optional]d.example\n\
                    @web/site [ocsp-update on]\r\n\
                    a.pem *.example.net # not a comment but filters\n\
                    \t\r\n";
        let expected = [("a.pem", 2), ("b.pem", 4), ("/etc/haproxy/c.pem", 5), ("@web/site", 6), ("a.pem", 7)];
        assert_eq!(names(text), expected.map(|(name, line)| (name.to_owned(), line)));
        assert_eq!(refusals(text), []);
    }

    #[test]
    fn quotes_and_backslashes_are_part_of_a_name() {
        assert_eq!(names("\"a b.pem\"\n"), [("\"a".to_owned(), 1)]);
        assert_eq!(names("a\\ b.pem\n"), [("a\\".to_owned(), 1)]);
        assert_eq!(names(" # x\n"), [("#".to_owned(), 1)]);
        // White space is C's, not Unicode's.
        assert_eq!(names(" \u{a0}a.pem\n"), [("\u{a0}a.pem".to_owned(), 1)]);
    }

    #[test]
    fn what_haproxy_refuses_is_told_and_costs_no_other_line() {
        let text = "[alpn h2] a.pem\nb.pem ]\nc.pem [a] [b]\nd.pem [alpn h2\ne.pem";
        assert_eq!(
            refusals(text),
            [
                (1, "it does not start with a certificate"),
                (2, "']' comes before '['"),
                (3, "there is more than one pair of brackets"),
                (5, "the last line does not end in a line feed"),
            ]
        );
        let expected = [("b.pem", 2), ("c.pem", 3), ("d.pem", 4), ("e.pem", 5)];
        assert_eq!(names(text), expected.map(|(name, line)| (name.to_owned(), line)));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(?s).{0,200}") {
            let list = CrtList::parse(&text);
            for entry in list.entries {
                prop_assert!(!entry.certificate.is_empty());
                prop_assert!(!entry.certificate.contains([' ', '[', ']', '\n']));
                let line = text.split('\n').nth(entry.line_number - 1).unwrap();
                prop_assert!(line.contains(&entry.certificate));
            }
        }
    }
}
