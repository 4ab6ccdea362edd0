//! Identifies the process that holds a node's name, and determines whether it has certainly ended.
//!
//! A node that was killed leaves its leases behind. A node that can verify that the process is gone need not wait for them to expire. That is
//! possible only from the same running kernel, the same process and time namespaces and by the same user: process numbers mean something else in
//! another container or on another machine, the start times differ between time namespaces, and a user may be unable to see the processes of others.
//! All of these are compared, and an uncertain result counts as running.

use std::{fmt, fs, io};

use xxhash_rust::xxh3::xxh3_64;

/// A process, distinguished from any other that has had its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process {
    /// A hash of the properties that make process numbers comparable: the boot of the kernel, the namespaces, the user.
    view: u64,
    pid: u32,
    /// In ticks since the kernel started.
    started: u64,
}

/// The visible state of a process number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// No process has it.
    Absent,
    /// A process has it, with this start time.
    Runs {
        /// In ticks since the kernel started.
        started: u64,
    },
    /// The process has ended, and its parent has not reaped it yet.
    Ended,
    /// The state cannot be determined.
    Unclear,
}

impl Process {
    /// This process; `None` if it cannot be distinguished from others.
    pub(super) fn this() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let pid = stat.split_whitespace().next()?.parse().ok()?;
        // A /proc of another namespace has other process numbers than this process.
        if pid != std::process::id() {
            return None;
        }
        let Sight::Runs { started } = sight_in(&stat) else { return None };
        Some(Self { view: view()?, pid, started })
    }

    /// Whether this process, which was recorded in a lease, has certainly ended, as far as the process `of` can tell.
    pub(super) fn has_ended(self, of: Self, sight_of: impl FnOnce(u32) -> Sight) -> bool {
        if self.view != of.view {
            return false;
        }
        match sight_of(self.pid) {
            Sight::Absent | Sight::Ended => true,
            // The number was given to another process.
            Sight::Runs { started } => started != self.started,
            Sight::Unclear => false,
        }
    }

    /// Parses the display form of [`Process`].
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let (view, pid, started) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        Some(Self { view: u64::from_str_radix(view, 16).ok()?, pid: pid.parse().ok()?, started: started.parse().ok()? })
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}.{}.{}", self.view, self.pid, self.started)
    }
}

/// The properties that make process numbers, start times and their visibility the same for two processes.
fn view() -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = |name: &str| fs::read_link(format!("/proc/self/ns/{name}"));
    let pids = namespace("pid").ok()?;
    // Kernels before 5.6 have no time namespaces.
    let time = namespace("time").unwrap_or_default();
    let user = fs::metadata("/proc/self").ok()?.uid();
    Some(xxh3_64(format!("{}|{}|{}|{user}", boot.trim(), pids.display(), time.display()).as_bytes()))
}

/// The current state of a process number, as visible to this process.
pub(super) fn sight_of(pid: u32) -> Sight {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => sight_in(&stat),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Sight::Absent,
        Err(_) => Sight::Unclear,
    }
}

/// Parses `/proc/<pid>/stat`: the name, in parentheses, may itself contain any characters.
fn sight_in(stat: &str) -> Sight {
    let Some((_, fields)) = stat.rsplit_once(')') else { return Sight::Unclear };
    let mut fields = fields.split_whitespace();
    match fields.next() {
        Some("Z" | "X" | "x") => Sight::Ended,
        // The state is the third field, the start the 22nd: proc(5).
        Some(_) => match fields.nth(18).and_then(|started| started.parse().ok()) {
            Some(started) => Sight::Runs { started },
            None => Sight::Unclear,
        },
        None => Sight::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    const THIS: Process = Process { view: 7, pid: 100, started: 5_000 };
    const LEFT: Process = Process { view: 7, pid: 200, started: 4_000 };

    #[test]
    fn only_processes_that_certainly_ended_count_as_ended() {
        let runs = |started| Sight::Runs { started };
        assert!(LEFT.has_ended(THIS, |_| Sight::Absent));
        assert!(LEFT.has_ended(THIS, |_| Sight::Ended));
        assert!(LEFT.has_ended(THIS, |_| runs(4_001)), "another process has the number now");
        assert!(!LEFT.has_ended(THIS, |_| runs(4_000)), "it runs");
        assert!(!LEFT.has_ended(THIS, |_| Sight::Unclear));
        let elsewhere = Process { view: 8, ..LEFT };
        for sight in [Sight::Absent, Sight::Ended, runs(4_001), Sight::Unclear] {
            assert!(!elsewhere.has_ended(THIS, |_| sight), "another machine, container or user: {sight:?}");
        }
        LEFT.has_ended(THIS, |pid| {
            assert_eq!(pid, LEFT.pid);
            Sight::Absent
        });
    }

    #[test]
    fn only_the_display_form_of_a_process_is_parsed() {
        assert_eq!(Process::parse(&LEFT.to_string()), Some(LEFT));
        for text in
            ["", "0000000000000007.200", "7.200.4000.1", "x.200.4000", "7.-1.4000", "7.200.", "0123456789abcdef"]
        {
            assert_eq!(Process::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_fields_are_found_after_any_process_name() {
        let rest = "S 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 3 0 98765 1 1";
        for name in ["ordersystem", "a) R 1 2", "b ) Z ("] {
            assert_eq!(sight_in(&format!("12 ({name}) {rest}")), Sight::Runs { started: 98_765 }, "{name}");
        }
        assert_eq!(sight_in("12 (ordersystem) Z 1"), Sight::Ended);
        assert_eq!(sight_in("12 (ordersystem) S 1"), Sight::Unclear);
        assert_eq!(sight_in(""), Sight::Unclear);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_child_process_is_seen_running_killed_and_gone() {
        let this = Process::this().expect("known on Linux");
        assert!(!this.has_ended(this, sight_of), "this one runs");
        let mut child = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
        let Sight::Runs { started } = sight_of(child.id()) else { panic!("it runs") };
        let seen = Process { pid: child.id(), started, ..this };
        assert!(!seen.has_ended(this, sight_of));
        assert!(Process { started: started + 1, ..seen }.has_ended(this, sight_of), "one that had the number before");
        child.kill().unwrap();
        while !seen.has_ended(this, sight_of) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        child.wait().unwrap();
        assert!(seen.has_ended(this, sight_of), "nobody has the number, or another process");
    }
}
