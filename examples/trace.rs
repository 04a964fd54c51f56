//! Message trace: who sent what, where, and how fast, told to a topic that Java's tools read, too
//! (`mqadmin queryMsgTraceById`).
//!
//! `cargo run --example trace [-- --namesrv HOST:PORT]`
#![allow(clippy::print_stdout)] // showing is its purpose

use std::error::Error;
use std::time::Duration;

use rocketmq_client::{
    Ack, Batch, Client, ConsumeFrom, Filter, Message, Perm, Producer, PushConsumer, TopicConfig, Trace,
};
use rocketmq_examples::Cluster;
use tokio::sync::mpsc;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let cluster = Cluster::from_args().await?;
    let client = Client::builder().name_servers([cluster.name_server()]).start().await?;
    client.create_topic(&TopicConfig::new("traces", 1, Perm::READ_WRITE)).await?;
    client.create_topic(&TopicConfig::new("orders", 4, Perm::READ_WRITE)).await?;
    // Without `topic`, traces go to RMQ_SYS_TRACE_TOPIC, where Java's tools look for them.
    let trace = Trace::default().topic("traces").linger(Duration::from_millis(100));

    let producer = Producer::builder("shop").client(&client).trace(trace).start().await?;
    // What anybody may do who wants to see traces.
    let (seen, mut records) = mpsc::unbounded_channel();
    let reader = PushConsumer::builder("trace-readers")
        .client(&client)
        .subscribe("traces", Filter::All)
        .from(ConsumeFrom::Earliest)
        .handler(move |messages: Batch| {
            let seen = seen.clone();
            async move {
                for message in &messages {
                    let text = String::from_utf8(message.body()?.to_vec())?;
                    for record in text.split_terminator('\u{2}') {
                        seen.send(record.split('\u{1}').map(str::to_owned).collect::<Vec<_>>())?;
                    }
                }
                Ok(Ack::All)
            }
        })
        .start()
        .await?;

    let order = Message::builder("orders").body("order 42").tag("created").key("order-42").build()?;
    println!("sent       {}", producer.send(order).await?.message_id);
    let record = tokio::time::timeout(Duration::from_secs(20), records.recv()).await?.ok_or("no more")?;
    println!("{}", record.join(" | "));

    reader.shutdown(Duration::from_secs(5)).await?;
    producer.shutdown().await;
    client.shutdown().await;
    cluster.shutdown().await
}
