//! Which certificates are looked after.

use glob::{MatchOptions, Pattern};

/// `*` stays within a directory and `**` does not, as in a shell.
const OPTIONS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };

pub(super) fn parse(text: &str) -> Result<Pattern, String> {
    Pattern::new(text).map_err(|error| format!("not a glob: {}", error.msg))
}

/// Globs over the names HAProxy knows certificates by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameFilter {
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
    only: Option<String>,
}

impl NameFilter {
    pub(super) fn new(include: Vec<Pattern>, exclude: Vec<Pattern>) -> Self {
        Self { include, exclude, only: None }
    }

    /// The same for one certificate only, known by its name or by the end of it.
    #[must_use]
    pub fn only(self, name: &str) -> Self {
        Self { only: Some(name.to_owned()), ..self }
    }

    /// Whether this certificate is meant at all: there is no one certificate, or it is this one. Names are compared by
    /// whole components.
    #[must_use]
    pub fn means(&self, name: &str) -> bool {
        self.only.as_deref().is_none_or(|only| {
            name.strip_suffix(only)
                .is_some_and(|before| before.is_empty() || before.ends_with('/') || only.starts_with('/'))
        })
    }

    /// Whether the certificate of this name is looked after: an include matches, or there is none, and no exclude does.
    /// A glob without a slash is about the last component of the name.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let file_name = name.rsplit('/').next().unwrap_or(name);
        let matches = |pattern: &Pattern| {
            let about = if pattern.as_str().contains('/') { name } else { file_name };
            pattern.matches_with(about, OPTIONS)
        };
        self.means(name)
            && (self.include.is_empty() || self.include.iter().any(matches))
            && !self.exclude.iter().any(matches)
    }
}
