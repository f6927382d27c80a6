//! The server over a fixed snapshot at a fixed moment, for browsers.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use haproxy_stapler::clock::{Clock, Monotonic};
use haproxy_stapler::metrics::Counters;
use haproxy_stapler::server::{self, View};
use haproxy_stapler::settings::Cardinality;
use haproxy_stapler::status::{Pulse, Status};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::samples;

/// The program's own HTTP side, before nothing but this snapshot.
pub struct Server {
    _runtime: Runtime,
    _status: watch::Sender<Arc<Status>>,
    address: SocketAddr,
}

impl Server {
    pub fn start(status: Status) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let status = watch::Sender::new(Arc::new(status));
        let seen = status.subscribe();
        let address = runtime.block_on(async move {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
            let address = listener.local_addr().expect("an address");
            let view = View {
                status: seen,
                counters: Arc::new(Counters::new().expect("counters")),
                pulse: Arc::new(Pulse::new(Duration::from_secs(3600))),
                clock: Clock::steered(samples::now(), Arc::new(AtomicI64::new(0))),
                cardinality: Cardinality::PerCertificate,
                started: Monotonic::default(),
            };
            tokio::spawn(server::run(listener, view, std::future::pending()));
            address
        });
        Self { _runtime: runtime, _status: status, address }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}
