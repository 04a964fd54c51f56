//! `rmq bench transaction`: how fast half messages are taken, and how long one takes from there to its commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;
use rocketmq_client::{Error, Producer, ReceivedMessage, TransactionOutcome, TransactionProducer};
use tokio::task::JoinSet;

use super::alarm::Alarm;
use super::load::{Load, Parcel, Source};
use super::produce::positive;
use super::progress::{Counts, Progress};
use super::quota::{Extent, Quota, Turn};
use super::report::Report;
use super::tally::{Tally, record, times};
use super::target::{Creation, Target};
use crate::{Failure, Outcome};

pub(crate) const EXAMPLES: &str = "\
Examples:
  rmq bench transaction --namesrv 127.0.0.1:9876 --topic orders
      10 s of transactions that are committed, 64 at a time
  rmq bench transaction -n 127.0.0.1:9876 -t orders --rollback 30 --unknown 5 --messages 100000 --json
  rmq bench transaction -n 127.0.0.1:9876 -t orders --rate 1000 --duration 1m
      at a fixed rate: times count from when a transaction was due

A message counts when the broker has confirmed how its transaction ended. Times are from the send of the half message to
that, those with half_ to the acknowledgement of the half message. What is left unknown is committed when the broker
asks; `checked` tells how often it did before the run was over, which it does not wait for.";

/// Options of `rmq bench transaction`.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    creation: Creation,
    #[command(flatten)]
    load: Load,
    /// Transactions at the same time
    #[arg(long, short, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65536))]
    concurrency: u32,
    /// How many of 100 are rolled back
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(..=100))]
    rollback: u8,
    /// How many of 100 are left for the broker to ask about
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(..=100))]
    unknown: u8,
    /// Transactions per second [default: as many as are taken]
    #[arg(long, value_name = "N", value_parser = positive)]
    rate: Option<f64>,
    #[command(flatten)]
    extent: Extent,
    /// How long the half message may take, and its end
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What all senders share.
struct Sender {
    producer: TransactionProducer,
    quota: Quota,
    counts: Arc<Counts>,
    shares: Shares,
    size: u64,
}

/// Which transactions end how.
#[derive(Clone, Copy)]
struct Shares {
    rollback: u64,
    unknown: u64,
}

impl Shares {
    /// Of 100 numbers in a row, so many as the options say; mixed, so that few in a row end alike.
    fn outcome(self, number: u64) -> TransactionOutcome {
        let place = (number % 100) * 37 % 100;
        if place < self.rollback {
            TransactionOutcome::Rollback
        } else if place < self.rollback + self.unknown {
            TransactionOutcome::Unknown
        } else {
            TransactionOutcome::Commit
        }
    }
}

/// What came of the transactions of one sender.
struct Done {
    /// With the times to the confirmed end.
    tally: Tally,
    half: Histogram<u64>,
    committed: u64,
    rolled_back: u64,
    unknown: u64,
}

pub(crate) async fn run(options: Options) -> Result<Outcome, Failure> {
    let Options { target, creation, load, concurrency, rollback, unknown, json, .. } = &options;
    load.check()?;
    if rollback + unknown > 100 {
        return Err(Failure::Options("--rollback and --unknown are more than 100 together".into()));
    }
    let client = target.connect().await?;
    let queues = target.create(&client, creation).await?;
    let checked = Arc::new(AtomicU64::new(0));
    let checker = {
        let checked = Arc::clone(&checked);
        move |_: ReceivedMessage| {
            checked.fetch_add(1, Ordering::Relaxed);
            std::future::ready(Ok(TransactionOutcome::Commit))
        }
    };
    let producer = Producer::builder(format!("rmq-bench-{:08x}", rand::random::<u32>()))
        .client(&client)
        .topics([&*target.topic])
        .max_attempts(1)
        .compress_above(usize::MAX)
        .send_timeout(options.timeout)
        .max_in_flight(*concurrency, 1 << 30)
        .start_transactional(checker)
        .await?;
    let progress = Progress::start();
    let sender = Arc::new(Sender {
        producer,
        quota: options.extent.quota(options.rate),
        counts: Arc::clone(progress.counts()),
        shares: Shares { rollback: (*rollback).into(), unknown: (*unknown).into() },
        size: load.size(),
    });
    let ending = tokio::spawn({
        let (sender, time) = (Arc::clone(&sender), options.extent.time());
        async move { sender.quota.finish_in_time(time).await }
    });
    let mut tasks = JoinSet::new();
    for _ in 0..*concurrency {
        tasks.spawn(one_after_another(Arc::clone(&sender), load.source(&target.topic)?));
    }
    let done = tasks.join_all().await;
    let took = sender.quota.began().elapsed();
    ending.abort();
    drop(progress);
    let mut sum = Done::new();
    for done in done {
        sum.add(done?);
    }
    sender.producer.shutdown().await;
    client.shutdown().await;
    Report {
        what: format!(
            "transactions to {}: {queues} queues, {} bytes, {concurrency} at a time",
            target.topic,
            load.size()
        ),
        tally: sum.tally,
        times_are: "send to end",
        also: Some(("send to half", "half_", sum.half)),
        took,
        counts: vec![
            ("committed", sum.committed),
            ("rolled_back", sum.rolled_back),
            ("unknown", sum.unknown),
            ("checked", checked.load(Ordering::Relaxed)),
        ],
        verdict: None,
    }
    .print(*json)
}

async fn one_after_another(sender: Arc<Sender>, mut source: Source) -> Result<Done, Failure> {
    let mut done = Done::new();
    let mut alarm = Alarm::new()?;
    while let Some(Turn { numbers, due }) = sender.quota.take(1) {
        if let Some(due) = due {
            alarm.wait_until(due).await?;
        }
        let outcome = sender.shares.outcome(numbers.start);
        let Parcel::One(message) = source.parcel(numbers)? else { continue };
        let due = due.unwrap_or_else(Instant::now);
        match sender.send(message, outcome, due, &mut done).await {
            Ok(()) => sender.counts.went_well(1),
            Err(error) => {
                sender.counts.failed(1);
                done.tally.failed(1, || error.to_string());
            }
        }
    }
    Ok(done)
}

impl Sender {
    async fn send(
        &self,
        message: rocketmq_client::Message,
        outcome: TransactionOutcome,
        due: Instant,
        done: &mut Done,
    ) -> Result<(), Error> {
        let half = self.producer.prepare(message).await?;
        record(&mut done.half, due.elapsed());
        let count = match outcome {
            TransactionOutcome::Commit => {
                half.commit().await?;
                &mut done.committed
            }
            TransactionOutcome::Rollback => {
                half.rollback().await?;
                &mut done.rolled_back
            }
            TransactionOutcome::Unknown => {
                drop(half);
                done.unknown += 1;
                done.tally.messages += 1;
                done.tally.bytes += self.size;
                return Ok(());
            }
        };
        *count += 1;
        done.tally.went_well(1, self.size, due.elapsed());
        Ok(())
    }
}

impl Done {
    fn new() -> Self {
        Self { tally: Tally::new(), half: times(), committed: 0, rolled_back: 0, unknown: 0 }
    }

    fn add(&mut self, other: Self) {
        self.tally.add(other.tally);
        self.half.add(&other.half).expect("all have the same bounds");
        self.committed += other.committed;
        self.rolled_back += other.rolled_back;
        self.unknown += other.unknown;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_in_a_row_end_as_the_options_say() {
        let shares = Shares { rollback: 30, unknown: 5 };
        for first in [0, 1, 12_345] {
            let ends = |outcome| (first..first + 100).filter(|n| shares.outcome(*n) == outcome).count();
            assert_eq!(ends(TransactionOutcome::Commit), 65);
            assert_eq!(ends(TransactionOutcome::Rollback), 30);
            assert_eq!(ends(TransactionOutcome::Unknown), 5);
        }
        assert!(
            (0..100).all(|n| Shares { rollback: 0, unknown: 0 }.outcome(n) == TransactionOutcome::Commit)
        );
    }
}
