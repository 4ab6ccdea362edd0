//! The state that all clients of a run share: the record of their calls, the known orders, and the times of acknowledged commands.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard},
    time::Instant,
};

use super::history::{Answer, Asked, Call, Micros, OrderId, Row};

/// The number of orders that clients work on: few enough for clients to meet.
const KNOWN_ORDERS: usize = 40;

pub struct Board {
    begun: Instant,
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    calls: Vec<Call>,
    /// The time at which a command was acknowledged, and the node.
    acknowledged: Vec<(Micros, usize)>,
    known: VecDeque<Known>,
}

/// An order as a command has left it.
#[derive(Clone, Debug)]
pub struct Known {
    pub order: OrderId,
    pub row: Row,
    pub token: String,
}

impl Board {
    pub fn new() -> Self {
        Self { begun: Instant::now(), notes: Mutex::default() }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap()
    }

    /// The time of the run.
    pub fn now(&self) -> Micros {
        self.begun.elapsed().as_micros() as Micros
    }

    pub fn note(&self, call: Call) {
        let mut notes = self.notes();
        if matches!((&call.asked, &call.answer), (Asked::Command { .. }, Answer::Done { .. })) {
            notes.acknowledged.push((call.answered_at, call.node));
        }
        notes.calls.push(call);
    }

    pub fn know(&self, known: Known) {
        let mut notes = self.notes();
        let same = notes.known.iter_mut().find(|other| other.order == known.order);
        match same {
            Some(same) if same.row.revision < known.row.revision => *same = known,
            Some(_) => {}
            None => {
                if notes.known.len() == KNOWN_ORDERS {
                    notes.known.pop_front();
                }
                notes.known.push_back(known);
            }
        }
    }

    /// The orders that clients work on.
    pub fn known(&self) -> Vec<Known> {
        self.notes().known.iter().cloned().collect()
    }

    /// The number of acknowledged commands.
    pub fn acknowledged(&self) -> usize {
        self.notes().acknowledged.len()
    }

    /// Whether this node has acknowledged a command since then.
    pub fn has_acknowledged(&self, node: usize, since: Micros) -> bool {
        self.first_acknowledged(Some(node), since).is_some()
    }

    /// The time at which this node, or any node, first acknowledged a command after that time.
    pub fn first_acknowledged(&self, node: Option<usize>, since: Micros) -> Option<Micros> {
        let notes = self.notes();
        let of_node = |by: usize| node.is_none_or(|node| node == by);
        notes.acknowledged.iter().filter(|(at, by)| *at > since && of_node(*by)).map(|(at, _)| *at).min()
    }

    /// The longest time without an acknowledgement by any node, between these times.
    pub fn longest_silence(&self, from: Micros, to: Micros) -> Micros {
        let notes = self.notes();
        let mut times: Vec<_> =
            notes.acknowledged.iter().map(|(at, _)| *at).filter(|at| (from..to).contains(at)).collect();
        times.extend([from, to]);
        times.sort_unstable();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
    }

    pub fn calls(&self) -> Vec<Call> {
        self.notes().calls.clone()
    }

    /// The number of commands with an unknown outcome since then.
    pub fn unknown_since(&self, since: Micros) -> usize {
        let is_unknown = |call: &&Call| {
            call.sent_at >= since
                && matches!((&call.asked, &call.answer), (Asked::Command { .. }, Answer::Unknown { .. }))
        };
        self.notes().calls.iter().filter(is_unknown).count()
    }
}
