use std::path::Path;

use proptest::prelude::*;
use url::Url;

use super::*;

fn parse(pairs: &[(&str, &str)]) -> Result<Parsed, InvalidSettings> {
    Settings::parse(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

fn settings(pairs: &[(&str, &str)]) -> Settings {
    let parsed = parse(pairs).unwrap();
    assert_eq!(parsed.warnings, Vec::<String>::new());
    parsed.settings
}

fn mistakes(pairs: &[(&str, &str)]) -> Vec<String> {
    parse(pairs).unwrap_err().mistakes.iter().map(ToString::to_string).collect()
}

#[test]
fn an_empty_environment_gives_the_documented_defaults() {
    let settings = settings(&[]);
    assert_eq!(settings.certs, [Path::new("/etc/haproxy/certs")]);
    assert_eq!(settings.sockets, ["/var/run/haproxy/admin.sock".parse().unwrap()]);
    assert_eq!(settings.path_map, PathMap::default());
    assert_eq!(settings.state_dir, Path::new("/var/lib/haproxy-stapler"));
    assert_eq!(settings.ocsp_files, OcspFiles::Auto);
    assert_eq!(settings.refresh_interval, Duration::from_secs(3600));
    assert_eq!(settings.scan_interval, Duration::from_secs(10));
    assert_eq!(settings.timeout, Duration::from_secs(10));
    assert_eq!(settings.concurrency.get(), 32);
    assert_eq!(settings.on_revoked, OnRevoked::Staple);
    assert_eq!(settings.responders, ResponderOverrides::default());
    assert_eq!(settings.filter, NameFilter::default());
    assert_eq!(settings.listen, "0.0.0.0:10093".parse().unwrap());
    assert_eq!(settings.metrics_per_certificate, Cardinality::PerCertificate);
    assert_eq!(settings.log, "info");
    assert_eq!(settings.log_format, LogFormat::Text);
    assert!(settings.describe().iter().all(|setting| setting.source == Source::Default));
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let empty: Vec<(&str, &str)> = variables::ALL.iter().map(|variable| (variable.name, "")).collect();
    let blank: Vec<(&str, &str)> = variables::ALL.iter().map(|variable| (variable.name, "  ")).collect();
    assert_eq!(settings(&empty), settings(&[]));
    assert_eq!(settings(&blank), settings(&[]));
    assert_eq!(settings(&[("STAPLER_CERTS", " , ,")]), settings(&[]));
}

#[test]
fn list_items_are_trimmed_and_empty_and_repeated_ones_dropped() {
    let settings = settings(&[("STAPLER_CERTS", " /a , /b,,/a ,")]);
    assert_eq!(settings.certs, [Path::new("/a"), Path::new("/b")]);
}

#[test]
fn everything_can_be_set() {
    let settings = settings(&[
        ("STAPLER_SOCKETS", "unix@/a.sock, ipv4@127.0.0.1:9999"),
        ("STAPLER_STATE_DIR", "/state"),
        ("STAPLER_OCSP_FILES", "never"),
        ("STAPLER_REFRESH_INTERVAL", "1h30m"),
        ("STAPLER_SCAN_INTERVAL", "15s"),
        ("STAPLER_TIMEOUT", "2500ms"),
        ("STAPLER_CONCURRENCY", "4"),
        ("STAPLER_ON_REVOKED", "withhold"),
        ("STAPLER_LISTEN", "[::1]:0"),
        ("STAPLER_METRICS_PER_CERTIFICATE", "false"),
        ("STAPLER_LOG", "debug,hyper=warn"),
        ("STAPLER_LOG_FORMAT", "json"),
    ]);
    assert_eq!(settings.sockets, ["unix@/a.sock".parse().unwrap(), "ipv4@127.0.0.1:9999".parse().unwrap()]);
    assert_eq!(settings.state_dir, Path::new("/state"));
    assert_eq!(settings.ocsp_files, OcspFiles::Never);
    assert_eq!(settings.refresh_interval, Duration::from_secs(5400));
    assert_eq!(settings.scan_interval, Duration::from_secs(15));
    assert_eq!(settings.timeout, Duration::from_millis(2500));
    assert_eq!(settings.concurrency.get(), 4);
    assert_eq!(settings.on_revoked, OnRevoked::Withhold);
    assert_eq!(settings.listen, "[::1]:0".parse().unwrap());
    assert_eq!(settings.metrics_per_certificate, Cardinality::Aggregate);
    assert_eq!(settings.log, "debug,hyper=warn");
    assert_eq!(settings.log_format, LogFormat::Json);
}

#[test]
fn all_mistakes_are_told_at_once_with_names_and_values() {
    let told = mistakes(&[
        ("STAPLER_TIMEOUT", "10"),
        ("STAPLER_PATH_MAP", "/a=/b, nonsense, =/c"),
        ("STAPLER_OCSP_FILES", "sometimes"),
        ("STAPLER_PROBES", "127.0.0.1:443/127.0.0.1"),
        ("STAPLER_CONCURRENCY", "0"),
        ("STAPLER_LISTEN", "10093"),
        ("STAPLER_EXCLUDE", "a***"),
    ]);
    let starts = [
        "STAPLER_PATH_MAP='nonsense': expected HAPROXY_PREFIX=OWN_PREFIX",
        "STAPLER_PATH_MAP='=/c': expected HAPROXY_PREFIX=OWN_PREFIX",
        "STAPLER_OCSP_FILES='sometimes': expected 'auto' or 'never'",
        "STAPLER_TIMEOUT='10': a duration carries its unit, for example '10s'",
        "STAPLER_CONCURRENCY='0': expected a number from 1 to 1024",
        "STAPLER_EXCLUDE='a***': not a glob",
        "STAPLER_PROBES='127.0.0.1:443/127.0.0.1': expected a DNS name as the server name: RFC 6066 section 3 knows no \
         addresses there",
        "STAPLER_LISTEN='10093': expected ADDRESS:PORT",
    ];
    assert_eq!(told.len(), starts.len(), "{told:#?}");
    for (told, start) in told.iter().zip(starts) {
        assert!(told.starts_with(start), "{told}");
    }
}

#[test]
fn durations_carry_a_unit_and_are_sane() {
    for wrong in ["90", "1.5", "-5s", "5s ago", "0s", "0h0m", "10:00", "00:10:00", "soon", "7d", "s", "1h garbage"] {
        assert_eq!(mistakes(&[("STAPLER_REFRESH_INTERVAL", wrong)]).len(), 1, "{wrong}");
    }
    for (variable, wrong, text) in [
        ("STAPLER_SCAN_INTERVAL", "999ms", "at least 1s"),
        ("STAPLER_SCAN_INTERVAL", "61m", "at most 1h"),
        ("STAPLER_TIMEOUT", "99ms", "at least 100ms"),
        ("STAPLER_TIMEOUT", "301s", "at most 5m"),
        ("STAPLER_REFRESH_INTERVAL", "8761h", "at most 8760h"),
    ] {
        let told = mistakes(&[(variable, wrong)]);
        assert!(told.len() == 1 && told[0].contains(text), "{told:?}");
    }
    for (right, seconds) in [("1h 30m", 5400), ("90 minutes", 5400), ("1.5h", 5400), ("45s", 45), ("168h", 604_800)] {
        assert_eq!(settings(&[("STAPLER_REFRESH_INTERVAL", right)]).refresh_interval, Duration::from_secs(seconds));
    }
}

#[test]
fn an_unknown_variable_is_warned_about_with_the_nearest_name() {
    let parsed = parse(&[("STAPLER_REFERSH_INTERVAL", "1h"), ("STAPLER_certs", "/x"), ("STAPLER_STAPLER_CERTS", "/y")]);
    let parsed = parsed.unwrap();
    let expect =
        |name: &str, nearest: &str| format!("{name} is not a setting and is ignored; the nearest one is {nearest}");
    assert_eq!(
        parsed.warnings,
        [
            expect("STAPLER_REFERSH_INTERVAL", "STAPLER_REFRESH_INTERVAL"),
            expect("STAPLER_STAPLER_CERTS", "STAPLER_CERTS"),
            expect("STAPLER_certs", "STAPLER_CERTS"),
        ]
    );
    assert_eq!(parsed.settings, settings(&[]));
    let refused = parse(&[("STAPLER_TIMEOUT", "1"), ("STAPLER_TIMEOUTS", "1s")]).unwrap_err();
    assert_eq!(refused.warnings, [expect("STAPLER_TIMEOUTS", "STAPLER_TIMEOUT")]);
}

#[test]
fn the_nearest_name_is_the_one_meant() {
    for (asked, nearest) in [
        ("STAPLER_INTERVAL", "STAPLER_SCAN_INTERVAL"),
        ("STAPLER_CERT", "STAPLER_CERTS"),
        ("STAPLER_SOCKET", "STAPLER_SOCKETS"),
        ("STAPLER_LOG_LEVEL", "STAPLER_LOG"),
        ("STAPLER_LOGFORMAT", "STAPLER_LOG_FORMAT"),
        ("STAPLER_METRICS", "STAPLER_METRICS_PER_CERTIFICATE"),
        ("STAPLER_STATEDIR", "STAPLER_STATE_DIR"),
    ] {
        let warning = variables::warning(asked).unwrap();
        assert!(warning.ends_with(&format!("is {nearest}")), "{warning}");
    }
}

#[test]
fn kubernetes_service_links_are_ignored() {
    settings(&[
        ("STAPLER_PORT", "tcp://10.0.0.1:10093"),
        ("STAPLER_PORT_10093_TCP_ADDR", "10.0.0.1"),
        ("STAPLER_SERVICE_HOST", "10.0.0.1"),
        ("STAPLER_SERVICE_PORT_METRICS", "10093"),
        ("PATH", "/bin"),
    ]);
}

#[test]
fn of_a_repeated_variable_the_first_counts() {
    assert_eq!(settings(&[("STAPLER_LOG", "warn"), ("STAPLER_LOG", "debug")]).log, "warn");
}

#[test]
fn a_path_map_replaces_whole_components_and_prefers_the_longest_prefix() {
    let map = settings(&[(
        "STAPLER_PATH_MAP",
        "/etc/haproxy/certs=/certs, /etc/haproxy/certs/frontend/ = /front/ ,@web=/web,certs=/relative",
    )])
    .path_map;
    for (haproxy, own) in [
        ("/etc/haproxy/certs/a.pem", "/certs/a.pem"),
        ("/etc/haproxy/certs/frontend/a.pem", "/front/a.pem"),
        ("/etc/haproxy/certs", "/certs"),
        ("/etc/haproxy/certs-old/a.pem", "/etc/haproxy/certs-old/a.pem"),
        ("@web/site.pem", "/web/site.pem"),
        ("@other/site.pem", "@other/site.pem"),
        ("certs/a.pem", "/relative/a.pem"),
        ("/elsewhere/certs/a.pem", "/elsewhere/certs/a.pem"),
    ] {
        assert_eq!(map.to_own(haproxy), Path::new(own));
        assert_eq!(map.to_own(haproxy).as_os_str(), Path::new(own).as_os_str());
        assert_eq!(map.to_haproxy(Path::new(own)), haproxy);
    }
    let told = mistakes(&[("STAPLER_PATH_MAP", "/a=/b,/a/=/c")]);
    assert_eq!(told, ["STAPLER_PATH_MAP='/a/=/c': /a is mapped to /b already"]);
}

#[test]
fn responders_are_overridden_by_host_and_port() {
    let responders = settings(&[(
        "STAPLER_RESPONDERS",
        "OCSP.Example.com=http://10.0.0.1:8080/ocsp?a=b, other.example=OFF, 127.0.0.1:8888=off, [::1]:80=off",
    )])
    .responders;
    let url = Override::Url(Url::parse("http://10.0.0.1:8080/ocsp?a=b").unwrap());
    assert_eq!(responders.find("ocsp.example.com"), Some(&url));
    assert_eq!(responders.find("ocsp.EXAMPLE.com:8080"), Some(&url));
    assert_eq!(responders.find("other.example"), Some(&Override::Off));
    assert_eq!(responders.find("127.0.0.1:8888"), Some(&Override::Off));
    assert_eq!(responders.find("127.0.0.1:8889"), None);
    assert_eq!(responders.find("127.0.0.1"), None);
    assert_eq!(responders.find("[::1]"), Some(&Override::Off));
    assert_eq!(responders.find("[::2]"), None);
    for wrong in ["a", "a=", "=off", "a=b", "a=ftp://b/", "http://a=off", "a/b=off", "u@a=off", "a=http://", "a b=off"]
    {
        assert_eq!(mistakes(&[("STAPLER_RESPONDERS", wrong)]).len(), 1, "{wrong}");
    }
    let told = mistakes(&[("STAPLER_RESPONDERS", "a=off,A=http://b/")]);
    assert_eq!(told, ["STAPLER_RESPONDERS='a': this host is overridden twice"]);
}

#[test]
fn names_are_filtered_by_globs() {
    let filter =
        |include: &str, exclude: &str| settings(&[("STAPLER_INCLUDE", include), ("STAPLER_EXCLUDE", exclude)]).filter;
    assert!(filter("", "").matches("/etc/haproxy/certs/a.pem"));
    assert!(filter("a*.pem", "").matches("/etc/haproxy/certs/a1.pem"));
    assert!(!filter("a*.pem", "").matches("/etc/haproxy/certs/b.pem"));
    assert!(filter("b.pem, /etc/*/certs/*", "").matches("/etc/haproxy/certs/a.pem"));
    assert!(!filter("/etc/*", "").matches("/etc/haproxy/certs/a.pem"));
    assert!(filter("/etc/**", "").matches("/etc/haproxy/certs/a.pem"));
    assert!(!filter("*.pem", "*-internal.pem").matches("/etc/haproxy/certs/a-internal.pem"));
    assert!(!filter("", "@web/*").matches("@web/site"));
    assert!(filter("", "@web/*").matches("@mail/site"));
}

#[test]
fn the_description_shows_what_is_in_force_and_hides_passwords() {
    let settings = settings(&[
        ("STAPLER_CERTS", " /a ,/b,"),
        ("STAPLER_RESPONDERS", "a.example=http://joe:secret@proxy/ocsp,b.example=off"),
        ("https_proxy", "http://joe:se:c/r@et@proxy:3128"),
        ("HTTP_PROXY", "joe:secret@proxy:3128"),
        ("http_proxy", "http://not-this-one"),
        ("NO_PROXY", "localhost,.internal"),
    ]);
    let described = settings.describe();
    assert_eq!(described.len(), variables::ALL.len() + 3);
    let of = |name: &str| {
        let setting = described.iter().find(|setting| setting.name == name).unwrap();
        (setting.value.as_str(), setting.source)
    };
    assert_eq!(of("STAPLER_CERTS"), ("/a,/b", Source::Environment));
    assert_eq!(of("STAPLER_TIMEOUT"), ("10s", Source::Default));
    assert_eq!(of("STAPLER_RESPONDERS"), ("a.example=http://joe:***@proxy/ocsp,b.example=off", Source::Environment));
    assert_eq!(of("HTTP_PROXY"), ("joe:***@proxy:3128", Source::Environment));
    assert_eq!(of("HTTPS_PROXY"), ("http://joe:***@proxy:3128", Source::Environment));
    assert_eq!(of("NO_PROXY"), ("localhost,.internal", Source::Environment));
    assert!(!format!("{described:?}").contains("secret"));
    let told = mistakes(&[("STAPLER_RESPONDERS", "a.example=ftp://joe:secret@proxy/")]);
    assert!(told[0].contains("joe:***@proxy"), "{told:?}");
}

proptest! {
    #[test]
    fn no_environment_makes_it_panic(pairs in prop::collection::vec(
        (prop::sample::select(variables::ALL.map(|variable| variable.name).to_vec()), ".{0,40}"), 0..20,
    )) {
        let pairs = pairs.into_iter().map(|(name, value)| (name.to_owned(), value));
        if let Err(invalid) = Settings::parse(pairs) {
            prop_assert!(!invalid.mistakes.is_empty());
            prop_assert!(invalid.to_string().contains("STAPLER_"));
        }
    }

    #[test]
    fn a_mapped_name_comes_back(rest in "[a-z/.]{0,20}[a-z]") {
        let map = settings(&[("STAPLER_PATH_MAP", "/etc/haproxy=/own")]).path_map;
        let name = format!("/etc/haproxy/{}", rest.trim_start_matches('/'));
        let back = map.to_haproxy(&map.to_own(&name));
        prop_assert_eq!(Path::new(&back), Path::new(&name));
    }
}
