//! A consumer as a loop: take a message, work on it, say what became of it.
//!
//! `cargo run --example stream` runs it against a cluster in this process; `-- --namesrv HOST:PORT` against any.
#![allow(clippy::print_stdout)] // showing is its purpose

use std::error::Error;
use std::time::Duration;

use rocketmq_client::{Client, ConsumeFrom, Filter, Message, Producer, StreamConsumer};
use rocketmq_examples::Cluster;

const TOPIC: &str = "StreamExample";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let cluster = Cluster::from_args().await?;
    let client = Client::builder().name_servers([cluster.name_server()]).start().await?;
    let producer = Producer::builder("stream-example-producers").client(&client).start().await?;
    for number in 1..=10 {
        producer.send(Message::new(TOPIC, format!("order {number}"))).await?;
    }

    let consumer = StreamConsumer::builder("stream-example")
        .client(&client)
        .subscribe(TOPIC, Filter::All)
        .from(ConsumeFrom::Earliest)
        .start()
        .await?;
    // Nothing is lost when waiting is given up: here, when nothing came for a while.
    while let Ok(Some(delivery)) = tokio::time::timeout(Duration::from_secs(1), consumer.next()).await {
        match work(delivery.body()?) {
            Ok(()) => delivery.ack(),
            Err(reason) => {
                println!("{reason}; it goes to the dead letters");
                delivery.dead_letter();
            }
        }
    }

    consumer.shutdown(Duration::from_secs(10)).await?; // commits, and leaves the group
    producer.shutdown().await;
    client.shutdown().await;
    cluster.shutdown().await
}

fn work(order: &[u8]) -> Result<(), String> {
    let order = String::from_utf8_lossy(order);
    if order == "order 7" {
        return Err(format!("{order} cannot be delivered"));
    }
    println!("{order} is on its way");
    Ok(())
}
