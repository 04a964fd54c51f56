//! Messages of one order stay in order: one sharding key, one queue, one send after the other.
//!
//! `cargo run --example ordered_send [-- --namesrv HOST:PORT]`
#![allow(clippy::print_stdout)] // showing is its purpose

use std::error::Error;

use rocketmq_client::{Message, Producer, SendOptions};
use rocketmq_examples::Cluster;
use tokio::task::JoinSet;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let cluster = Cluster::from_args().await?;
    let producer = Producer::builder("shop").name_servers([cluster.name_server()]).start().await?;

    // Different orders may go at the same time. The steps of one wait for each other.
    let mut orders = JoinSet::new();
    for number in 1..=5 {
        let producer = producer.clone();
        orders.spawn(async move {
            let key = format!("order-{number}");
            for step in ["created", "paid", "shipped"] {
                let message = Message::builder("orders").body(step).key(&key).build()?;
                // Java's `SelectMessageQueueByHash` chooses the same queue for the same key.
                let receipt = producer.send_with(message, SendOptions::new().sharding_key(&key)).await?;
                println!("{key} {step:8} queue {} offset {}", receipt.queue.queue_id, receipt.queue_offset);
            }
            Ok::<_, rocketmq_client::Error>(())
        });
    }
    while let Some(sent) = orders.join_next().await {
        sent??;
    }

    producer.shutdown().await;
    cluster.shutdown().await
}
