//! The page for people: what is wrong, since when, what to do, and when clients notice. A plain function from the
//! snapshot, the moment and what the reader asked for to HTML that needs no script and loads nothing.
//!
//! However many certificates there are, one page of them is made, and of every text from outside a part that is enough
//! for a person: what a rendering costs does not grow with what a certificate or a client contains.

mod certificate;
mod haproxy;
mod life;
mod query;
mod text;
mod tone;
mod verdict;

#[cfg(test)]
mod tests;

use askama::Template;
use jiff::Timestamp;

use self::certificate::{Noticed, Row};
use self::haproxy::{HaproxyRow, ProbeRow, TroubleRow};
pub use self::query::Query;
use self::query::{Choice, Pages};
use self::text::{Instant, count};
use self::tone::Tone;
use self::verdict::Verdict;
use crate::report::worst_first;
use crate::status::{Health, Status};

/// The style of every page. It stands in the page itself, which is complete that way.
const STYLE: &str = include_str!("../templates/status.css");

/// Rows of one page: the worst are on the first, and it has to be read on a telephone.
const ROWS: usize = 50;
/// HAProxies, frontends and troubles of one page: the worst of each.
const MOST_LISTED: usize = 20;

/// What a browser may do with the page: show it. The style is known by its hash and the icon stands in the page; nothing
/// else is loaded, run, framed or sent anywhere.
#[must_use]
pub fn content_security_policy() -> String {
    let hash = openssl::base64::encode_block(&openssl::sha::sha256(STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; img-src data:; form-action 'self'; base-uri 'none'; \
         frame-ancestors 'none'"
    )
}

/// The page, for one who asked this at this moment.
///
/// # Errors
/// When the template fails, which is a fault of this program.
pub fn render(status: &Status, health: Health, query: &Query, now: Timestamp) -> Result<String, askama::Error> {
    Page::new(status, health, query, now).render()
}

/// What the template shows.
#[derive(Template)]
#[template(path = "status.html", whitespace = "minimize")]
struct Page {
    style: &'static str,
    version: &'static str,
    now: Instant,
    verdict: Verdict,
    started: Option<Instant>,
    last_pass: Option<Instant>,
    troubles: Few<TroubleRow>,
    haproxies: Few<HaproxyRow>,
    probes: Few<ProbeRow>,
    choices: Vec<Choice>,
    search: String,
    refresh: Option<u16>,
    refresh_link: String,
    reload_link: String,
    is_filtered: bool,
    everything: String,
    trouble: String,
    pages: Pages,
    rows: Vec<Row>,
}

/// The first of many.
struct Few<T> {
    shown: Vec<T>,
    left_off: String,
}

impl<T> Few<T> {
    fn of(mut all: Vec<T>) -> Self {
        let left_off = all.len().saturating_sub(MOST_LISTED);
        all.truncate(MOST_LISTED);
        Self { shown: all, left_off: if left_off == 0 { String::new() } else { count(left_off) } }
    }
}

impl Page {
    fn new(status: &Status, health: Health, query: &Query, now: Timestamp) -> Self {
        let mut meant: Vec<_> = worst_first(status).into_iter().filter(|each| query.means(each)).collect();
        // Of those in trouble the one first that clients notice first.
        meant.sort_by_cached_key(|each| (each.state, Noticed::at(each, now)));
        let pages = Pages::new(query, meant.len(), ROWS);
        Self {
            style: STYLE,
            version: env!("CARGO_PKG_VERSION"),
            now: Instant::new(now, now),
            verdict: Verdict::new(status, health, now),
            started: status.started_at.map(|at| Instant::new(at, now)),
            last_pass: status.last_pass_at.map(|at| Instant::new(at, now)),
            troubles: Few::of(status.troubles.iter().map(TroubleRow::new).collect()),
            haproxies: Few::of(HaproxyRow::worst_first(status)),
            probes: Few::of(ProbeRow::worst_first(status, now)),
            choices: query.choices(status),
            search: query.search().to_owned(),
            refresh: query.refresh(),
            refresh_link: query.toggled(),
            reload_link: query.page(pages.number),
            is_filtered: query.is_filter(),
            everything: query.everything(),
            trouble: query.trouble(),
            rows: meant.iter().skip(pages.before()).take(ROWS).map(|each| Row::new(each, status, now)).collect(),
            pages,
        }
    }

    /// For the tab, which tells from afar.
    fn title(&self) -> String {
        match self.verdict.needing {
            0 => self.verdict.headline.clone(),
            number => format!("({number}) {}", self.verdict.headline),
        }
    }
}
