//! The table of all figures, and the same as JSON.

use std::{fmt::Write as _, fs, path::Path, process::Command, time::Duration};

use serde::Serialize;

use crate::machine::{Busy, CpuTime};

/// What a figure is held to.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Ours is at least this part of the other.
    RatioAtLeast(f64),
    /// Ours is at most this many times the other.
    RatioAtMost(f64),
    /// Our CPU an operation is at most this many times the other's.
    FactorAtMost(f64),
    /// Ours is at least this.
    AtLeast(f64),
    /// Ours is at most this.
    AtMost(f64),
}

/// One row.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    /// The goal's name in docs/performance.md, or `peer`.
    pub id: &'static str,
    pub what: String,
    /// What `ours` and `other` count.
    pub unit: &'static str,
    pub ours: f64,
    /// The ceiling or the peer in the same run.
    pub other: Option<f64>,
    /// How far the rounds were apart: (largest - smallest) / median of ours.
    pub spread: Option<f64>,
    /// CPU of the server and its broker an operation, in microseconds: ours and the other's.
    pub cpu_us: Option<(f64, Option<f64>)>,
    /// The largest resident memory of our process, in MiB.
    pub peak_mib: Option<u64>,
    /// What the row is held to: all of them. None: it only compares.
    pub goals: Vec<Goal>,
}

/// A row, with what other programs did meanwhile.
#[derive(Debug, Serialize)]
struct Measured {
    #[serde(flatten)]
    row: Row,
    /// The share of the processors that other programs took, and the hypervisor: above 0.05 the figures are rough.
    busy: Busy,
}

impl Row {
    pub fn ratio(&self) -> Option<f64> {
        self.other.map(|other| self.ours / other)
    }

    fn factor(&self) -> Option<f64> {
        self.cpu_us.and_then(|(ours, other)| Some(ours / other?))
    }

    pub fn is_met(&self) -> bool {
        self.goals.iter().all(|goal| match *goal {
            Goal::RatioAtLeast(goal) => self.ratio().is_some_and(|ratio| ratio >= goal),
            Goal::RatioAtMost(goal) => self.ratio().is_some_and(|ratio| ratio <= goal),
            Goal::FactorAtMost(goal) => self.factor().is_some_and(|factor| factor <= goal),
            Goal::AtLeast(goal) => self.ours >= goal,
            Goal::AtMost(goal) => self.ours <= goal,
        })
    }

    fn cells(&self, busy: Busy) -> [String; 12] {
        let number = |value: Option<f64>| match value {
            None => String::new(),
            Some(value) if value.abs() < 100.0 => format!("{value:.2}"),
            Some(value) => format!("{value:.0}"),
        };
        let cpu = self.cpu_us.map_or_else(String::new, |(ours, other)| match other {
            None => format!("{ours:.2}"),
            Some(other) => format!("{ours:.1} / {other:.1}"),
        });
        let result = match (self.goals.is_empty(), self.is_met()) {
            (true, _) => "",
            (_, true) => "met",
            (_, false) => "missed",
        };
        [
            self.id.to_owned(),
            self.what.clone(),
            self.unit.to_owned(),
            number(Some(self.ours)),
            number(self.other),
            number(self.ratio()),
            self.spread.map_or_else(String::new, |spread| format!("{:.0} %", spread * 100.0)),
            cpu,
            number(self.factor()),
            self.peak_mib.map_or_else(String::new, |mib| mib.to_string()),
            format!("{:.0} %", (busy.others + busy.stolen) * 100.0),
            format!("{} {result}", self.goals.iter().map(Goal::text).collect::<Vec<_>>().join(", ")),
        ]
    }
}

impl Goal {
    fn text(&self) -> String {
        match self {
            Self::RatioAtLeast(goal) => format!("ratio >= {goal}"),
            Self::RatioAtMost(goal) => format!("ratio <= {goal}"),
            Self::FactorAtMost(goal) => format!("factor <= {goal}"),
            Self::AtLeast(goal) => format!(">= {goal}"),
            Self::AtMost(goal) => format!("<= {goal}"),
        }
    }
}

const HEAD: [&str; 12] =
    ["id", "what", "unit", "ours", "other", "ratio", "spread", "us ours/other", "factor", "MiB", "busy", "goal"];

fn line(cells: &[String; 12]) -> String {
    let [id, what, unit, ours, other, ratio, spread, cpu, factor, peak, busy, goal] = cells;
    format!(
        "{id:<5} {what:<74} {unit:<12} {ours:>10} {other:>10} {ratio:>6} {spread:>7} {cpu:>14} {factor:>6} {peak:>6} {busy:>5} {goal}"
    )
}

/// Prints each row as it is measured; the whole is written at the end.
#[derive(Debug, Serialize)]
pub struct Report {
    machine: String,
    versions: Vec<String>,
    /// The machine's load average at the beginning and at the end: above 2 the figures are rough.
    load: [String; 2],
    rows: Vec<Measured>,
    /// What was not measured, and why.
    missing: Vec<String>,
    #[serde(skip)]
    since: CpuTime,
}

impl Report {
    pub fn begin() -> Self {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let machine = format!("{cores} processors, {}", model.trim_matches([' ', '\t', ':']));
        let programs: [(&str, &[&str]); 5] = [
            ("redis-server", &["--version"]),
            ("nats-server", &["--version"]),
            ("nats-server-2.15", &["--version"]),
            ("rustc", &["--version"]),
            ("git", &["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"]),
        ];
        let versions: Vec<_> = programs.iter().filter_map(|(program, args)| version(program, args)).collect();
        println!("{machine}; load {}\n{}\n{}", load(), versions.join("\n"), line(&HEAD.map(str::to_owned)));
        let load = [load(), String::new()];
        Self { machine, versions, load, rows: Vec::new(), missing: Vec::new(), since: CpuTime::now() }
    }

    /// Adds a row, all of whose servers have ended.
    pub fn add(&mut self, row: Row) {
        let now = CpuTime::now();
        let busy = now.others_since(self.since);
        self.since = now;
        println!("{}", line(&row.cells(busy)));
        self.rows.push(Measured { row, busy });
    }

    /// Says that a row was not measured.
    pub fn miss(&mut self, id: &str, what: &str, why: &str) {
        println!("{id:<5} {what:<74} NOT MEASURED: {why}");
        self.missing.push(format!("{id}: {what}: {why}"));
    }

    /// Adds the version of another program to those that are reported.
    pub fn with_version(&mut self, version: String) {
        self.versions.push(version);
    }

    /// Writes the rows to `target/bench/load.json`.
    pub fn end(mut self) {
        self.load[1] = load();
        let held: Vec<_> = self.rows.iter().map(|one| &one.row).filter(|row| !row.goals.is_empty()).collect();
        let missed: Vec<_> = held.iter().filter(|row| !row.is_met()).map(|row| row.id).collect();
        let mut summary = format!("{} of {} goals met", held.len() - missed.len(), held.len());
        if !missed.is_empty() {
            let _ = write!(summary, "; missed: {}", missed.join(", "));
        }
        if !self.missing.is_empty() {
            let _ = write!(summary, "; {} rows not measured", self.missing.len());
        }
        println!("{summary}; load at the end {}", self.load[1]);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
        fs::create_dir_all(&folder).expect("a folder");
        let text = serde_json::to_string_pretty(&self).expect("JSON");
        fs::write(folder.join("load.json"), text).expect("written");
    }
}

/// Microseconds of CPU each of so many operations.
pub fn each_us(cpu: Duration, operations: u64) -> f64 {
    cpu.as_secs_f64() * 1e6 / operations as f64
}

fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

fn version(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    let line = String::from_utf8_lossy(&output.stdout).lines().next()?.to_owned();
    // Each says its name, apart from git, which says that of the commit.
    Some(if program == "git" { format!("ordersystem {line}") } else { line })
}
