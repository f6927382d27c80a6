//! What a bind line can name.

use std::fs;

use crate::site::{Authority, impatient};
use crate::support::client::{stapled_bytes, stapled_bytes_to};
use crate::support::free_port;
use crate::support::haproxy::Haproxy;
use crate::support::pki::KeyKind;
use crate::{assert_startable, frontend, list, state, wait_for_all, wait_for_file, wait_for_staple, warnings, write};

/// The program under test.
const BINARY: &str = env!("CARGO_BIN_EXE_haproxy-stapler");

#[test]
fn a_file_a_directory_and_a_crt_list_with_options_and_filters() {
    let authority = Authority::start();
    let leaves = ["file", "first", "second", "h2", "plain"].map(|name| authority.leaf(&format!("{name}.test")));
    let [file, first, second, h2, plain] = &leaves;
    let (in_directory, in_list) = (free_port(), free_port());
    let builder = Haproxy::builder();
    let one = write(&builder, "one/site.pem", file.combined_pem());
    write(&builder, "many/first.pem", first.combined_pem());
    write(&builder, "many/second.pem", second.combined_pem());
    let h2_pem = write(&builder, "listed/h2.pem", h2.combined_pem());
    let plain_pem = write(&builder, "listed/plain.pem", plain.combined_pem());
    let (h2_name, plain_name) = (h2_pem.display(), plain_pem.display());
    let lines = format!(
        "# comment\n{h2_name} [alpn h2 ssl-min-ver TLSv1.2] *.test !plain.test\n\n{plain_name} plain.test\n{h2_name}\n"
    );
    let crt_list = write(&builder, "list.txt", lines);
    let many = builder.dir().join("many");
    let mut haproxy = builder
        .bind(&format!("crt {}", one.display()))
        .section(&frontend("directory", in_directory, &format!("crt {}", many.display())))
        .section(&frontend("list", in_list, &format!("crt-list {}", crt_list.display())))
        .start();
    let mut stapler = impatient(BINARY)
        .env("STAPLER_CERTS", list(&[&one.display(), &many.display(), &crt_list.display()]))
        .env("STAPLER_SOCKETS", haproxy.socket())
        .start();
    let ports = [haproxy.port(), in_directory, in_directory, in_list, in_list];
    let staples: Vec<_> = leaves.iter().zip(ports).map(|(leaf, port)| wait_for_staple(port, leaf)).collect();
    wait_for_all(&mut stapler, 5);
    for (path, staple) in ["one/site", "many/first", "many/second", "listed/h2", "listed/plain"].iter().zip(&staples) {
        wait_for_file(&haproxy.dir().join(format!("{path}.pem.ocsp")), staple);
    }
    assert_startable(&haproxy);
    assert!(stapler.stop().success());
    haproxy.reload();
    for ((leaf, port), staple) in leaves.iter().zip(ports).zip(staples) {
        assert_eq!(stapled_bytes(port, &leaf.name()), Some(staple), "the first handshake after a reload");
    }
    assert_eq!(warnings(&stapler), Vec::<String>::new());
}

#[test]
fn a_bundle_by_its_base_name() {
    let authority = Authority::start();
    let rsa = authority.root.leaf("both.test").key(KeyKind::Rsa).ocsp(&authority.responder.url()).issue();
    authority.responder.register(&rsa, &authority.root);
    let ecdsa = authority.leaf("both.test");
    let builder = Haproxy::builder();
    write(&builder, "pair/both.pem.rsa", rsa.combined_pem());
    write(&builder, "pair/both.pem.ecdsa", ecdsa.combined_pem());
    let base = builder.dir().join("pair/both.pem");
    let haproxy = builder.bind(&format!("crt {}", base.display())).start();
    let mut stapler = impatient(BINARY).env("STAPLER_CERTS", &base).env("STAPLER_SOCKETS", haproxy.socket()).start();
    let status = wait_for_all(&mut stapler, 2);
    assert_eq!((&*state(&status, "both.pem.rsa"), &*state(&status, "both.pem.ecdsa")), ("stapled", "stapled"));
    for (leaf, algorithms, name) in
        [(&rsa, "RSA-PSS+SHA256:RSA+SHA256", "both.pem.rsa.ocsp"), (&ecdsa, "ECDSA+SHA256", "both.pem.ecdsa.ocsp")]
    {
        let staple = stapled_bytes_to(haproxy.port(), "both.test", algorithms).unwrap();
        let (verified, text) = crate::openssl_judges(&staple, leaf);
        assert!(verified, "{text}");
        wait_for_file(&base.with_file_name(name), &staple);
    }
    assert_startable(&haproxy);
}

#[test]
fn relative_names_under_a_crt_base() {
    let authority = Authority::start();
    let (listed, bound) = (authority.leaf("listed.test"), authority.leaf("bound.test"));
    let builder = Haproxy::builder();
    let listed_pem = write(&builder, "base/sites/listed.pem", listed.combined_pem());
    let bound_pem = write(&builder, "base/bound.pem", bound.combined_pem());
    let crt_list = write(&builder, "lists/list.txt", "sites/listed.pem\n");
    let base = builder.dir().join("base");
    let haproxy = builder
        .global(&format!("crt-base {}", base.display()))
        .bind(&format!("crt bound.pem crt-list {}", crt_list.display()))
        .start();
    // Nothing but the list is named: where HAProxy has its certificates from, only HAProxy knows.
    let mut stapler =
        impatient(BINARY).env("STAPLER_CERTS", &crt_list).env("STAPLER_SOCKETS", haproxy.socket()).start();
    for (leaf, path) in [(&listed, listed_pem), (&bound, bound_pem)] {
        let staple = wait_for_staple(haproxy.port(), leaf);
        wait_for_file(&path.with_extension("pem.ocsp"), &staple);
    }
    wait_for_all(&mut stapler, 2);
    assert_eq!(warnings(&stapler), Vec::<String>::new());
}

#[test]
fn a_name_of_a_crt_list_that_leads_nowhere_is_named() {
    let authority = Authority::start();
    let haproxy = Haproxy::builder().file("good.pem", authority.leaf("good.test").combined_pem()).start();
    let crt_list = haproxy.dir().join("list.txt");
    fs::write(&crt_list, "good.pem\nabsent.pem\n").unwrap();
    let mut stapler =
        impatient(BINARY).env("STAPLER_CERTS", &crt_list).env("STAPLER_SOCKETS", haproxy.socket()).start();
    let status = stapler.wait_until("both names to have a state", |status| {
        state(status, "/good.pem") == "stapled" && state(status, "/absent.pem") == "unreadable"
    });
    assert_eq!(status["certificates"].as_array().unwrap().len(), 2);
}

#[test]
fn names_relative_to_the_directory_where_haproxy_runs() {
    let authority = Authority::start();
    let leaf = authority.leaf("site.test");
    let haproxy = Haproxy::builder().file("site.pem", leaf.combined_pem()).bind("crt certs/site.pem").start();
    let mut stapler =
        impatient(BINARY).env("STAPLER_CERTS", haproxy.certs_dir()).env("STAPLER_SOCKETS", haproxy.socket()).start();
    let staple = wait_for_staple(haproxy.port(), &leaf);
    let status = wait_for_all(&mut stapler, 1);
    assert_eq!(status["certificates"][0]["certificate"], "certs/site.pem", "HAProxy's name");
    wait_for_file(&haproxy.certificate("site.pem.ocsp"), &staple);
}

#[test]
fn names_with_spaces_and_other_letters_that_mean_something_to_haproxy() {
    let authority = Authority::start();
    let names = ["my site.pem", "semi;colon.pem", "quote's \"own\".pem", "hash #1.pem", "back\\slash.pem", "<<in.pem"];
    let mut builder = Haproxy::builder();
    let leaves: Vec<_> = (0..names.len()).map(|number| authority.leaf(&format!("site-{number}.test"))).collect();
    for (name, leaf) in names.iter().zip(&leaves) {
        builder = builder.file(name, leaf.combined_pem());
    }
    let haproxy = builder.start();
    let mut stapler =
        impatient(BINARY).env("STAPLER_CERTS", haproxy.certs_dir()).env("STAPLER_SOCKETS", haproxy.socket()).start();
    for (name, leaf) in names.iter().zip(&leaves) {
        let staple = wait_for_staple(haproxy.port(), leaf);
        wait_for_file(&haproxy.certificate(&format!("{name}.ocsp")), &staple);
    }
    wait_for_all(&mut stapler, names.len());
    assert_startable(&haproxy);
}

#[test]
fn one_certificate_under_several_names_is_stapled_under_each() {
    let authority = Authority::start();
    let leaf = authority.leaf("site.test");
    let builder = Haproxy::builder();
    let paths = ["a/site.pem", "b/site.pem", "c/other.pem"].map(|name| write(&builder, name, leaf.combined_pem()));
    let (second, third) = (free_port(), free_port());
    let haproxy = builder
        .bind(&format!("crt {}", paths[0].display()))
        .section(&frontend("second", second, &format!("crt {}", paths[1].display())))
        .section(&frontend("third", third, &format!("crt {}", paths[2].display())))
        .start();
    let certs = list(&[&paths[0].display(), &paths[1].display(), &paths[2].display()]);
    let mut stapler = impatient(BINARY).env("STAPLER_CERTS", certs).env("STAPLER_SOCKETS", haproxy.socket()).start();
    let staples = [haproxy.port(), second, third].map(|port| wait_for_staple(port, &leaf));
    assert_eq!((&staples[0], &staples[0]), (&staples[1], &staples[2]));
    wait_for_all(&mut stapler, 3);
    assert_eq!(authority.responder.requests(&leaf), 1, "it is one certificate to its CA");
    for path in paths {
        wait_for_file(&path.with_extension("pem.ocsp"), &staples[0]);
    }
}
