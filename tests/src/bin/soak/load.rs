//! What is sent: messages of many keys, numbered from 0 under each, at a steady rate; and what was acknowledged.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rocketmq_client::{Client, Message, Perm, Producer, ReceivedMessage, SendOptions, TopicConfig};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::Failure;

const PRODUCERS: usize = 4;
/// Tasks of a producer that send one message after the other.
const LANES: usize = 8;
/// Keys that only one lane sends under, per group.
const KEYS: usize = 16;
const QUEUES: i32 = 16;
const BODY_BYTES: usize = 128;
/// How long a send may take: one that is tried again may be stored twice.
const PATIENCE: Duration = Duration::from_secs(15);
/// Pause before a send that failed is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// A group of consumers, with a topic of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Concurrent,
    Ordered,
}

impl Group {
    pub(crate) const ALL: [Self; 2] = [Self::Concurrent, Self::Ordered];

    /// Of the group and of its topic.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Concurrent => "concurrent",
            Self::Ordered => "ordered",
        }
    }
}

/// What was acknowledged.
pub(crate) struct Sent {
    /// By group and key: messages 0 to this.
    acknowledged: [Vec<AtomicU32>; 2],
    /// Group, key and number of messages that may be stored twice.
    twice: Mutex<HashSet<(usize, usize, usize)>>,
    pub(crate) failures: AtomicUsize,
}

impl Sent {
    pub(crate) fn new(keys: usize) -> Self {
        let none = || (0..keys).map(|_| AtomicU32::new(0)).collect();
        Self { acknowledged: [none(), none()], twice: Mutex::default(), failures: AtomicUsize::new(0) }
    }

    /// Messages acknowledged under each key.
    pub(crate) fn acknowledged(&self, group: Group) -> impl Iterator<Item = usize> {
        let [concurrent, ordered] = &self.acknowledged;
        let keys = if group == Group::Concurrent { concurrent } else { ordered };
        keys.iter().map(|count| count.load(Ordering::Relaxed) as usize)
    }

    pub(crate) fn total(&self) -> usize {
        Group::ALL.iter().flat_map(|group| self.acknowledged(*group)).sum()
    }

    /// The next message of `key` is stored.
    pub(crate) fn acknowledge(&self, group: Group, key: usize) {
        if let Some(count) = self.acknowledged.get(group as usize).and_then(|keys| keys.get(key)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn may_be_twice(&self, group: Group, key: usize, seq: usize) {
        let mut twice = self.twice.lock().unwrap_or_else(PoisonError::into_inner);
        twice.insert((group as usize, key, seq));
    }

    /// Keys and numbers of messages that may be stored twice.
    pub(crate) fn maybe_twice(&self, group: Group) -> HashSet<(usize, usize)> {
        let twice = self.twice.lock().unwrap_or_else(PoisonError::into_inner);
        let of_group = twice.iter().filter(|(of, ..)| *of == group as usize);
        of_group.map(|(_, key, seq)| (*key, *seq)).collect()
    }
}

/// What is being sent.
pub(crate) struct Load {
    pub(crate) sent: Arc<Sent>,
    lanes: JoinSet<()>,
    stop: CancellationToken,
}

impl Load {
    /// Creates the topics, as soon as the broker is known.
    pub(crate) async fn create_topics(name_server: &str) -> Result<(), Failure> {
        let client = Client::builder().name_servers([name_server]).start().await?;
        for group in Group::ALL {
            let config = TopicConfig::new(group.name(), QUEUES, Perm::READ_WRITE);
            let created = async {
                while let Err(error) = client.create_topic(&config).await {
                    tokio::time::sleep(PAUSE).await; // no event tells that the broker has registered
                    drop(error);
                }
            };
            tokio::time::timeout(PATIENCE, created).await.map_err(|_| "no topic can be created")?;
        }
        client.shutdown().await;
        Ok(())
    }

    /// Sends so many messages per second, half of them to each topic.
    pub(crate) async fn start(name_server: &str, rate: u32) -> Result<Self, Failure> {
        let mut load = Self {
            sent: Arc::new(Sent::new(PRODUCERS * LANES * KEYS)),
            lanes: JoinSet::new(),
            stop: CancellationToken::new(),
        };
        let period = Duration::from_secs(1) * (PRODUCERS * LANES) as u32 / rate;
        for number in 0..PRODUCERS {
            let producer = Producer::builder("soak").name_servers([name_server]).send_timeout(PATIENCE);
            // Without a fault table and other attempts, a failure is ours to count.
            let producer = Arc::new(producer.attempt_timeout(PATIENCE).max_attempts(1).start().await?);
            for lane in 0..LANES {
                let lane = Lane {
                    producer: Arc::clone(&producer),
                    sent: Arc::clone(&load.sent),
                    first_key: (number * LANES + lane) * KEYS,
                    stop: load.stop.clone(),
                };
                load.lanes.spawn(lane.run(period));
            }
        }
        Ok(load)
    }

    /// Sends no more; what was begun is finished.
    pub(crate) async fn stop(&mut self) {
        self.stop.cancel();
        while self.lanes.join_next().await.is_some() {}
    }
}

/// Sends one message after the other, under keys of its own.
struct Lane {
    producer: Arc<Producer>,
    sent: Arc<Sent>,
    first_key: usize,
    stop: CancellationToken,
}

impl Lane {
    async fn run(self, period: Duration) {
        let mut ticks = tokio::time::interval(period);
        for round in 0.. {
            for key in self.first_key..self.first_key + KEYS {
                for group in Group::ALL {
                    if self.stop.run_until_cancelled(ticks.tick()).await.is_none() {
                        return;
                    }
                    self.send(group, key, round).await;
                }
            }
        }
    }

    /// Sends the message until it is acknowledged: the next one of the key must not come before it.
    async fn send(&self, group: Group, key: usize, seq: usize) {
        let options = || match group {
            Group::Concurrent => SendOptions::new(),
            Group::Ordered => SendOptions::new().sharding_key(&key.to_string()),
        };
        loop {
            match self.producer.send_with(message(group, key, seq), options()).await {
                Ok(receipt) => {
                    if receipt.may_be_duplicate {
                        self.sent.may_be_twice(group, key, seq);
                    }
                    return self.sent.acknowledge(group, key);
                }
                Err(error) => {
                    eprintln!("{} {key} {seq} not acknowledged, trying again: {error}", group.name());
                    self.sent.failures.fetch_add(1, Ordering::Relaxed);
                    self.sent.may_be_twice(group, key, seq);
                }
            }
            if self.stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
                return;
            }
        }
    }
}

fn message(group: Group, key: usize, seq: usize) -> Message {
    let mut body = format!("{key} {seq} ").into_bytes();
    body.resize(BODY_BYTES, b'.');
    Message::new(group.name(), body)
}

/// Key and number of a received message, unless it is none of ours.
pub(crate) fn key_and_seq(message: &ReceivedMessage) -> Option<(usize, usize)> {
    let body = message.body().ok().filter(|body| body.len() == BODY_BYTES)?;
    let mut words = std::str::from_utf8(body).ok()?.split(' ');
    let numbers = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    words.next()?.bytes().all(|byte| byte == b'.').then_some(numbers)
}
