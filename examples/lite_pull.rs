//! Asking for messages when there is time for them: the lite pull consumer reads ahead, polls give what it has.
//!
//! `cargo run --example lite_pull` runs it against a cluster in this process; `-- --namesrv HOST:PORT` against any.
#![allow(clippy::print_stdout)] // showing is its purpose

use std::error::Error;
use std::time::Duration;

use rocketmq_client::{Client, ConsumeFrom, Filter, LitePullConsumer, Message, Producer, SeekTo};
use rocketmq_examples::Cluster;

const TOPIC: &str = "LitePullExample";
const PATIENCE: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let cluster = Cluster::from_args().await?;
    let client = Client::builder().name_servers([cluster.name_server()]).start().await?;
    let producer = Producer::builder("lite-pull-example-producers").client(&client).start().await?;
    for number in 1..=20 {
        producer.send(Message::new(TOPIC, format!("order {number}"))).await?;
    }

    // The members of the group share the queues; `assign` instead of `subscribe` leaves that to you.
    let mut consumer = LitePullConsumer::builder("lite-pull-example")
        .client(&client)
        .subscribe(TOPIC, Filter::All)
        .from(ConsumeFrom::Earliest)
        .start()
        .await?;
    loop {
        // What the last poll gave counts as done from here on: its offsets may be committed.
        let messages = consumer.poll(PATIENCE).await?;
        if messages.is_empty() {
            break;
        }
        for message in &messages {
            println!("{}", String::from_utf8_lossy(message.body()?));
        }
    }

    println!("\nonce more, and commit by hand");
    for queue in consumer.assigned_queues() {
        consumer.seek(&queue, SeekTo::Begin).await?;
    }
    let messages = consumer.poll(PATIENCE).await?;
    println!("{} messages again", messages.len());
    consumer.commit().await?;
    for lag in consumer.lag().await? {
        println!("queue {}: {} messages behind", lag.queue.queue_id, lag.messages());
    }

    consumer.shutdown().await?;
    producer.shutdown().await;
    client.shutdown().await;
    cluster.shutdown().await
}
