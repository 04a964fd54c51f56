//! `rmq bench delay`: how late delayed messages come. Both ends are this process, so one clock tells.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{BufMut, Bytes, BytesMut};
use clap::Args;
use hdrhistogram::Histogram;
use rocketmq_client::{Ack, Batch, Client, ConsumeFrom, Delay, Filter, Message, Producer, PushConsumer};

use super::load::filler;
use super::paced;
use super::produce::positive;
use super::progress::Progress;
use super::quota::Extent;
use super::report::Report;
use super::tally::{record, times};
use super::target::{Creation, Target};
use crate::{Failure, Outcome};

pub(crate) const EXAMPLES: &str = "\
Examples:
  rmq bench delay --namesrv 127.0.0.1:9876 --topic reminders
      1,000 messages per second for 10 s, each delayed by level 1
  rmq bench delay -n 127.0.0.1:9876 -t reminders --level 3 --rate 100 --messages 1000
  rmq bench delay -n 127.0.0.1:9876 -t reminders --after 2500ms --json
      by an arbitrary time, which brokers from 5.0 on know

The first times and the keys p50_us … max_us are lateness: from when a message was due, which is its delay after it was
sent, to its handler; the times with ack_ are from send to acknowledgement. A message that comes before it is due, to the
millisecond, is an error. Levels last as long as Java's broker has it: 1s 5s 10s 30s 1m 2m … 10m 20m 30m 1h 2h.";

/// Of Java's broker. Java: `MessageStoreConfig.java`, `messageDelayLevel`.
const LEVELS_S: [u64; 18] =
    [1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200];
/// `run: u64`, `number: u64` and `due: u64` in ms since 1970, big-endian, at the front of a body.
const HEAD: usize = 24;
/// How long the last message may be late.
const PATIENCE: Duration = Duration::from_secs(10);
const GRACE: Duration = Duration::from_secs(5);

/// Options of `rmq bench delay`.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    creation: Creation,
    /// Delay level
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=18))]
    level: u8,
    /// Delay by this time instead of a level
    #[arg(long, value_name = "TIME", conflicts_with = "level", value_parser = humantime::parse_duration)]
    after: Option<Duration>,
    /// Messages per second
    #[arg(long, value_name = "N", default_value_t = 1000.0, value_parser = positive)]
    rate: f64,
    /// Bytes of a body
    #[arg(long, short, value_name = "BYTES", default_value_t = 128, value_parser = clap::value_parser!(u32).range(HEAD as i64..))]
    size: u32,
    #[command(flatten)]
    extent: Extent,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What sender and handler share.
struct Run {
    id: u64,
    topic: String,
    filler: Bytes,
    delay: Delay,
    takes: Duration,
    arrived: Mutex<Arrived>,
}

struct Arrived {
    numbers: HashSet<u64>,
    duplicates: u64,
    early: u64,
    /// By how much the first of them was, in ms.
    first_early_ms: u64,
    lateness: Histogram<u64>,
}

impl Run {
    /// A message that is sent now.
    fn message(&self, number: u64) -> Result<Message, Failure> {
        let due = now_ms() + u64::try_from(self.takes.as_millis()).unwrap_or(u64::MAX);
        let mut body = BytesMut::with_capacity(self.filler.len());
        body.put_u64(self.id);
        body.put_u64(number);
        body.put_u64(due);
        body.put_slice(self.filler.get(HEAD..).unwrap_or_default());
        Ok(Message::builder(self.topic.clone()).body(body.freeze()).delay(self.delay).build()?)
    }

    fn arrived(&self) -> MutexGuard<'_, Arrived> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, messages: &Batch) {
        let now = since_epoch();
        for message in messages {
            let Ok(body) = message.body() else { continue };
            if let Some((number, due)) = self.read(body) {
                self.arrived().take(number, due, now);
            }
        }
    }

    /// Number and due time of a message of this run.
    fn read(&self, body: &[u8]) -> Option<(u64, Duration)> {
        let mut fields =
            body.chunks_exact(8).map_while(|word| Some(u64::from_be_bytes(*word.first_chunk()?)));
        let (id, number, due) = (fields.next()?, fields.next()?, fields.next()?);
        (id == self.id).then_some((number, Duration::from_millis(due)))
    }
}

impl Arrived {
    fn new() -> Self {
        Self { numbers: HashSet::new(), duplicates: 0, early: 0, first_early_ms: 0, lateness: times() }
    }

    fn take(&mut self, number: u64, due: Duration, now: Duration) {
        if !self.numbers.insert(number) {
            self.duplicates += 1;
        } else if let Some(late) = now.checked_sub(due) {
            record(&mut self.lateness, late);
        } else {
            if self.early == 0 {
                self.first_early_ms = u64::try_from((due - now).as_millis()).unwrap_or(u64::MAX);
            }
            self.early += 1;
        }
    }
}

pub(crate) async fn run(options: Options) -> Result<Outcome, Failure> {
    let Options { target, creation, level, after, rate, size, json, .. } = &options;
    let level_takes = usize::from(*level).checked_sub(1).and_then(|index| LEVELS_S.get(index).copied());
    let (delay, takes) = match (after, level_takes) {
        (Some(after), _) => (Delay::After(*after), *after),
        (None, Some(seconds)) => (Delay::Level(*level), Duration::from_secs(seconds)),
        (None, None) => return Err(Failure::Options(format!("--level {level}: there is no such level"))),
    };
    let client = target.connect().await?;
    let queues = target.create(&client, creation).await?;
    let run = Arc::new(Run {
        id: rand::random(),
        topic: target.topic.clone(),
        filler: filler(*size as usize),
        delay,
        takes,
        arrived: Mutex::new(Arrived::new()),
    });
    let group = format!("rmq-bench-{:08x}", rand::random::<u32>());
    let producer =
        Producer::builder(&*group).client(&client).max_attempts(1).compress_above(usize::MAX).start().await?;
    let consumer = consume(&client, group, &run).await?;
    let progress = Progress::start();
    let quota = options.extent.quota(Some(*rate));
    let make = {
        let run = Arc::clone(&run);
        move |number, _: Instant| run.message(number)
    };
    let sending =
        tokio::spawn(paced::send(producer.clone(), quota, false, Arc::clone(progress.counts()), make));
    let (mut tally, took) = sending
        .await
        .map_err(|error| Failure::System { doing: "finish the sending task", source: error.into() })??;
    let sent = tally.messages;
    let until = Instant::now() + takes + PATIENCE;
    while (run.arrived().numbers.len() as u64) < sent && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(progress);
    consumer.shutdown(GRACE).await?;
    producer.shutdown().await;
    client.shutdown().await;
    let mut arrived = run.arrived();
    if arrived.early > 0 {
        let (early, first) = (arrived.early, arrived.first_early_ms);
        tally.failed(early, || format!("{early} messages came early, the first by {first} ms"));
    }
    let missing = sent.saturating_sub(arrived.numbers.len() as u64);
    if missing > 0 {
        tally.failed(missing, || format!("{missing} messages were stored and did not arrive"));
    }
    let lateness = std::mem::replace(&mut arrived.lateness, times());
    let counts = vec![("early", arrived.early), ("missing", missing), ("duplicates", arrived.duplicates)];
    drop(arrived);
    let ack_times = std::mem::replace(&mut tally.times, lateness);
    Report {
        what: format!(
            "delay of {}: {queues} queues, {size} bytes, {rate}/s, by {}",
            target.topic,
            humantime::format_duration(takes)
        ),
        tally,
        times_are: "lateness",
        also: Some(("send to ack", "ack_", ack_times)),
        took,
        counts,
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
    // From a time, so that it does not matter when it gets its queues; before now, as the broker's clock may be behind.
    let from = ConsumeFrom::Time(SystemTime::now() - Duration::from_secs(60));
    let consumer = PushConsumer::builder(group).client(client).subscribe(&run.topic, Filter::All);
    Ok(consumer.from(from).handler(handler).start().await?)
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn now_ms() -> u64 {
    u64::try_from(since_epoch().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_late_early_or_a_duplicate() {
        let ms = Duration::from_millis;
        let mut arrived = Arrived::new();
        arrived.take(1, ms(1000), ms(1000));
        arrived.take(2, ms(1000), ms(1040));
        arrived.take(2, ms(1000), ms(1050));
        arrived.take(3, ms(1000), ms(997));
        arrived.take(4, ms(1000), ms(900));
        assert_eq!((arrived.numbers.len(), arrived.duplicates), (4, 1));
        assert_eq!((arrived.early, arrived.first_early_ms), (2, 3));
        assert_eq!((arrived.lateness.len(), arrived.lateness.max().div_ceil(1000)), (2, 41));
    }

    #[test]
    fn a_message_of_another_run_is_not_counted() {
        let run = Run {
            id: 7,
            topic: "t".into(),
            filler: filler(HEAD),
            delay: Delay::Level(1),
            takes: Duration::from_secs(1),
            arrived: Mutex::new(Arrived::new()),
        };
        let body = run.message(5).unwrap().body().clone();
        let (number, due) = run.read(&body).unwrap();
        assert_eq!(number, 5);
        assert!(due <= since_epoch() + Duration::from_secs(1));
        let other = Run { id: 8, ..run };
        assert_eq!(other.read(&body), None);
        assert_eq!(other.read(&body[..HEAD - 1]), None);
    }
}
