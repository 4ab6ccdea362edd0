//! A broker's process on a leash: it ends when the test ends it, and when the test process ends, for whatever reason.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

use super::{PATIENCE, signals};

/// Stops the server on a line from the test. If the pipe closes without one, the test process has ended in whatever way, and the folder is
/// not needed any more.
const WATCHED: &str = r#"folder=$1 log=$2; shift 2; "$@" 2>>"$log" & server=$!; echo $server; exec 1>&-
read -r _ && keep=yes; kill -9 $server; wait $server; [ "$keep" ] || rm -rf "$folder""#;

/// How many lines of the log of a server are printed if its test fails.
const LAST_LINES: usize = 20;

pub struct Leash {
    pub pid: u32,
    log: PathBuf,
    shell: Child,
    leash: Option<ChildStdin>,
}

impl Leash {
    /// Runs `program`, which works in `folder` and logs to `log`, and waits until it listens on `port`.
    pub fn start(program: &str, arguments: &[String], port: u16, folder: &Path, log: &Path) -> Self {
        let mut shell = Command::new("sh")
            .args(["-c", WATCHED, program])
            .arg(folder)
            // For what a server says that crashes.
            .arg(log)
            .arg(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // The shell reports each kill.
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let leash = shell.stdin.take();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let log = || std::fs::read_to_string(log).unwrap_or_default();
            assert!(Instant::now() < deadline, "{program} does not listen on {port}: {}", log());
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { pid: line.trim().parse().unwrap(), log: log.to_owned(), shell, leash }
    }

    /// Sends the server itself a signal, such as `STOP`.
    pub fn signal(&self, name: &str) {
        signals::send(name, self.pid);
    }

    /// Kills it, as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut leash) = self.leash.take() {
            leash.write_all(b"end\n").unwrap();
            self.shell.wait().unwrap();
        }
    }
}

impl Leash {
    /// What the server said last, and whether it still runs: it may have ended by itself.
    fn print_state(&self) {
        let state = if signals::runs(self.pid) { "runs" } else { "has ended" };
        let log = std::fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        println!("the server with pid {} {state}; the last lines of {}:", self.pid, self.log.display());
        lines[lines.len().saturating_sub(LAST_LINES)..].iter().for_each(|line| println!("    {line}"));
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.print_state();
        }
        self.kill();
    }
}
