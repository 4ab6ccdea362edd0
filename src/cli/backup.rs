//! `ordersystem backup`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::{
    error::{CliError, Failure},
    output::print,
    settings::{OfFolder, SettingFlags},
};
use crate::{
    config::{Config, Variable},
    node,
};

const EXAMPLES: &str = "\
The copy is a data folder itself: to restore it, start a node on it.

Example:
  ordersystem backup --data-dir /var/lib/orders /backup/orders-monday

Exit codes: 0 for a complete copy, 1 for a failure, 2 for a usage error.";

/// Copy the data folder of a service, even while the service runs
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct BackupArgs {
    /// Target: a folder that has no copy yet
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    target: PathBuf,
    #[command(flatten)]
    settings: SettingFlags<OfFolder>,
}

/// A copy of a data folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupCall {
    /// The data folder.
    pub data_dir: PathBuf,
    /// The target: a folder without a copy yet.
    pub target: PathBuf,
}

impl BackupArgs {
    pub(super) fn call(self, env: Vec<Variable>) -> Result<BackupCall, CliError> {
        let data_dir = Config::load(&self.settings.values, env)?.node.data_dir;
        let data_dir =
            data_dir.ok_or_else(|| CliError::Usage("--data-dir is required: the folder to copy".to_owned()))?;
        Ok(BackupCall { data_dir, target: self.target })
    }
}

impl BackupCall {
    /// Copies the folder, and prints what the copy contains.
    ///
    /// # Errors
    /// One line that names the affected folder.
    pub(super) fn run(self) -> Result<(), Failure> {
        let Self { data_dir, target } = self;
        let head = node::backup(&data_dir, &target)?;
        Ok(print(&format!("{}: a copy of {} up to position {head}\n", target.display(), data_dir.display()))?)
    }
}
