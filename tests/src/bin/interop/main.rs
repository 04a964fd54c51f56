//! Our side of the interop scenarios: one program per role, each of which says what it sees. Arguments, output and
//! exit codes: `tests/interop/README.md`.
#![allow(clippy::print_stdout)] // its output is its result

mod consume;
mod feature;
mod produce;
mod sequence;

use std::process::ExitCode;

use consume::Consume;
use feature::Feature;
use produce::Produce;

const USAGE: &str = "\
usage: interop produce NAMESRV TOPIC GROUP COUNT THREADS [sync|batch|oneway]
       interop consume NAMESRV TOPIC GROUP COUNT TIMEOUT_S [IDLE_AFTER_MS]
       interop feature NAME create|produce|consume NAMESRV TOPIC GROUP COUNT";

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments).await {
        Some(Ok(true)) => ExitCode::SUCCESS,
        Some(Ok(false)) => ExitCode::from(1),
        Some(Err(error)) => {
            eprintln!("{error:?}");
            ExitCode::from(1)
        }
        None => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// Whether all was as promised; `None` where the arguments are wrong.
async fn run(arguments: &[String]) -> Option<Outcome<bool>> {
    let (program, rest) = arguments.split_first()?;
    Some(match program.as_str() {
        "produce" => Produce::parse(rest)?.run().await,
        "consume" => Consume::parse(rest)?.run().await,
        "feature" => Feature::parse(rest)?.run().await,
        _ => return None,
    })
}
