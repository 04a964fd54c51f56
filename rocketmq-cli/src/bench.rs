//! `rmq bench`: load, and what a cluster makes of it. Every broker gets the same load, through the same client or, with
//! `--mode raw`, without one.

mod alarm;
mod consume;
mod delay;
mod idle;
mod latency;
mod load;
mod null_server;
mod paced;
mod produce;
mod progress;
mod quota;
mod raw;
mod relay;
mod report;
mod stamp;
mod tally;
mod target;
mod transaction;
mod verify;

use clap::Subcommand;

pub(crate) use self::target::Cluster;
use crate::{Failure, Outcome};

/// The measurements.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// Send messages as fast as they are taken, or at a fixed rate
    #[command(after_help = produce::EXAMPLES)]
    Produce(produce::Options),
    /// Consume what a topic holds, or what comes in
    #[command(after_help = consume::EXAMPLES)]
    Consume(consume::Options),
    /// Measure how long a message takes to its acknowledgement, and to a handler
    #[command(after_help = latency::EXAMPLES)]
    Latency(latency::Options),
    /// Watch what a broker does while many consumers wait and nobody sends
    #[command(after_help = idle::EXAMPLES)]
    Idle(idle::Options),
    /// Send messages in transactions: half a message, then its commit
    #[command(after_help = transaction::EXAMPLES)]
    Transaction(transaction::Options),
    /// Measure how late delayed messages are
    #[command(after_help = delay::EXAMPLES)]
    Delay(delay::Options),
    /// Be a cluster that answers every send and stores nothing: what `rmq` and the network can do at most
    NullServer(null_server::Options),
}

impl Bench {
    pub(crate) async fn run(self) -> Result<Outcome, Failure> {
        match self {
            Self::Produce(options) => produce::run(options).await,
            Self::Consume(options) => consume::run(options).await,
            Self::Latency(options) => latency::run(options).await,
            Self::Idle(options) => idle::run(options).await,
            Self::Transaction(options) => transaction::run(options).await,
            Self::Delay(options) => delay::run(options).await,
            Self::NullServer(options) => null_server::run(options).await,
        }
    }
}
