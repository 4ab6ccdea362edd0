//! The binary: command line -> command; for `serve` that is configuration -> telemetry -> node -> run -> drain.

use std::process::ExitCode;

use ordersystem::{
    cli::{self, CliError, Failure},
    private_files,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    private_files::keep_from_others();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return exit_code(Err(error.into())),
    };
    let code = runtime.block_on(run());
    // Does not wait for blocking work that may never end, such as a lookup of a name that no name server resolves.
    runtime.shutdown_background();
    code
}

async fn run() -> ExitCode {
    match cli::parse(std::env::args_os(), std::env::vars_os()) {
        Ok(invocation) => exit_code(invocation.run().await),
        Err(CliError::Info(text)) => exit_code(cli::print(&text).map(|()| ExitCode::SUCCESS).map_err(Into::into)),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn exit_code(outcome: Result<ExitCode, Failure>) -> ExitCode {
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}
