//! Back in time: a running consumer goes over everything again that was stored since a moment, to the millisecond.
//!
//! `cargo run --example replay_from_time` runs it against a cluster in this process; `-- --namesrv HOST:PORT` against any.
#![allow(clippy::print_stdout)] // showing is its purpose

use std::error::Error;
use std::time::{Duration, SystemTime};

use rocketmq_client::{Client, ConsumeFrom, Filter, Message, Producer, StreamConsumer};
use rocketmq_examples::Cluster;

const TOPIC: &str = "ReplayExample";

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let cluster = Cluster::from_args().await?;
    let client = Client::builder().name_servers([cluster.name_server()]).start().await?;
    let producer = Producer::builder("replay-example-producers").client(&client).start().await?;
    let begin = SystemTime::now();
    producer.send(Message::new(TOPIC, "before the new price")).await?;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let new_price = SystemTime::now();
    for number in 1..=5 {
        producer.send(Message::new(TOPIC, format!("order {number}"))).await?;
    }

    // A new group may begin at a time, too.
    let consumer = StreamConsumer::builder("replay-example")
        .client(&client)
        .subscribe(TOPIC, Filter::All)
        .from(ConsumeFrom::Time(begin))
        .start()
        .await?;
    show(&consumer).await?;

    println!("\nthe orders since the new price once more");
    consumer.reset_to_time(new_price).await?;
    show(&consumer).await?;

    consumer.shutdown(Duration::from_secs(10)).await?;
    producer.shutdown().await;
    client.shutdown().await;
    cluster.shutdown().await
}

/// Shows messages until none comes for a while.
async fn show(consumer: &StreamConsumer) -> Outcome<()> {
    while let Ok(Some(delivery)) = tokio::time::timeout(Duration::from_secs(1), consumer.next()).await {
        println!("{}", String::from_utf8_lossy(delivery.body()?));
        delivery.ack();
    }
    Ok(())
}
