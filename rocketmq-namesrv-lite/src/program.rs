//! What the programs of this family have in common: one line for an error, a quiet log, an end on request.

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Turns the outcome of a program into its exit code; an error is told in one line on standard error, with its
/// causes.
pub fn end(program: &str, outcome: Result<(), Box<dyn Error>>) -> ExitCode {
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    let mut line = format!("{program}: {error}");
    let mut source = error.source();
    while let Some(error) = source {
        line += &format!(": {error}");
        source = error.source();
    }
    writeln!(io::stderr(), "{line}").ok(); // there is no one else to tell
    ExitCode::FAILURE
}

/// Sends the log to standard error, coloured on a terminal only. `RUST_LOG` is a level, or a list of `module=level`;
/// what it does not name has the level `info`.
///
/// # Errors
/// `RUST_LOG` is malformed.
pub fn log_to_stderr() -> Result<(), Box<dyn Error>> {
    let mut levels = match std::env::var("RUST_LOG").unwrap_or_default().as_str() {
        "" => Targets::new(),
        wanted => wanted.parse().map_err(|error| format!("RUST_LOG {wanted:?}: {error}"))?,
    };
    if levels.default_level().is_none() {
        levels = levels.with_default(LevelFilter::INFO);
    }
    let colour = io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_ansi(colour).with_writer(io::stderr);
    tracing_subscriber::registry().with(lines).with(levels).init();
    Ok(())
}

/// The address that an option like `--listen HOST:PORT` means.
///
/// # Errors
/// It is none, or its name has none.
pub async fn resolve(option: &str, listen: &str) -> Result<SocketAddr, String> {
    let failed = |reason: String| format!("{option} {listen}: expected HOST:PORT, {reason}");
    let mut addrs = tokio::net::lookup_host(listen).await.map_err(|error| failed(error.to_string()))?;
    addrs.next().ok_or_else(|| failed("no address has this name".to_owned()))
}

/// SIGTERM and SIGINT, what ends a program.
#[cfg(unix)]
#[derive(Debug)]
pub struct StopSignals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl StopSignals {
    /// Begins to listen: from here on neither signal ends the process by itself.
    ///
    /// # Errors
    /// The system does not let us.
    pub fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the first one, and names it.
    pub async fn wait(mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// What ends a program.
#[cfg(not(unix))]
#[derive(Debug)]
pub struct StopSignals;

#[cfg(not(unix))]
impl StopSignals {
    /// Begins to listen.
    ///
    /// # Errors
    /// None here.
    pub fn listen() -> io::Result<Self> {
        Ok(Self)
    }

    /// Waits for it, and names it.
    pub async fn wait(self) -> &'static str {
        // Without a handler the system ends the program by itself.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        "interrupt"
    }
}
