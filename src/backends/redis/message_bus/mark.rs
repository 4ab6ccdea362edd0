//! The position up to which the stream is complete, to detect lost messages.
//!
//! The stream is written together with a key for each log, which has the [`Message::position`] of its last message: a server that takes over has both
//! in a consistent state. Messages that were acknowledged to a publisher and are beyond that server's position are lost.
//!
//! [`Message::position`]: crate::ports::message_bus::Message::position

use parking_lot::{Mutex, MutexGuard};

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
    /// The connection on which it was compared.
    looked_on: Option<u64>,
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
        }
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

    /// Compares with the server's position on `connection`; `None` if it has none.
    pub(super) fn compare(&self, connection: u64, log: u32, published_to: u64, mark: Option<u64>) {
        let mut state = self.state();
        if state.log.is_some_and(|before| before != log) {
            *state = MarkState::default();
        }
        state.log = Some(log);
        let believed = published_to.max(state.believed);
        // A server from before marks existed, or one that never had a message, has none.
        if mark.is_some() || state.is_marked {
            let has = mark.unwrap_or(0);
            state.is_marked = mark.is_some();
            if has < believed {
                state.lost_from = Some(has.saturating_add(1));
                return;
            }
        }
        (state.believed, state.looked_on) = (believed, Some(connection));
    }

    /// Lost messages are published again from here on.
    pub(super) fn resume(&self) {
        let mut state = self.state();
        if let Some(first) = state.lost_from.take() {
            state.believed = first.saturating_sub(1);
            state.looked_on = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: u32 = 7;

    #[test]
    fn lost_messages_are_detected_once_on_each_connection() {
        let mark = Mark::default();
        assert_eq!(mark.lost_from(1, LOG, 0), Err(()), "not compared yet");
        mark.compare(1, LOG, 0, None);
        assert_eq!((mark.lost_from(1, LOG, 0), mark.required()), (Ok(None), None));
        mark.accepted(5);
        assert_eq!((mark.lost_from(1, LOG, 5), mark.required()), (Ok(None), Some(5)));
        // Another server, which has everything.
        assert_eq!(mark.lost_from(2, LOG, 5), Err(()));
        mark.compare(2, LOG, 5, Some(5));
        assert_eq!(mark.lost_from(2, LOG, 5), Ok(None));
        mark.accepted(9);
        // Another server, which lacks some.
        assert_eq!(mark.lost_from(3, LOG, 9), Err(()));
        mark.compare(3, LOG, 9, Some(7));
        assert_eq!(mark.lost_from(3, LOG, 9), Ok(Some(8)));
        mark.resume();
        assert_eq!(mark.lost_from(3, LOG, 7), Err(()), "it may have lost more meanwhile");
        mark.compare(3, LOG, 7, Some(7));
        assert_eq!((mark.lost_from(3, LOG, 7), mark.required()), (Ok(None), Some(7)));
    }

    #[test]
    fn a_publisher_that_starts_earlier_continues_from_there() {
        let mark = Mark::default();
        mark.compare(1, LOG, 9, Some(20));
        assert_eq!((mark.lost_from(1, LOG, 9), mark.required()), (Ok(None), Some(9)));
        mark.accepted(15);
        // It resumes from its checkpoint, or is asked in the middle of a publish: its published messages must still be there.
        assert_eq!((mark.lost_from(1, LOG, 12), mark.required()), (Ok(None), Some(15)));
        mark.accepted(13);
        assert_eq!(mark.required(), Some(13));
        // Another publisher was further.
        assert_eq!(mark.lost_from(1, LOG, 14), Err(()));
        mark.accepted(30);
        mark.compare(2, LOG, 14, Some(22));
        assert_eq!(mark.lost_from(2, LOG, 14), Ok(Some(23)));
    }

    #[test]
    fn a_server_that_has_lost_the_mark_has_lost_all_messages() {
        let mark = Mark::default();
        mark.compare(1, LOG, 0, None);
        mark.accepted(5);
        mark.compare(2, LOG, 5, None);
        assert_eq!(mark.lost_from(2, LOG, 5), Ok(Some(1)));
        mark.resume();
        assert_eq!(mark.required(), None);
        // Messages published before marks existed are not known to be lost.
        let upgraded = Mark::default();
        upgraded.compare(1, LOG, 500, None);
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
        mark.compare(1, LOG, 0, None);
        mark.accepted(5);
        mark.fell_to(3);
        assert_eq!(mark.lost_from(1, LOG, 5), Ok(Some(4)));
    }
}
