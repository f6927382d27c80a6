//! How loudly a thing is shown. A colour and a sign, always beside a word: neither is the only one to tell.

use crate::explain::Outcome;
use crate::status::{Health, Sight, State};

/// How loudly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tone {
    /// Something is broken.
    Bad,
    /// Something will be.
    Warn,
    /// Nothing is known yet.
    Wait,
    /// Nothing to see.
    Quiet,
    /// All is well.
    Ok,
}

impl Tone {
    /// The name in the style, and of the sign.
    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::Bad => "bad",
            Self::Warn => "warn",
            Self::Wait => "wait",
            Self::Quiet => "quiet",
            Self::Ok => "ok",
        }
    }

    /// The colour of the tab's icon.
    pub(super) const fn icon(self) -> &'static str {
        match self {
            Self::Bad => "%23c9302c",
            Self::Warn => "%23c77700",
            Self::Wait | Self::Quiet => "%236b7684",
            Self::Ok => "%231a8a52",
        }
    }
}

impl From<State> for Tone {
    fn from(state: State) -> Self {
        match state {
            State::Unstapled
            | State::Revoked
            | State::Unknown
            | State::NoIssuer
            | State::Unreadable
            | State::Expired => Self::Bad,
            State::RefreshFailing => Self::Warn,
            State::Pending => Self::Wait,
            State::NotLoaded | State::NoResponder | State::Excluded => Self::Quiet,
            State::NativeUpdate | State::Stapled => Self::Ok,
        }
    }
}

impl From<Health> for Tone {
    fn from(health: Health) -> Self {
        match health {
            Health::Ok => Self::Ok,
            Health::Degraded => Self::Warn,
            Health::Stuck => Self::Bad,
        }
    }
}

impl From<Outcome> for Tone {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => Self::Ok,
            Outcome::Failed => Self::Bad,
            Outcome::Waiting => Self::Wait,
            Outcome::Skipped | Outcome::NotReached => Self::Quiet,
        }
    }
}

impl From<Sight> for Tone {
    fn from(sight: Sight) -> Self {
        match sight {
            Sight::NoHandshake | Sight::NotStapled | Sight::Refused => Self::Bad,
            Sight::NotOffered => Self::Warn,
            Sight::Good => Self::Ok,
        }
    }
}
