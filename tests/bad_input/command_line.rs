//! Settings and arguments that make no sense.

use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use crate::site::{Authority, binary, haproxy_with_good, plain, stapler_for};
use crate::support::response::Response;

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const ALL_WRONG: [(&str, &str); 14] = [
    ("STAPLER_SOCKETS", "ipv4@nowhere"),
    ("STAPLER_PATH_MAP", "/only-one-side"),
    ("STAPLER_OCSP_FILES", "sometimes"),
    ("STAPLER_REFRESH_INTERVAL", "60"),
    ("STAPLER_SCAN_INTERVAL", "0s"),
    ("STAPLER_TIMEOUT", "-5s"),
    ("STAPLER_CONCURRENCY", "many"),
    ("STAPLER_ON_REVOKED", "panic"),
    ("STAPLER_RESPONDERS", "ocsp.test"),
    ("STAPLER_PROBES", "127.0.0.1"),
    ("STAPLER_LISTEN", "localhost"),
    ("STAPLER_METRICS_PER_CERTIFICATE", "perhaps"),
    ("STAPLER_LOG", "warning"),
    ("STAPLER_LOG_FORMAT", "yaml"),
];

#[test]
fn all_mistakes_in_the_settings_are_told_at_once_by_every_command() {
    for arguments in ["run", "once", "prepare", "explain", "probe 127.0.0.1:443", "settings", "healthcheck"] {
        let command: Vec<&str> = arguments.split(' ').collect();
        let wrong = ALL_WRONG.iter().fold(plain(), |builder, (name, value)| builder.env(name, value));
        let output = wrong.run(&command);
        assert_eq!(code(&output), 64, "{command:?}");
        let text = stderr(&output);
        for (name, value) in ALL_WRONG {
            let start = format!("  {name}='{value}': ");
            let lines = text.lines().filter(|line| line.starts_with(&start)).count();
            assert_eq!(lines, 1, "{command:?}: {name} in {text}");
        }
        assert_eq!(text.lines().count(), 1 + ALL_WRONG.len(), "{text}");
        assert_eq!(stdout(&output), "");
    }
}

#[test]
fn what_a_log_filter_may_be_is_told() {
    for wrong in ["warning", "nonsense", "info,hyper", "info,hyper=loud", "hyper=debug=x"] {
        let output = plain().env("STAPLER_LOG", wrong).run(&["settings"]);
        assert_eq!(code(&output), 64, "{wrong}");
        assert!(stderr(&output).contains(&format!("STAPLER_LOG='{wrong}': ")), "{}", stderr(&output));
        assert!(stderr(&output).contains("'info,hyper=warn'"), "{}", stderr(&output));
    }
    for right in ["WARN", "off", "debug,hyper=warn", "  info  "] {
        let output = plain().env("STAPLER_LOG", right).run(&["settings"]);
        assert_eq!((code(&output), stderr(&output)), (0, String::new()), "{right}");
    }
}

#[test]
fn empty_variables_are_unset_and_misspelt_ones_are_named() {
    let builder = ALL_WRONG.iter().fold(plain(), |builder, (name, _)| builder.env(name, ""));
    let output = builder
        .env("STAPLER_STATE_DIR", "")
        .env("STAPLER_CERTS", "  ")
        .env("STAPLER_REFRESH_INTERVALL", "1h")
        .env("STAPLER_SERVICE_HOST", "10.0.0.1")
        .env("STAPLER_PORT", "tcp://10.0.0.1:80")
        .env("STAPLER_PORT_10093_TCP_ADDR", "10.0.0.1")
        .run(&["settings"]);
    assert_eq!(code(&output), 0);
    let text = stdout(&output);
    let row = |name: &str| -> Vec<String> {
        let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        line.split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(row("STAPLER_STATE_DIR")[1..3], ["/var/lib/haproxy-stapler", "default"]);
    assert_eq!(row("STAPLER_CERTS")[1..3], ["/etc/haproxy/certs", "default"]);
    assert_eq!(row("STAPLER_TIMEOUT")[1..3], ["10s", "default"]);
    let warning = "haproxy-stapler: STAPLER_REFRESH_INTERVALL is not a setting and is ignored; \
                   the nearest one is STAPLER_REFRESH_INTERVAL\n";
    assert_eq!(stderr(&output), warning);
}

#[test]
fn a_daemon_warns_of_misspelt_variables_in_its_log() {
    let authority = Authority::start();
    let haproxy = haproxy_with_good(&authority).start();
    let mut stapler = stapler_for(&haproxy).env("STAPLER_SCANINTERVAL", "1s").start();
    stapler.wait_until_ready();
    let log = stapler.log();
    assert_eq!(log.lines().filter(|line| line.contains("STAPLER_SCANINTERVAL is not a setting")).count(), 1, "{log}");
    assert!(stapler.stop().success());
}

#[test]
fn a_port_that_is_taken_ends_the_program_with_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (listen, words) in [(address.as_str(), "set STAPLER_LISTEN to a free one"), ("192.0.2.1:9", "no such address")]
    {
        let output = plain().env("STAPLER_LISTEN", listen).run(&["run"]);
        let text = stderr(&output);
        assert_eq!(code(&output), 1, "{text}");
        assert!(
            text.contains(&format!("cannot listen on STAPLER_LISTEN={listen}: ")) && text.contains(words),
            "{text}"
        );
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}

#[test]
fn wrong_usage_is_told_with_its_own_exit_status() {
    for (arguments, words) in [
        (&["frobnicate"][..], "unrecognized subcommand 'frobnicate'"),
        (&["once", "--frob"], "unexpected argument '--frob'"),
        (&["run", "extra"], "unexpected argument 'extra'"),
        (&["prepare", "--deadline", "20"], "with a unit"),
        (&["completions", "tcsh"], "invalid value 'tcsh'"),
        (&["verify"], "--cert <CERT>"),
        (&["verify", "--at", "yesterday", "--cert", "a", "--issuer", "b", "c"], "expected an instant like"),
        (&["explain", "a.pem", "b.pem"], "unexpected argument 'b.pem'"),
        (&["probe"], "<HOST:PORT>"),
        (&["probe", "127.0.0.1"], "expected HOST:PORT"),
        (&["probe", "127.0.0.1:443/10.0.0.1"], "expected a DNS name as the server name"),
        (&["probe", "127.0.0.1:443", "--servername", "a.test", "--servername", "::1"], "--servername '::1': expected"),
        (&["probe", "127.0.0.1:443", "--ca-file", "/nowhere"], "cannot read '/nowhere'"),
        (&["probe", "127.0.0.1:443", "--ca-file", "/dev/null"], "'/dev/null' holds no certificate"),
    ] {
        let output = plain().run(arguments);
        assert_eq!(code(&output), 64, "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(words), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{arguments:?}");
    }
    for asked_for in ["--help", "--version", "help"] {
        let output = plain().run(&[asked_for]);
        assert_eq!((code(&output), stderr(&output)), (0, String::new()));
        assert!(stdout(&output).contains("haproxy-stapler"), "{}", stdout(&output));
    }
}

#[test]
fn verify_names_every_file_that_it_cannot_use() {
    let authority = Authority::start();
    let leaf = authority.leaf("verify.test");
    let place = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = place.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let missing = place.path().join("missing").display().to_string();
    let (cert, issuer) = (file("leaf.pem", leaf.pem().as_bytes()), file("root.der", authority.root.der()));
    let (garbage, empty) = (file("garbage", &[0xFF; 99]), file("empty", b""));
    let key = file("key.pem", leaf.key_pem().as_bytes());
    let response = file("good.der", &Response::good(&leaf, &authority.root).der());
    let verify = |cert: &str, issuer: &str, response: &str| {
        plain().run(&["verify", "--cert", cert, "--issuer", issuer, response])
    };
    let output = verify(&missing, &missing, &missing);
    assert_eq!(code(&output), 64);
    assert_eq!(stderr(&output).matches(&format!("cannot read '{missing}'")).count(), 3, "{}", stderr(&output));
    for (cert, issuer) in [(&garbage, &issuer), (&cert, &empty), (&key, &issuer), (&cert, &key)] {
        let output = verify(cert, issuer, &response);
        assert_eq!(code(&output), 64);
        assert!(stderr(&output).contains("holds no certificate in PEM or DER"), "{}", stderr(&output));
    }
    // The response is what is judged: whatever is wrong with it is a verdict.
    for response in [&garbage, &empty, &cert] {
        let output = verify(&cert, &issuer, response);
        assert_eq!(code(&output), 1);
        assert!(stdout(&output).starts_with("reject: "), "{}", stdout(&output));
    }
    assert_eq!(code(&verify(&cert, &issuer, &response)), 0);
    assert_eq!(code(&verify(&issuer, &cert, &response)), 1);
}

#[test]
fn healthcheck_asks_the_daemon_and_says_when_there_is_none() {
    let authority = Authority::start();
    let haproxy = haproxy_with_good(&authority).start();
    let alone = plain().run(&["healthcheck"]);
    assert_eq!(code(&alone), 1);
    assert!(stderr(&alone).contains("unhealthy: no answer from http://127.0.0.1:"), "{}", stderr(&alone));
    let mut stapler = stapler_for(&haproxy).start();
    stapler.wait_until_ready();
    let output = stapler.run(&["healthcheck"]);
    assert_eq!((code(&output), stdout(&output), stderr(&output)), (0, String::new(), String::new()));
    // A proxy for the CAs is none for the loopback.
    let port = stapler.port();
    let proxied = plain()
        .env("STAPLER_LISTEN", format!("0.0.0.0:{port}"))
        .env("HTTP_PROXY", "http://127.0.0.1:9")
        .run(&["healthcheck"]);
    assert_eq!(code(&proxied), 0, "{}", stderr(&proxied));
}

#[test]
fn a_reader_that_goes_away_is_no_failure_and_a_full_disk_is_said() {
    for arguments in [&["settings"][..], &["completions", "bash"], &["--help"]] {
        let mut child = Command::new(binary())
            .args(arguments)
            .env_clear()
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()), "{arguments:?}");
    }
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = Command::new(binary()).arg("settings").env_clear().stdout(full).output().unwrap();
    assert!(stderr(&output).contains("cannot write the output: No space left"), "{}", stderr(&output));
}

/// The table is for people: every certificate, worst first, with what to do below it.
#[test]
fn once_says_what_is_wrong_and_its_exit_status_agrees() {
    let authority = Authority::start();
    let haproxy = haproxy_with_good(&authority).start();
    let site = || stapler_for(&haproxy);
    let good = site().run(&["once"]);
    assert_eq!(code(&good), 0, "{}{}", stdout(&good), stderr(&good));
    let lines: Vec<String> = stdout(&good).lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[0].starts_with("CERTIFICATE ") && lines[1].contains("  stapled  good  "), "{lines:#?}");

    std::fs::write(haproxy.certificate("bad\nname\u{1b}[31m.pem"), "nonsense").unwrap();
    let bad = site().run(&["once"]);
    assert_eq!(code(&bad), 1);
    let lines: Vec<String> = stdout(&bad).lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert!(lines[1].contains("bad\\nname\\u{1b}[31m.pem") && lines[1].contains("unreadable"), "{lines:#?}");

    let json = site().env("STAPLER_SOCKETS", "/nowhere.sock").run(&["once", "--json"]);
    assert_eq!(code(&json), 1);
    let status: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&status["status"], &status["haproxy"][0]["up"]), (&"degraded".into(), &false.into()));
    let nothing = site().env("STAPLER_CERTS", "/nowhere").env("STAPLER_SOCKETS", "/nowhere.sock").run(&["once"]);
    assert_eq!(code(&nothing), 1);
    assert!(stdout(&nothing).contains("! /nowhere: STAPLER_CERTS names it"), "{}", stdout(&nothing));
}
