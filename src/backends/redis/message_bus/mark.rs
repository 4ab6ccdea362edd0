//! The position up to which the stream is complete, to detect lost messages.
//!
//! The stream is written together with a key for each log, which has the [`Message::position`] of its last message: a server that takes over has both
//! in a consistent state. Messages that were acknowledged to a publisher and are beyond that server's position are lost. A stream that was deleted or
//! trimmed is shorter than its record says (`record.lua`): lost are then the messages that its consumers had not processed.
//!
//! [`Message::position`]: crate::ports::message_bus::Message::position

use parking_lot::{Mutex, MutexGuard};

/// What the server has of the published log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The position of its last message; `None` if it has none.
    pub last: Option<u64>,
    /// How often messages were lost according to the record; `None` if there is no record.
    pub losses: Option<u64>,
    /// Whether messages are missing that were in the stream.
    pub is_incomplete: bool,
    /// All consumers have processed everything before this position; `u64::MAX` if there are no consumers.
    pub needed_from: u64,
}

#[derive(Debug, Default)]
pub(super) struct Mark(Mutex<MarkState>);

#[derive(Clone, Copy, Debug, Default)]
struct MarkState {
    /// The log that is published in the order of its positions; `None` if no caller asks for lost messages: then positions have no meaning.
    log: Option<u32>,
    /// The position up to which the stream is complete, as far as this publisher knows.
    believed: u64,
    /// Whether the server has confirmed it, or has accepted a message since.
    is_marked: bool,
    /// The connection on which it was compared; `None` if it must be compared again.
    looked_on: Option<u64>,
    /// Whether it should be compared again if that is possible.
    is_due: bool,
    /// The losses that the server has recorded; `None` if it had no record.
    losses: Option<u64>,
    /// The losses that it had recorded when messages were found to be lost, or when they were to be published again.
    noticed: Option<u64>,
    /// The position from which on messages are lost, until they are published again.
    lost_from: Option<u64>,
}

impl Mark {
    fn state(&self) -> MutexGuard<'_, MarkState> {
        self.0.lock()
    }

    /// The position that the server must have to accept a publish; `None`: any.
    pub(super) fn required(&self) -> Option<u64> {
        let state = self.state();
        state.is_marked.then_some(state.believed)
    }

    /// The published log, if known.
    pub(super) fn log(&self) -> Option<u32> {
        self.state().log
    }

    /// Records the last message that was accepted.
    pub(super) fn accepted(&self, position: u64) {
        let mut state = self.state();
        if state.log.is_some() {
            (state.believed, state.is_marked) = (position, true);
            // The record exists from the first message on.
            state.losses.get_or_insert(0);
        }
    }

    /// The losses that the server must have recorded to accept a publish; `None`: any.
    pub(super) fn losses(&self) -> Option<u64> {
        self.state().losses
    }

    /// The losses whose messages are about to be published again, and the position after which they are; `None` if none are.
    pub(super) fn resumed(&self) -> Option<(u64, u64)> {
        let state = self.state();
        state.noticed.filter(|_| state.lost_from.is_none()).map(|losses| (losses, state.believed))
    }

    /// Asks for another comparison with the server.
    pub(super) fn compare_again(&self) {
        self.state().is_due = true;
    }

    /// Whether another comparison was asked for.
    pub(super) fn is_due(&self) -> bool {
        self.state().is_due
    }

    /// Records that the server has messages only up to `mark`, although more was required.
    pub(super) fn fell_to(&self, mark: u64) {
        let mut state = self.state();
        state.lost_from = Some(state.lost_from.unwrap_or(u64::MAX).min(mark.saturating_add(1)));
    }

    /// The position from which on messages are lost; `Err` if the server must be asked first, where the publisher has published up to `published_to`.
    pub(super) fn lost_from(&self, connection: u64, log: u32, published_to: u64) -> Result<Option<u64>, ()> {
        let state = *self.state();
        let is_known = state.lost_from.is_some()
            || state.log == Some(log) && state.looked_on == Some(connection) && published_to <= state.believed;
        if is_known { Ok(state.lost_from) } else { Err(()) }
    }

    /// Compares with what the server has, according to a reply on `connection`.
    pub(super) fn compare(&self, connection: u64, log: u32, published_to: u64, found: Found) {
        let mut state = self.state();
        if state.log.is_some_and(|before| before != log) {
            *state = MarkState::default();
        }
        (state.log, state.is_due) = (Some(log), false);
        let believed = published_to.max(state.believed);
        let mut lost_from = None;
        // A server from before marks existed, or one that never had a message, has none.
        if found.last.is_some() || state.is_marked {
            let has = found.last.unwrap_or(0);
            state.is_marked = found.last.is_some();
            lost_from = (has < believed).then(|| has.saturating_add(1));
        }
        if found.is_incomplete || (found.losses.is_none() && state.losses.is_some()) {
            let needed_from = found.needed_from.min(believed.saturating_add(1));
            lost_from = Some(lost_from.unwrap_or(u64::MAX).min(needed_from));
        }
        if lost_from.is_some() {
            (state.lost_from, state.noticed) = (lost_from, Some(found.losses.unwrap_or(0)));
            return;
        }
        (state.believed, state.looked_on) = (believed, Some(connection));
        (state.losses, state.noticed) = (found.losses, None);
    }

    /// Lost messages are published again from here on.
    pub(super) fn resume(&self) {
        let mut state = self.state();
        if let Some(first) = state.lost_from.take() {
            state.believed = first.saturating_sub(1);
            state.looked_on = None;
            // The server records that with the next comparison.
            state.losses = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: u32 = 7;

    const NOTHING: Found = Found { last: None, losses: None, is_incomplete: false, needed_from: 1 };

    fn last(position: u64) -> Found {
        Found { last: Some(position), losses: Some(0), ..NOTHING }
    }

    #[test]
    fn lost_messages_are_detected_once_on_each_connection() {
        let mark = Mark::default();
        assert_eq!(mark.lost_from(1, LOG, 0), Err(()), "not compared yet");
        mark.compare(1, LOG, 0, NOTHING);
        assert_eq!((mark.lost_from(1, LOG, 0), mark.required()), (Ok(None), None));
        mark.accepted(5);
        assert_eq!((mark.lost_from(1, LOG, 5), mark.required()), (Ok(None), Some(5)));
        // Another server, which has everything.
        assert_eq!(mark.lost_from(2, LOG, 5), Err(()));
        mark.compare(2, LOG, 5, last(5));
        assert_eq!(mark.lost_from(2, LOG, 5), Ok(None));
        mark.accepted(9);
        // Another server, which lacks some.
        assert_eq!(mark.lost_from(3, LOG, 9), Err(()));
        mark.compare(3, LOG, 9, last(7));
        assert_eq!(mark.lost_from(3, LOG, 9), Ok(Some(8)));
        mark.resume();
        assert_eq!(mark.lost_from(3, LOG, 7), Err(()), "it may have lost more meanwhile");
        mark.compare(3, LOG, 7, last(7));
        assert_eq!((mark.lost_from(3, LOG, 7), mark.required()), (Ok(None), Some(7)));
    }

    #[test]
    fn a_publisher_that_starts_earlier_continues_from_there() {
        let mark = Mark::default();
        mark.compare(1, LOG, 9, last(20));
        assert_eq!((mark.lost_from(1, LOG, 9), mark.required()), (Ok(None), Some(9)));
        mark.accepted(15);
        // It resumes from its checkpoint, or is asked in the middle of a publish: its published messages must still be there.
        assert_eq!((mark.lost_from(1, LOG, 12), mark.required()), (Ok(None), Some(15)));
        mark.accepted(13);
        assert_eq!(mark.required(), Some(13));
        // Another publisher was further.
        assert_eq!(mark.lost_from(1, LOG, 14), Err(()));
        mark.accepted(30);
        mark.compare(2, LOG, 14, last(22));
        assert_eq!(mark.lost_from(2, LOG, 14), Ok(Some(23)));
    }

    #[test]
    fn a_server_that_has_lost_the_mark_has_lost_all_messages() {
        let mark = Mark::default();
        mark.compare(1, LOG, 0, NOTHING);
        mark.accepted(5);
        mark.compare(2, LOG, 5, NOTHING);
        assert_eq!(mark.lost_from(2, LOG, 5), Ok(Some(1)));
        mark.resume();
        assert_eq!(mark.required(), None);
        // Messages published before marks existed are not known to be lost.
        let upgraded = Mark::default();
        upgraded.compare(1, LOG, 500, NOTHING);
        assert_eq!((upgraded.lost_from(1, LOG, 500), upgraded.required()), (Ok(None), None));
    }

    #[test]
    fn nothing_is_required_unless_a_caller_asks_for_lost_messages() {
        let mark = Mark::default();
        mark.accepted(5);
        assert_eq!(mark.required(), None);
    }

    #[test]
    fn a_refused_publish_is_a_loss() {
        let mark = Mark::default();
        mark.compare(1, LOG, 0, NOTHING);
        mark.accepted(5);
        mark.fell_to(3);
        assert_eq!(mark.lost_from(1, LOG, 5), Ok(Some(4)));
    }

    #[test]
    fn a_stream_that_lacks_messages_is_published_again_from_what_its_consumers_need() {
        let mark = Mark::default();
        mark.compare(1, LOG, 0, NOTHING);
        mark.accepted(9);
        mark.compare_again();
        assert_eq!((mark.lost_from(1, LOG, 9), mark.is_due()), (Ok(None), true));
        let found = Found { losses: Some(1), is_incomplete: true, needed_from: 6, ..last(9) };
        mark.compare(1, LOG, 9, found);
        assert_eq!((mark.lost_from(1, LOG, 9), mark.is_due(), mark.resumed()), (Ok(Some(6)), false, None));
        mark.resume();
        assert_eq!((mark.lost_from(1, LOG, 5), mark.resumed()), (Err(()), Some((1, 5))));
        // Another loss before that was recorded.
        mark.compare(1, LOG, 5, Found { losses: Some(2), needed_from: 8, ..found });
        assert_eq!((mark.lost_from(1, LOG, 5), mark.resumed()), (Ok(Some(6)), None), "nothing was published after 5");
        mark.resume();
        assert_eq!(mark.resumed(), Some((2, 5)));
        mark.compare(1, LOG, 5, Found { losses: Some(2), ..last(5) });
        assert_eq!((mark.lost_from(1, LOG, 5), mark.resumed(), mark.losses()), (Ok(None), None, Some(2)));
    }

    #[test]
    fn nothing_is_published_again_if_everything_that_was_lost_had_been_processed() {
        for needed_from in [10, u64::MAX] {
            let mark = Mark::default();
            mark.compare(1, LOG, 9, Found { losses: Some(1), is_incomplete: true, needed_from, ..last(9) });
            assert_eq!(mark.lost_from(1, LOG, 9), Ok(Some(10)));
        }
    }

    #[test]
    fn a_record_that_has_vanished_is_a_loss_to_a_publisher_that_knew_it() {
        let gone = Found { losses: None, needed_from: 1, ..last(9) };
        let mark = Mark::default();
        mark.compare(1, LOG, 9, last(9));
        mark.compare(1, LOG, 9, gone);
        assert_eq!(mark.lost_from(1, LOG, 9), Ok(Some(1)));
        let upgraded = Mark::default();
        upgraded.compare(1, LOG, 9, gone);
        assert_eq!(upgraded.lost_from(1, LOG, 9), Ok(None));
    }
}
