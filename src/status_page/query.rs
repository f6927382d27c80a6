//! What a reader asked for. It comes from any client: it is cut before it is looked at, what cannot be understood counts
//! as not said, and it selects among what the snapshot holds and does nothing else.

use url::form_urlencoded::{Serializer, parse};

use super::Tone;
use super::text::count;
use crate::status::{CertificateStatus, State, Status};

/// In letters, of what is searched for.
const LONGEST_SEARCH: usize = 100;
/// Parameters that are looked at; the form sends four.
const MOST_PARAMETERS: usize = 16;
/// In seconds, between two loads of a page that loads itself.
const REFRESH: u16 = 30;

/// What to show. The default is everything, from the worst on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    search: String,
    wanted: Wanted,
    /// From zero.
    page: usize,
    reloads: Reloads,
}

/// Certificates in which states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wanted {
    #[default]
    All,
    Trouble,
    One(State),
}

/// Whether the page loads itself again. Whoever reads does not want that: it would close what is open, and lose the
/// place. Whoever hangs it on a wall does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Reloads {
    #[default]
    Never,
    Often,
}

impl Wanted {
    fn parse(text: &str) -> Self {
        match text {
            "trouble" => Self::Trouble,
            label => State::ALL.into_iter().find(|state| state.label() == label).map_or(Self::All, Self::One),
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::All => "",
            Self::Trouble => "trouble",
            Self::One(state) => state.label(),
        }
    }
}

impl Query {
    /// From the part of an address after the question mark.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut query = Self::default();
        for (name, value) in parse(text.as_bytes()).take(MOST_PARAMETERS) {
            match &*name {
                "q" => query.search = value.trim().chars().take(LONGEST_SEARCH).collect(),
                "state" => query.wanted = Wanted::parse(&value),
                "page" => query.page = value.parse::<usize>().unwrap_or(1).saturating_sub(1),
                "refresh" if !value.is_empty() => query.reloads = Reloads::Often,
                _ => {}
            }
        }
        query
    }

    pub(super) fn search(&self) -> &str {
        &self.search
    }

    pub(super) fn refresh(&self) -> Option<u16> {
        (self.reloads == Reloads::Often).then_some(REFRESH)
    }

    pub(super) fn is_filter(&self) -> bool {
        !self.search.is_empty() || self.wanted != Wanted::All
    }

    /// Whether a certificate is among what was asked for.
    pub(super) fn means(&self, certificate: &CertificateStatus) -> bool {
        let is_wanted = match self.wanted {
            Wanted::All => true,
            Wanted::Trouble => certificate.state.is_trouble(),
            Wanted::One(state) => certificate.state == state,
        };
        is_wanted && self.finds(certificate)
    }

    fn finds(&self, certificate: &CertificateStatus) -> bool {
        let searched = self.search.to_lowercase();
        let texts = [
            &*certificate.certificate,
            &certificate.subject,
            &certificate.issuer,
            &certificate.serial_number,
            &certificate.fingerprint,
            &certificate.detail,
        ];
        let lists = certificate.responders.iter().chain(&certificate.files).map(String::as_str);
        searched.is_empty() || texts.into_iter().chain(lists).any(|text| text.to_lowercase().contains(&searched))
    }

    /// The states to choose from, worst first, each with how many there are. What is not there is not offered.
    pub(super) fn choices(&self, status: &Status) -> Vec<Choice> {
        let states = status.states();
        let troubled = states.iter().filter(|(state, _)| state.is_trouble()).map(|(_, number)| number).sum();
        let all = Choice::new(self, Wanted::All, "all", status.certificates.len(), Tone::Quiet);
        let trouble = Choice::new(self, Wanted::Trouble, "needs attention", troubled, Tone::Warn);
        let each = states
            .into_iter()
            .map(|(state, number)| Choice::new(self, Wanted::One(state), &words(state), number, Tone::from(state)));
        let is_of_use = |choice: &Choice| choice.number != "0" || choice.is_chosen || choice.value.is_empty();
        [all, trouble].into_iter().chain(each).filter(is_of_use).collect()
    }

    /// The address of another page of the same.
    pub(super) fn page(&self, number: usize) -> String {
        Self { page: number.saturating_sub(1), ..self.clone() }.link()
    }

    /// The address of the same page, which then loads itself, or no longer.
    pub(super) fn toggled(&self) -> String {
        let reloads = match self.reloads {
            Reloads::Never => Reloads::Often,
            Reloads::Often => Reloads::Never,
        };
        Self { reloads, ..self.clone() }.link()
    }

    /// The address of the page that leaves nothing out.
    pub(super) fn everything(&self) -> String {
        Self { reloads: self.reloads, ..Self::default() }.link()
    }

    /// The address of the page with what needs somebody.
    pub(super) fn trouble(&self) -> String {
        Self { wanted: Wanted::Trouble, reloads: self.reloads, ..Self::default() }.link()
    }

    /// The address of the page with what has this in it.
    pub(super) fn search_for(text: &str) -> String {
        Self { search: text.chars().take(LONGEST_SEARCH).collect(), ..Self::default() }.link()
    }

    /// Relative, so that it holds behind whatever prefix a proxy gives the page.
    fn link(&self) -> String {
        let mut pairs = Serializer::new(String::new());
        for (name, value) in [("q", &*self.search), ("state", self.wanted.label())] {
            if !value.is_empty() {
                pairs.append_pair(name, value);
            }
        }
        if self.page > 0 {
            pairs.append_pair("page", &self.page.saturating_add(1).to_string());
        }
        if let Some(seconds) = self.refresh() {
            pairs.append_pair("refresh", &seconds.to_string());
        }
        match pairs.finish() {
            none if none.is_empty() => "./".to_owned(),
            some => format!("?{some}"),
        }
    }
}

/// A state as people write it.
pub(super) fn words(state: State) -> String {
    state.label().replace('_', " ")
}

/// One selection that can be made.
pub(super) struct Choice {
    pub(super) value: &'static str,
    pub(super) words: String,
    pub(super) number: String,
    pub(super) tone: Tone,
    pub(super) is_chosen: bool,
    pub(super) link: String,
}

impl Choice {
    fn new(query: &Query, wanted: Wanted, words: &str, number: usize, tone: Tone) -> Self {
        Self {
            value: wanted.label(),
            words: words.to_owned(),
            number: count(number),
            tone,
            is_chosen: query.wanted == wanted,
            link: Query { search: String::new(), wanted, page: 0, reloads: query.reloads }.link(),
        }
    }

    /// Whether it is one of the states, and not a group of them.
    pub(super) fn is_state(&self) -> bool {
        !matches!(self.value, "" | "trouble")
    }
}

/// Where among all pages this one is.
pub(super) struct Pages {
    /// From one.
    pub(super) number: usize,
    pub(super) last: usize,
    rows: usize,
    total: usize,
    pub(super) previous: Option<String>,
    pub(super) next: Option<String>,
}

impl Pages {
    /// The page that was asked for, or the last one there is.
    pub(super) fn new(query: &Query, total: usize, rows: usize) -> Self {
        let last = total.div_ceil(rows).max(1);
        let number = query.page.saturating_add(1).min(last);
        let link = |number: usize| query.page(number);
        Self {
            number,
            last,
            rows,
            total,
            previous: (number > 1).then(|| link(number - 1)),
            next: (number < last).then(|| link(number + 1)),
        }
    }

    /// How many come before it.
    pub(super) fn before(&self) -> usize {
        (self.number - 1) * self.rows
    }

    /// What of how many is shown.
    pub(super) fn words(&self) -> String {
        if self.total == 0 {
            return "none".to_owned();
        }
        let (first, last) = (self.before() + 1, (self.before() + self.rows).min(self.total));
        format!("{}–{} of {}, worst first", count(first), count(last), count(self.total))
    }
}
