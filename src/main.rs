//! The binary: configuration -> telemetry -> node -> run -> drain.

use std::{io::Write, process::ExitCode};

use ordersystem::{
    cli::{self, CliError, CopyArgs, Invocation, VerifyArgs},
    config::{Config, LogConfig, LogFormat},
    node::{self, App, StartError},
    private_files, telemetry,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code after a second signal: 128 + SIGINT, as shells count.
const INTERRUPTED: u8 = 130;

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
        Ok(Invocation::Serve(config)) => exit_code(serve(&config).await),
        Ok(Invocation::Health { target, service, timeout_ms }) => {
            exit_code(cli::probe::run(&target, &service, timeout_ms).await)
        }
        Ok(Invocation::DeadLetters(call)) => exit_code(cli::operator::run(call).await),
        Ok(Invocation::RebuildProjections(call)) => exit_code(cli::operator::rebuild_projections(call).await),
        Ok(Invocation::Backup { data_dir, target }) => exit_code(node::backup(&data_dir, &target)),
        Ok(Invocation::Copy(call)) => exit_code(copy(&call).await),
        Ok(Invocation::Verify(call)) => match verify(&call).await {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => exit_code(Err(error)),
        },
        Ok(Invocation::PrintConfig(config)) => exit_code(say(&config.to_string())),
        Err(error) => {
            match &error {
                CliError::Info(text) => return exit_code(say(text)),
                CliError::Usage(_) | CliError::Config(_) => eprintln!("{error}"),
            }
            ExitCode::from(error.exit_code())
        }
    }
}

async fn serve(config: &Config) -> Result<(), StartError> {
    telemetry::start_logging(&config.log)?;
    let shutdown = stop_on_signals()?;
    let app = tokio::select! {
        app = App::start(config) => app?,
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

async fn copy(call: &CopyArgs) -> Result<(), StartError> {
    log_of_a_tool()?;
    node::copy(call, &stop_on_signals()?).await
}

async fn verify(call: &VerifyArgs) -> Result<bool, StartError> {
    log_of_a_tool()?;
    node::verify(call).await
}

/// Logs retries; only the final failure is reported.
fn log_of_a_tool() -> Result<(), StartError> {
    let level = "off,ordersystem::log_tools=warn".to_owned();
    telemetry::start_logging(&LogConfig { level, format: LogFormat::Text })?;
    Ok(())
}

/// A token that the first SIGTERM or SIGINT cancels; a second signal ends the process at once.
fn stop_on_signals() -> Result<CancellationToken, StartError> {
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
                std::process::exit(INTERRUPTED.into());
            }
            first.cancel();
        }
    });
    Ok(shutdown)
}

/// Prints to standard output, which may be closed or full.
fn say(text: &str) -> Result<(), StartError> {
    match std::io::stdout().write_all(text.as_bytes()) {
        // The reader has closed the pipe (e.g. `| head`).
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

fn exit_code(outcome: Result<(), StartError>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
