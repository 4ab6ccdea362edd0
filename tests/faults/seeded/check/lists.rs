//! Lists and totals with STRONG: they reflect the log at one moment of the call.

use std::collections::{BTreeMap, HashMap};

use super::{
    super::history::{Answer, Asked, Call, Event, History, Micros, OrderId, Row, Status},
    Finding,
    answers::describe,
};

pub fn check(history: &History) -> Vec<Finding> {
    let times = Times::of(history);
    history.calls.iter().filter_map(|call| check_call(call, history, &times)).collect()
}

fn check_call(call: &Call, history: &History, times: &Times) -> Option<Finding> {
    let fits = match (&call.asked, &call.answer) {
        (Asked::List { customer }, Answer::List(rows)) => {
            let rows: BTreeMap<_, _> = rows.iter().copied().collect();
            let mut state = CustomerState { customer, rows: BTreeMap::new() };
            times.any_moment(call, &history.log, |event| state.add(event), |state_at| *state_at == rows)
        }
        (Asked::Totals, Answer::Totals { by_status, all, dollars }) => {
            let mut state = TotalState::default();
            let shown = (*by_status, *all, *dollars);
            times.any_moment(call, &history.log, |event| state.add(event), |state_at| *state_at == shown)
        }
        _ => return None,
    };
    (!fits).then(|| Finding::new("a list or totals of no moment of the call", describe(call)))
}

/// The earliest and the latest time at which each event of the log can have been written.
struct Times(Vec<(Micros, Micros)>);

impl Times {
    fn of(history: &History) -> Self {
        let mut sent: HashMap<&str, Micros> = HashMap::new();
        let mut acknowledged: HashMap<(OrderId, u64), Micros> = HashMap::new();
        for call in &history.calls {
            sent.insert(&call.name, call.sent_at);
            if let Answer::Done { order, row } = call.answer {
                let until = acknowledged.entry((order, row.revision)).or_insert(call.answered_at);
                *until = call.answered_at.min(*until);
            }
        }
        let times = |event: &Event| {
            let until = acknowledged.get(&(event.order, event.revision)).copied().unwrap_or(Micros::MAX);
            (sent.get(event.call.as_str()).copied().unwrap_or(0), until)
        };
        Self(history.log.iter().map(times).collect())
    }

    /// Whether there is a prefix of the log that may have been the whole log at a moment of the call, and for which the result of `add`
    /// `fits`.
    fn any_moment<S>(
        &self,
        call: &Call,
        log: &[Event],
        mut add: impl FnMut(&Event) -> S,
        fits: impl Fn(&S) -> bool,
    ) -> bool
    where
        S: Default,
    {
        // Everything acknowledged before the call was sent, and nothing sent after it was answered.
        let least = self.0.iter().rposition(|(_, until)| *until < call.sent_at).map_or(0, |at| at + 1);
        let most = self.0.iter().position(|(from, _)| *from > call.answered_at).unwrap_or(log.len());
        let mut state = S::default();
        for (count, event) in log.iter().enumerate() {
            if (least..=most).contains(&count) && fits(&state) {
                return true;
            }
            state = add(event);
        }
        (least..=most).contains(&log.len()) && fits(&state)
    }
}

struct CustomerState<'a> {
    customer: &'a str,
    rows: BTreeMap<OrderId, Row>,
}

impl CustomerState<'_> {
    fn add(&mut self, event: &Event) -> BTreeMap<OrderId, Row> {
        if event.customer == self.customer {
            self.rows.insert(event.order, Row { revision: event.revision, status: event.to });
        }
        self.rows.clone()
    }
}

#[derive(Default)]
struct TotalState {
    orders: HashMap<OrderId, Status>,
    by_status: [u64; 5],
    all: u64,
}

impl TotalState {
    /// The counts by status and in total, and the dollars: each order is worth one, unless it is cancelled.
    fn add(&mut self, event: &Event) -> ([u64; 5], u64, u64) {
        match self.orders.insert(event.order, event.to) {
            Some(before) => self.by_status[before as usize] -= 1,
            None => self.all += 1,
        }
        self.by_status[event.to as usize] += 1;
        (self.by_status, self.all, self.all - self.by_status[Status::Cancelled as usize])
    }
}
