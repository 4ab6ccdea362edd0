//! Signals: they stop a command, or make a node read its configuration again.

use std::io::{IsTerminal as _, stderr};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{config::Config, telemetry::logs::LogLevels};

/// Exit code after a second signal: 128 + SIGINT, as shells count.
const INTERRUPTED: i32 = 130;

/// A token that the first SIGTERM or SIGINT cancels; a second signal ends the process at once.
///
/// # Errors
/// If the handlers cannot be installed.
pub(super) fn stop_on_signals() -> std::io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = CancellationToken::new();
    let first = shutdown.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if first.is_cancelled() {
                std::process::exit(INTERRUPTED);
            }
            first.cancel();
        }
    });
    Ok(shutdown)
}

/// Reads the configuration again on each SIGHUP, and uses its log level. A terminal sends the same signal when it is closed; `shutdown` is cancelled
/// then.
///
/// # Errors
/// If the handler cannot be installed.
pub(super) fn read_again_on_hangup(
    config: Config,
    logs: LogLevels,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let had_terminal = stderr().is_terminal();
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            if had_terminal && !stderr().is_terminal() {
                shutdown.cancel();
                return;
            }
            // The file may be on a slow volume.
            let (config, logs) = (config.clone(), logs.clone());
            let _ = tokio::task::spawn_blocking(move || read_again(&config, &logs)).await;
        }
    });
    Ok(())
}

fn read_again(config: &Config, logs: &LogLevels) {
    let read = config.read_again().map_err(|error| error.to_string());
    let used = read.and_then(|read| logs.configure(&read.log.level).map(|()| read).map_err(|error| error.to_string()));
    match used {
        Ok(read) => {
            let differ = config.differences(&read).into_iter().filter(|key| *key != "log-level");
            let needs_restart = differ.collect::<Vec<_>>().join(", ");
            tracing::info!(
                filter = read.log.level,
                "SIGHUP: the configuration was read again, and its log level is used"
            );
            if !needs_restart.is_empty() {
                tracing::warn!(settings = needs_restart, "these settings have changed, and need a restart");
            }
        }
        Err(why) => tracing::error!("SIGHUP: the configuration is not used, the previous log level stays: {why}"),
    }
}
