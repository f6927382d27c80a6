//! Words and numbers as they may stand on the page.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock::between;

/// In bytes of the page, of a name: more than a path that somebody types.
pub(super) const NAME: usize = 300;
/// In bytes of the page, of a sentence.
pub(super) const SENTENCE: usize = 700;

/// Text from outside: on one line, cut where it is longer than a person reads, and without letters that would act on the
/// page or turn the order of others around. The template escapes what means something in HTML; it counts as what it
/// becomes.
pub(super) fn outside(text: &str, most: usize) -> String {
    let mut shown = String::with_capacity(text.len().min(most));
    let mut left = most;
    for letter in text.chars() {
        let size = size(letter);
        if size > left {
            shown.push('…');
            break;
        }
        left -= size;
        if acts(letter) {
            shown.extend(letter.escape_unicode());
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// What a letter takes on the page.
fn size(letter: char) -> usize {
    match letter {
        '<' | '>' | '&' | '"' | '\'' => "&#60;".len(),
        _ if acts(letter) => letter.escape_unicode().len(),
        _ => letter.len_utf8(),
    }
}

/// Control characters, and those that nobody sees and that order, join or tag what stands around them. The joiners that
/// scripts are written with (U+200C, U+200D) stay.
fn acts(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(letter, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A number of things: `12,345`.
pub(super) fn count(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// So many of them: `1 certificate`, `3 certificates`.
pub(super) fn so_many(number: usize, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// A span of time in its largest two units, no number of which stands on another line than its unit.
pub(super) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let units = [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "min"), (seconds % 60, "s")];
    let largest: Vec<String> = units
        .iter()
        .skip_while(|(number, _)| *number == 0)
        .take(2)
        .filter(|(number, _)| *number > 0)
        .map(|(number, unit)| format!("{number}\u{a0}{unit}"))
        .collect();
    if largest.is_empty() { "0\u{a0}s".to_owned() } else { largest.join(" ") }
}

/// A point in time, for machines and twice for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Instant {
    /// RFC 3339.
    pub(super) machine: String,
    /// To the minute, in UTC.
    pub(super) absolute: String,
    /// As seen from now.
    pub(super) relative: String,
}

impl Instant {
    pub(super) fn new(at: Timestamp, now: Timestamp) -> Self {
        let relative = match (between(now, at), between(at, now)) {
            (Duration::ZERO, Duration::ZERO) => "now".to_owned(),
            (ahead, Duration::ZERO) => format!("in {}", span(ahead)),
            (_, ago) => format!("{} ago", span(ago)),
        };
        Self { machine: format!("{at:.0}"), absolute: at.strftime("%Y-%m-%d %H:%M").to_string(), relative }
    }

    /// To the second.
    pub(super) fn clock(&self) -> String {
        self.machine.replace('T', " ").trim_end_matches('Z').to_owned()
    }
}
