//! A handler that fails gets the message again, later each time; after the last time it is a dead letter, which
//! another consumer reads.
//!
//! `cargo run --example retry_and_dead_letter [-- --namesrv HOST:PORT]`
#![allow(clippy::print_stdout)] // showing is its purpose

use std::error::Error;
use std::time::Duration;

use rocketmq_client::{Ack, Batch, Client, ConsumeFrom, Filter, Message, Producer, PushConsumer};
use rocketmq_examples::Cluster;
use tokio::sync::mpsc;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let cluster = Cluster::from_args().await?;
    let client = Client::builder().name_servers([cluster.name_server()]).start().await?;
    let producer = Producer::builder("shop").client(&client).start().await?;
    producer.send(Message::new("payments", "no card number")).await?;

    let (tried, mut tries) = mpsc::unbounded_channel();
    let consumer = PushConsumer::builder("payments-desk")
        .client(&client)
        .subscribe("payments", Filter::All)
        .from(ConsumeFrom::Earliest)
        .max_reconsume_times(2) // 16 unless you say so
        .handler(move |messages: Batch| {
            let tried = tried.clone();
            async move {
                tried.send(messages[0].reconsume_times())?;
                // An error, a panic and `Ack::Retry` wait 10 s, 30 s, 1 min … 2 h. This waits for delay level 1: 1 s.
                Ok(Ack::RetryAfter(1))
            }
        })
        .start()
        .await?;
    for _ in 0..=2 {
        let times = tokio::time::timeout(Duration::from_secs(30), tries.recv()).await?.ok_or("no more")?;
        println!("failed, after {times} retries");
    }
    consumer.shutdown(Duration::from_secs(5)).await?; // the broker has taken the message back by then

    let (seen, mut dead) = mpsc::unbounded_channel();
    let consumer = PushConsumer::builder("payments-clerk")
        .client(&client)
        .subscribe("%DLQ%payments-desk", Filter::All)
        .from(ConsumeFrom::Earliest)
        .handler(move |messages: Batch| {
            let seen = seen.clone();
            async move {
                for message in &messages {
                    seen.send(String::from_utf8(message.body()?.to_vec())?)?;
                }
                Ok(Ack::All)
            }
        })
        .start()
        .await?;
    let letter = tokio::time::timeout(Duration::from_secs(30), dead.recv()).await?.ok_or("no more")?;
    println!("dead letter: {letter}");

    consumer.shutdown(Duration::from_secs(5)).await?;
    producer.shutdown().await;
    client.shutdown().await;
    cluster.shutdown().await
}
