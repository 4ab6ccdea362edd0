//! `ordersystem serve`, which also runs when no command is named.

use clap::Args;

use super::{
    error::Failure,
    settings::{OfNode, SettingFlags},
    signals::{read_again_on_hangup, stop_on_signals},
};
use crate::{config::Config, node::App, telemetry};

/// The end of `ordersystem --help` and `ordersystem serve --help`.
pub(super) const EXAMPLES: &str = "\
Each setting is also an environment variable and a key of the --config file. Flags win over the environment, and the environment over the file. \
`ordersystem config` prints what is in effect. On SIGHUP the node reads them again, and uses the log level.

Examples:
  ordersystem                                                      try it: orders are kept in memory
  ordersystem --persistence embedded --data-dir ./orders           keep orders in a folder
  ordersystem --persistence redis --transport redis --redis cache.internal:6379 --require-durable
  ordersystem --persistence nats --transport nats --cluster --node-id node1 --port 5001
  ordersystem --config /etc/ordersystem.toml

Exit codes: 0 after an orderly shutdown, 1 for a failure, 2 for an invalid setting, 130 after a second signal.";

/// Run the service (the default command)
#[derive(Args)]
#[command(after_long_help = EXAMPLES, override_usage = "ordersystem serve [OPTIONS]")]
pub(super) struct ServeArgs {
    #[command(flatten)]
    pub(super) settings: SettingFlags<OfNode>,
}

/// Runs a node until a signal ends it: logging, start, run, drain.
pub(super) async fn run(config: &Config) -> Result<(), Failure> {
    let logs = telemetry::start_logging(&config.log)?;
    let shutdown = stop_on_signals()?;
    read_again_on_hangup(config.clone(), logs.clone(), shutdown.clone())?;
    let app = tokio::select! {
        app = App::start(config, logs) => app?,
        () = shutdown.cancelled() => {
            // Nothing has been accepted yet.
            tracing::info!("stopped before it had started");
            return Ok(());
        }
    };
    app.run(shutdown).await?;
    tracing::info!("stopped");
    Ok(())
}
