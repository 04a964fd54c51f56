//! Messages for a time of your choice, and one that is taken back before it is due. Needs a 5.x broker.
//!
//! `cargo run --example timer [-- --namesrv HOST:PORT]`
#![allow(clippy::print_stdout)] // showing is its purpose

use std::error::Error;
use std::time::{Duration, SystemTime};

use rocketmq_client::{Ack, Batch, Client, ConsumeFrom, Delay, Filter, Message, Producer, PushConsumer};
use rocketmq_examples::Cluster;
use tokio::sync::mpsc;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let cluster = Cluster::with(&[("recallMessageEnable", "true")]).await?;
    let client = Client::builder().name_servers([cluster.name_server()]).start().await?;
    let producer = Producer::builder("reminders").client(&client).start().await?;
    let (seen, mut arrivals) = mpsc::unbounded_channel();
    let consumer = PushConsumer::builder("readers")
        .client(&client)
        .subscribe("reminders", Filter::All)
        .from(ConsumeFrom::Earliest)
        .handler(move |messages: Batch| {
            let seen = seen.clone();
            async move {
                for message in &messages {
                    let waited = SystemTime::now().duration_since(message.born_time())?;
                    seen.send((String::from_utf8(message.body()?.to_vec())?, waited))?;
                }
                Ok(Ack::All)
            }
        })
        .start()
        .await?;

    let after = Delay::After(Duration::from_millis(2500));
    producer.send(Message::builder("reminders").body("after 2.5 s").delay(after).build()?).await?;
    let at = Delay::At(SystemTime::now() + Duration::from_secs(4));
    producer.send(Message::builder("reminders").body("at a time").delay(at).build()?).await?;
    let mistaken = Message::builder("reminders").body("never mind").delay(after).build()?;
    let receipt = producer.send(mistaken).await?;
    match receipt.recall_handle {
        Some(handle) => match producer.recall("reminders", &handle).await {
            Ok(message_id) => println!("taken back: {message_id}"),
            Err(error) => println!("not taken back: {error}"), // a broker allows it with `recallMessageEnable`
        },
        None => println!("the broker gave no handle to take the message back with"),
    }

    for _ in 0..2 {
        let (body, waited) =
            tokio::time::timeout(Duration::from_secs(30), arrivals.recv()).await?.ok_or("no more")?;
        println!("{body:12} after {waited:.2?}");
    }

    consumer.shutdown(Duration::from_secs(5)).await?;
    producer.shutdown().await;
    client.shutdown().await;
    cluster.shutdown().await
}
