//! What is beyond one certificate: HAProxies, the frontends that are looked at, disks and directories.

use jiff::Timestamp;

use super::text::{Instant, NAME, SENTENCE, count, outside, so_many};
use super::tone::Tone;
use crate::status::{HaproxyStatus, ProbeStatus, Status, Trouble};

/// Names of certificates without a file, of one HAProxy.
const MOST_UNMATCHED: usize = 5;

/// What is wrong, and what to do.
pub(super) struct TroubleRow {
    pub(super) detail: String,
    pub(super) remedy: String,
}

impl TroubleRow {
    pub(super) fn new(trouble: &Trouble) -> Self {
        Self {
            detail: outside(&Trouble::sentence(&trouble.detail), SENTENCE),
            remedy: outside(&Trouble::sentence(&trouble.remedy), SENTENCE),
        }
    }
}

/// One HAProxy.
pub(super) struct HaproxyRow {
    pub(super) name: String,
    pub(super) state: &'static str,
    pub(super) tone: Tone,
    pub(super) facts: String,
    pub(super) trouble: Option<TroubleRow>,
    pub(super) warnings: Vec<TroubleRow>,
    pub(super) unmatched: Vec<String>,
    pub(super) more_unmatched: usize,
}

impl HaproxyRow {
    pub(super) fn worst_first(status: &Status) -> Vec<Self> {
        let mut rows: Vec<Self> = status.haproxy.iter().map(Self::new).collect();
        rows.sort_by_key(|row| row.tone);
        rows
    }

    fn new(haproxy: &HaproxyStatus) -> Self {
        let (state, tone) = match (haproxy.up, &haproxy.trouble) {
            (Some(false), _) => ("down", Tone::Bad),
            (_, Some(_)) => ("in trouble", Tone::Bad),
            (Some(true), None) => ("up", Tone::Ok),
            (None, None) => ("not asked yet", Tone::Wait),
        };
        let version = haproxy.version.as_ref().map(|version| format!("HAProxy {}", outside(version, NAME)));
        let pid = haproxy.pid.map(|pid| format!("process {pid}"));
        let loaded = format!(
            "staples for {} of {}",
            count(haproxy.served),
            so_many(haproxy.loaded, "certificate", "certificates")
        );
        let reloads = match haproxy.reloads {
            0 => None,
            1 => Some("1 reload seen".to_owned()),
            many => Some(format!("{many} reloads seen")),
        };
        let facts: Vec<String> = [version, pid, Some(loaded), reloads].into_iter().flatten().collect();
        Self {
            name: outside(&haproxy.haproxy, NAME),
            state,
            tone,
            facts: facts.join(" · "),
            trouble: haproxy.trouble.as_ref().map(TroubleRow::new),
            warnings: haproxy.warnings.iter().map(TroubleRow::new).collect(),
            unmatched: haproxy.unmatched.iter().take(MOST_UNMATCHED).map(|name| outside(name, NAME)).collect(),
            more_unmatched: haproxy.unmatched.len().saturating_sub(MOST_UNMATCHED),
        }
    }
}

/// One frontend, as clients see it.
pub(super) struct ProbeRow {
    pub(super) name: String,
    pub(super) state: &'static str,
    pub(super) tone: Tone,
    pub(super) detail: String,
    pub(super) remedies: Vec<String>,
    pub(super) probed: Option<Instant>,
}

impl ProbeRow {
    pub(super) fn worst_first(status: &Status, now: Timestamp) -> Vec<Self> {
        let mut rows: Vec<Self> = status.probes.iter().map(|probe| Self::new(probe, now)).collect();
        rows.sort_by_key(|row| row.tone);
        rows
    }

    fn new(probe: &ProbeStatus, now: Timestamp) -> Self {
        let mut remedies: Vec<String> = Vec::new();
        for trouble in probe.handshakes.iter().flat_map(|handshake| &handshake.troubles) {
            let remedy = outside(&Trouble::sentence(&trouble.remedy), SENTENCE);
            if probe.is_trouble() && !remedy.is_empty() && !remedies.contains(&remedy) {
                remedies.push(remedy);
            }
        }
        Self {
            name: outside(&probe.label(), NAME),
            state: probe.sight.map_or("not looked at yet", |sight| sight.words()),
            tone: probe.sight.map_or(Tone::Wait, Tone::from),
            detail: outside(&Trouble::sentence(&probe.detail), SENTENCE),
            remedies,
            probed: probe.probed_at.map(|at| Instant::new(at, now)),
        }
    }
}
