//! A node of a run: the program under a supervisor that restarts it when it ends.

use std::{fs::OpenOptions, path::PathBuf, process::Stdio, time::Duration};

use ordersystem::cli::{node_client::Target, probe};
use tokio::process::Child;

use crate::support::{command, signals};

/// Names another build of the program, such as an older one in which a fault is to be found.
const BINARY: &str = "SEEDED_BINARY";
/// The time limit of an orderly shutdown on a busy machine.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// The program under test.
pub fn program() -> std::process::Command {
    std::env::var_os(BINARY).map_or_else(command, std::process::Command::new)
}

pub struct Process {
    pub port: u16,
    settings: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
    /// How often it has ended by itself.
    pub ended: usize,
}

impl Process {
    /// With these settings, including its port; its output goes to `log`.
    pub fn start(port: u16, settings: Vec<String>, log: PathBuf) -> Self {
        let mut process = Self { port, settings, log, child: None, ended: 0 };
        process.start_again();
        process
    }

    pub fn start_again(&mut self) {
        let log = OpenOptions::new().create(true).append(true).open(&self.log).unwrap();
        let child = tokio::process::Command::from(program())
            .args(["--port", &self.port.to_string()])
            .args(&self.settings)
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn();
        self.child = Some(child.unwrap());
    }

    /// Restarts it if it has ended by itself.
    pub fn tend(&mut self) {
        let has_ended = self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_some());
        if has_ended {
            self.ended += 1;
            self.start_again();
        }
    }

    /// kill -9.
    pub async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().await.unwrap();
        }
    }

    /// Sends it a signal, if it is running.
    pub fn signal(&self, name: &str) {
        if let Some(pid) = self.child.as_ref().and_then(Child::id) {
            signals::send(name, pid);
        }
    }

    /// Stops it in order; returns what is wrong with its shutdown.
    pub async fn stop(&mut self) -> Result<(), String> {
        self.signal("TERM");
        let Some(mut child) = self.child.take() else { return Ok(()) };
        match tokio::time::timeout(ENDS_WITHIN, child.wait()).await {
            Ok(status) if status.as_ref().unwrap().success() => Ok(()),
            Ok(status) => Err(format!("the node at {} ends with {} at SIGTERM", self.port, status.unwrap())),
            Err(_) => Err(format!("the node at {} does not end within {ENDS_WITHIN:?} of SIGTERM", self.port)),
        }
    }

    pub async fn is_ready(&self) -> bool {
        probe::check(&Target::plain(format!("127.0.0.1:{}", self.port)), "", 5_000).await == Ok(true)
    }

    /// Lines of its log that report a fault of its own.
    pub fn panics(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().filter(|line| line.contains("panicked at")).map(str::to_owned).collect()
    }
}
