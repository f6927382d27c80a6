//! Tables for people.

use std::process::ExitCode;

use haproxy_stapler::report::worst_first;
use haproxy_stapler::settings::Settings;
use haproxy_stapler::status::{Status, one_line};
use jiff::Timestamp;

use super::say;

/// `settings`: name, value, source, meaning.
pub(super) fn settings(settings: Settings) -> ExitCode {
    let mut rows = vec![["NAME", "VALUE", "FROM", "MEANING"].map(ToOwned::to_owned)];
    rows.extend(settings.describe().into_iter().map(|setting| {
        [setting.name.to_owned(), setting.value, setting.source.to_string(), setting.meaning.to_owned()]
    }));
    say(&aligned(&rows));
    ExitCode::SUCCESS
}

/// `once`: one line a certificate, worst first, then what is wrong beyond them.
pub(super) fn certificates(status: &Status, now: Timestamp) -> String {
    let mut rows = vec![["CERTIFICATE", "STATE", "OCSP", "AGE", "DETAIL"].map(ToOwned::to_owned)];
    rows.extend(worst_first(status).into_iter().map(|certificate| {
        [
            one_line(&certificate.certificate),
            certificate.state.label().to_owned(),
            certificate.ocsp_status.label().to_owned(),
            certificate.staple_age(now).map_or_else(|| "-".to_owned(), age),
            one_line(&certificate.detail),
        ]
    }));
    let mut text = if status.certificates.is_empty() { "no certificates\n".to_owned() } else { aligned(&rows) };
    text.push_str(&beyond(status));
    text
}

/// What is wrong beyond single certificates, a line each.
pub(super) fn beyond(status: &Status) -> String {
    let haproxies = status.haproxy.iter().filter_map(|haproxy| haproxy.trouble.as_ref());
    status.troubles.iter().chain(haproxies).map(|trouble| format!("! {trouble}\n")).collect()
}

/// An age in its largest two units.
fn age(age: std::time::Duration) -> String {
    let seconds = age.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, ..) => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

/// Columns as wide as their widest cell; the last one runs free.
pub(super) fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let line: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}
