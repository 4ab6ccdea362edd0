//! A client: places orders, advances them, competes with others for them, retries unknown outcomes, and reads.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use fastrand::Rng;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    board::{Board, Known},
    calls::{self, Command, Node},
    history::{Answer, Asked, Call, Freshness, OrderId, Status},
};

/// How often a client tries a command before it leaves it for the end.
const TRIES: usize = 5;
/// The number of orders per customer: fewer than fit on a page of the list.
const ORDERS_A_CUSTOMER: usize = 60;
/// The number of orders in one read.
const BATCH: usize = 8;

/// Commands with a request id whose outcome is not known yet, with the number of attempts.
pub type Open = Arc<Mutex<Vec<(String, Command, usize)>>>;

pub struct Client {
    pub number: usize,
    pub random: Rng,
    pub board: Arc<Board>,
    pub nodes: Arc<Vec<Node>>,
    pub open: Open,
    pub commands: usize,
    pub orders: usize,
    pub reads: usize,
}

impl Client {
    pub async fn work_until(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let known = self.board.known();
            match self.random.u8(..100) {
                0..28 => self.place().await,
                28..34 => self.place_twice_at_once().await,
                34..70 if !known.is_empty() => self.move_on(&known).await,
                70.. if !known.is_empty() => self.read(&known).await,
                _ => self.place().await,
            }
            sleep(Duration::from_millis(self.random.u64(..20))).await;
        }
    }

    fn any_node(&mut self) -> usize {
        self.random.usize(..self.nodes.len())
    }

    /// A new command and its name.
    fn command(&mut self, to: Status, order: Option<OrderId>, expected: Option<u64>) -> (String, Command) {
        let name = format!("c{}-{}", self.number, self.commands);
        self.commands += 1;
        let request = (self.random.u8(..100) < 75).then(|| format!("r-{name}"));
        let customer = self.customer();
        (name, Command { to, order, request, expected, customer })
    }

    fn customer(&self) -> String {
        format!("customer-{}-{}", self.number, self.orders / ORDERS_A_CUSTOMER)
    }

    async fn place(&mut self) {
        let (name, command) = self.command(Status::Pending, None, None);
        self.orders += 1;
        self.carry_through(name, command, 0).await;
    }

    /// The same new order, sent at the same time to two nodes, or twice to one.
    async fn place_twice_at_once(&mut self) {
        let (name, mut command) = self.command(Status::Pending, None, None);
        self.orders += 1;
        command.request = Some(format!("r-{name}"));
        let (one, other) = (self.any_node(), self.any_node());
        let (first, second) = tokio::join!(
            try_command(&self.board, &self.nodes, one, &command, format!("{name}.0")),
            try_command(&self.board, &self.nodes, other, &command, format!("{name}.1")),
        );
        if !is_definite(&first) || !is_definite(&second) {
            self.carry_through(name, command, 2).await;
        }
    }

    /// A command for one of the shared orders: mostly a valid one, now and then an invalid one.
    async fn move_on(&mut self, known: &[Known]) {
        let known = &known[self.random.usize(..known.len())];
        let next: Vec<_> = Status::ALL.into_iter().filter(|status| status.may_follow(Some(known.row.status))).collect();
        let to = if next.is_empty() || self.random.u8(..100) < 15 {
            Status::ALL[self.random.usize(1..5)]
        } else {
            next[self.random.usize(..next.len())]
        };
        let expected = match self.random.u8(..100) {
            0..15 => Some(known.row.revision),
            15..20 => Some(known.row.revision + 1),
            _ => None,
        };
        let (name, command) = self.command(to, Some(known.order), expected);
        self.carry_through(name, command, 0).await;
    }

    /// Tries a command until its outcome is known. Without a request id there is one attempt.
    async fn carry_through(&mut self, name: String, command: Command, first: usize) {
        for tries in first..first + TRIES {
            let node = self.any_node();
            let answer = try_command(&self.board, &self.nodes, node, &command, format!("{name}.{tries}")).await;
            if is_definite(&answer) || command.request.is_none() {
                return;
            }
            sleep(Duration::from_millis(self.random.u64(50..250))).await;
        }
        self.open.lock().unwrap().push((name, command, first + TRIES));
    }

    async fn read(&mut self, known: &[Known]) {
        let name = format!("c{}-read-{}", self.number, self.reads);
        self.reads += 1;
        let node = self.any_node();
        let one = &known[self.random.usize(..known.len())];
        let asked = match self.random.u8(..100) {
            0..45 => Asked::OrderRepository { ids: vec![one.order], freshness: Freshness::Strong },
            45..60 => Asked::OrderRepository {
                ids: vec![one.order],
                freshness: Freshness::AtLeast(one.order, one.row.revision),
            },
            60..80 => {
                let ids = self.random.choose_multiple(known.iter(), BATCH).into_iter().map(|known| known.order);
                Asked::OrderRepository { ids: ids.collect(), freshness: Freshness::Strong }
            }
            80..90 => Asked::List { customer: self.customer() },
            _ => Asked::Totals,
        };
        let sent_at = self.board.now();
        let at = &self.nodes[node];
        let answer = match &asked {
            Asked::OrderRepository { ids, freshness } => {
                let consistency = match freshness {
                    Freshness::Strong => calls::strong(),
                    Freshness::AtLeast(..) => calls::at_least(&one.token),
                };
                if ids.len() == 1 { at.get(ids[0], consistency).await } else { at.batch(ids, consistency).await }
            }
            Asked::List { customer } => at.list(customer).await,
            _ => at.totals().await,
        };
        self.board.note(Call { name, node, sent_at, answered_at: self.board.now(), asked, answer });
    }
}

/// Sends a command once, as `name`, and records the outcome.
pub async fn try_command(board: &Board, nodes: &[Node], node: usize, command: &Command, name: String) -> Answer {
    let sent_at = board.now();
    let (answer, token) = nodes[node].command(command, &name).await;
    if let Answer::Done { order, row } = answer {
        board.know(Known { order, row, token });
    }
    let asked = Asked::Command {
        to: command.to,
        order: command.order,
        request: command.request.clone(),
        expected: command.expected,
    };
    board.note(Call { name, node, sent_at, answered_at: board.now(), asked, answer: answer.clone() });
    answer
}

pub const fn is_definite(answer: &Answer) -> bool {
    matches!(answer, Answer::Done { .. } | Answer::Refused { .. } | Answer::Wrong { .. })
}
