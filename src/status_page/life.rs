//! A staple's life as a picture: where now is between thisUpdate and nextUpdate, when it is refreshed, and when HAProxy
//! stops serving it.

use std::fmt;

use jiff::Timestamp;

use super::text::Instant;
use crate::clock::earlier;
use crate::ocsp::SKEW;
use crate::status::{CertificateStatus, ServedStatus};

/// The times of a staple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) this_update: Timestamp,
    pub(super) next_update: Timestamp,
    pub(super) effective_end: Timestamp,
}

impl Times {
    /// Those of the staple that clients are shown, of the one that ends first if HAProxies differ; or else of the one in
    /// hand.
    pub(super) fn of(certificate: &CertificateStatus) -> Option<Self> {
        let served = certificate.served.iter().map(|served| Self::served(served, certificate));
        served.min_by_key(|times| times.effective_end).or_else(|| {
            let staple = certificate.staple.as_ref()?;
            let (this_update, next_update) = (staple.this_update, staple.next_update);
            Some(Self { this_update, next_update, effective_end: staple.effective_end })
        })
    }

    pub(super) fn served(served: &ServedStatus, certificate: &CertificateStatus) -> Self {
        let (this_update, next_update) = (served.this_update, served.next_update);
        let in_hand = certificate.staple.as_ref();
        let same = in_hand.filter(|staple| (staple.this_update, staple.next_update) == (this_update, next_update));
        let effective_end = same.map_or_else(|| earlier(next_update, SKEW), |staple| staple.effective_end);
        Self { this_update, next_update, effective_end }
    }
}

/// A place in the picture, in thousandths of its width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(i64);

impl Place {
    /// From here to there.
    pub(super) fn to(&self, other: &Self) -> Self {
        Self(other.0.saturating_sub(self.0).max(0))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}%", self.0 / 10, self.0 % 10)
    }
}

/// The picture. Its places are parts of the width, so that it is drawn at any width without a distortion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) start: Place,
    /// As far as it is over.
    pub(super) lived: Place,
    pub(super) due: Option<Place>,
    pub(super) effective_end: Place,
    pub(super) end: Place,
    pub(super) now: Place,
    pub(super) is_over: bool,
    pub(super) from: Instant,
    pub(super) until: Instant,
    /// The same for those who see no picture.
    pub(super) sentence: String,
}

impl Life {
    pub(super) fn new(times: Times, due: Option<Timestamp>, now: Timestamp) -> Self {
        let Times { this_update, next_update, effective_end } = times;
        let scale = Scale::new(times, now);
        let is_over = now >= effective_end;
        let (from, until) = (Instant::new(this_update, now), Instant::new(effective_end, now));
        let refresh = due.map(|due| format!("; refresh due {}", Instant::new(due, now).relative));
        let sentence = format!(
            "Valid from {} UTC ({}){}. HAProxy {} serving it at {} UTC ({}). nextUpdate is {} UTC.",
            from.absolute,
            from.relative,
            refresh.unwrap_or_default(),
            if is_over { "stopped" } else { "stops" },
            until.absolute,
            until.relative,
            Instant::new(next_update, now).absolute
        );
        Self {
            start: scale.place(this_update),
            lived: scale.place(now.clamp(this_update, next_update.max(this_update))),
            due: due.map(|due| scale.place(due)),
            effective_end: scale.place(effective_end),
            end: scale.place(next_update),
            now: scale.place(now),
            is_over,
            from,
            until,
            sentence,
        }
    }
}

/// From thisUpdate to nextUpdate, and to now where that lies beyond, up to a quarter of the life.
struct Scale {
    from: i64,
    to: i64,
}

impl Scale {
    fn new(times: Times, now: Timestamp) -> Self {
        let (start, end, now) = (times.this_update.as_second(), times.next_update.as_second(), now.as_second());
        let end = end.max(start);
        let beyond = (end - start) / 4;
        Self { from: now.clamp(start - beyond, start), to: now.clamp(end, end + beyond) }
    }

    fn place(&self, at: Timestamp) -> Place {
        let (into, whole) = (at.as_second() - self.from, (self.to - self.from).max(1));
        Place((into.saturating_mul(1000) / whole).clamp(0, 1000))
    }
}
