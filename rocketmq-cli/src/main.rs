//! `rmq`: works with any RocketMQ cluster from a shell.
//!
//! Results go to standard output, everything else to standard error. Exit codes: 0 all as asked, 1 not, 2 wrong
//! arguments.
#![forbid(unsafe_code)]

mod bench;
mod failure;
mod trace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use bench::Bench;
use failure::Failure;

/// Works with any RocketMQ cluster.
#[derive(Parser)]
#[command(name = "rmq", version, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure a cluster: how fast it takes messages, gives them out, and hands them from a sender to a handler
    #[command(subcommand)]
    Bench(Bench),
    /// Tell what became of a message: when it was sent, given to which group, and consumed
    #[command(after_help = trace::EXAMPLES)]
    Trace(trace::Options),
}

/// How a command that ran to its end ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    AsAsked,
    Not,
}

// One thread keeps a connection busy; a second one would only take time from a broker on the same machine.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let ended = match Arguments::parse().command {
        Command::Bench(bench) => bench.run().await,
        Command::Trace(options) => trace::run(options).await,
    };
    match ended {
        Ok(Outcome::AsAsked) => ExitCode::SUCCESS,
        Ok(Outcome::Not) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("rmq: {}", failure.explanation());
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_do_not_contradict_one_another() {
        Arguments::command().debug_assert();
    }
}
