//! `ordersystem completions`.

use clap::{Args, Command};
use clap_complete::{Shell, generate};

use super::{error::Failure, output::print};

const EXAMPLES: &str = "\
Examples:
  ordersystem completions bash > ~/.local/share/bash-completion/completions/ordersystem
  ordersystem completions zsh > ~/.zfunc/_ordersystem        with `fpath+=~/.zfunc` before `compinit` in ~/.zshrc
  ordersystem completions fish > ~/.config/fish/completions/ordersystem.fish
  ordersystem completions powershell >> $PROFILE
  ordersystem completions elvish > ~/.config/elvish/lib/ordersystem.elv   with `use ordersystem` in rc.elv";

/// Print a script that completes commands and options in a shell
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct CompletionsArgs {
    /// Shell to print the script for
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl CompletionsArgs {
    /// The shell.
    pub(super) fn call(self) -> Shell {
        self.shell
    }
}

/// Prints the script for `shell` that completes `command`.
pub(super) fn run(shell: Shell, mut command: Command) -> Result<(), Failure> {
    let mut script = Vec::new();
    generate(shell, &mut command, "ordersystem", &mut script);
    Ok(print(&String::from_utf8(script)?)?)
}
