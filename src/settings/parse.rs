//! Single values. An error is the sentence that follows the quoted value.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use jiff::fmt::friendly::SpanParser;

/// What a duration may be, and why not more or less.
pub(super) struct Bounds {
    at_least: Limit,
    at_most: Limit,
    example: &'static str,
}

struct Limit {
    duration: Duration,
    text: &'static str,
    reason: &'static str,
}

/// Staples are refreshed at half of their life whatever the timer says, so a long one only means fewer second looks.
pub(super) const REFRESH_INTERVAL: Bounds = Bounds {
    at_least: Limit {
        duration: Duration::from_secs(1),
        text: "1s",
        reason: "a CA would be asked without pause by a timer that never rests",
    },
    at_most: Limit { duration: Duration::from_secs(8760 * 3600), text: "8760h", reason: "a year is no timer any more" },
    example: "1h",
};

pub(super) const SCAN_INTERVAL: Bounds = Bounds {
    at_least: Limit {
        duration: Duration::from_secs(1),
        text: "1s",
        reason: "every look costs two stat calls a certificate and one command a HAProxy",
    },
    at_most: Limit {
        duration: Duration::from_secs(3600),
        text: "1h",
        reason: "a renewed certificate stays unstapled until the next look",
    },
    example: "10s",
};

pub(super) const TIMEOUT: Bounds = Bounds {
    at_least: Limit {
        duration: Duration::from_millis(100),
        text: "100ms",
        reason: "a connection to another continent takes longer",
    },
    at_most: Limit {
        duration: Duration::from_secs(300),
        text: "5m",
        reason: "a hung responder holds one of the fetches in flight for all that time",
    },
    example: "10s",
};

/// A positive duration with a unit, within `bounds`.
pub(super) fn duration(text: &str, bounds: &Bounds) -> Result<Duration, String> {
    let example = bounds.example;
    if !text.contains(|letter: char| letter.is_ascii_alphabetic()) {
        return Err(format!("a duration carries its unit, for example '{example}'"));
    }
    if text.starts_with('-') || text.ends_with("ago") {
        return Err(format!("a duration is longer than zero, for example '{example}'"));
    }
    let duration = SpanParser::new().parse_unsigned_duration(text).map_err(|_| {
        format!("expected a duration of hours (h), minutes (m), seconds (s) or ms, for example '{example}' or '1h30m'")
    })?;
    if duration.is_zero() {
        return Err(format!("a duration is longer than zero, for example '{example}'"));
    }
    if duration < bounds.at_least.duration {
        return Err(format!("it must be at least {}: {}", bounds.at_least.text, bounds.at_least.reason));
    }
    if duration > bounds.at_most.duration {
        return Err(format!("it must be at most {}: {}", bounds.at_most.text, bounds.at_most.reason));
    }
    Ok(duration)
}

/// Each fetch is an open socket, and 1024 open files is the customary limit of a process.
const MOST_FETCHES: usize = 1024;

/// How many fetches may be in flight.
pub(super) fn concurrency(text: &str) -> Result<NonZeroUsize, String> {
    text.parse()
        .ok()
        .filter(|fetches: &NonZeroUsize| fetches.get() <= MOST_FETCHES)
        .ok_or_else(|| format!("expected a number from 1 to {MOST_FETCHES}: each fetch is an open socket"))
}

/// A numeric address; a name would have to be resolved.
pub(super) fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "expected ADDRESS:PORT with a numeric address, for example '0.0.0.0:10093' or '[::]:10093'".into())
}

/// A log filter of levels and TARGET=LEVEL. The subscriber would take a word that is no level for a target, and a
/// misspelt level would silence everything.
pub(super) fn log(text: &str) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_level = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
    match text.split(',').map(str::trim).find(|part| !part.contains('=') && !is_level(part)) {
        Some(part) => Err(format!(
            "'{part}' is no level; expected error, warn, info, debug, trace or off, or a filter like 'info,hyper=warn'"
        )),
        None => Ok(text.to_owned()),
    }
}

/// One of a few words.
pub(super) fn choice<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    words.iter().find(|(word, _)| text.eq_ignore_ascii_case(word)).map(|(_, choice)| *choice).ok_or_else(|| {
        let words: Vec<String> = words.iter().map(|(word, _)| format!("'{word}'")).collect();
        format!("expected {}", words.join(" or "))
    })
}

/// A value fit to be shown: what stands between a user's name and the `@` of a URL is hidden. Rather too much than too
/// little, because a password may hold any character.
pub(super) fn without_password(text: &str) -> String {
    let start = text.find("://").map_or(0, |at| at + 3);
    let (scheme, rest) = text.split_at(start);
    let Some((user_info, host)) = rest.rsplit_once('@') else { return text.to_owned() };
    match user_info.split_once(':') {
        Some((user, _)) => format!("{scheme}{user}:***@{host}"),
        None => text.to_owned(),
    }
}
