//! `rmq bench produce`: sends, and tells how fast messages are taken.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rocketmq_client::{Client, Error, Producer};
use tokio::task::JoinSet;

use super::alarm::Alarm;
use super::load::{Load, Parcel, Source};
use super::progress::{Counts, Progress};
use super::quota::{Extent, Quota, Turn};
use super::raw;
use super::report::Report;
use super::tally::Tally;
use super::target::{Creation, Target};
use crate::{Failure, Outcome};

pub(crate) const EXAMPLES: &str = "\
Examples:
  rmq bench produce --namesrv 127.0.0.1:9876 --topic bench
      10 s of 128-byte messages, 64 at a time
  rmq bench produce -n 127.0.0.1:9876 -t bench --size 1024 --batch 32 --messages 1000000 --json
  rmq bench produce -n 127.0.0.1:9876 -t bench --rate 5000 --duration 1m
      at a fixed rate, whatever the answers do: times count from when a message was due
  rmq bench produce -n 127.0.0.1:9876 -t bench --mode raw
      what the broker takes, whatever a client costs
  rmq bench produce -n 127.0.0.1:9876 -t checked --verify --messages 100000
      then: rmq bench consume -n 127.0.0.1:9876 -t checked --verify --messages 100000

A send that fails is not tried again. Bodies are not compressed. MB are 1,000,000 bytes of bodies.";

/// Options of `rmq bench produce`.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    creation: Creation,
    #[command(flatten)]
    load: Load,
    /// Sends in flight at the same time
    #[arg(long, short, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65536))]
    concurrency: u32,
    /// Messages per send
    #[arg(long, short, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// How to send
    #[arg(long, value_enum, default_value_t = Mode::Sync)]
    mode: Mode,
    /// Messages per second [default: as many as are taken]
    #[arg(long, value_name = "N", value_parser = positive)]
    rate: Option<f64>,
    #[command(flatten)]
    extent: Extent,
    /// How long one send may take
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// N tasks, each waits for its answer before it sends again
    Sync,
    /// One task that keeps N sends in flight
    Async,
    /// N tasks that wait for no answer; nobody tells whether messages arrive
    Oneway,
    /// Without a client: N frames that were made beforehand, each sent again when it has been answered
    Raw,
}

impl Options {
    async fn producer(&self, client: &Client) -> Result<Producer, Error> {
        let in_flight = u32::try_from(self.load.size().saturating_mul(self.batch.into()).saturating_mul(2))
            .unwrap_or(u32::MAX)
            .saturating_mul(self.concurrency);
        Producer::builder(format!("rmq-bench-{:08x}", rand::random::<u32>()))
            .client(client)
            .max_attempts(1)
            .compress_above(usize::MAX)
            .send_timeout(self.timeout)
            .max_in_flight(self.concurrency, in_flight.clamp(64 * 1024 * 1024, 1 << 30))
            .start()
            .await
    }

    /// # Errors
    /// Options that do not go with `--mode raw`.
    fn check_raw(&self) -> Result<(), Failure> {
        let refused = |text: &str| Err(Failure::Options(format!("--mode raw {text}")));
        if !self.load.is_plain() || self.rate.is_some() {
            return refused(
                "sends the same bodies as fast as it can: leave out --tags, --keys, --verify and --rate",
            );
        }
        if !self.extent.is_multiple_of(self.batch.into()) {
            return refused("sends whole batches: make --messages a multiple of --batch");
        }
        Ok(())
    }
}

pub(crate) fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err("expected a number above 0".into()),
    }
}

/// What all senders share.
struct Sender {
    producer: Producer,
    quota: Arc<Quota>,
    counts: Arc<Counts>,
    batch: u64,
    size: u64,
    oneway: bool,
}

/// One send that has ended.
struct Sent {
    messages: u64,
    due: Instant,
    ended: Instant,
    result: Result<(), Error>,
}

pub(crate) async fn run(options: Options) -> Result<Outcome, Failure> {
    let Options { target, creation, load, concurrency, batch, mode, json, .. } = &options;
    load.check()?;
    if *mode == Mode::Oneway && *batch > 1 {
        return Err(Failure::Options("--mode oneway: a batch is always answered; leave out --batch".into()));
    }
    if *mode == Mode::Raw {
        options.check_raw()?;
    }
    let client = target.connect().await?;
    let queues = target.create(&client, creation).await?;
    let producer = match mode {
        Mode::Raw => None,
        _ => Some(options.producer(&client).await?),
    };
    let progress = Progress::start();
    let quota = Arc::new(options.extent.quota(options.rate));
    let ending = tokio::spawn({
        let (quota, time) = (Arc::clone(&quota), options.extent.time());
        async move { quota.finish_in_time(time).await }
    });
    // All on tasks of their own: the main one is not on a worker of the runtime.
    let mut tasks = JoinSet::new();
    if let Some(producer) = &producer {
        let sender = Arc::new(Sender {
            producer: producer.clone(),
            quota: Arc::clone(&quota),
            counts: Arc::clone(progress.counts()),
            batch: (*batch).into(),
            size: load.size(),
            oneway: *mode == Mode::Oneway,
        });
        if *mode == Mode::Async {
            let source = load.source(&target.topic)?;
            tasks.spawn(many_at_a_time(sender, source, *concurrency as usize));
        } else {
            for _ in 0..*concurrency {
                tasks.spawn(one_after_another(Arc::clone(&sender), load.source(&target.topic)?));
            }
        }
    } else {
        let plan = raw::produce::Plan {
            topic: target.topic.clone(),
            size: load.size(),
            batch: (*batch).into(),
            concurrency: *concurrency,
            patience: options.timeout,
        };
        let (quota, counts) = (Arc::clone(&quota), Arc::clone(progress.counts()));
        let name_servers = client.name_servers();
        tasks.spawn_blocking(move || raw::produce::send(&name_servers, &plan, &quota, &counts));
    }
    let mut tally = Tally::new();
    for result in tasks.join_all().await {
        tally.add(result?);
    }
    let took = quota.began().elapsed();
    ending.abort();
    drop(progress);
    if let Some(producer) = producer {
        producer.shutdown().await;
    }
    client.shutdown().await;
    let what = format!(
        "produce to {}: {queues} queues, {} bytes, {concurrency} in flight{}{}{}",
        target.topic,
        load.size(),
        if *batch > 1 { format!(", batches of {batch}") } else { String::new() },
        options.rate.map(|rate| format!(", {rate}/s asked for")).unwrap_or_default(),
        if *mode == Mode::Raw { ", without a client" } else { "" },
    );
    let times_are = if *mode == Mode::Oneway { "hand-over" } else { "send to ack" };
    Report { what, tally, times_are, also: None, took, counts: Vec::new(), verdict: None }.print(*json)
}

async fn one_after_another(sender: Arc<Sender>, mut source: Source) -> Result<Tally, Failure> {
    let mut tally = Tally::new();
    let mut alarm = Alarm::new()?;
    // Without a rate, a send is due when the one before it has ended.
    let mut last_ended = Instant::now();
    while let Some(Turn { numbers, due }) = sender.quota.take(sender.batch) {
        if let Some(due) = due {
            alarm.wait_until(due).await?;
        }
        let parcel = source.parcel(numbers)?;
        let sent = sender.send(parcel, due.unwrap_or(last_ended)).await;
        last_ended = sent.ended;
        sender.count(sent, &mut tally);
    }
    Ok(tally)
}

async fn many_at_a_time(
    sender: Arc<Sender>,
    mut source: Source,
    concurrency: usize,
) -> Result<Tally, Failure> {
    let mut tally = Tally::new();
    let mut alarm = Alarm::new()?;
    let mut flying = FuturesUnordered::new();
    let mut next = sender.quota.take(sender.batch);
    loop {
        let room = flying.len() < concurrency;
        match next {
            Some(Turn { numbers, due }) if room && due.is_none_or(|due| due <= Instant::now()) => {
                flying.push(sender.send(source.parcel(numbers)?, due.unwrap_or_else(Instant::now)));
                next = sender.quota.take(sender.batch);
            }
            Some(Turn { due: Some(due), .. }) if room => tokio::select! {
                Some(sent) = flying.next() => sender.count(sent, &mut tally),
                rung = alarm.wait_until(due) => rung?,
            },
            _ => match flying.next().await {
                Some(sent) => sender.count(sent, &mut tally),
                None => return Ok(tally),
            },
        }
    }
}

impl Sender {
    /// Sends messages that were due then.
    async fn send(&self, parcel: Parcel, due: Instant) -> Sent {
        let messages = parcel.len();
        let result = match parcel {
            Parcel::One(message) if self.oneway => self.producer.send_oneway(message).await,
            Parcel::One(message) => self.producer.send(message).await.map(drop),
            Parcel::Many(messages) => self.producer.send_batch(messages).await.map(drop),
        };
        Sent { messages, due, ended: Instant::now(), result }
    }

    fn count(&self, sent: Sent, tally: &mut Tally) {
        let Sent { messages, due, ended, result } = sent;
        let took = ended.saturating_duration_since(due);
        match result {
            Ok(()) => {
                self.counts.went_well(messages);
                tally.went_well(messages, messages * self.size, took);
            }
            Err(error) => {
                self.counts.failed(messages);
                tally.failed(messages, || error.to_string());
            }
        }
    }
}
