//! The ways to send: wait for each message, many at once, without an answer, and what an error tells.
//!
//! `cargo run --example send_modes [-- --namesrv HOST:PORT]`
#![allow(clippy::print_stdout)] // showing is its purpose

use std::error::Error;
use std::time::Duration;

use rocketmq_client::{Message, Producer, Retry, SendOptions};
use rocketmq_examples::Cluster;
use tokio::task::JoinSet;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let cluster = Cluster::from_args().await?;
    let producer = Producer::builder("shop")
        .name_servers([cluster.name_server()])
        .send_timeout(Duration::from_secs(3)) // for everything: looking up, connecting, all attempts
        .max_attempts(3)
        .start()
        .await?;

    // One after the other: each is stored when the next one goes.
    let message = Message::builder("orders").body("order 1").tag("created").key("order-1").build()?;
    let receipt = producer.send(message).await?;
    println!("waited for: {} is at offset {} of {}", receipt.message_id, receipt.queue_offset, receipt.queue);

    // Many at once: a send is a future, and all of them share one connection to each broker.
    let mut sends = JoinSet::new();
    for number in 2..=1000 {
        let producer = producer.clone();
        sends.spawn(async move { producer.send(Message::new("orders", format!("order {number}"))).await });
    }
    let mut stored = 0;
    while let Some(receipt) = sends.join_next().await {
        receipt??;
        stored += 1;
    }
    println!("at once:    {stored} stored");

    // Without an answer: on its way when this returns, and nobody will tell more.
    producer.send_oneway(Message::new("orders", "a reading of a sensor")).await?;
    println!("one-way:    on its way");

    // What can be tried again says so, and what may have been stored says that.
    let impatient = SendOptions::new().timeout(Duration::from_nanos(1));
    match producer.send_with(Message::new("orders", "order 1001"), impatient).await {
        Ok(receipt) => println!("in no time: {}", receipt.message_id),
        Err(error) => {
            let again = match error.retry() {
                Retry::No => "do not send it again",
                Retry::AnotherBroker => "it was not stored: send it again",
                Retry::MayDuplicate => {
                    "it may have been stored: consumers may see it twice if it is sent again"
                }
            };
            println!("error:      {error}\n            {again}");
        }
    }

    producer.shutdown().await;
    cluster.shutdown().await
}
