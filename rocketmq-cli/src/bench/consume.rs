//! `rmq bench consume`: consumes, and tells how fast messages are given out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};
use rocketmq_client::{
    Ack, Client, ConsumeFrom, Filter, MessageQueue, PullConsumer, PullOutcome, PullRequest, PushConsumer,
    QueueOffset, ReceivedMessage,
};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::progress::{Counts, Progress};
use super::raw::{self, consume::Arrival};
use super::report::Report;
use super::tally::Tally;
use super::target::Target;
use super::verify::Verifier;
use crate::{Failure, Outcome};

pub(crate) const EXAMPLES: &str = "\
Examples:
  rmq bench consume --namesrv 127.0.0.1:9876 --topic bench --messages 1000000
      catch up with a million messages that are there
  rmq bench consume -n 127.0.0.1:9876 -t bench --from latest --duration 1m
      what comes in within a minute
  rmq bench consume -n 127.0.0.1:9876 -t checked --verify --messages 100000 --json
  rmq bench consume -n 127.0.0.1:9876 -t bench --messages 1000000 --mode raw
      what the broker gives out, whatever a client costs

Rates are taken from the first message that comes to the last. Times are ages: from when the sender made a message
(in whole milliseconds, by its clock) to when it was consumed. The run ends too when nothing has come for --idle.";

/// How long shutting down may take.
const GRACE: Duration = Duration::from_secs(5);
/// How long a broker may hold a pull.
const HOLD: Duration = Duration::from_secs(1);

/// Options of `rmq bench consume`.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    target: Target,
    /// Consumer group [default: a new one]
    #[arg(long, short)]
    group: Option<String>,
    /// Where a group without offsets begins: earliest, latest, or a time ago like now-1h
    #[arg(long, value_name = "WHERE", default_value = "earliest", value_parser = parse_from)]
    from: ConsumeFrom,
    /// How long to consume
    #[arg(long, short, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// How many messages to consume, however long that takes
    #[arg(long, short, value_name = "N", conflicts_with = "duration", value_parser = clap::value_parser!(u64).range(1..))]
    messages: Option<u64>,
    /// End when nothing has come for this long
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    idle: Duration,
    /// Handlers at the same time; with --mode pull, tasks that pull
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    threads: u16,
    /// Messages asked for with one pull; Java's brokers give 32 at most
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pull_batch: u16,
    /// How to consume
    #[arg(long, value_enum, default_value_t = Mode::Push)]
    mode: Mode,
    /// Check what `rmq bench produce --verify` sent: losses, duplicates, reorderings, corruption
    #[arg(long)]
    verify: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// A push consumer, as applications use it; its offsets are committed
    Push,
    /// Pull the queues directly, from --from on, whatever the group's offsets are
    Pull,
    /// Without a client: pull the queues from their beginning, and only count what comes
    Raw,
}

fn parse_from(text: &str) -> Result<ConsumeFrom, String> {
    match text {
        "earliest" => Ok(ConsumeFrom::Earliest),
        "latest" => Ok(ConsumeFrom::Latest),
        _ => {
            let ago = text.strip_prefix("now-").and_then(|ago| humantime::parse_duration(ago).ok());
            let time = ago.and_then(|ago| SystemTime::now().checked_sub(ago));
            time.map(ConsumeFrom::Time).ok_or_else(|| "expected earliest, latest, or now-1h".into())
        }
    }
}

/// What all handlers share.
struct Receiver {
    seen: Mutex<Seen>,
    counts: Arc<Counts>,
    /// After so many messages, `enough` is told.
    most: u64,
    enough: Notify,
}

struct Seen {
    tally: Tally,
    verifier: Option<Verifier>,
    first: Option<Instant>,
    last: Instant,
}

impl Receiver {
    /// Takes messages that came together, as far as they are wanted.
    fn receive(&self, messages: &[ReceivedMessage]) {
        let (now, now_by_date) = (Instant::now(), SystemTime::now());
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let Seen { tally, verifier, .. } = &mut *seen;
        let before = tally.messages;
        for message in messages {
            if tally.messages == self.most {
                break;
            }
            if let Some(verifier) = verifier {
                verifier.see(message);
            }
            match message.body() {
                Ok(body) => {
                    let age = now_by_date.duration_since(message.born_time()).unwrap_or_default();
                    tally.went_well(1, body.len() as u64, age);
                }
                Err(error) => tally.failed(1, || error.to_string()),
            }
        }
        let new = tally.messages - before;
        self.came(&mut seen, new, now);
    }

    /// Takes messages that were only counted, as far as they are wanted. Their age is that of the first one.
    fn count(&self, arrival: &Arrival) {
        let (now, now_by_date) = (Instant::now(), SystemTime::now());
        let age = now_by_date.duration_since(UNIX_EPOCH + arrival.born).unwrap_or_default();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let new = arrival.messages.min(self.most - seen.tally.messages);
        if new > 0 {
            seen.tally.went_well(new, arrival.bytes, age);
            self.came(&mut seen, new, now);
        }
    }

    /// So many messages that were wanted have come, and are in the tally.
    fn came(&self, seen: &mut Seen, new: u64, now: Instant) {
        if new == 0 {
            return;
        }
        seen.first.get_or_insert(now);
        seen.last = now;
        self.counts.went_well(new);
        if seen.tally.messages == self.most {
            self.enough.notify_one();
        }
    }

    fn failed(&self, error: &dyn std::fmt::Display) {
        self.counts.failed(1);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.tally.failed(1, || error.to_string());
    }

    /// When the last message came, or consuming began.
    fn last(&self) -> Instant {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).last
    }

    /// Waits until there is nothing more to wait for.
    async fn done(&self, time: Option<Duration>, idle: Duration) {
        let began = Instant::now();
        let time_is_up = async {
            match time {
                Some(time) => tokio::time::sleep(time).await,
                None => std::future::pending().await,
            }
        };
        let silent = async {
            loop {
                let until = self.last().max(began) + idle;
                if until <= Instant::now() {
                    return;
                }
                tokio::time::sleep_until(until.into()).await;
            }
        };
        tokio::select! {
            () = self.enough.notified() => {}
            () = time_is_up => {}
            () = silent => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    }
}

pub(crate) async fn run(options: Options) -> Result<Outcome, Failure> {
    let Options { target, messages, mode, json, .. } = &options;
    let client = target.connect().await?;
    let progress = Progress::start();
    let receiver = Arc::new(Receiver {
        seen: Mutex::new(Seen {
            tally: Tally::new(),
            verifier: options.verify.then(Verifier::default),
            first: None,
            last: Instant::now(),
        }),
        counts: Arc::clone(progress.counts()),
        most: messages.unwrap_or(u64::MAX),
        enough: Notify::new(),
    });
    let group = options.group.clone().unwrap_or_else(|| format!("rmq-bench-{:08x}", rand::random::<u32>()));
    match mode {
        Mode::Push => push(&options, &client, group, &receiver).await?,
        Mode::Pull => pull(&options, &client, group, &receiver).await?,
        Mode::Raw => raw(&options, &client, group, &receiver).await?,
    }
    client.shutdown().await;
    drop(progress);
    let mut seen = receiver.seen.lock().unwrap_or_else(PoisonError::into_inner);
    let Seen { tally, verifier, first, last } = &mut *seen;
    let mut tally = std::mem::replace(tally, Tally::new());
    let missing = messages.map_or(0, |wanted| wanted - tally.messages);
    if missing > 0 {
        let (came, idle) = (tally.messages, options.idle);
        tally.failed(missing, || format!("only {came} messages came, then none for {idle:?}"));
    }
    let mode = match mode {
        Mode::Push => "push",
        Mode::Pull => "pull",
        Mode::Raw => "raw",
    };
    Report {
        what: format!("consume {} ({mode})", target.topic),
        tally,
        times_are: "age",
        also: None,
        took: first.map(|first| last.duration_since(first)).unwrap_or_default(),
        counts: Vec::new(),
        verdict: verifier.as_ref().map(Verifier::verdict),
    }
    .print(*json)
}

async fn push(
    options: &Options,
    client: &Client,
    group: String,
    receiver: &Arc<Receiver>,
) -> Result<(), Failure> {
    let handler = {
        let receiver = Arc::clone(receiver);
        move |messages: rocketmq_client::Batch| {
            receiver.receive(&messages);
            std::future::ready(Ok(Ack::All))
        }
    };
    let consumer = PushConsumer::builder(group)
        .client(client)
        .subscribe(&options.target.topic, Filter::All)
        .from(options.from)
        .concurrency(options.threads.into())
        .batch_size(options.pull_batch.into())
        .pull_batch_size(options.pull_batch.into())
        .handler(handler)
        .start()
        .await?;
    receiver.done(time(options), options.idle).await;
    Ok(consumer.shutdown(GRACE).await?)
}

async fn pull(
    options: &Options,
    client: &Client,
    group: String,
    receiver: &Arc<Receiver>,
) -> Result<(), Failure> {
    let consumer = PullConsumer::builder(group).client(client).start().await?;
    let queues = consumer.queues(&options.target.topic).await?;
    let mut shares = vec![Vec::new(); usize::from(options.threads).min(queues.len())];
    for (turn, queue) in queues.into_iter().enumerate() {
        let from = match options.from {
            ConsumeFrom::Latest => consumer.max_offset(&queue).await?,
            ConsumeFrom::Time(time) => consumer.offset_at(&queue, time).await?,
            _ => consumer.min_offset(&queue).await?,
        };
        let share = turn % shares.len();
        if let Some(share) = shares.get_mut(share) {
            share.push((queue, from));
        }
    }
    let mut pulling = JoinSet::new();
    for share in shares {
        pulling.spawn(pull_share(consumer.clone(), share, options.pull_batch, Arc::clone(receiver)));
    }
    receiver.done(time(options), options.idle).await;
    pulling.shutdown().await;
    consumer.shutdown().await;
    Ok(())
}

/// Pulls queues in turn; one that has nothing new is only waited for when it is the only one.
async fn pull_share(
    consumer: PullConsumer,
    mut share: Vec<(MessageQueue, QueueOffset)>,
    batch: u16,
    receiver: Arc<Receiver>,
) {
    loop {
        let mut idle = true;
        let alone = share.len() == 1;
        for (queue, next) in &mut share {
            let request = PullRequest::new(*next).max(batch);
            let request = if alone { request.wait(HOLD) } else { request };
            match consumer.pull(queue, request).await {
                Ok(outcome) => {
                    *next = outcome.next();
                    idle &= matches!(outcome, PullOutcome::NoNewMessage { .. });
                    receiver.receive(&outcome.into_messages());
                }
                Err(error) => receiver.failed(&error),
            }
        }
        if idle && !alone {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn raw(
    options: &Options,
    client: &Client,
    group: String,
    receiver: &Arc<Receiver>,
) -> Result<(), Failure> {
    if options.verify || options.from != ConsumeFrom::Earliest {
        return Err(Failure::Options(
            "--mode raw only counts, from the beginning: leave out --verify and --from".into(),
        ));
    }
    let over = Arc::new(AtomicBool::new(false));
    let pulling = {
        let plan =
            raw::consume::Plan { topic: options.target.topic.clone(), group, batch: options.pull_batch };
        let name_servers = client.name_servers();
        let (over, receiver) = (Arc::clone(&over), Arc::clone(receiver));
        tokio::task::spawn_blocking(move || {
            raw::consume::pull(&name_servers, &plan, &over, |arrived| match arrived {
                Ok(arrival) => receiver.count(&arrival),
                Err(error) => receiver.failed(&error),
            })
        })
    };
    tokio::pin!(pulling);
    let done = receiver.done(time(options), options.idle);
    let ended = tokio::select! {
        ended = &mut pulling => ended,
        () = done => {
            over.store(true, Ordering::Relaxed);
            pulling.await
        }
    };
    ended.map_err(|error| Failure::System { doing: "pull", source: std::io::Error::other(error) })?
}

fn time(options: &Options) -> Option<Duration> {
    options.messages.is_none().then_some(options.duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_begin_is_a_word_or_a_time_ago() {
        assert_eq!(parse_from("earliest"), Ok(ConsumeFrom::Earliest));
        assert_eq!(parse_from("latest"), Ok(ConsumeFrom::Latest));
        let Ok(ConsumeFrom::Time(time)) = parse_from("now-1h") else { panic!("a time") };
        let ago = time.elapsed().unwrap();
        assert!(ago >= Duration::from_secs(3600) && ago < Duration::from_secs(3700));
        for wrong in ["", "now", "now-", "1h", "yesterday"] {
            assert!(parse_from(wrong).is_err(), "{wrong}");
        }
    }
}
