//! `ordersystem config`.

use clap::Args;

use super::settings::{OfNode, SettingFlags};

const EXAMPLES: &str = "\
Secrets are hidden. The output is itself a valid configuration file once secrets are filled in.

Examples:
  ordersystem config                                 show the defaults and what the environment sets
  ordersystem config --config ordersystem.toml       check a configuration file
  ordersystem config | grep -v default               show only what is not a default

Exit codes: 0 for a valid configuration, 2 for an invalid one.";

/// Print the effective configuration and the source of each value
#[derive(Args)]
#[command(after_long_help = EXAMPLES, override_usage = "ordersystem config [OPTIONS]")]
pub(super) struct ConfigArgs {
    #[command(flatten)]
    pub(super) settings: SettingFlags<OfNode>,
}
