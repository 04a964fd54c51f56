//! Reading queues where and when you want, and keeping the offsets: the pull consumer.
//!
//! `cargo run --example pull` runs it against a cluster in this process; `-- --namesrv HOST:PORT` against any.
#![allow(clippy::print_stdout)] // showing is its purpose

use std::error::Error;
use std::time::Duration;

use rocketmq_client::{Client, Message, Producer, PullConsumer, PullOutcome, PullRequest};
use rocketmq_examples::Cluster;

const TOPIC: &str = "PullExample";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let cluster = Cluster::from_args().await?;
    let client = Client::builder().name_servers([cluster.name_server()]).start().await?;
    let producer = Producer::builder("pull-example-producers").client(&client).start().await?;
    for number in 1..=100 {
        producer.send(Message::new(TOPIC, format!("order {number}"))).await?;
    }

    let consumer = PullConsumer::builder("pull-example").client(&client).start().await?;
    for queue in client.queues(TOPIC).await? {
        // Where the group stands; at its first time, the beginning.
        let mut next = match consumer.committed(&queue).await? {
            Some(offset) => offset,
            None => consumer.min_offset(&queue).await?,
        };
        let first = next;
        loop {
            // The broker may hold the request this long until a message comes.
            let request = PullRequest::new(next).wait(Duration::from_millis(100));
            match consumer.pull(&queue, request).await? {
                PullOutcome::Found { messages, next: behind } => {
                    for message in &messages {
                        let text = String::from_utf8_lossy(message.body()?);
                        println!("{} at {} of queue {}", text, message.queue_offset(), queue.queue_id);
                    }
                    next = behind;
                }
                PullOutcome::NoNewMessage { .. } => break,
                // Filtered out, or deleted before we came.
                other => next = other.next(),
            }
        }
        // The work is done: only now the group moves on.
        consumer.commit(&queue, next).await?;
        println!("queue {}: read from {first} to {next}", queue.queue_id);
    }

    consumer.shutdown().await;
    producer.shutdown().await;
    client.shutdown().await;
    cluster.shutdown().await
}
