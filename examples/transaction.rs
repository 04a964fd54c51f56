//! A message that becomes visible when a local transaction is committed, and only then.
//!
//! `cargo run --example transaction [-- --namesrv HOST:PORT]`
#![allow(clippy::print_stdout)] // showing is its purpose

use std::error::Error;
use std::time::Duration;

use rocketmq_client::{
    Ack, Batch, Client, ConsumeFrom, Filter, Message, Producer, PushConsumer, ReceivedMessage,
    TransactionOutcome,
};
use rocketmq_examples::Cluster;
use tokio::sync::mpsc;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let cluster = Cluster::from_args().await?;
    let client = Client::builder().name_servers([cluster.name_server()]).start().await?;

    // What a broker asks when it was not told the outcome. See `transaction_with_database` for a real answer.
    let checker = |half: ReceivedMessage| async move {
        println!("checked:   {:?}", half.keys().collect::<Vec<_>>());
        Ok(TransactionOutcome::Commit)
    };
    let producer = Producer::builder("payments").client(&client).start_transactional(checker).await?;
    let (seen, mut visible) = mpsc::unbounded_channel();
    let consumer = PushConsumer::builder("accounting")
        .client(&client)
        .subscribe("payments", Filter::All)
        .from(ConsumeFrom::Earliest)
        .handler(move |messages: Batch| {
            let seen = seen.clone();
            async move {
                for message in &messages {
                    seen.send(String::from_utf8(message.body()?.to_vec())?)?;
                }
                Ok(Ack::All)
            }
        })
        .start()
        .await?;

    // The outcome is the closure's value: it cannot be forgotten.
    for (body, outcome) in
        [("payment 1", TransactionOutcome::Commit), ("payment 2", TransactionOutcome::Rollback)]
    {
        let message = Message::builder("payments")
            .body(body)
            .key(body.split(' ').next_back().unwrap_or(body))
            .build()?;
        let receipt = producer
            .send_in_transaction(message, |half| async move {
                println!("{body}: half message {} is stored, now the local transaction", half.message_id);
                Ok::<_, std::io::Error>(outcome)
            })
            .await?;
        println!("{body}: {:?}", receipt.outcome);
    }

    // In two steps, where a closure does not fit.
    let half = producer.prepare(Message::new("payments", "payment 3")).await?;
    half.commit().await?;

    // Neither of both: the broker asks. `first_check_after` says when at the earliest; its own interval counts, too.
    let forgotten = Message::builder("payments")
        .body("payment 4")
        .key("4")
        .first_check_after(Duration::from_secs(1))
        .build()?;
    drop(producer.prepare(forgotten).await?);
    println!("payment 4: left alone; the broker will ask within a minute or so");

    for _ in 0..3 {
        let wait = Duration::from_secs(90);
        println!("visible:   {}", tokio::time::timeout(wait, visible.recv()).await?.unwrap_or_default());
    }

    consumer.shutdown(Duration::from_secs(5)).await?;
    producer.shutdown().await;
    client.shutdown().await;
    cluster.shutdown().await
}
