//! `rmq bench latency`: how long a message takes to its acknowledgement, and to a handler. Both ends are this process, so
//! one clock tells; times count from when a message was due, so that a cluster that stalls cannot hide it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use clap::Args;
use hdrhistogram::Histogram;
use rocketmq_client::{Ack, Client, ConsumeFrom, Filter, Message, Producer, PushConsumer, QueueId};

use super::load::filler;
use super::paced;
use super::produce::positive;
use super::progress::Progress;
use super::quota::Quota;
use super::report::Report;
use super::tally::{record, times};
use super::target::{Creation, Target};
use crate::{Failure, Outcome};

pub(crate) const EXAMPLES: &str = "\
Examples:
  rmq bench latency --namesrv 127.0.0.1:9876 --topic latency
      5,000 messages per second for 10 s
  rmq bench latency -n 127.0.0.1:9876 -t latency --rate 500 --size 1024 --duration 1m --json

The first times and the keys p50_us … max_us are from send to handler, those with ack_ from send to acknowledgement.";

/// `run: u64`, `number: u64` and `due: u64` in nanoseconds since the run began, big-endian, at the front of a body.
const HEAD: usize = 24;
/// The number of messages that only find out whether the consumer is there.
const PROBE: u64 = u64::MAX;
/// How long the consumer may take to get its queues, and the last messages to arrive.
const PATIENCE: Duration = Duration::from_secs(30);
const LAST_MESSAGES: Duration = Duration::from_secs(5);
const GRACE: Duration = Duration::from_secs(5);

/// Options of `rmq bench latency`.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    creation: Creation,
    /// Messages per second
    #[arg(long, value_name = "N", default_value_t = 5000.0, value_parser = positive)]
    rate: f64,
    /// Bytes of a body
    #[arg(long, short, value_name = "BYTES", default_value_t = 128, value_parser = clap::value_parser!(u32).range(HEAD as i64..))]
    size: u32,
    /// How long to send
    #[arg(long, short, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// Keep a processor busy instead of sleeping between messages, so that times are without the wake-ups of this process
    #[arg(long)]
    awake: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What sender and handler share.
struct Run {
    id: u64,
    topic: String,
    filler: Bytes,
    began: Instant,
    arrived: Mutex<Arrived>,
}

struct Arrived {
    /// Queues that a probe came from.
    probed: HashSet<(String, QueueId)>,
    messages: u64,
    times: Histogram<u64>,
}

impl Run {
    fn message(&self, number: u64, due: Instant) -> Message {
        let mut body = BytesMut::with_capacity(self.filler.len());
        body.put_u64(self.id);
        body.put_u64(number);
        body.put_u64(due.saturating_duration_since(self.began).as_nanos() as u64);
        body.put_slice(self.filler.get(HEAD..).unwrap_or_default());
        Message::new(self.topic.clone(), body.freeze())
    }

    fn arrived(&self) -> std::sync::MutexGuard<'_, Arrived> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, messages: &rocketmq_client::Batch) {
        let now = self.began.elapsed();
        for message in messages {
            let Ok(body) = message.body() else { continue };
            let Some((number, due)) = self.read(body) else { continue };
            let mut arrived = self.arrived();
            if number == PROBE {
                arrived.probed.insert((message.broker_name().to_owned(), message.queue_id()));
            } else {
                arrived.messages += 1;
                record(&mut arrived.times, now.saturating_sub(due));
            }
        }
    }

    /// Number and due time of a message of this run.
    fn read(&self, body: &[u8]) -> Option<(u64, Duration)> {
        let mut fields =
            body.chunks_exact(8).map_while(|word| Some(u64::from_be_bytes(*word.first_chunk()?)));
        let (id, number, due) = (fields.next()?, fields.next()?, fields.next()?);
        (id == self.id).then_some((number, Duration::from_nanos(due)))
    }
}

pub(crate) async fn run(options: Options) -> Result<Outcome, Failure> {
    let Options { target, creation, rate, size, awake, json, .. } = &options;
    let client = target.connect().await?;
    let queues = target.create(&client, creation).await?;
    let run = Arc::new(Run {
        id: rand::random(),
        topic: target.topic.clone(),
        filler: filler(*size as usize),
        began: Instant::now(),
        arrived: Mutex::new(Arrived { probed: HashSet::new(), messages: 0, times: times() }),
    });
    let group = format!("rmq-bench-{:08x}", rand::random::<u32>());
    let producer =
        Producer::builder(&*group).client(&client).max_attempts(1).compress_above(usize::MAX).start().await?;
    let consumer = consume(&client, group, &run).await?;
    await_consumer(&run, &producer, queues).await?;
    let progress = Progress::start();
    let quota = Quota::lasting(options.duration, Some(*rate));
    let make = {
        let run = Arc::clone(&run);
        move |number, due| Ok(run.message(number, due))
    };
    let sending =
        tokio::spawn(paced::send(producer.clone(), quota, *awake, Arc::clone(progress.counts()), make));
    let (mut tally, took) = sending
        .await
        .map_err(|error| Failure::System { doing: "finish the sending task", source: error.into() })??;
    let sent = tally.messages;
    let until = Instant::now() + LAST_MESSAGES;
    while run.arrived().messages < sent && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(progress);
    consumer.shutdown(GRACE).await?;
    producer.shutdown().await;
    client.shutdown().await;
    let mut arrived = run.arrived();
    let missing = sent.saturating_sub(arrived.messages);
    if missing > 0 {
        tally.failed(missing, || format!("{missing} messages were stored and did not arrive"));
    }
    let ack_times = std::mem::replace(&mut tally.times, std::mem::replace(&mut arrived.times, times()));
    drop(arrived);
    Report {
        what: format!(
            "latency of {}: {queues} queues, {size} bytes, {rate}/s{}",
            target.topic,
            if *awake { ", awake" } else { "" }
        ),
        tally,
        times_are: "send to handler",
        also: Some(("send to ack", "ack_", ack_times)),
        took,
        counts: Vec::new(),
        verdict: None,
    }
    .print(*json)
}

async fn consume(client: &Client, group: String, run: &Arc<Run>) -> Result<PushConsumer, Failure> {
    let handler = {
        let run = Arc::clone(run);
        move |messages| {
            run.handle(&messages);
            std::future::ready(Ok(Ack::All))
        }
    };
    let consumer = PushConsumer::builder(group).client(client).subscribe(&run.topic, Filter::All);
    Ok(consumer.from(ConsumeFrom::Latest).handler(handler).start().await?)
}

/// Sends probes until one has come from every queue: only then the consumer waits at all of them.
async fn await_consumer(run: &Run, producer: &Producer, queues: usize) -> Result<(), Failure> {
    let began = Instant::now();
    loop {
        let reached = run.arrived().probed.len();
        if reached >= queues {
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            return Err(Failure::NotReached { reached, queues, waited: PATIENCE });
        }
        for _ in 0..queues.min(64) {
            producer.send(run.message(PROBE, Instant::now())).await?;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
