//! A whole tour: a cluster, a producer that sends in every way, a consumer that gets it all.
//!
//! `cargo run --example quickstart` runs it against a name server and a broker in this process;
//! `cargo run --example quickstart -- --namesrv HOST:PORT` against any RocketMQ cluster.
#![allow(clippy::print_stdout)] // showing is its purpose

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rocketmq_client::{
    Ack, Batch, Client, ConsumeFrom, Filter, Message, Perm, Producer, PushConsumer, SendOptions, TopicConfig,
};
use rocketmq_examples::Cluster;
use tokio::sync::watch;

const TOPIC: &str = "Quickstart";
const PINGS: usize = 200;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let begin = Instant::now();
    let cluster = Cluster::from_args().await?;
    if cluster.is_embedded() {
        println!("cluster up in {:?}: name server {}", begin.elapsed(), cluster.name_server());
    } else {
        println!("cluster of name server {}", cluster.name_server());
    }

    // Producers and consumers of one client share its connections and routes.
    let client = Client::builder().name_servers([cluster.name_server()]).start().await?;
    client.create_topic(&TopicConfig::new(TOPIC, 4, Perm::READ_WRITE)).await?;
    let producer = Producer::builder("quickstart-producers").client(&client).start().await?;

    let run = format!("{:x}", SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos());
    let seen = Arc::new(Seen { run: run.clone(), bodies: Mutex::default(), changed: watch::Sender::new(0) });
    let consumer = PushConsumer::builder(format!("quickstart-consumers-{run}"))
        .client(&client)
        .subscribe(TOPIC, Filter::All)
        .from(ConsumeFrom::Time(SystemTime::now() - Duration::from_secs(1)))
        .handler({
            let seen = Arc::clone(&seen);
            move |messages: Batch| {
                let seen = Arc::clone(&seen);
                async move { seen.handle(&messages) }
            }
        })
        .start()
        .await?;

    let tour = Tour { producer, run };
    let sent = tour.send_in_every_way().await?;
    seen.wait_for(sent).await;
    println!("\nall {sent} messages were handled");

    let latency = tour.ping(&seen, sent).await?;

    consumer.shutdown(Duration::from_secs(5)).await?;
    tour.producer.shutdown().await;
    client.shutdown().await;
    let down = Instant::now();
    let embedded = cluster.is_embedded();
    cluster.shutdown().await?;
    if embedded {
        println!("cluster down in {:?}", down.elapsed());
    }
    println!(
        "\nsent and handled {} messages in {:.1?}; send to handler, idle: median {:?}, 99 % within {:?}",
        sent + PINGS,
        begin.elapsed(),
        latency[PINGS / 2],
        latency[PINGS * 99 / 100],
    );
    Ok(())
}

struct Tour {
    producer: Producer,
    /// Tells the messages of this run from those of earlier ones.
    run: String,
}

impl Tour {
    fn message(&self, body: impl Into<String>) -> Outcome<Message> {
        Ok(Message::builder(TOPIC).body(body.into()).tag("tour").property("run", &self.run).build()?)
    }

    async fn send_in_every_way(&self) -> Outcome<usize> {
        let mut sent = 0;
        let receipt = self.producer.send(self.message("sync")?).await?;
        println!(
            "\nsync:     {} at offset {} of queue {}",
            receipt.message_id, receipt.queue_offset, receipt.queue.queue_id
        );
        sent += 1;

        // A send is a future: many at once are pipelined over one connection.
        let mut sends = tokio::task::JoinSet::new();
        for number in 0..10 {
            let (producer, message) = (self.producer.clone(), self.message(format!("async {number}"))?);
            sends.spawn(async move { producer.send(message).await });
        }
        while let Some(receipt) = sends.join_next().await {
            receipt??;
            sent += 1;
        }
        println!("async:    10 messages, all stored");

        for number in 0..3 {
            self.producer.send_oneway(self.message(format!("oneway {number}"))?).await?;
            sent += 1;
        }
        println!("oneway:   3 messages, on their way");

        let batch =
            (0..5).map(|number| self.message(format!("batch {number}"))).collect::<Outcome<Vec<_>>>()?;
        let receipt = self.producer.send_batch(batch).await?;
        println!(
            "batch:    5 messages from offset {} of queue {} on",
            receipt.first_queue_offset, receipt.queue.queue_id
        );
        sent += 5;

        for number in 0..6 {
            let order = format!("order-{}", number % 2);
            let same_queue = SendOptions::new().sharding_key(&order);
            let receipt = self
                .producer
                .send_with(self.message(format!("{order} step {}", number / 2))?, same_queue)
                .await?;
            println!("selector: {order} step {} in queue {}", number / 2, receipt.queue.queue_id);
            sent += 1;
        }
        Ok(sent)
    }

    /// Sends one message at a time, each when the one before was handled; gives the sorted times from send to handler.
    async fn ping(&self, seen: &Seen, before: usize) -> Outcome<Vec<Duration>> {
        let mut times = Vec::with_capacity(PINGS);
        for number in 0..PINGS {
            let message = self.message(format!("ping {number}"))?;
            let start = Instant::now();
            self.producer.send_oneway(message).await?;
            seen.wait_for(before + number + 1).await;
            times.push(start.elapsed());
        }
        times.sort_unstable();
        Ok(times)
    }
}

/// What the consumer has handled.
struct Seen {
    run: String,
    bodies: Mutex<BTreeSet<String>>,
    changed: watch::Sender<usize>,
}

impl Seen {
    fn handle(&self, messages: &Batch) -> Result<Ack, rocketmq_client::HandlerError> {
        for message in messages.iter().filter(|message| message.property("run") == Some(&self.run)) {
            let body = String::from_utf8(message.body()?.to_vec())?;
            if !body.starts_with("ping") {
                println!("handled:  {body:<16} from queue {}", message.queue_id());
            }
            let mut bodies = self.bodies.lock().unwrap_or_else(PoisonError::into_inner);
            bodies.insert(body);
            self.changed.send_replace(bodies.len());
        }
        Ok(Ack::All)
    }

    async fn wait_for(&self, count: usize) {
        // The sender lives as long as `self`.
        self.changed.subscribe().wait_for(|handled| *handled >= count).await.ok();
    }
}
