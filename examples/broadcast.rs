//! Every member of a group gets every message: here two of them, each with offsets of its own on this machine.
//!
//! `cargo run --example broadcast`; `-- --namesrv HOST:PORT` for a cluster of yours.
#![allow(clippy::print_stdout)] // showing is its purpose

use std::time::Duration;

use rocketmq_client::{Ack, Client, ConsumeFrom, Filter, Message, Producer, PushConsumer};
use rocketmq_examples::Cluster;
use tokio::sync::mpsc;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let cluster = Cluster::from_args().await?;
    let producer = Producer::builder("rates").name_servers([cluster.name_server()]).start().await?;
    producer.send(Message::new("exchange-rates", "EUR 1.08")).await?;

    let folder = std::env::temp_dir().join(format!("rocketmq-broadcast-{}", std::process::id()));
    let (got, mut handled) = mpsc::unbounded_channel();
    let mut members = Vec::new();
    for id in ["shop-1", "shop-2"] {
        // The id names the member's offsets: it must stay the same when the process starts again.
        let client = Client::builder().client_id(id).name_servers([cluster.name_server()]).start().await?;
        let got = got.clone();
        let consumer = PushConsumer::builder("shops")
            .client(&client)
            .subscribe("exchange-rates", Filter::All)
            .from(ConsumeFrom::Earliest)
            .broadcasting()
            .offsets_folder(&folder) // default: .rocketmq_offsets in the home folder
            .handler(move |messages| {
                let got = got.clone();
                async move {
                    for message in &messages {
                        println!("{id}: {}", String::from_utf8_lossy(message.body()?));
                        got.send(())?;
                    }
                    Ok(Ack::All)
                }
            })
            .start()
            .await?;
        members.push((client, consumer));
    }

    for _ in 0..2 {
        handled.recv().await;
    }
    for (client, consumer) in members {
        consumer.shutdown(Duration::from_secs(5)).await?;
        client.shutdown().await;
    }
    std::fs::remove_dir_all(&folder)?;
    producer.shutdown().await;
    cluster.shutdown().await
}
