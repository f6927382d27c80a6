//! What a process has used, as Linux counts it.

use std::time::Duration;

/// CPU time and memory of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// User and system time, of all its threads.
    pub cpu: Duration,
    /// The most memory it ever had resident, in bytes.
    pub peak_memory: u64,
    /// What it has now.
    pub memory: u64,
}

/// Reads it from /proc.
pub fn of(pid: u32) -> Usage {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).expect("the process is there");
    // proc(5): the command in parentheses may hold spaces; utime and stime are the 12th and 13th field after it.
    let stat = read("stat");
    let fields = stat.rsplit_once(')').expect("a command in parentheses").1;
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().expect("ticks")).sum();
    let status = read("status");
    let kilobytes = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line of /proc/PID/status");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("kilobytes")
    };
    Usage {
        // USER_HZ is 100 on every architecture this program runs on.
        cpu: Duration::from_millis(ticks * 10),
        peak_memory: kilobytes("VmHWM") * 1024,
        memory: kilobytes("VmRSS") * 1024,
    }
}
