//! Messages that wait for one of the broker's delay levels.
//!
//! `cargo run --example delay [-- --namesrv HOST:PORT]`
#![allow(clippy::print_stdout)] // showing is its purpose

use std::error::Error;
use std::time::{Duration, SystemTime};

use rocketmq_client::{Ack, Batch, Client, ConsumeFrom, Delay, Filter, Message, Producer, PushConsumer};
use rocketmq_examples::Cluster;
use tokio::sync::mpsc;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let cluster = Cluster::from_args().await?;
    let client = Client::builder().name_servers([cluster.name_server()]).start().await?;
    let producer = Producer::builder("reminders").client(&client).start().await?;
    let (seen, mut arrivals) = mpsc::unbounded_channel();
    let consumer = PushConsumer::builder("readers")
        .client(&client)
        .subscribe("reminders", Filter::All)
        .from(ConsumeFrom::Earliest)
        .handler(move |messages: Batch| {
            let seen = seen.clone();
            async move {
                for message in &messages {
                    let waited = SystemTime::now().duration_since(message.born_time())?;
                    seen.send((String::from_utf8(message.body()?.to_vec())?, waited))?;
                }
                Ok(Ack::All)
            }
        })
        .start()
        .await?;

    // 1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h, unless `messageDelayLevel` of the broker says otherwise.
    for level in [2, 1] {
        let message = Message::builder("reminders")
            .body(format!("level {level}"))
            .delay(Delay::Level(level))
            .build()?;
        producer.send(message).await?;
    }
    producer.send(Message::new("reminders", "at once")).await?;

    for _ in 0..3 {
        let (body, waited) =
            tokio::time::timeout(Duration::from_secs(30), arrivals.recv()).await?.ok_or("no more")?;
        println!("{body:8} after {waited:.1?}");
    }

    consumer.shutdown(Duration::from_secs(5)).await?;
    producer.shutdown().await;
    client.shutdown().await;
    cluster.shutdown().await
}
