//! Lets consumers of a group come, go and be killed for minutes while messages are sent, and proves from what they wrote
//! down that none was lost, that order held, and how many came twice. `--help` tells how it is used.
//!
//! The name server, the broker and every consumer are processes of their own, so that they can be killed. A consumer
//! writes a line for each message into a file that all share; the system puts the lines in one order, whoever wrote
//! them. The [`ledger`] judges that file.
#![allow(clippy::print_stdout)] // its output is its result

mod arguments;
mod churn;
mod journal;
mod ledger;
mod load;
mod member;
mod processes;
mod restart;
mod run;

use std::process::ExitCode;

use arguments::Task;

/// Whatever ends a run early.
type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match arguments::parse() {
        Ok(Task::Help) => {
            print!("{}", arguments::HELP);
            return ExitCode::SUCCESS;
        }
        Ok(Task::Member { name_server, id }) => member::run(&name_server, id).await.map(|()| true),
        Ok(Task::Run(plan)) => run::run(&plan).await,
        Err(error) => {
            eprintln!("soak: {error}; --help tells the options");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::from(1)
        }
    }
}
