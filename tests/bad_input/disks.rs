//! Disks that are full, read-only or closed to the program, for the state and for the files beside the certificates.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::site::{
    Authority, binary, haproxy_with_good, impatient, metric, said, stapler_for, wait_for_metric, wait_for_passes,
    wait_for_state, wait_until_said,
};
use crate::support::client::stapled_bytes;
use crate::support::haproxy::Haproxy;
use crate::support::process::put_program;
use crate::support::volume::Volume;

/// The name of the failure, what brings it about, what ends it, a word of the remedy.
type Fault = (&'static str, fn(&Volume), fn(&Volume), &'static str);

const FAULTS: [Fault; 3] = [
    ("no_space", Volume::fill, Volume::empty, "Free space on the volume"),
    ("read_only", |volume| volume.set("ro"), |volume| volume.set("rw"), "ount"),
    ("permission", |volume| permit(volume, 0o555), |volume| permit(volume, 0o755), "this user"),
];

fn permit(volume: &Volume, mode: u32) {
    fs::set_permissions(volume.root(), Permissions::from_mode(mode)).unwrap();
}

/// The program without root's right to write where nobody may, which no container should give it.
struct Unprivileged(TempDir);

impl Unprivileged {
    fn new() -> Self {
        let wrapper = Self(TempDir::new().unwrap());
        let capabilities = "-dac_override,-dac_read_search";
        let program = binary();
        let script = format!(
            "#!/bin/sh\nexec setpriv --inh-caps={capabilities} --bounding-set={capabilities} '{}' \"$@\"\n",
            program.display()
        );
        put_program(&wrapper.path(), script.as_bytes());
        wrapper
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("haproxy-stapler")
    }
}

#[test]
fn a_state_directory_that_takes_nothing_costs_the_state_only() {
    for (kind, harm, heal, remedy) in FAULTS {
        let authority = Authority::start();
        let haproxy = haproxy_with_good(&authority).file("two.pem", authority.leaf("two.test").combined_pem()).start();
        let volume = Volume::new();
        harm(&volume);
        let program = Unprivileged::new();
        let mut stapler = impatient(program.path())
            .env("STAPLER_CERTS", haproxy.certs_dir())
            .env("STAPLER_SOCKETS", haproxy.socket())
            .env("STAPLER_STATE_DIR", volume.root())
            .start();
        for name in ["good", "two"] {
            wait_for_state(&mut stapler, &format!("/{name}.pem"), "stapled");
            assert!(stapled_bytes(haproxy.port(), &format!("{name}.test")).is_some());
        }
        let words = format!("cannot write files in {}: ", volume.root().display());
        wait_until_said(&stapler, &words);
        wait_for_passes(&mut stapler, 3);
        assert_eq!(said(&stapler, &words), 1, "{}", stapler.log());
        assert_eq!(said(&stapler, remedy), 1, "{}", stapler.log());
        let status = stapler.status().unwrap();
        assert_eq!(status["troubles"].as_array().unwrap().len(), 1, "{}", status["troubles"]);
        assert_eq!(status["troubles"][0]["kind"], kind);
        assert_eq!(status["status"], "degraded");
        let failures = format!("haproxy_stapler_staple_write_failures_total{{reason=\"{kind}\"}}");
        assert!(metric(&stapler.get("/metrics").text(), &failures).is_some_and(|count| count >= 2.0));
        // The certificates' own directory is none the worse.
        assert!(haproxy.certificate("good.pem.ocsp").exists());

        heal(&volume);
        stapler.wait_until("no trouble", |status| status["status"] == "ok");
        assert_eq!(volume.names(".").iter().filter(|name| name.ends_with(".ocsp")).count(), 2);
        assert_eq!(said(&stapler, &format!("no longer: {words}")), 1);
    }
}

#[test]
fn a_certificate_directory_that_takes_nothing_costs_the_ocsp_files_only() {
    for (kind, harm, heal, remedy) in FAULTS {
        let authority = Authority::start();
        let volume = Volume::new();
        for name in ["good", "two"] {
            let leaf = authority.leaf(&format!("{name}.test"));
            fs::write(volume.path(&format!("{name}.pem")), leaf.combined_pem()).unwrap();
        }
        let haproxy = Haproxy::builder().bind(&format!("crt {}", volume.root().display())).start();
        harm(&volume);
        // What fills the volume lies among the certificates and is none.
        let program = Unprivileged::new();
        let mut stapler = impatient(program.path())
            .env("STAPLER_CERTS", volume.root())
            .env("STAPLER_SOCKETS", haproxy.socket())
            .start();
        for name in ["good", "two"] {
            wait_for_state(&mut stapler, &format!("/{name}.pem"), "stapled");
        }
        assert!(stapled_bytes(haproxy.port(), "two.test").is_some());
        let words = format!("cannot write files in {}: ", volume.root().display());
        wait_until_said(&stapler, &words);
        wait_for_passes(&mut stapler, 3);
        assert_eq!(said(&stapler, &words), 1, "{}", stapler.log());
        assert_eq!(said(&stapler, remedy), 1, "{}", stapler.log());
        let troubles = stapler.status().unwrap()["troubles"].clone();
        assert!(troubles.as_array().unwrap().len() == 1 && troubles[0]["kind"] == kind, "{troubles}");
        wait_for_metric(&stapler, "haproxy_stapler_staple_writes_total", 2.0);

        heal(&volume);
        stapler.wait_until("no trouble", |status| status["troubles"].as_array().unwrap().is_empty());
        let names = volume.names(".");
        assert_eq!(names, ["good.pem", "good.pem.ocsp", "two.pem", "two.pem.ocsp"]);
        wait_for_metric(&stapler, "haproxy_stapler_staple_writes_total", 4.0);
    }
}

#[test]
fn a_directory_in_an_ocsp_files_place_is_named() {
    let authority = Authority::start();
    let haproxy = haproxy_with_good(&authority).start();
    let in_the_way = haproxy.certificate("good.pem.ocsp");
    fs::create_dir(&in_the_way).unwrap();
    let mut stapler = stapler_for(&haproxy).start();
    wait_for_state(&mut stapler, "/good.pem", "stapled");
    let words = format!("cannot write {}: Is a directory", in_the_way.display());
    wait_until_said(&stapler, &words);
    wait_for_passes(&mut stapler, 2);
    assert_eq!(said(&stapler, &words), 1, "{}", stapler.log());
    fs::remove_dir(&in_the_way).unwrap();
    stapler.wait_until("no trouble", |status| status["status"] == "ok");
    assert!(in_the_way.is_file());
}
