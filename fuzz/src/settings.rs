//! Any environment.

use haproxy_stapler::settings::{Settings, Source};

/// Lines of `NAME=value`.
pub fn check(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input);
    let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    let pairs: Vec<(String, String)> = text.split('\n').filter_map(pair).collect();
    match Settings::parse(pairs) {
        Ok(parsed) => {
            hold(&parsed.settings);
            true
        }
        Err(invalid) => {
            assert!(!invalid.mistakes.is_empty());
            for mistake in &invalid.mistakes {
                assert!(mistake.variable.starts_with("STAPLER_") && !mistake.expected.is_empty(), "{mistake}");
            }
            false
        }
    }
}

/// Whatever is shown as in force means the same when it is set.
fn hold(settings: &Settings) {
    assert!(!settings.certs.is_empty() && !settings.sockets.is_empty() && !settings.log.is_empty());
    for interval in [settings.refresh_interval, settings.scan_interval, settings.timeout] {
        assert!(!interval.is_zero());
    }
    let shown = settings.describe();
    // Passwords are not shown, nor what might be one: `user:word@` with or without a scheme before it.
    if shown.iter().any(|setting| setting.source == Source::Environment && setting.value.contains(":***@")) {
        return;
    }
    let given = shown.into_iter().filter(|setting| setting.source == Source::Environment);
    let again = Settings::parse(given.map(|setting| (setting.name.to_owned(), setting.value)));
    assert_eq!(again.map(|parsed| parsed.settings).as_ref(), Ok(settings), "what is shown is not what is in force");
}
