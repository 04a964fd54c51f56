//! Sends messages 0 to COUNT-1, each once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rocketmq_client::{Message, Producer, SendStatus};

use crate::Outcome;
use crate::sequence::message;

const BATCH: u32 = 32;
const ROUTE_WAIT: Duration = Duration::from_secs(30);

#[derive(Clone, Copy)]
enum Mode {
    Sync,
    Batch,
    Oneway,
}

struct Run {
    producer: Producer,
    topic: String,
    count: u32,
    mode: Mode,
    next: AtomicU32,
    sent: AtomicU32,
    failed: AtomicU32,
}

pub(crate) struct Produce {
    name_server: String,
    topic: String,
    group: String,
    count: u32,
    tasks: u32,
    mode: Mode,
}

impl Produce {
    pub(crate) fn parse(arguments: &[String]) -> Option<Self> {
        let [name_server, topic, group, count, tasks, mode @ ..] = arguments else { return None };
        let mode = match mode {
            [] => Mode::Sync,
            [mode] if mode == "sync" => Mode::Sync,
            [mode] if mode == "batch" => Mode::Batch,
            [mode] if mode == "oneway" => Mode::Oneway,
            _ => return None,
        };
        let (count, tasks) = (count.parse().ok()?, tasks.parse().ok()?);
        let [name_server, topic, group] = [name_server, topic, group].map(String::clone);
        Some(Self { name_server, topic, group, count, tasks, mode })
    }

    pub(crate) async fn run(self) -> Outcome<bool> {
        let producer = Producer::builder(&self.group)
            .name_servers([&self.name_server])
            // One that times out may have been stored, and sending it again is a duplicate: on a busy machine, rather wait.
            .send_timeout(Duration::from_secs(15))
            .start()
            .await?;
        let start = Instant::now();
        let run = Arc::new(Run {
            producer,
            topic: self.topic,
            count: self.count,
            mode: self.mode,
            next: AtomicU32::new(1),
            sent: AtomicU32::new(0),
            failed: AtomicU32::new(0),
        });
        run.send_first(start).await?;
        println!("started");
        let mut sending = tokio::task::JoinSet::new();
        for _ in 0..self.tasks {
            let run = Arc::clone(&run);
            sending.spawn(async move { run.send_rest().await });
        }
        while let Some(ended) = sending.join_next().await {
            ended?;
        }
        let (sent, failed) = (run.sent.load(Ordering::Relaxed), run.failed.load(Ordering::Relaxed));
        println!("sent {sent} failed {failed} ms {}", start.elapsed().as_millis());
        run.producer.shutdown().await;
        Ok(failed == 0)
    }
}

impl Run {
    /// Message 0, alone, until it is stored and the name server knows the topic that it created.
    async fn send_first(&self, start: Instant) -> Outcome<()> {
        let client = self.producer.client();
        loop {
            let attempt = async {
                if self.sent.load(Ordering::Relaxed) == 0 {
                    self.send_sync(0).await?;
                }
                Outcome::Ok(client.queues(&self.topic).await?)
            };
            match attempt.await {
                Ok(queues) if !queues.is_empty() => return Ok(()),
                Err(error) if start.elapsed() > ROUTE_WAIT => return Err(error),
                Ok(_) if start.elapsed() > ROUTE_WAIT => return Err("the topic has no queues".into()),
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    async fn send_rest(&self) {
        let step = if matches!(self.mode, Mode::Batch) { BATCH } else { 1 };
        loop {
            let from = self.next.fetch_add(step, Ordering::Relaxed);
            if from >= self.count {
                return;
            }
            let to = self.count.min(from + step);
            if let Err(error) = self.send(from, to).await {
                self.failed.fetch_add(to - from, Ordering::Relaxed);
                eprintln!("failed {from}..{to} {error}");
            }
        }
    }

    async fn send(&self, from: u32, to: u32) -> Outcome<()> {
        match self.mode {
            Mode::Sync => self.send_sync(from).await,
            Mode::Batch => {
                let batch: Vec<Message> =
                    (from..to).map(|i| message(&self.topic, i)).collect::<Result<_, _>>()?;
                stored(self.producer.send_batch(batch).await?.status)?;
                self.sent.fetch_add(to - from, Ordering::Relaxed);
                Ok(())
            }
            // The last one waits for its answer: what went before it on the connection has left the process.
            Mode::Oneway if to == self.count => self.send_sync(from).await,
            Mode::Oneway => {
                self.producer.send_oneway(message(&self.topic, from)?).await?;
                self.sent.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    async fn send_sync(&self, i: u32) -> Outcome<()> {
        stored(self.producer.send(message(&self.topic, i)?).await?.status)?;
        self.sent.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn stored(status: SendStatus) -> Outcome<()> {
    if status == SendStatus::Ok { Ok(()) } else { Err(format!("send status {status:?}").into()) }
}
