//! What is promised of producing, tried out on real processes that are stopped and killed.
//!
//! `cargo run --release -p rocketmq-tests --bin proofs -- --help`. `docs/guarantees.md` has results.
#![cfg(unix)] // SIGSTOP, and symbolic links as a table of outcomes
#![allow(clippy::print_stdout)] // its output is its result

mod arguments;
mod broker_process;
mod delays;
mod order;
mod outcomes;
mod slow_broker;
mod times;
mod transaction_service;
mod transactions;

use std::process::ExitCode;

use arguments::Task;

/// Why a proof could not be carried out; a broken promise is none.
type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let task = match arguments::parse() {
        Ok(task) => task,
        Err(error) => {
            eprintln!("proofs: {error}; --help tells the options");
            return ExitCode::from(2);
        }
    };
    let held = match task {
        Task::Help => {
            print!("{}", arguments::HELP);
            Ok(true)
        }
        Task::Transactions(plan) => transactions::prove(plan).await,
        Task::SlowBroker(plan) => slow_broker::prove(plan).await,
        Task::Delays(plan) => delays::prove(plan).await,
        Task::Order(plan) => order::prove(plan).await,
        Task::Broker(settings) => broker_process::serve(settings).await.map(|()| true),
        Task::TransactionService(place) => transaction_service::run(place).await.map(|()| true),
    };
    match held {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("proofs: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints whether a promise holds, and returns it.
fn promise(text: &str, holds: bool) -> bool {
    println!("{}  {text}", if holds { "holds " } else { "BROKEN" });
    holds
}
