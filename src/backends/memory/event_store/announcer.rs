//! Wakes the followers of the log: at once while it is quiet, and while it is busy once in each [`PAUSE`].
//!
//! Waking takes longer than appending: the channel to the followers locks each of its lists of waiting tasks. Followers read a busy log in batches
//! anyway.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering, fence},
    },
    time::Duration,
};

use tokio::{runtime::Handle, sync::watch, time::sleep};

use super::log::Log;
use crate::ports::event_store::Position;

/// The minimum interval between two announcements.
const PAUSE: Duration = Duration::from_millis(1);

/// The next append is announced at once.
const QUIET: u8 = 0;
/// There was an announcement less than [`PAUSE`] ago …
const PAUSED: u8 = 1;
/// … and an append since then, which is announced at the end of the pause.
const OWED: u8 = 2;

/// Announces appends.
#[derive(Debug)]
pub(super) struct Announcer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    log: Arc<Log>,
    wake: watch::Sender<Position>,
    state: AtomicU8,
}

impl Announcer {
    /// Announces appends to `log`.
    pub(super) fn of(log: Arc<Log>) -> Self {
        Self(Arc::new(Shared { log, wake: watch::Sender::new(Position(0)), state: AtomicU8::new(QUIET) }))
    }

    /// A receiver of later announcements.
    pub(super) fn subscribe(&self) -> watch::Receiver<Position> {
        let receiver = self.0.wake.subscribe();
        // Pairs with the fence in `announce`: either that append sees the receiver, or the receiver sees that append.
        fence(Ordering::SeqCst);
        receiver
    }

    /// Wakes the followers, if there are any, after an append.
    pub(super) fn announce(&self) {
        fence(Ordering::SeqCst);
        if self.0.wake.receiver_count() == 0 {
            return;
        }
        let state = &self.0.state;
        let moved = |from, to| state.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        loop {
            match state.load(Ordering::SeqCst) {
                // The end of the pause is still to come, and looks at the log after that.
                OWED => return,
                PAUSED if moved(PAUSED, OWED) => return,
                QUIET => match Handle::try_current() {
                    Ok(runtime) if moved(QUIET, PAUSED) => {
                        self.0.send();
                        runtime.spawn(Pause { shared: Arc::clone(&self.0), is_over: false }.run());
                        return;
                    }
                    Ok(_) => {}
                    Err(_) => return self.0.send(),
                },
                _ => {}
            }
        }
    }
}

impl Shared {
    fn send(&self) {
        let head = Position(self.log.head().into());
        self.wake.send_if_modified(|last| {
            let is_newer = head > *last;
            *last = head.max(*last);
            is_newer
        });
    }
}

/// Holds announcements back, and makes up for them.
struct Pause {
    shared: Arc<Shared>,
    is_over: bool,
}

impl Pause {
    async fn run(mut self) {
        while !self.is_over {
            sleep(PAUSE).await;
            let state = &self.shared.state;
            self.is_over = state.compare_exchange(PAUSED, QUIET, Ordering::SeqCst, Ordering::SeqCst).is_ok();
            if !self.is_over {
                state.store(PAUSED, Ordering::SeqCst);
                fence(Ordering::SeqCst);
                self.shared.send();
            }
        }
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        // Its runtime has ended: a store that another one uses announces the next append at once.
        if !self.is_over {
            self.shared.state.store(QUIET, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::FutureExt as _;

    use super::*;
    use crate::ports::event_store::StreamId;

    #[tokio::test(start_paused = true)]
    async fn a_quiet_log_is_announced_at_once_and_a_busy_one_once_in_each_pause() {
        let log = Arc::new(Log::new());
        let announcer = Announcer::of(Arc::clone(&log));
        let mut wake = announcer.subscribe();
        let append = || {
            log.append(StreamId(1), 1, vec![Bytes::from_static(b"event")], 1_000).expect("room");
            announcer.announce();
        };
        append();
        assert!(wake.changed().now_or_never().is_some(), "at once");
        (0..5).for_each(|_| append());
        assert!(wake.changed().now_or_never().is_none(), "held back");
        wake.changed().await.expect("made up for");
        assert_eq!(*wake.borrow_and_update(), Position(6));
        tokio::time::sleep(PAUSE * 5).await;
        assert!(wake.changed().now_or_never().is_none(), "nothing new");
        append();
        assert_eq!(wake.changed().now_or_never().map(|changed| changed.is_ok()), Some(true), "quiet again");
    }

    #[test]
    fn the_end_of_a_runtime_holds_nothing_back() {
        let log = Arc::new(Log::new());
        let announcer = Announcer::of(Arc::clone(&log));
        let wake = announcer.subscribe();
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        for appended in 1..=3 {
            runtime().block_on(async {
                log.append(StreamId(1), 1, vec![Bytes::from_static(b"event")], 1_000).expect("room");
                announcer.announce();
            });
            assert_eq!(*wake.borrow(), Position(appended));
        }
    }
}
