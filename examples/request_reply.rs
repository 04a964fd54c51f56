//! Ask over a topic, and wait for the answer of whoever consumes the question.
//!
//! `cargo run --example request_reply [-- --namesrv HOST:PORT]`
#![allow(clippy::print_stdout)] // showing is its purpose

use std::error::Error;
use std::time::{Duration, Instant};

use rocketmq_client::{
    Ack, Batch, Client, ConsumeFrom, Error as RocketError, Filter, Message, Perm, Producer, PushConsumer,
    TopicConfig,
};
use rocketmq_examples::Cluster;
use tokio::task::JoinSet;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let cluster = Cluster::from_args().await?;

    // The service that answers.
    let service = Client::builder().name_servers([cluster.name_server()]).start().await?;
    service.create_topic(&TopicConfig::new("prices", 4, Perm::READ_WRITE)).await?;
    let answers = Producer::builder("price-service").client(&service).start().await?;
    let answering = PushConsumer::builder("price-service")
        .client(&service)
        .subscribe("prices", Filter::All)
        .from(ConsumeFrom::Earliest)
        .handler(move |messages: Batch| {
            let answers = answers.clone();
            async move {
                for question in &messages {
                    let article = String::from_utf8_lossy(question.body()?).into_owned();
                    if article != "unheard of" {
                        answers.reply(question, format!("{article} costs {} €", article.len())).await?;
                    }
                }
                Ok(Ack::All)
            }
        })
        .start()
        .await?;

    // The one that asks.
    let asking = Producer::builder("shop").name_servers([cluster.name_server()]).start().await?;
    let begin = Instant::now();
    let limit = Duration::from_secs(5);
    let answer = asking.request(Message::new("prices", "tea"), limit).await?;
    println!("{} ({:?})", String::from_utf8_lossy(answer.body()?), begin.elapsed());

    // Many at once: each answer finds its question.
    let mut questions = JoinSet::new();
    for article in ["milk", "bread", "butter", "sugar"] {
        let asking = asking.clone();
        questions.spawn(async move { asking.request(Message::new("prices", article), limit).await });
    }
    while let Some(answer) = questions.join_next().await {
        println!("{}", String::from_utf8_lossy(answer??.body()?));
    }

    // Stored, but nobody answered, is another error than not stored.
    match asking.request(Message::new("prices", "unheard of"), Duration::from_millis(200)).await {
        Err(error @ RocketError::NoReply { .. }) => println!("{error}"),
        other => println!("unexpected: {other:?}"),
    }

    asking.shutdown().await;
    answering.shutdown(Duration::from_secs(5)).await?;
    service.shutdown().await;
    cluster.shutdown().await
}
