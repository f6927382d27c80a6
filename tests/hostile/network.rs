//! Names that do not resolve, addresses that lead nowhere, and redirects to what only this host can reach: in a network
//! and with a resolver of the test's own, where nothing else hears it.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Instant;

use crate::cast::Cast;
use crate::dns::{self, Name};
use crate::site::{plain, wait_for_state};
use crate::stage::stapler_for;
use crate::support::client::stapled_bytes;
use crate::support::haproxy::Haproxy;
use crate::support::pki::Identity;
use crate::support::process::run;
use crate::support::responder::{Behaviour, Responder};
use crate::support::response::Response;
use crate::wire::{Wire, ok};

/// Set in the namespaces.
const INSIDE: &str = "HOSTILE_NAMESPACES";

/// Addresses of the network's own for two CAs, and that of a cloud's metadata; a way for IPv6 that loses every packet.
const NETWORK: &str = r#"
ip link set lo up
for address in 192.0.2.10/32 192.0.2.20/32 169.254.169.254/32; do ip addr add "$address" dev lo; done
ip link add name near type veth peer name far
ip link set near up
ip link set far up
ip addr add 2001:db8:1::1/64 dev near nodad
ip neigh add 2001:db8:1::2 lladdr 02:00:00:00:00:02 dev near nud permanent
cd "$(mktemp -d)"
echo 'nameserver 127.0.0.1' > resolv.conf
echo 'hosts: files dns' > nsswitch.conf
printf '127.0.0.1 localhost\n::1 localhost\n' > hosts
for file in resolv.conf nsswitch.conf hosts; do mount --bind "$file" "/etc/$file"; done
exec "$@"
"#;

/// Runs an ignored test of this program in namespaces of its own.
fn run_inside(test: &str) {
    let ip = Command::new("ip").arg("-V").output();
    assert!(ip.is_ok(), "ip is not installed: run `make setup`, or `apt-get install iproute2`");
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "sh", "-ec", NETWORK, "sh"]);
    command.arg(std::env::current_exe().unwrap()).args(["--exact", test, "--ignored", "--nocapture"]).env(INSIDE, "1");
    let output = run(&mut command);
    let words = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(
        output.status.success() && words.contains("1 passed"),
        "root is needed, in a container with CAP_SYS_ADMIN and CAP_NET_ADMIN:\n{words}"
    );
    eprintln!("{words}");
}

#[test]
fn names_and_addresses_that_lead_nowhere_or_inward_hurt_nobody() {
    run_inside("network::in_a_network_of_its_own");
}

const PUBLIC: &str = "192.0.2.10";
const OTHER: &str = "192.0.2.20";
const NOWHERE: &str = "2001:db8:1::2";
const LOOPBACK: &str = "127.0.0.1";
const METADATA: &str = "169.254.169.254";

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn serve_names() {
    let has = |addresses: &[&str]| Name::Has(addresses.iter().map(|text| address(text)).collect());
    let names = [
        ("public.hostile", has(&[PUBLIC])),
        ("other.hostile", has(&[OTHER])),
        ("dual.hostile", has(&[NOWHERE, PUBLIC])),
        ("lost.hostile", has(&[NOWHERE])),
        ("slow.hostile", Name::Silent),
        ("inward.hostile", has(&[LOOPBACK])),
        ("inward6.hostile", has(&["::1"])),
        ("metadata.hostile", has(&[METADATA])),
        ("rebound.hostile", Name::Turns(address(PUBLIC), address(LOOPBACK))),
    ];
    let names: HashMap<String, Name> = names.into_iter().map(|(name, what)| (name.to_owned(), what)).collect();
    dns::serve(SocketAddr::new(address(LOOPBACK), 53), names);
}

fn leads(location: String) -> Behaviour {
    Behaviour::Http(307, vec![("location".to_owned(), location)], Vec::new())
}

#[test]
#[ignore = "runs in the namespaces that names_and_addresses_that_lead_nowhere_or_inward_hurt_nobody makes"]
fn in_a_network_of_its_own() {
    assert!(std::env::var_os(INSIDE).is_some(), "not for this network");
    serve_names();
    let cast = Cast::new();
    let (public, inner) = (Responder::start_at(address(PUBLIC)), Responder::start());
    let other = Wire::start_at(address(OTHER));
    let traps = [LOOPBACK, "::1", METADATA].map(|text| Wire::start_at(address(text)));
    let [trap, trap6, metadata] = traps.each_ref().map(|trap| trap.address().port());
    let port = public.address().port();
    let at = |name: &str| format!("http://{name}.hostile:{port}");

    // The certificate's name, its responder, where that leads, the state and reason it ends in, a word of what is said.
    let cases: Vec<(&str, String, Option<String>, &str, &str)> = vec![
        ("public", at("public"), None, "stapled", ""),
        ("dual", at("dual"), None, "stapled", ""),
        ("inward", format!("http://inward.hostile:{}", inner.address().port()), None, "stapled", ""),
        (
            "elsewhere",
            at("public"),
            Some(format!("http://other.hostile:{}/elsewhere", other.address().port())),
            "stapled",
            "",
        ),
        ("slow", at("slow"), None, "dns", "the resolver gave no answer within 4 s"),
        ("unknown", at("unknown"), None, "dns", "does not resolve"),
        ("lost", at("lost"), None, "connect", "no connection within 5 s"),
        (
            "to-loopback",
            at("public"),
            Some(format!("http://{LOOPBACK}:{trap}/")),
            "redirect",
            "only this host can reach",
        ),
        (
            "to-localhost",
            at("public"),
            Some(format!("http://localhost:{trap}/")),
            "redirect",
            "only this host can reach",
        ),
        (
            "to-mapped",
            at("public"),
            Some(format!("http://[::ffff:{LOOPBACK}]:{trap}/")),
            "redirect",
            "only this host can reach",
        ),
        ("to-loopback6", at("public"), Some(format!("http://[::1]:{trap6}/")), "redirect", "only this host can reach"),
        (
            "to-name",
            at("public"),
            Some(format!("http://inward.hostile:{trap}/")),
            "redirect",
            "only addresses that only this host",
        ),
        (
            "to-name6",
            at("public"),
            Some(format!("http://inward6.hostile:{trap6}/")),
            "redirect",
            "only addresses that only this host",
        ),
        (
            "to-link",
            at("public"),
            Some(format!("http://{METADATA}:{metadata}/latest")),
            "redirect",
            "only this host can reach",
        ),
        (
            "to-link-name",
            at("public"),
            Some(format!("http://metadata.hostile:{metadata}/")),
            "redirect",
            "only addresses that only this host",
        ),
        (
            "rebound",
            at("rebound"),
            Some(format!("http://rebound.hostile:{trap}/")),
            "redirect",
            "only addresses that only this host",
        ),
    ];
    let mut builder = Haproxy::builder();
    let mut leaves: BTreeMap<&str, Identity> = BTreeMap::new();
    for (name, url, location, ..) in &cases {
        let leaf = cast.leaf(name).ocsp(url).issue();
        for responder in [&public, &inner] {
            responder.register(&leaf, &cast.ca);
        }
        if let Some(location) = location {
            public.set(&leaf, leads(location.clone()));
        }
        builder = builder.file(&format!("{name}.pem"), leaf.combined_pem());
        leaves.insert(name, leaf);
    }
    other.set("elsewhere", ok("application/ocsp-response", &Response::good(&leaves["elsewhere"], &cast.ca).der()));
    let haproxy = builder.start();
    let start = Instant::now();
    let mut stapler = stapler_for(&haproxy).start();
    for (name, .., expected, words) in &cases {
        let state = if *expected == "stapled" { "stapled" } else { "unstapled" };
        let entry = wait_for_state(&mut stapler, &format!("/{name}.pem"), state);
        let (kind, detail) =
            (entry["trouble"]["kind"].as_str().unwrap_or("stapled"), entry["detail"].as_str().unwrap());
        eprintln!("{:5.1} s: {name} is {state}, {kind}: {detail}", start.elapsed().as_secs_f64());
        assert_eq!(kind, *expected, "{entry:#}");
        assert!(detail.contains(words), "{entry:#}");
        assert_eq!(stapled_bytes(haproxy.port(), &format!("{name}.test")).is_some(), state == "stapled", "{name}");
    }
    // The next attempts are no more successful.
    let asked: usize = public.requests(&leaves["to-name"]);
    stapler.wait_until("a second attempt", |_| public.requests(&leaves["to-name"]) > asked);
    let reached: Vec<usize> = traps.iter().map(Wire::total).collect();
    assert_eq!(reached, [0, 0, 0], "nobody was led to this host");
    assert!(stapler.stop().success());
}

/// The proxy resolves, and we look at what the text tells: neither is it asked for our own addresses, nor are they gone to.
#[test]
fn behind_a_proxy_nobody_is_led_to_this_host_either() {
    let cast = Cast::new();
    let (proxy, trap) = (Responder::start(), Wire::start());
    let leaf = cast.leaf("proxied").ocsp("http://ocsp.invalid").issue();
    proxy.register(&leaf, &cast.ca);
    proxy.set(&leaf, leads(format!("http://localhost:{}/", trap.address().port())));
    let haproxy = Haproxy::builder().file("proxied.pem", leaf.combined_pem()).start();
    for no_proxy in ["", "localhost"] {
        let before = proxy.total_requests();
        let mut stapler = plain()
            .env("STAPLER_CERTS", haproxy.certs_dir())
            .env("STAPLER_SOCKETS", haproxy.socket())
            .env("HTTP_PROXY", proxy.url())
            .env("NO_PROXY", no_proxy)
            .start();
        let entry = wait_for_state(&mut stapler, "/proxied.pem", "unstapled");
        assert_eq!(entry["trouble"]["kind"], "redirect", "{entry:#}");
        assert_eq!((proxy.total_requests() - before, trap.total()), (2, 0), "a GET and a POST, and nothing after");
    }
}
