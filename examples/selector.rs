//! Who chooses the queue: nobody, a key, chance, a machine room, or your own rule.
//!
//! `cargo run --example selector [-- --namesrv HOST:PORT]`
#![allow(clippy::print_stdout)] // showing is its purpose

use std::error::Error;

use rocketmq_client::{
    Error as RocketError, Message, Producer, SelectByMachineRoom, SelectByRandom, SendOptions,
};
use rocketmq_examples::Cluster;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let cluster = Cluster::from_args().await?;
    let producer = Producer::builder("shop").name_servers([cluster.name_server()]).start().await?;
    let queues = producer.queues("orders").await?;
    let last = queues.last().cloned().ok_or("the topic has no queue")?;

    // The first byte of the body decides: small orders and large ones never wait for each other.
    let by_size = SendOptions::new().choose(|queues, message| {
        let is_large = message.body().first().is_some_and(|byte| byte.is_ascii_uppercase());
        if is_large { queues.last() } else { queues.first() }
    });
    for (name, options) in [
        ("in turn", SendOptions::new()),
        ("by key", SendOptions::new().sharding_key("order-42")),
        ("by chance", SendOptions::new().selector(SelectByRandom)),
        ("by rule", by_size),
        ("this one", SendOptions::new().queue(last)),
    ] {
        for body in ["small", "LARGE"] {
            let receipt = producer.send_with(Message::new("orders", body), options.clone()).await?;
            println!("{name:10} {body} → {}", receipt.queue);
        }
    }

    // Brokers named `east@…` are in the room `east`. There is none here, and a send to nowhere is an error.
    let east = SendOptions::new().selector(SelectByMachineRoom::of(["east"]));
    match producer.send_with(Message::new("orders", "small"), east).await {
        Err(error @ RocketError::NoQueueSelected { .. }) => println!("by room    {error}"),
        other => println!("by room    → {}", other?.queue),
    }

    producer.shutdown().await;
    cluster.shutdown().await
}
