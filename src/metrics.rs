//! Prometheus: counters that live as long as the process, and gauges made from the snapshot at each scrape.
//!
//! A certificate that goes away takes its series with it by construction, and `/metrics` cannot disagree with `/status`.

mod series;

use jiff::Timestamp;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry, TextEncoder,
};

use self::series::FAMILIES;
use crate::settings::Cardinality;
use crate::status::{Sight, Status};

const PREFIX: &str = "haproxy_stapler";
/// From a responder next door to the total deadline.
const REQUEST_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const PASS_BUCKETS: [f64; 10] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0];

/// The counters and histograms; their labels are hosts, addresses and stable names, never text from outside.
#[derive(Debug)]
pub struct Counters {
    registry: Registry,
    /// By responder.
    pub ocsp_requests: IntCounterVec,
    /// By responder and reason.
    pub ocsp_request_failures: IntCounterVec,
    /// By responder.
    pub ocsp_request_duration: HistogramVec,
    /// By haproxy.
    pub staple_installs: IntCounterVec,
    /// By haproxy and reason.
    pub staple_install_failures: IntCounterVec,
    /// Files written.
    pub staple_writes: IntCounter,
    /// By reason.
    pub staple_write_failures: IntCounterVec,
    /// By haproxy.
    pub haproxy_reloads: IntCounterVec,
    /// Passes over all certificates.
    pub passes: IntCounter,
    /// How long they took.
    pub pass_duration: Histogram,
}

impl Counters {
    /// Registers everything.
    ///
    /// # Errors
    /// Never in practice: the names are constants and tested.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new_custom(None, None)?;
        let counter = |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
            let counter = IntCounterVec::new(opts(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let plain = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let counter = IntCounter::with_opts(opts(name, help))?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let duration = "ocsp_request_duration_seconds";
        let ocsp_request_duration = HistogramVec::new(
            HistogramOpts::from(opts(duration, "Time from sending an OCSP request to its verified or refused answer."))
                .buckets(REQUEST_BUCKETS.to_vec()),
            &["responder"],
        )?;
        registry.register(Box::new(ocsp_request_duration.clone()))?;
        let pass_duration = Histogram::with_opts(
            HistogramOpts::from(opts("pass_duration_seconds", "Time of one pass over all certificates."))
                .buckets(PASS_BUCKETS.to_vec()),
        )?;
        registry.register(Box::new(pass_duration.clone()))?;
        register_process(&registry)?;
        let responder = ["responder"];
        let haproxy = ["haproxy"];
        Ok(Self {
            ocsp_requests: counter("ocsp_requests_total", "OCSP requests sent.", &responder)?,
            ocsp_request_failures: counter(
                "ocsp_request_failures_total",
                "OCSP requests that gave no valid response.",
                &["responder", "reason"],
            )?,
            ocsp_request_duration,
            staple_installs: counter("staple_installs_total", "Staples that HAProxy took.", &haproxy)?,
            staple_install_failures: counter(
                "staple_install_failures_total",
                "Staples that HAProxy did not take.",
                &["haproxy", "reason"],
            )?,
            staple_writes: plain("staple_writes_total", "Staple files written.")?,
            staple_write_failures: counter(
                "staple_write_failures_total",
                "Staple files that could not be written.",
                &["reason"],
            )?,
            haproxy_reloads: counter("haproxy_reloads_total", "New HAProxy processes seen behind a socket.", &haproxy)?,
            passes: plain("passes_total", "Passes over all certificates finished.")?,
            pass_duration,
            registry,
        })
    }

    /// Makes the series of one HAProxy exist from the start: a rate over a counter that appears with its first event
    /// would miss that event.
    pub fn know_haproxy(&self, haproxy: &str) {
        self.staple_installs.with_label_values(&[haproxy]);
        self.haproxy_reloads.with_label_values(&[haproxy]);
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(full_name(name), help)
}

fn full_name(name: &str) -> String {
    format!("{PREFIX}_{name}")
}

#[cfg(target_os = "linux")]
fn register_process(registry: &Registry) -> Result<(), prometheus::Error> {
    registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
}

#[cfg(not(target_os = "linux"))]
fn register_process(_: &Registry) -> Result<(), prometheus::Error> {
    Ok(())
}

/// The text of `/metrics` (format 0.0.4).
///
/// # Errors
/// When the encoder fails, which the tests show it does not.
pub fn render(
    counters: &Counters,
    status: &Status,
    cardinality: Cardinality,
    now: Timestamp,
) -> Result<String, prometheus::Error> {
    let snapshot = Registry::new_custom(None, None)?;
    let gauges = Gauges { registry: &snapshot };
    gauges.overall(status)?;
    gauges.haproxy(status)?;
    gauges.probes(status)?;
    let mut families = counters.registry.gather();
    families.extend(snapshot.gather());
    families.sort_by(|a, b| a.name().cmp(b.name()));
    let mut each = match cardinality {
        Cardinality::PerCertificate => FAMILIES.as_slice(),
        Cardinality::Aggregate => &[],
    }
    .iter()
    .peekable();
    let mut text = String::new();
    for family in families {
        // All of them by name.
        while let Some(earlier) = each.next_if(|each| *full_name(each.name) < *family.name()) {
            earlier.write(&mut text, status, now);
        }
        TextEncoder::new().encode_utf8(&[family], &mut text)?;
    }
    each.for_each(|rest| rest.write(&mut text, status, now));
    Ok(text)
}

struct Gauges<'a> {
    registry: &'a Registry,
}

impl Gauges<'_> {
    fn plain(&self, name: &str, help: &str) -> Result<Gauge, prometheus::Error> {
        let gauge = Gauge::with_opts(opts(name, help))?;
        self.registry.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }

    fn labelled(&self, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec, prometheus::Error> {
        let gauge = GaugeVec::new(opts(name, help), labels)?;
        self.registry.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }

    fn overall(&self, status: &Status) -> Result<(), prometheus::Error> {
        self.labelled("build_info", "Build information.", &["version", "revision", "tls_library"])?
            .with_label_values(&[
                env!("CARGO_PKG_VERSION"),
                option_env!("STAPLER_BUILD_REVISION").unwrap_or("unknown"),
                openssl::version::version(),
            ])
            .set(1.0);
        let states = self.labelled("certificates", "Certificates known, by state.", &["state"])?;
        for (state, count) in status.states() {
            states.with_label_values(&[state.label()]).set(count_as_f64(count));
        }
        self.plain("refresh_interval_seconds", "Longest time between two looks at a certificate, as configured.")?
            .set(status.refresh_interval.as_secs_f64());
        if let Some(at) = status.last_pass_at {
            self.plain("last_pass_timestamp_seconds", "End of the last pass over all certificates.")?.set(seconds(at));
        }
        if let Some(at) = status.min_next_update() {
            self.plain(
                "staples_min_next_update_timestamp_seconds",
                "Earliest nextUpdate over all staples that HAProxy holds.",
            )?
            .set(seconds(at));
        }
        Ok(())
    }

    fn haproxy(&self, status: &Status) -> Result<(), prometheus::Error> {
        let up = self.labelled("haproxy_up", "Whether HAProxy's socket answered the last look.", &["haproxy"])?;
        let info = self.labelled("haproxy_info", "The HAProxy behind a socket.", &["haproxy", "version"])?;
        for haproxy in &status.haproxy {
            up.with_label_values(&[&*haproxy.haproxy]).set(truth(haproxy.up == Some(true)));
            if let Some(version) = &haproxy.version {
                info.with_label_values(&[&*haproxy.haproxy, version]).set(1.0);
            }
        }
        Ok(())
    }

    /// A frontend that was not looked at yet has no series: neither value would be true.
    fn probes(&self, status: &Status) -> Result<(), prometheus::Error> {
        let labels = ["target", "servername"];
        let stapled = self.labelled(
            "probe_stapled",
            "Whether every client that a frontend has a certificate for sees a good staple.",
            &labels,
        )?;
        let next_update = self.labelled(
            "probe_staple_next_update_timestamp_seconds",
            "Earliest nextUpdate of the verified staples that a frontend shows.",
            &labels,
        )?;
        for probe in &status.probes {
            let labels = [probe.target.as_str(), probe.servername.as_str()];
            if let Some(sight) = probe.sight {
                stapled.with_label_values(&labels).set(truth(sight == Sight::Good));
            }
            set(&next_update, labels, probe.next_update);
        }
        Ok(())
    }
}

fn set<const N: usize>(gauge: &GaugeVec, labels: [&str; N], at: Option<Timestamp>) {
    if let Some(at) = at {
        gauge.with_label_values(&labels).set(seconds(at));
    }
}

fn truth(value: bool) -> f64 {
    f64::from(u8::from(value))
}

fn count_as_f64(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}

fn seconds(at: Timestamp) -> f64 {
    let since = at.duration_since(Timestamp::UNIX_EPOCH);
    since.as_secs_f64()
}
