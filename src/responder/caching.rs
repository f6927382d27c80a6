//! What a reply says about keeping it (RFC 9111), as far as it concerns somebody who has the last one in hand. Pure.
//!
//! Nothing here is believed about what the bytes are worth: it only says when asking again is likely to bring news.

use std::time::Duration;

use jiff::fmt::rfc2822;

use crate::clock::between;

/// In bytes; CAs send forty or so.
const LONGEST_TAG: usize = 256;
/// What is longer, like a number that does not fit, counts as this. Far above every use of it.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

/// An entity tag, as it came: strong or weak (RFC 9110 section 8.8.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityTag(String);

impl EntityTag {
    /// Reads one; nothing if it is none, or too long to be sent back.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let opaque = text.strip_prefix("W/").unwrap_or(text);
        let inside = opaque.strip_prefix('"')?.strip_suffix('"')?;
        let is_tag = inside.bytes().all(|byte| matches!(byte, b'!' | b'#'..=b'~'));
        (is_tag && text.len() <= LONGEST_TAG).then(|| Self(text.to_owned()))
    }

    /// As it came, and goes back.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The tag of the response in hand, and the URL whose answer it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validator {
    /// The whole URL of the GET; a tag says nothing about any other.
    pub url: String,
    /// The tag.
    pub tag: EntityTag,
}

/// What a reply says about keeping it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caching {
    /// Its tag.
    pub tag: Option<EntityTag>,
    /// How long it was to be kept when it was made; none if it does not say.
    lifetime: Option<Duration>,
    /// How long it was on its way, in caches mostly.
    age: Duration,
}

impl Caching {
    /// Reads it from a reply's header fields.
    #[must_use]
    pub fn read(field: impl Fn(&str) -> Vec<String>) -> Self {
        let first = |name| field(name).into_iter().next();
        let control = field("cache-control").join(",");
        let lifetime = match max_age(&control) {
            Said::Seconds(lifetime) => Some(lifetime),
            Said::NotToBeKept => None,
            Said::Nothing => first("expires").and_then(|expires| lifetime(&expires, first("date").as_deref())),
        };
        let age = first("age").and_then(|age| seconds(&age)).unwrap_or_default();
        Self { tag: first("etag").and_then(|tag| EntityTag::parse(tag.trim())), lifetime, age }
    }

    /// How much longer it is said to be fresh; none if nothing is said about it.
    #[must_use]
    pub fn fresh_for(&self) -> Option<Duration> {
        self.lifetime.map(|lifetime| lifetime.saturating_sub(self.age))
    }

    /// Whether a cache kept it longer than it was to be kept.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.lifetime.is_some_and(|lifetime| self.age > lifetime)
    }
}

enum Said {
    Seconds(Duration),
    NotToBeKept,
    Nothing,
}

/// The least of what a Cache-Control field says; `s-maxage` is for caches that serve others.
fn max_age(control: &str) -> Said {
    let mut least = None;
    for directive in control.split(',') {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "no-store" | "no-cache" => return Said::NotToBeKept,
            "max-age" => {
                let said = seconds(value.trim().trim_matches('"'));
                least = [least, said].into_iter().flatten().min();
            }
            _ => {}
        }
    }
    least.map_or(Said::Nothing, Said::Seconds)
}

/// From Date to Expires. What is no date is past (RFC 9111 section 5.3); without a Date there is nothing to reckon from.
fn lifetime(expires: &str, date: Option<&str>) -> Option<Duration> {
    let instant = |text: &str| rfc2822::parse(text.trim()).ok().map(|zoned| zoned.timestamp());
    match (instant(expires), date.and_then(instant)) {
        (Some(expires), Some(date)) => Some(between(date, expires).min(LONGEST)),
        (Some(_), None) => None,
        (None, _) => Some(Duration::ZERO),
    }
}

/// delta-seconds (RFC 9111 section 1.2.2): digits, however many.
fn seconds(text: &str) -> Option<Duration> {
    let text = text.trim();
    let is_number = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    is_number.then(|| text.parse().map_or(LONGEST, Duration::from_secs).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(fields: &[(&str, &str)]) -> Caching {
        Caching::read(|name| {
            fields.iter().filter(|(field, _)| *field == name).map(|(_, value)| (*value).to_owned()).collect()
        })
    }

    fn fresh_for(fields: &[(&str, &str)]) -> Option<u64> {
        read(fields).fresh_for().map(|duration| duration.as_secs())
    }

    #[test]
    fn a_tag_goes_back_as_it_came_or_not_at_all() {
        for tag in ["\"\"", "\"5f2c\"", "W/\"5f2c\"", "\"a/b+c==\""] {
            assert_eq!(EntityTag::parse(tag).unwrap().as_str(), tag);
        }
        let long = format!("\"{}\"", "x".repeat(LONGEST_TAG));
        for no_tag in ["", "\"", "5f2c", "w/\"5f2c\"", "\"5f\"2c\"", "\"5f 2c\"", "\"a\", \"b\"", "*", &long] {
            assert_eq!(EntityTag::parse(no_tag), None, "{no_tag}");
        }
        assert_eq!(read(&[("etag", " \"a\" ")]).tag.unwrap().as_str(), "\"a\"");
    }

    #[test]
    fn freshness_is_max_age_less_age_or_else_expires_less_date() {
        let (date, hour_later) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 09:49:37 GMT");
        assert_eq!(fresh_for(&[]), None);
        assert_eq!(fresh_for(&[("cache-control", "max-age=60")]), Some(60));
        assert_eq!(fresh_for(&[("cache-control", "public, Max-Age=\"60\", s-maxage=9"), ("age", "20")]), Some(40));
        assert_eq!(fresh_for(&[("cache-control", "max-age=60"), ("cache-control", "max-age=50")]), Some(50));
        assert_eq!(fresh_for(&[("expires", hour_later), ("date", date)]), Some(3600));
        assert_eq!(fresh_for(&[("expires", hour_later), ("date", date), ("age", "600")]), Some(3000));
        assert_eq!(fresh_for(&[("expires", hour_later), ("date", date), ("cache-control", "max-age=60")]), Some(60));
        assert_eq!(fresh_for(&[("expires", hour_later)]), None);
        assert_eq!(fresh_for(&[("expires", date), ("date", hour_later)]), Some(0));
        assert_eq!(fresh_for(&[("expires", "0"), ("date", date)]), Some(0));
        assert_eq!(fresh_for(&[("cache-control", "no-store, max-age=60")]), None);
        assert_eq!(fresh_for(&[("cache-control", "max-age=60, no-cache")]), None);
    }

    #[test]
    fn what_makes_no_sense_does_no_harm() {
        for (control, expected) in [
            ("max-age=-1", None),
            ("max-age=", None),
            ("max-age=1e9", None),
            ("max-age", None),
            ("max-age=99999999999999999999999999", Some(LONGEST.as_secs())),
            (",,=,max-age=5;", None),
        ] {
            assert_eq!(fresh_for(&[("cache-control", control)]), expected, "{control}");
        }
        assert_eq!(fresh_for(&[("cache-control", "max-age=60"), ("age", "-5")]), Some(60));
        assert_eq!(fresh_for(&[("cache-control", "max-age=60"), ("age", "99999999999999999999999999")]), Some(0));
    }

    #[test]
    fn only_what_outlived_its_time_is_stale() {
        assert!(read(&[("cache-control", "max-age=60"), ("age", "61")]).is_stale());
        assert!(!read(&[("cache-control", "max-age=60"), ("age", "60")]).is_stale());
        assert!(!read(&[("cache-control", "max-age=0")]).is_stale(), "an origin that wants none kept");
        assert!(!read(&[("age", "61")]).is_stale());
    }

    proptest! {
        #[test]
        fn any_text_gives_something_harmless(control in ".*", expires in ".*", date in ".*", age in ".*", tag in ".*") {
            let caching = read(&[
                ("cache-control", &control), ("expires", &expires), ("date", &date), ("age", &age), ("etag", &tag),
            ]);
            prop_assert!(caching.fresh_for().is_none_or(|fresh_for| fresh_for <= LONGEST));
            prop_assert!(caching.tag.is_none_or(|tag| tag.as_str().len() <= LONGEST_TAG));
        }
    }
}
