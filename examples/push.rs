//! Consumes with a closure: several messages at a time, and those that fail come again later.
//!
//! `cargo run --example push`; `-- --namesrv HOST:PORT` for a cluster of yours.
#![allow(clippy::print_stdout)] // showing is its purpose

use std::time::Duration;

use rocketmq_client::{Ack, Client, ConsumeFrom, Filter, Message, Producer, PushConsumer};
use rocketmq_examples::Cluster;
use tokio::sync::mpsc;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let cluster = Cluster::from_args().await?;
    let client = Client::builder().name_servers([cluster.name_server()]).start().await?;
    let producer = Producer::builder("shop").client(&client).start().await?;
    for (number, tag) in ["paid", "cancelled", "paid"].into_iter().enumerate() {
        producer.send(Message::builder("orders").body(format!("order {number}")).tag(tag).build()?).await?;
    }

    let (handled, mut done) = mpsc::unbounded_channel();
    let consumer = PushConsumer::builder("invoices")
        .client(&client)
        .subscribe("orders", Filter::tags(["paid"]))
        .from(ConsumeFrom::Earliest)
        .concurrency(8) // handlers at a time
        .handler(move |messages| {
            let handled = handled.clone();
            async move {
                for message in &messages {
                    println!("invoice for {}", String::from_utf8_lossy(message.body()?)); // an error: again later
                    handled.send(message.message_id().into_owned())?;
                }
                Ok(Ack::All)
            }
        })
        .start()
        .await?;

    for _ in 0..2 {
        done.recv().await;
    }
    println!("queues of this member: {}", consumer.assigned_queues().len());
    consumer.shutdown(Duration::from_secs(5)).await?; // waits for handlers, commits, leaves the group
    producer.shutdown().await;
    client.shutdown().await;
    cluster.shutdown().await
}
