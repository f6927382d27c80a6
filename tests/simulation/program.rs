//! One life of the program under test.

use std::sync::Arc;
use std::time::Duration;

use haproxy_stapler::agent::{self, Cadence, JobFailed, Means, Peers, Reports, Until};
use haproxy_stapler::metrics::Counters;
use haproxy_stapler::settings::Settings;
use haproxy_stapler::status::{Pulse, Status};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::stage::Stage;
use super::wires::{Ca, Hands, Line};

pub(crate) struct Program {
    agent: JoinHandle<Result<(), JobFailed>>,
    reader: JoinHandle<()>,
    shutdown: CancellationToken,
    status: watch::Receiver<Arc<Status>>,
}

impl Program {
    /// Starts it. Somebody reads everything that it publishes.
    pub(crate) fn start(stage: &Stage, settings: &Arc<Settings>, cadence: Cadence) -> Self {
        let (life, clock, machines) = {
            let mut scene = stage.scene();
            scene.life.number += 1;
            scene.life.running = true;
            scene.life.killed = false;
            scene.life.stopping = false;
            let life = scene.life.number;
            scene.note(format_args!("program {life} starts"));
            scene.life_begins();
            (life, scene.clock.clone(), scene.machines.len())
        };
        let reports = Reports {
            status: watch::Sender::new(Arc::new(Status::default())),
            counters: Arc::new(Counters::new().unwrap()),
            pulse: Arc::new(Pulse::new(settings.scan_interval)),
        };
        let status = reports.status.subscribe();
        let line = |machine| Line { stage: stage.clone(), machine, life };
        let peers =
            Peers { responder: Ca { stage: stage.clone(), life }, haproxies: (0..machines).map(line).collect() };
        let means = Means { clock, cadence, threads: Hands { stage: stage.clone(), life } };
        let shutdown = CancellationToken::new();
        let agent = agent::run(settings.clone(), means, peers, reports, Until::Stopped, shutdown.clone());
        let (reader_stage, mut seen) = (stage.clone(), status.clone());
        let reader = tokio::spawn(async move {
            while seen.changed().await.is_ok() {
                let status = seen.borrow_and_update().clone();
                let mut scene = reader_stage.scene();
                if scene.is_alive(life) {
                    scene.judge_snapshot(&status);
                }
            }
        });
        Self { agent: tokio::spawn(agent), reader, shutdown, status }
    }

    /// What it published last.
    pub(crate) fn status(&self) -> Arc<Status> {
        self.status.borrow().clone()
    }

    /// Ends by itself only with a fault; says which.
    pub(crate) async fn fault(&mut self) -> String {
        match (&mut self.agent).await {
            Ok(Ok(())) => "it ended though nobody told it to".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// Everything of it is gone, at this very moment.
    pub(crate) async fn kill(self) {
        self.agent.abort();
        let _ = self.agent.await;
        self.reader.abort();
        // Its tasks are dropped when they would run next: their files are closed then.
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
    }

    /// Tells it to stop, and says how it ended, if it did within so long.
    pub(crate) async fn stop(self, patience: Duration) -> Result<(), String> {
        self.shutdown.cancel();
        let ended = tokio::time::timeout(patience, self.agent).await;
        self.reader.abort();
        match ended {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(error.to_string()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("it did not end within {patience:?}")),
        }
    }
}
