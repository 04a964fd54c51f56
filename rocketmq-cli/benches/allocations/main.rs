//! Counts what broker and client allocate for a message once they are warm. The other end of each measurement is a thread
//! that allocates nothing: `raw_client` at the broker, `raw_broker` at the client. `cargo bench -p rocketmq-cli` prints
//! the counts.

mod frames;
mod raw_broker;
mod raw_client;

use std::alloc::System;
use std::error::Error;
use std::io::{Write, stdout};

use bytes::Bytes;
use rocketmq_broker_lite::Standalone;
use rocketmq_client::{
    Ack, Client, ConsumeFrom, Filter, Message, MessageQueue, Producer, PullConsumer, PullRequest,
    PushConsumer, QueueOffset,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::sync::mpsc;

use frames::{PULLED, TOPIC};
use raw_client::RawClient;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ROUNDS: usize = 2_000;
const IN_FLIGHT: usize = 64;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Counts from here on.
struct Count(Region<'static, System>);

impl Count {
    fn start() -> Self {
        Self(Region::new(ALLOCATOR))
    }

    fn print(&self, what: &str, messages: usize) -> Outcome {
        let counted = self.0.change();
        let per_message = |count: usize| count as f64 / messages as f64;
        let line = format!(
            "{what:40} {:8.3} allocations, {:8.3} reallocations, {:9.1} bytes\n",
            per_message(counted.allocations),
            per_message(counted.reallocations),
            per_message(counted.bytes_allocated)
        );
        Ok(stdout().write_all(line.as_bytes())?)
    }
}

fn main() -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    stdout().write_all(b"per message, of 128 bytes:\n")?;
    broker(&runtime)?;
    runtime.block_on(client())?;
    runtime.block_on(together())
}

fn broker(runtime: &tokio::runtime::Runtime) -> Outcome {
    let cluster = runtime.block_on(Standalone::builder().start())?;
    let mut client = RawClient::connect(cluster.broker().local_addr())?;
    for (what, in_flight) in [("broker: send, 1 in flight", 1), ("broker: send, 64 in flight", IN_FLIGHT)] {
        let sends = frames::sends(in_flight);
        client.exchange(&sends, in_flight, ROUNDS)?;
        let count = Count::start();
        client.exchange(&sends, in_flight, ROUNDS)?;
        count.print(what, in_flight * ROUNDS)?;
    }
    let pull = frames::pull();
    client.exchange(&pull, 1, ROUNDS)?;
    let count = Count::start();
    client.exchange(&pull, 1, ROUNDS)?;
    count.print("broker: pull, 32 messages each", PULLED * ROUNDS)?;
    Ok(runtime.block_on(cluster.shutdown())?)
}

async fn client() -> Outcome {
    let addr = raw_broker::start()?;
    let client = Client::builder().name_servers([addr.to_string()]).start().await?;
    let producer = Producer::builder("p").client(&client).start().await?;
    for (what, in_flight) in [("client: send, 1 in flight", 1), ("client: send, 64 in flight", IN_FLIGHT)] {
        send(&producer, in_flight).await?;
        let count = Count::start();
        send(&producer, in_flight).await?;
        count.print(what, in_flight * ROUNDS)?;
    }
    let consumer = PullConsumer::builder("c").client(&client).start().await?;
    let queue = MessageQueue::new(TOPIC, frames::BROKER, 0);
    pull(&consumer, &queue).await?;
    let count = Count::start();
    pull(&consumer, &queue).await?;
    count.print("client: pull, 32 messages each", PULLED * ROUNDS)?;
    client.shutdown().await;
    Ok(())
}

async fn together() -> Outcome {
    let cluster = Standalone::builder().start().await?;
    let client = Client::builder().name_servers([cluster.name_server_addr()]).start().await?;
    let producer = Producer::builder("p").client(&client).start().await?;
    send(&producer, IN_FLIGHT).await?;
    let (handled, mut handler) = mpsc::channel(1024);
    let consumer = PushConsumer::builder("c")
        .client(&client)
        .subscribe(TOPIC, Filter::All)
        .from(ConsumeFrom::Earliest)
        .batch_size(PULLED)
        .handler(move |messages| {
            let handled = handled.clone();
            async move {
                handled.send(messages.len()).await?;
                Ok(Ack::All)
            }
        })
        .start()
        .await?;
    let half = IN_FLIGHT * ROUNDS / 2;
    receive(&mut handler, half).await;
    let count = Count::start();
    let more = receive(&mut handler, half * 9 / 10).await;
    count.print("both: push consumer, catching up", more)?;
    drop(consumer);
    client.shutdown().await;
    Ok(cluster.shutdown().await?)
}

/// [`ROUNDS`] sends from each of so many tasks.
async fn send(producer: &Producer, tasks: usize) -> Outcome {
    let message = Message::new(TOPIC, Bytes::from_static(&frames::BODY));
    let mut sending = tokio::task::JoinSet::new();
    for _ in 0..tasks {
        let (producer, message) = (producer.clone(), message.clone());
        sending.spawn(async move {
            for _ in 0..ROUNDS {
                producer.send(message.clone()).await?;
            }
            Ok::<_, rocketmq_client::Error>(())
        });
    }
    Ok(sending.join_all().await.into_iter().collect::<Result<_, _>>()?)
}

async fn pull(consumer: &PullConsumer, queue: &MessageQueue) -> Outcome {
    for _ in 0..ROUNDS {
        let outcome = consumer.pull(queue, PullRequest::new(QueueOffset::ZERO)).await?;
        assert_eq!(outcome.into_messages().len(), PULLED);
    }
    Ok(())
}

/// Waits for so many messages; returns how many came.
async fn receive(handler: &mut mpsc::Receiver<usize>, wanted: usize) -> usize {
    let mut seen = 0;
    while seen < wanted {
        seen += handler.recv().await.unwrap_or(wanted);
    }
    seen
}
