//! The progress of a long command on standard error: a bar on a terminal, elsewhere a line every five seconds.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::log_tools::Meter;

/// The interval of lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// The interval at which a meter is read.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// The progress of the work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// The current phase: what has been done to the events, such as "copied".
    pub(super) phase: &'static str,
    /// Events done in this phase.
    pub(super) done: u64,
    /// About how many there are.
    pub(super) total: u64,
    /// Events per second.
    pub(super) rate: u64,
    /// The remaining time, or the last step; `None` if unknown.
    pub(super) left: Option<String>,
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { phase, done, total, rate, left } = self;
        write!(f, "{phase} {done} of about {total} events, {rate} events/s")?;
        left.as_ref().map_or(Ok(()), |left| write!(f, ", {left}"))
    }
}

/// `seconds` as the remaining time.
pub(super) fn seconds_left(seconds: u64) -> String {
    format!("{seconds} s left")
}

/// Events per second.
pub(super) fn rate(events: u64, time: Duration) -> u64 {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    events.saturating_mul(1_000) / millis
}

/// The display. Clones show the same bar.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    line: Arc<Mutex<Instant>>,
}

impl Progress {
    /// A display that has nothing to show yet.
    pub(super) fn begin() -> Self {
        Self::on(ProgressDrawTarget::stderr())
    }

    fn on(target: ProgressDrawTarget) -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), target);
        // The template is constant; a test of the bar would find an invalid one.
        if let Ok(style) = ProgressStyle::with_template("[{bar:30}] {percent:>3} %  {msg}") {
            bar.set_style(style.progress_chars("#-"));
        }
        Self { bar, line: Arc::new(Mutex::new(Instant::now())) }
    }

    /// Shows `reading`.
    pub(super) fn show(&self, reading: &Reading) {
        if !self.bar.is_hidden() {
            self.bar.set_length(reading.total.max(reading.done));
            self.bar.set_position(reading.done);
            self.bar.set_message(reading.to_string());
            return;
        }
        let mut last = self.line.lock();
        if last.elapsed() >= LINE_INTERVAL {
            *last = Instant::now();
            eprint(reading);
        }
    }

    /// Prints `text` once, above the bar.
    pub(super) fn note(&self, text: &str) {
        self.suspended(|| eprint(text));
    }

    /// Runs `print`, which may write to the terminal, while the bar is hidden.
    pub(super) fn suspended<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    /// Removes the bar.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

/// Writes a line to standard error. A closed standard error does not matter: the work continues.
fn eprint(line: impl fmt::Display) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A display that follows a meter until it is dropped.
pub(super) struct Following {
    progress: Progress,
    task: JoinHandle<()>,
}

impl Following {
    pub(super) fn begin(meter: &Arc<Meter>) -> Self {
        let progress = Progress::begin();
        let task = tokio::spawn(follow(Arc::clone(meter), progress.clone()));
        Self { progress, task }
    }

    /// The display, to print other output.
    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
        self.progress.end();
    }
}

async fn follow(meter: Arc<Meter>, progress: Progress) {
    let (mut phase, mut begun) = ("", Instant::now());
    loop {
        tokio::time::sleep(POLL_INTERVAL).await;
        let now = meter.read();
        if now.phase != phase {
            (phase, begun) = (now.phase, Instant::now().checked_sub(POLL_INTERVAL).unwrap_or_else(Instant::now));
        }
        if phase.is_empty() {
            continue;
        }
        let rate = rate(now.done, begun.elapsed());
        let total = now.total.max(now.done);
        let left = (total - now.done).checked_div(rate).filter(|_| now.done < total).map(seconds_left);
        progress.show(&Reading { phase, done: now.done, total, rate, left });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A terminal that records its output.
    #[derive(Clone, Debug, Default)]
    struct Terminal(Arc<Mutex<String>>);

    impl indicatif::TermLike for Terminal {
        fn width(&self) -> u16 {
            120
        }
        fn move_cursor_up(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> std::io::Result<()> {
            self.write_str(text)
        }
        fn write_str(&self, text: &str) -> std::io::Result<()> {
            self.0.lock().push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> std::io::Result<()> {
            self.0.lock().clear();
            Ok(())
        }
        fn flush(&self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn reading(done: u64, left: Option<&str>) -> Reading {
        Reading { phase: "copied", done, total: 1_000, rate: 99, left: left.map(str::to_owned) }
    }

    #[test]
    fn a_line_shows_progress_speed_and_remaining_time() {
        let line = reading(500, Some(&seconds_left(6))).to_string();
        assert_eq!(line, "copied 500 of about 1000 events, 99 events/s, 6 s left");
        assert_eq!(reading(0, None).to_string(), "copied 0 of about 1000 events, 99 events/s");
    }

    #[test]
    fn a_terminal_shows_a_bar_that_leaves_room_for_lines_and_is_removed_at_the_end() {
        let terminal = Terminal::default();
        let progress = Progress::on(ProgressDrawTarget::term_like(Box::new(terminal.clone())));
        progress.show(&reading(500, None));
        progress.bar.tick();
        let shown = terminal.0.lock().clone();
        let bar = format!("[{}{}]  50 %  {}", "#".repeat(15), "-".repeat(15), reading(500, None));
        assert!(shown.contains(&bar), "{shown:?}");
        progress.suspended(|| assert_eq!(terminal.0.lock().trim(), ""));
        progress.end();
        assert_eq!(terminal.0.lock().trim(), "");
    }

    #[test]
    fn without_a_terminal_a_line_is_printed_every_five_seconds() {
        let progress = Progress::on(ProgressDrawTarget::hidden());
        let begun = *progress.line.lock();
        progress.show(&reading(1, None));
        assert_eq!(*progress.line.lock(), begun, "it is too early for a line");
        if let Some(earlier) = begun.checked_sub(LINE_INTERVAL) {
            *progress.line.lock() = earlier;
            progress.show(&reading(2, None));
            assert!(*progress.line.lock() > begun, "a line is due");
        }
    }

    #[test]
    fn a_rate_is_known_from_the_first_moment() {
        assert_eq!(rate(500, Duration::from_secs(2)), 250);
        assert_eq!(rate(5, Duration::ZERO), 5_000);
    }
}
