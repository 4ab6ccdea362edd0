//! The figures of a run, as one line of tab-separated values per run and per fault: `seeded.sh` makes tables of them.

use super::{
    check::Losses,
    history::{Answer, Asked, History, Micros},
    plan::Plan,
};

/// How long writes were unavailable in a fault.
pub struct Away {
    pub kind: &'static str,
    /// The duration of the fault itself.
    pub lasted: Micros,
    /// The longest time in which no node acknowledged a command, from its beginning until all nodes had after its end.
    pub everywhere: Micros,
    /// The time from its end until each node had acknowledged a command.
    pub after: Micros,
    /// Commands whose outcome a client did not learn at first.
    pub unknown: usize,
}

pub struct Figures {
    seed: u64,
    topology: &'static str,
    calls: usize,
    acknowledged: usize,
    refused: usize,
    not_done: usize,
    unknown: usize,
    events: usize,
    duplicates: usize,
    findings: usize,
    /// Acknowledged commands that a fail-over has lost.
    lost: usize,
    /// How often nodes ended by themselves and were restarted.
    pub ended: usize,
    pub away: Vec<Away>,
}

impl Figures {
    pub const fn new(plan: &Plan) -> Self {
        Self {
            seed: plan.seed,
            topology: plan.topology.name,
            calls: 0,
            acknowledged: 0,
            refused: 0,
            not_done: 0,
            unknown: 0,
            events: 0,
            duplicates: 0,
            findings: 0,
            lost: 0,
            ended: 0,
            away: Vec::new(),
        }
    }

    pub fn take_in(&mut self, history: &History, findings: usize) {
        self.calls = history.calls.len();
        self.events = history.log.len();
        self.duplicates = history.bus.len().saturating_sub(history.log.len());
        self.findings = findings;
        self.lost = Losses::of(history).commands.len();
        for call in history.calls.iter().filter(|call| matches!(call.asked, Asked::Command { .. })) {
            let count = match call.answer {
                Answer::Done { .. } => &mut self.acknowledged,
                Answer::Refused { .. } => &mut self.refused,
                Answer::NotDone { .. } => &mut self.not_done,
                Answer::Unknown { .. } => &mut self.unknown,
                _ => continue,
            };
            *count += 1;
        }
    }

    /// A line for the run, and one for each fault.
    pub fn lines(&self) -> String {
        let run = [
            self.calls,
            self.acknowledged,
            self.refused,
            self.not_done,
            self.unknown,
            self.events,
            self.duplicates,
            self.ended,
            self.findings,
            self.lost,
        ];
        let run = run.map(|count| count.to_string()).join("\t");
        let mut lines = format!("run\t{}\t{}\t{run}\n", self.topology, self.seed);
        for away in &self.away {
            let seconds =
                [away.lasted, away.everywhere, away.after].map(|micros| format!("{:.1}", micros as f64 / 1e6));
            let (kind, seconds, unknown) = (away.kind, seconds.join("\t"), away.unknown);
            lines += &format!("fault\t{}\t{}\t{kind}\t{seconds}\t{unknown}\n", self.topology, self.seed);
        }
        lines
    }
}
