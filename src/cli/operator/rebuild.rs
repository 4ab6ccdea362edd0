//! `ordersystem projections rebuild`.

use std::{
    io::{IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use tokio::time::timeout;

use super::Failure;
use crate::{
    cli::node_client::Target,
    proto::catga::system::v1::{
        RebuildPhase, RebuildProjectionsRequest, RebuildProjectionsResponse, admin_service_client::AdminServiceClient,
    },
};

/// The interval of progress lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// The width of the bar in characters.
const BAR: usize = 30;

/// The arguments of the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RebuildCall {
    /// The node.
    pub target: Target,
    /// The timeout of the connection and of each progress message.
    pub timeout_ms: u64,
}

/// Rebuilds the read model of the node, shows the progress, and returns when the new one is served.
///
/// # Errors
/// One line: the node is unreachable, refused, failed, or reported no progress in time.
pub async fn rebuild_projections(call: RebuildCall) -> Result<(), Failure> {
    let RebuildCall { target, timeout_ms } = call;
    let (patience, address) = (Duration::from_millis(timeout_ms), &target.address);
    let mut client = AdminServiceClient::new(target.connect(patience).await?);
    let refused = |status: tonic::Status| format!("{address}: {}", status.message());
    let silent = |_| format!("{address}: no news for {timeout_ms} ms; a rebuild that has begun goes on there");
    let call = timeout(patience, client.rebuild_projections(RebuildProjectionsRequest {}));
    let mut news = call.await.map_err(silent)?.map_err(refused)?.into_inner();
    let mut display = Display::new();
    let end = loop {
        match timeout(patience, news.message()).await.map_err(silent) {
            Ok(Ok(Some(state))) if state.phase() == RebuildPhase::Done => break Ok(state),
            Ok(Ok(Some(state))) if state.phase() == RebuildPhase::Unspecified => {
                break Err(format!(
                    "{address}: another rebuild has begun after this one; its log says how this one ended"
                ));
            }
            Ok(Ok(Some(state))) => display.show(&state),
            Ok(Ok(None)) => break Err(format!("{address}: the service does not say how it ended")),
            Ok(Err(status)) => break Err(refused(status)),
            Err(silent) => break Err(silent),
        }
    };
    display.end();
    let state = end?;
    println!("rebuilt: {} events, {:.0} a second", state.events, state.events_per_second);
    Ok(())
}

/// The progress on standard error: redrawn on a terminal, else occasional lines.
struct Display {
    is_terminal: bool,
    is_drawn: bool,
    last: Option<Instant>,
    has_said_joined: bool,
}

impl Display {
    fn new() -> Self {
        Self { is_terminal: std::io::stderr().is_terminal(), is_drawn: false, last: None, has_said_joined: false }
    }

    fn show(&mut self, state: &RebuildProjectionsResponse) {
        let mut out = std::io::stderr().lock();
        if state.joined && !self.has_said_joined {
            self.has_said_joined = true;
            let _ = writeln!(out, "a rebuild was going on already: this is how far it is");
        }
        // Write errors are ignored: the rebuild continues even if standard error is closed.
        if self.is_terminal {
            let _ = write!(out, "\r\x1b[K{}", line(state));
            let _ = out.flush();
            self.is_drawn = true;
        } else if self.last.is_none_or(|last| last.elapsed() >= LINE_EVERY) {
            let _ = writeln!(out, "{}", line(state));
            self.last = Some(Instant::now());
        }
    }

    fn end(&self) {
        if self.is_drawn {
            let _ = writeln!(std::io::stderr());
        }
    }
}

fn line(state: &RebuildProjectionsResponse) -> String {
    let (events, total) = (state.events.max(0).unsigned_abs(), state.total_events.max(0).unsigned_abs());
    let (done, per_cent) = match total {
        0 => (0, 0),
        total => ((events * BAR as u64 / total) as usize, events * 100 / total),
    };
    let bar: String = (0..BAR).map(|place| if place < done { '#' } else { '.' }).collect();
    let what = match (state.phase(), &state.remaining) {
        (RebuildPhase::Indexing, _) => "sorting".to_owned(),
        (_, Some(remaining)) => format!("ETA {} s", remaining.seconds + i64::from(remaining.nanos > 0)),
        (_, None) => "beginning".to_owned(),
    };
    format!("[{bar}] {per_cent:>3} %  {events} of {total} events  {:.0}/s  {what}", state.events_per_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_how_far_it_is_how_fast_and_how_long_it_will_take() {
        let mut state = RebuildProjectionsResponse {
            phase: RebuildPhase::Reading.into(),
            events: 500,
            total_events: 1_000,
            events_per_second: 99.6,
            remaining: Some(prost_types::Duration { seconds: 5, nanos: 20_000_000 }),
            joined: false,
        };
        assert_eq!(
            line(&state),
            format!("[{}{}]  50 %  500 of 1000 events  100/s  ETA 6 s", "#".repeat(15), ".".repeat(15))
        );
        state.phase = RebuildPhase::Indexing.into();
        state.events = 1_000;
        assert_eq!(line(&state), format!("[{}] 100 %  1000 of 1000 events  100/s  sorting", "#".repeat(30)));
        let beginning = RebuildProjectionsResponse { phase: RebuildPhase::Reading.into(), ..Default::default() };
        assert_eq!(line(&beginning), format!("[{}]   0 %  0 of 0 events  0/s  beginning", ".".repeat(30)));
    }
}
