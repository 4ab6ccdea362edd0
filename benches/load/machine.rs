//! How noisy the machine is: what other programs, and the hypervisor, took of its processors.

use std::fs;

use serde::Serialize;

/// Processor time so far, in ticks.
#[derive(Clone, Copy, Debug)]
pub struct CpuTime {
    /// Of all processors, idle or not.
    total: u64,
    /// Of all programs.
    busy: u64,
    /// Taken by the hypervisor.
    stolen: u64,
    /// Of this program, and of those of its children that have ended.
    own: u64,
}

/// Shares of all processors.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Busy {
    /// By programs that this one has not started.
    pub others: f64,
    /// By the hypervisor.
    pub stolen: f64,
}

impl CpuTime {
    pub fn now() -> Self {
        let stat = fs::read_to_string("/proc/stat").expect("/proc");
        let all = numbers(stat.lines().next().expect("a line"), 1);
        // user nice system idle iowait irq softirq steal
        let idle = all[3] + all[4];
        let total = all[..8].iter().sum::<u64>();
        let own = fs::read_to_string("/proc/self/stat").expect("/proc");
        // utime stime cutime cstime: fields 14 to 17, counted from 1; the second is the name in parentheses.
        let after_name = &own[own.rfind(')').expect("stat") + 2..];
        let own = numbers(after_name, 11)[..4].iter().sum();
        Self { total, busy: total - idle - all[7], stolen: all[7], own }
    }

    pub fn others_since(self, before: Self) -> Busy {
        let total = (self.total - before.total).max(1) as f64;
        let busy = (self.busy - before.busy) as f64;
        let own = (self.own - before.own) as f64;
        Busy { others: ((busy - own) / total).max(0.0), stolen: (self.stolen - before.stolen) as f64 / total }
    }
}

fn numbers(line: &str, skip: usize) -> Vec<u64> {
    line.split_ascii_whitespace().skip(skip).map_while(|field| field.parse().ok()).collect()
}
