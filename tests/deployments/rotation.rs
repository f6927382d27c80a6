//! Certificates that others add, replace and remove.

use std::fs;

use crate::site::{Authority, impatient, said, stapler_for, wait_for_passes, wait_for_state, wait_until_said};
use crate::support::client::stapled_bytes;
use crate::support::haproxy::Haproxy;
use crate::support::pki::Identity;
use crate::support::{PATIENCE, wait_for};
use crate::{assert_startable, state, wait_for_all, wait_for_file, wait_for_staple, warnings, write};

const BINARY: &str = env!("CARGO_BIN_EXE_haproxy-stapler");

/// What a controller does to add a certificate at run time, up to the point where something uses it.
fn load(haproxy: &Haproxy, name: &str, leaf: &Identity) {
    assert!(haproxy.command(&format!("new ssl cert {name}")).contains("New empty"));
    let set = format!("set ssl cert {name} <<\n{}", leaf.combined_pem());
    wait_for("the transaction", PATIENCE, || haproxy.command(&set).contains("Transaction created").then_some(()));
    assert!(haproxy.command(&format!("commit ssl cert {name}")).contains("Success!"));
}

#[test]
fn an_entry_of_a_crt_list_comes_and_goes_at_run_time() {
    let authority = Authority::start();
    let [first, second, third] = ["first", "second", "third"].map(|name| authority.leaf(&format!("{name}.test")));
    let builder = Haproxy::builder();
    let first_pem = write(&builder, "store/first.pem", first.combined_pem());
    let crt_list = write(&builder, "list.txt", format!("{}\n", first_pem.display()));
    let haproxy = builder.bind(&format!("crt-list {}", crt_list.display())).start();
    let mut stapler =
        impatient(BINARY).env("STAPLER_CERTS", first_pem.parent().unwrap()).env("STAPLER_SOCKETS", haproxy.socket());
    stapler = stapler.env("STAPLER_REFRESH_INTERVAL", "1h");
    let mut stapler = stapler.start();
    let before = wait_for_staple(haproxy.port(), &first);
    wait_for_all(&mut stapler, 1);

    let second_pem = first_pem.with_file_name("second.pem");
    fs::write(&second_pem, second.combined_pem()).unwrap();
    let (list, name) = (crt_list.display(), second_pem.display().to_string());
    load(&haproxy, &name, &second);
    wait_for_state(&mut stapler, "/second.pem", "not_loaded");
    wait_for_passes(&mut stapler, 2);
    let added = haproxy.command(&format!("add ssl crt-list {list} {name}"));
    assert!(added.contains("Success!"), "{added}");
    let staple = wait_for_staple(haproxy.port(), &second);
    wait_for_file(&second_pem.with_extension("pem.ocsp"), &staple);
    wait_for_all(&mut stapler, 2);
    assert_eq!(warnings(&stapler), Vec::<String>::new());

    // One that is in HAProxy's memory only cannot be read, and that is said.
    let third_pem = haproxy.dir().join("third.pem").display().to_string();
    load(&haproxy, &third_pem, &third);
    assert!(haproxy.command(&format!("add ssl crt-list {list} {third_pem}")).contains("Success!"));
    wait_until_said(&stapler, &format!("HAProxy serves '{third_pem}', and no file found here holds it"));
    for each in [&third_pem, &name] {
        assert!(haproxy.command(&format!("del ssl crt-list {list} {each}")).contains("deleted"));
        let deleted = wait_for("the certificate to go", PATIENCE, || {
            Some(haproxy.command(&format!("del ssl cert {each}"))).filter(|reply| !reply.contains("in use"))
        });
        assert!(deleted.contains("deleted"), "{deleted}");
    }
    fs::remove_file(&second_pem).unwrap();
    stapler.wait_until("it to be gone", |status| state(status, "/second.pem") == "absent");
    wait_for("its .ocsp file to go", PATIENCE, || (!second_pem.with_extension("pem.ocsp").exists()).then_some(()));
    let status = wait_for_all(&mut stapler, 1);
    assert_eq!(status["haproxy"][0]["unmatched"], serde_json::json!([]));
    assert_eq!(stapled_bytes(haproxy.port(), "first.test"), Some(before), "the others never noticed");
    assert_eq!(said(&stapler, "no file found here holds it"), 1);
    assert_startable(&haproxy);
}

#[test]
fn new_files_are_stapled_from_haproxys_next_start_on_and_deleted_ones_leave_nothing() {
    let authority = Authority::start();
    let (old, new) = (authority.leaf("old.test"), authority.leaf("new.test"));
    let mut haproxy = Haproxy::builder()
        .file("old.pem", old.combined_pem())
        .file("stays.pem", authority.leaf("stays.test").combined_pem())
        .start();
    let mut stapler = stapler_for(&haproxy).start();
    wait_for_all(&mut stapler, 2);
    fs::write(haproxy.certificate("new.pem"), new.combined_pem()).unwrap();
    let entry = wait_for_state(&mut stapler, "/new.pem", "not_loaded");
    assert!(entry["detail"].as_str().unwrap().contains("no HAProxy has loaded it"), "{entry:#}");
    let staple = wait_for("its .ocsp file", PATIENCE, || fs::read(haproxy.certificate("new.pem.ocsp")).ok());
    fs::remove_file(haproxy.certificate("old.pem")).unwrap();
    wait_for("the other .ocsp file to go", PATIENCE, || (!haproxy.certificate("old.pem.ocsp").exists()).then_some(()));
    wait_for_passes(&mut stapler, 1);
    wait_for_state(&mut stapler, "/old.pem", "stapled");
    assert!(stapled_bytes(haproxy.port(), "old.test").is_some(), "HAProxy still has it");
    assert_startable(&haproxy);

    haproxy.reload();
    assert_eq!(stapled_bytes(haproxy.port(), "new.test"), Some(staple), "the first handshake after the reload");
    let status = wait_for_all(&mut stapler, 2);
    assert_eq!((state(&status, "/old.pem").as_str(), state(&status, "/new.pem").as_str()), ("absent", "stapled"));
    assert_eq!(warnings(&stapler), Vec::<String>::new());
}
