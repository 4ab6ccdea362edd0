//! `ordersystem man`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::{Args, Command, ValueHint};
use clap_mangen::Man;

use super::{error::Failure, output::print};

const EXAMPLES: &str = "\
Examples:
  ordersystem man | man -l -                                       read the page of the program
  ordersystem man --output-dir /usr/local/share/man/man1           install a page for each command";

/// Print the manual page, or write one page for each command
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct ManArgs {
    /// Folder to write a page for each command into; created if it does not exist
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    output_dir: Option<PathBuf>,
}

impl ManArgs {
    /// The folder for the pages.
    pub(super) fn call(self) -> Option<PathBuf> {
        self.output_dir
    }
}

/// Prints the page of `command`, or writes it and the pages of its subcommands into the folder.
pub(super) fn run(output_dir: Option<&Path>, command: Command) -> Result<(), Failure> {
    let Some(folder) = output_dir else {
        let mut page = Vec::new();
        Man::new(command).render(&mut page)?;
        return Ok(print(&String::from_utf8(page)?)?);
    };
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    fs::create_dir_all(folder).map_err(failed)?;
    clap_mangen::generate_to(command, folder).map_err(failed)?;
    Ok(())
}
