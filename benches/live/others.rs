//! The other ways to staple, on the same site, the same HAProxy and the same CA.

use std::fmt::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::eyes;
use crate::options::Options;
use crate::report::Time;
use crate::scene::builder;
use crate::site::Site;
use crate::support::client::write_root;
use crate::support::haproxy::is_before;
use crate::support::process::run_well;

/// HAProxy's own updater, from the moment it serves; none before 2.8, which has none.
pub fn native(site: &Site, options: &Options, latency: Duration) -> Option<Time> {
    let builder = builder(options);
    let version = builder.version();
    if is_before(&version, 2, 8) {
        println!("  HAProxy {version} has no ocsp-update");
        return None;
    }
    site.forget();
    site.ca.open(latency);
    let list = builder.dir().join("list");
    let mut lines = String::new();
    for leaf in &site.leaves {
        writeln!(lines, "{} [ocsp-update on]", site.file(leaf).display()).expect("a string grows");
    }
    std::fs::write(&list, lines).expect("write a crt-list");
    let haproxy = builder.bind(&format!("crt-list {}", list.display())).start();
    let sight = eyes::watch(&haproxy, &site.leaves, Instant::now(), options.limit);
    println!("  HAProxy's own updater: {} staples, asked {:?}", sight.count, site.ca.asked());
    Some(time(sight.all, options.limit, sight.count, site.leaves.len()))
}

/// The script, which is given a part of the certificates. HAProxy has empty `.ocsp` files to begin with: it would take
/// nothing of the script otherwise.
pub fn script(site: &Site, options: &Options, latency: Duration) -> Time {
    site.forget();
    site.ca.open(latency);
    let sample = &site.leaves[..options.sample.min(site.leaves.len())];
    for leaf in sample {
        std::fs::write(site.file(leaf).with_extension("pem.ocsp"), "").expect("write an empty file");
    }
    let builder = builder(options);
    let [program, root, issuer] = ["classic.sh", "root.pem", "issuer.pem"].map(|name| builder.dir().join(name));
    std::fs::write(&program, include_str!("classic.sh")).expect("write the script");
    write_root(&sample[0].identity, &root);
    std::fs::write(&issuer, sample[0].identity.issuer().pem()).expect("write the issuer");
    let haproxy = builder.bind(&format!("crt {}", site.certs_dir().display())).start();
    let mut command = Command::new("bash");
    command.arg(&program).arg(&root).arg(&issuer).arg(haproxy.socket());
    command.args(sample.iter().map(|leaf| site.file(leaf)));
    let start = Instant::now();
    run_well(&mut command);
    let taken = start.elapsed();
    let sight = eyes::watch(&haproxy, sample, Instant::now(), options.limit);
    assert!(sight.all.is_some(), "the script said that it had done its work, and HAProxy holds {}", sight.count);
    println!("  the script: {} staples in {:.2} s", sample.len(), taken.as_secs_f64());
    time((sample.len() == site.leaves.len()).then_some(taken), taken, sample.len(), site.leaves.len())
}

/// The time for all, or for all at the pace of those that were seen.
fn time(all: Option<Duration>, within: Duration, seen: usize, count: usize) -> Time {
    match all {
        Some(all) => Time { seconds: all.as_secs_f64(), extrapolated: false },
        None => {
            let [seen, count] = [seen.max(1), count].map(|many| f64::from(u32::try_from(many).expect("a count")));
            Time { seconds: within.as_secs_f64() * count / seen, extrapolated: true }
        }
    }
}
