//! Many messages in few requests: batches of the caller's, and batches that single sends are gathered into.
//!
//! `cargo run --example batch [-- --namesrv HOST:PORT]`
#![allow(clippy::print_stdout)] // showing is its purpose

use std::error::Error;
use std::time::{Duration, Instant};

use rocketmq_client::{Accumulate, BatchSplitter, Client, Message, Producer};
use rocketmq_examples::Cluster;
use tokio::task::JoinSet;

const MESSAGES: usize = 10_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let cluster = Cluster::from_args().await?;
    let client = Client::builder().name_servers([cluster.name_server()]).start().await?;
    let producer = Producer::builder("batches").client(&client).start().await?;

    // A batch is stored whole or not at all, in one queue.
    let begin = Instant::now();
    let messages = (0..MESSAGES).map(|number| Message::new("readings", format!("reading {number}")));
    let mut batches = 0;
    for batch in BatchSplitter::new(messages, 64 * 1024) {
        producer.send_batch(batch).await?;
        batches += 1;
    }
    println!("{MESSAGES} messages in {batches} batches of the caller's: {:?}", begin.elapsed());

    // Each send waits up to 5 ms for others to go with, and still gets its own receipt.
    let gathering = Producer::builder("gathering")
        .client(&client)
        .accumulate(Accumulate::default().linger(Duration::from_millis(5)))
        .start()
        .await?;
    let begin = Instant::now();
    let mut sends = JoinSet::new();
    for number in 0..MESSAGES {
        let producer = gathering.clone();
        sends
            .spawn(async move { producer.send(Message::new("readings", format!("reading {number}"))).await });
    }
    while let Some(receipt) = sends.join_next().await {
        receipt??;
    }
    println!("{MESSAGES} messages sent singly, gathered on the way: {:?}", begin.elapsed());

    gathering.shutdown().await;
    producer.shutdown().await;
    client.shutdown().await;
    cluster.shutdown().await
}
