//! What the page is made of, in tables; `tests/page` looks at the whole.

use jiff::{SignedDuration, Timestamp};

use super::life::{Life, Times};
use super::query::{Pages, Query};
use super::text::{Instant, count, outside, span};

fn now() -> Timestamp {
    "2026-11-25T03:12:40Z".parse().unwrap()
}

fn after(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

/// With spaces that may end a line.
fn plain(text: &str) -> String {
    text.replace('\u{a0}', " ")
}

#[test]
fn spans_are_told_in_their_largest_two_units() {
    for (seconds, words) in [
        (0, "0 s"),
        (1, "1 s"),
        (59, "59 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (3601, "1 h"),
        (3660, "1 h 1 min"),
        (86_399, "23 h 59 min"),
        (86_400, "1 d"),
        (90_061, "1 d 1 h"),
        (31_536_000, "365 d"),
    ] {
        assert_eq!(plain(&span(std::time::Duration::from_secs(seconds))), words, "{seconds} s");
    }
}

#[test]
fn an_instant_is_told_in_utc_and_as_seen_from_now() {
    for (seconds, absolute, relative) in [
        (0, "2026-11-25 03:12", "now"),
        (90, "2026-11-25 03:14", "in 1 min 30 s"),
        (-90, "2026-11-25 03:11", "1 min 30 s ago"),
        (86_400 * 7, "2026-12-02 03:12", "in 7 d"),
    ] {
        let instant = Instant::new(after(seconds), now());
        assert_eq!((&*instant.absolute, plain(&instant.relative)), (absolute, relative.to_owned()));
    }
    assert_eq!(Instant::new(now(), now()).clock(), "2026-11-25 03:12:40");
    assert_eq!(Instant::new(Timestamp::MAX, Timestamp::MIN).machine, "9999-12-30T22:00:00Z");
}

#[test]
fn numbers_are_grouped() {
    for (number, words) in [(0, "0"), (999, "999"), (1000, "1,000"), (12_345, "12,345"), (1_234_567, "1,234,567")] {
        assert_eq!(count(number), words);
    }
}

#[test]
fn what_acts_on_a_page_or_its_order_is_written_out() {
    for (text, shown) in [
        ("CN=Größe, 漢字, پارسی\u{200c}ها", "CN=Größe, 漢字, پارسی\u{200c}ها"),
        ("a\nb\0c\u{7f}\u{85}", "a\\u{a}b\\u{0}c\\u{7f}\\u{85}"),
        ("evil\u{202e}gpj.exe", "evil\\u{202e}gpj.exe"),
        ("a\u{2066}b\u{2069}c\u{200f}d\u{200b}e\u{feff}", "a\\u{2066}b\\u{2069}c\\u{200f}d\\u{200b}e\\u{feff}"),
        ("<b>&\"'", "<b>&\"'"),
    ] {
        assert_eq!(outside(text, 200), shown);
    }
}

#[test]
fn what_is_too_long_is_cut_by_what_it_takes_on_the_page() {
    assert_eq!(outside("abcdef", 6), "abcdef");
    assert_eq!(outside("abcdefg", 6), "abcdef…");
    assert_eq!(outside("äöüß", 6), "äöü…");
    assert_eq!(outside("<<<<", 11), "<<…", "each is five bytes on the page");
    assert_eq!(outside("\u{202e}\u{202e}", 9), "\\u{202e}…");
}

#[test]
fn a_query_is_read_leniently_and_cut() {
    let is_default = |text: &str| assert_eq!(Query::parse(text), Query::default(), "{text}");
    for text in ["", "&", "=", "q=", "q=%20", "state=", "state=nonsense", "page=1", "page=0", "page=-1", "page=x"] {
        is_default(text);
    }
    for text in ["page=99999999999999999999999", "refresh=", "other=1", "%", "%zz", "Q=a", "state=STAPLED"] {
        is_default(text);
    }
    assert_eq!(Query::parse("q=+a%26b+").search(), "a&b");
    assert_eq!(Query::parse("q=%ff%00<").search(), "\u{fffd}\0<", "what is no text is none, and what is stays");
    assert_eq!(Query::parse(&format!("q={}", "ä".repeat(5000))).search(), "ä".repeat(100));
    assert_eq!(Query::parse(&format!("{}q=late", "x=&".repeat(16))).search(), "", "it ends somewhere");
    assert_eq!(Query::parse("refresh=1").refresh(), Some(30), "how often is not the client's to say");
}

#[test]
fn addresses_keep_what_was_asked_for() {
    let query = Query::parse("q=a%26b%3C%22&state=refresh_failing&page=3&refresh=30");
    assert_eq!(query.page(3), "?q=a%26b%3C%22&state=refresh_failing&page=3&refresh=30");
    assert_eq!(query.page(1), "?q=a%26b%3C%22&state=refresh_failing&refresh=30");
    assert_eq!(query.toggled(), "?q=a%26b%3C%22&state=refresh_failing&page=3");
    assert_eq!(Query::parse(query.page(3).trim_start_matches('?')), query);
    assert_eq!(Query::default().page(1), "./", "an empty address would be the present one");
    assert_eq!(Query::parse("state=trouble").toggled(), "?state=trouble&refresh=30");
    assert_eq!(Query::search_for("/c/a b.pem"), "?q=%2Fc%2Fa+b.pem");
}

#[test]
fn pages_begin_and_end_where_there_is_something() {
    let pages = |asked: &str, total| {
        let pages = Pages::new(&Query::parse(asked), total, 50);
        (pages.number, pages.last, pages.before(), pages.words(), pages.previous.is_some(), pages.next.is_some())
    };
    assert_eq!(pages("", 0), (1, 1, 0, "none".to_owned(), false, false));
    assert_eq!(pages("", 1), (1, 1, 0, "1–1 of 1, worst first".to_owned(), false, false));
    assert_eq!(pages("", 50), (1, 1, 0, "1–50 of 50, worst first".to_owned(), false, false));
    assert_eq!(pages("", 51), (1, 2, 0, "1–50 of 51, worst first".to_owned(), false, true));
    assert_eq!(pages("page=2", 51), (2, 2, 50, "51–51 of 51, worst first".to_owned(), true, false));
    assert_eq!(pages("page=9", 51), (2, 2, 50, "51–51 of 51, worst first".to_owned(), true, false));
    assert_eq!(pages("page=18446744073709551615", 2000).0, 40);
}

/// A staple of a thousand seconds' life, of which so many are over; asked again after half of it.
fn life(over: i64) -> [String; 6] {
    let times = Times { this_update: after(-over), next_update: after(1000 - over), effective_end: after(700 - over) };
    let life = Life::new(times, Some(after(500 - over)), now());
    assert_eq!(life.is_over, over >= 700);
    [life.start, life.lived, life.due.unwrap(), life.effective_end, life.end, life.now].map(|place| place.to_string())
}

#[test]
fn the_picture_has_everything_in_its_place() {
    // thisUpdate, how far it is over, refresh due, effective end, nextUpdate, now.
    assert_eq!(life(0), ["0.0%", "0.0%", "50.0%", "70.0%", "100.0%", "0.0%"]);
    assert_eq!(life(250), ["0.0%", "25.0%", "50.0%", "70.0%", "100.0%", "25.0%"]);
    assert_eq!(life(999), ["0.0%", "99.9%", "50.0%", "70.0%", "100.0%", "99.9%"]);
    // It has expired: now stands beyond the end, up to a quarter of the life.
    assert_eq!(life(1100), ["0.0%", "90.9%", "45.4%", "63.6%", "90.9%", "100.0%"]);
    assert_eq!(life(100_000), ["0.0%", "80.0%", "40.0%", "56.0%", "80.0%", "100.0%"]);
    // It has not begun.
    assert_eq!(life(-100), ["9.0%", "9.0%", "54.5%", "72.7%", "100.0%", "0.0%"]);
    assert_eq!(life(-100_000), ["20.0%", "20.0%", "60.0%", "76.0%", "100.0%", "0.0%"]);
}

#[test]
fn no_times_are_too_odd_for_a_picture() {
    let odd = [Timestamp::MIN, after(-1), now(), after(1), Timestamp::MAX];
    for this_update in odd {
        for next_update in odd {
            for effective_end in odd {
                let life = Life::new(Times { this_update, next_update, effective_end }, Some(next_update), now());
                for place in [life.start, life.lived, life.effective_end, life.end, life.now, life.start.to(&life.end)]
                {
                    let text = place.to_string();
                    let number: f64 = text.trim_end_matches('%').parse().unwrap();
                    assert!((0.0..=100.0).contains(&number), "{text}");
                }
            }
        }
    }
}

#[test]
fn the_picture_is_told_to_those_who_do_not_see_it() {
    let times = Times { this_update: after(-3600), next_update: after(7500), effective_end: after(7200) };
    let told = "Valid from 2026-11-25 02:12 UTC (1 h ago); refresh due in 10 min. HAProxy stops serving it at \
                2026-11-25 05:12 UTC (in 2 h). nextUpdate is 2026-11-25 05:17 UTC.";
    assert_eq!(plain(&Life::new(times, Some(after(600)), now()).sentence), told);
    let over = Times { effective_end: after(-60), ..times };
    assert!(Life::new(over, None, now()).sentence.contains("HAProxy stopped serving it"));
}
