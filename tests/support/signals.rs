//! Signals to processes that the tests started.

use std::{fs, process::Command};

use super::waits::blocking_until;

/// Sends the signal `name`, such as `TERM`. `STOP` has taken effect when this returns: a busy machine may let a thread run on for a while.
pub fn send(name: &str, pid: u32) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
    assert!(sent.expect("a program").success(), "process {pid} must be there to get {name}");
    if name == "STOP" {
        blocking_until("every thread has stopped", || threads_have_stopped(pid).then_some(()));
    }
}

/// Whether the process has not ended yet.
pub fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn threads_have_stopped(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    threads.filter_map(Result::ok).all(|thread| {
        // The state follows the name, which is in parentheses and may have any character.
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['T', 't', 'Z', 'X']))
    })
}
