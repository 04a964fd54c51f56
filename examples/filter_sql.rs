//! Receives only the messages whose properties satisfy an SQL92 condition; the broker decides, the others do not travel.
//!
//! `cargo run --example filter_sql` runs it against a name server and a broker in this process;
//! `cargo run --example filter_sql -- --namesrv HOST:PORT` against any RocketMQ cluster whose brokers have
//! `enablePropertyFilter=true`.
//!
//! - `AND`, `OR`, `NOT`; `=`, `<>`, `<`, `<=`, `>`, `>=`, `BETWEEN … AND …`, `IN ('a', 'b')`, `IS [NOT] NULL`, `CONTAINS`, `STARTSWITH`,
//!   `ENDSWITH`; texts in single quotes, numbers, `TRUE`, `FALSE`.
//! - A property is a text. Compared with a number it is read as one: `5` equals `'5'`, but `5.0` does not equal the integer 5. A
//!   message whose property is missing or no number does not satisfy a comparison, nor its opposite.
//! - `NOT` binds tighter than a comparison: write `NOT (amount > 10)`.
//! - A condition that cannot be read is refused when the consumer starts, with the place of the error.
#![allow(clippy::print_stdout)] // showing is its purpose

use std::error::Error;

use rocketmq_client::{Ack, Batch, ConsumeFrom, Filter, Message, Producer, PushConsumer};
use rocketmq_examples::Cluster;
use tokio::sync::mpsc;

const TOPIC: &str = "FilterSqlOrders";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let cluster = Cluster::from_args().await?;
    let producer =
        Producer::builder("filter-sql-producers").name_servers([cluster.name_server()]).start().await?;
    for (order, amount, region) in
        [("book", 12, "eu"), ("car", 30_000, "us"), ("pen", 2, "eu"), ("sofa", 900, "eu")]
    {
        let message = Message::builder(TOPIC)
            .body(order)
            .property("amount", &amount.to_string())
            .property("region", region)
            .build()?;
        producer.send(message).await?;
    }

    let (orders, mut received) = mpsc::unbounded_channel();
    let consumer = PushConsumer::builder("filter-sql-consumers")
        .name_servers([cluster.name_server()])
        .subscribe(TOPIC, Filter::sql("amount BETWEEN 10 AND 1000 AND region IN ('eu', 'uk')"))
        .from(ConsumeFrom::Earliest)
        .handler(move |messages: Batch| {
            for message in messages.iter() {
                let body = message.body().map(|body| String::from_utf8_lossy(body).into_owned());
                orders.send(body.unwrap_or_default()).ok();
            }
            async { Ok(Ack::All) }
        })
        .start()
        .await?;
    for _ in ["book", "sofa"] {
        println!("order: {}", received.recv().await.ok_or("the consumer ended")?);
    }

    let wrong = PushConsumer::builder("filter-sql-wrong")
        .name_servers([cluster.name_server()])
        .subscribe(TOPIC, Filter::sql("amount > 'much'"))
        .handler(|_| async { Ok(Ack::All) });
    if let Err(refused) = wrong.start().await {
        println!("{refused}");
    }

    consumer.shutdown(std::time::Duration::from_secs(5)).await?;
    producer.shutdown().await;
    cluster.shutdown().await
}
