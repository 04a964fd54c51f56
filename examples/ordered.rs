//! Consumes in order: the steps of one order are handled one after the other, those of different orders side by side. A step
//! that fails comes again in its place, and the next one waits for it.
//!
//! `cargo run --example ordered`; `-- --namesrv HOST:PORT` for a cluster of yours.
#![allow(clippy::print_stdout)] // showing is its purpose

use std::time::Duration;

use rocketmq_client::{
    Client, ConsumeFrom, Filter, Message, OrderlyAck, Producer, PushConsumer, SendOptions,
};
use rocketmq_examples::Cluster;
use tokio::sync::mpsc;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let cluster = Cluster::from_args().await?;
    let client = Client::builder().name_servers([cluster.name_server()]).start().await?;
    let producer = Producer::builder("shop").client(&client).start().await?;
    for step in ["created", "paid", "shipped"] {
        for order in 1..=3 {
            let message = Message::new("order-steps", format!("order {order} {step}"));
            // One key, one queue: order begins with the producer.
            producer.send_with(message, SendOptions::new().sharding_key(&order.to_string())).await?;
        }
    }

    let (handled, mut done) = mpsc::unbounded_channel();
    let consumer = PushConsumer::builder("ledger")
        .client(&client)
        .subscribe("order-steps", Filter::All)
        .from(ConsumeFrom::Earliest)
        .suspend_time(Duration::from_millis(100)) // until what failed comes again
        .max_reconsume_times(3) // then it is a dead letter; default: never, its queue waits
        .ordered(move |messages, _context| {
            let handled = handled.clone();
            async move {
                for message in &messages {
                    let step = String::from_utf8_lossy(message.body()?);
                    if step == "order 2 paid" && message.reconsume_times() == 0 {
                        println!("{step}: the bank does not answer");
                        return Ok(OrderlyAck::Suspend); // so is an error
                    }
                    println!("{step}");
                    handled.send(())?;
                }
                Ok(OrderlyAck::Commit)
            }
        })
        .start()
        .await?;

    for _ in 0..9 {
        done.recv().await;
    }
    consumer.shutdown(Duration::from_secs(5)).await?; // gives the queues' locks back: the next member begins at once
    producer.shutdown().await;
    client.shutdown().await;
    cluster.shutdown().await
}
