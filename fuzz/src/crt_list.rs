//! Any text as a crt-list.

use haproxy_stapler::crt_list::CrtList;

/// What C's `isspace` takes for white space. Unicode has more, and HAProxy takes those for letters of a name.
const C_SPACES: [char; 6] = [' ', '\t', '\n', '\r', '\x0b', '\x0c'];

/// Reads the text, and what was read again.
pub fn check(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input);
    let list = CrtList::parse(&text);
    let lines: Vec<&str> = text.split('\n').collect();
    let mut last = 0;
    for entry in &list.entries {
        assert!(entry.line_number > last, "one certificate a line, in order");
        last = entry.line_number;
        let line = lines[entry.line_number - 1].trim_start_matches(C_SPACES);
        assert!(line.starts_with(&entry.certificate), "{entry:?}");
        assert!(
            !entry.certificate.is_empty()
                && !entry.certificate.contains(['[', ']'])
                && !entry.certificate.contains(C_SPACES)
        );
    }
    assert!(list.refusals.iter().all(|refusal| (1..=lines.len()).contains(&refusal.line_number)));

    // A space in front: a name may start with the sign of a comment.
    let written: String = list.entries.iter().map(|entry| format!(" {}\n", entry.certificate)).collect();
    let again = CrtList::parse(&written);
    let names = |list: &CrtList| list.entries.iter().map(|entry| entry.certificate.clone()).collect::<Vec<_>>();
    assert_eq!(names(&again), names(&list), "a name is a name");
    assert!(again.refusals.is_empty(), "{:?}", again.refusals);
    list.refusals.is_empty() && !list.entries.is_empty()
}
