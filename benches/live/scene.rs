//! One run's HAProxy, and the program before it.

use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::eyes::{self, Sight};
use crate::options::Options;
use crate::site::Site;
use crate::support::client::stapled_bytes;
use crate::support::haproxy::{Builder, Haproxy, Mode};
use crate::support::process::Process;
use crate::support::stapler::{self, Stapler, http_get};
use crate::usage::{self, Usage};

/// Every certificate is looked at with a handshake where there are no more than this, and a sample otherwise.
const HANDSHAKES: usize = 1000;
/// For what takes a second or two on a quiet machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// A HAProxy that has loaded the site and holds no staple, and a place for the program's state.
pub struct Scene<'a> {
    pub haproxy: Haproxy,
    site: &'a Site,
    options: &'a Options,
    state: TempDir,
}

impl<'a> Scene<'a> {
    /// With the directory of certificates on the bind line.
    pub fn new(site: &'a Site, options: &'a Options, mode: Mode) -> Self {
        site.forget();
        Self::with(site, options, mode)
    }

    /// The same with a place for each staple from the start.
    pub fn placed(site: &'a Site, options: &'a Options, mode: Mode) -> Self {
        site.place();
        Self::with(site, options, mode)
    }

    fn with(site: &'a Site, options: &'a Options, mode: Mode) -> Self {
        let haproxy = builder(options).mode(mode).bind(&format!("crt {}", site.certs_dir().display())).start();
        Self { haproxy, site, options, state: TempDir::new().expect("a temporary directory") }
    }

    /// The program, about to start in the scene's state directory with its defaults.
    pub fn stapler(&self) -> stapler::Builder {
        Stapler::builder(&self.options.binary)
            .env("STAPLER_CERTS", self.site.certs_dir())
            .env("STAPLER_SOCKETS", self.haproxy.socket())
            .env("STAPLER_STATE_DIR", self.state.path())
    }

    /// Looks until HAProxy holds every staple.
    ///
    /// # Panics
    /// When it does not come to that.
    pub fn watch(&self, start: Instant) -> Sight {
        let sight = eyes::watch(&self.haproxy, &self.site.leaves, start, PATIENCE);
        let Sight { count, .. } = sight;
        assert!(sight.all.is_some(), "{count} of {} staples after {PATIENCE:?}", self.site.leaves.len());
        sight
    }

    /// Asks for staples as a client does, and compares them with the CA's answers.
    ///
    /// # Panics
    /// When one is not the CA's answer.
    pub fn check_by_handshake(&self) {
        let leaves = &self.site.leaves;
        let step = leaves.len().div_ceil(HANDSHAKES);
        for leaf in leaves.iter().step_by(step) {
            let staple = stapled_bytes(self.haproxy.port(), &leaf.host);
            assert!(staple.as_deref() == Some(&*leaf.answer), "{}: a client sees {staple:?}", leaf.host);
        }
    }
}

/// A HAProxy about to start.
pub fn builder(options: &Options) -> Builder {
    // All certificates are of one CA, so that clients need no second opinion: the default of 2048 bits is for RSA.
    Haproxy::builder_for(&options.haproxy)
}

/// Waits until the first pass is over: everything is stapled and every file written.
pub fn settle(stapler: &mut Stapler) {
    let start = Instant::now();
    while http_get(stapler.port(), "/readyz").map_or(0, |reply| reply.status) != 200 {
        assert!(stapler.process().exited().is_none(), "it ended:\n{}", stapler.log());
        assert!(start.elapsed() < PATIENCE, "it does not settle:\n{}", stapler.log());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What the program has used so far.
pub fn usage(stapler: &mut Stapler) -> Usage {
    usage::of(Process::pid(stapler.process()))
}
