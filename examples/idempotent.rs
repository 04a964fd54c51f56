//! Does each thing once although messages may come twice: what was done is written down together with its effect, under the
//! message's id, which is the same for every copy.
//!
//! `cargo run --example idempotent`; `-- --namesrv HOST:PORT` for a cluster of yours.
#![allow(clippy::print_stdout)] // showing is its purpose

use std::sync::Arc;
use std::time::Duration;

use redb::{Database, ReadableTable, TableDefinition};
use rocketmq_client::{
    Ack, Batch, Client, ConsumeFrom, Filter, Message, Producer, PushConsumer, ReceivedMessage,
};
use rocketmq_examples::Cluster;
use tokio::sync::mpsc;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Ids of the messages that were handled.
const HANDLED: TableDefinition<&str, ()> = TableDefinition::new("handled");
/// What the messages are about.
const BALANCE: TableDefinition<&str, u64> = TableDefinition::new("balance");

/// Adds what the message says to the account, unless that was done. Returns whether it was done now.
fn book(database: &Database, message: &ReceivedMessage) -> Outcome<bool> {
    let amount: u64 = std::str::from_utf8(message.body()?)?.parse()?;
    let transaction = database.begin_write()?;
    let is_new = transaction.open_table(HANDLED)?.insert(&*message.message_id(), ())?.is_none();
    if is_new {
        let mut balances = transaction.open_table(BALANCE)?;
        let before = balances.get("account")?.map_or(0, |balance| balance.value());
        balances.insert("account", before + amount)?;
    }
    transaction.commit()?; // the effect and the note of it, or neither
    Ok(is_new)
}

async fn consumer(
    client: &Client,
    database: &Arc<Database>,
    booked: mpsc::UnboundedSender<bool>,
) -> Outcome<PushConsumer> {
    let database = Arc::clone(database);
    let handler = move |messages: Batch| {
        let (booked, database) = (booked.clone(), Arc::clone(&database));
        async move {
            // The database writes to a disk: not on a thread that others wait for.
            let all = tokio::task::spawn_blocking(move || {
                messages.iter().map(|message| book(&database, message)).collect::<Outcome<Vec<_>>>()
            });
            for is_new in all.await?? {
                println!("{}", if is_new { "booked" } else { "seen before: nothing to do" });
                booked.send(is_new)?;
            }
            Ok(Ack::All)
        }
    };
    let builder = PushConsumer::builder("accounts").client(client).from(ConsumeFrom::Earliest);
    Ok(builder.subscribe("payments", Filter::All).handler(handler).start().await?)
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let cluster = Cluster::from_args().await?;
    let client = Client::builder().name_servers([cluster.name_server()]).start().await?;
    let producer = Producer::builder("bank").client(&client).start().await?;
    let file = std::env::temp_dir().join(format!("rocketmq-idempotent-{}", std::process::id()));
    let database = Arc::new(Database::create(&file)?);

    producer.send(Message::new("payments", "100")).await?;

    // The first consumer ends as in a crash, before it has told the broker how far it is: the second gets the message again.
    let (booked, mut done) = mpsc::unbounded_channel();
    let crashed = consumer(&client, &database, booked.clone()).await?;
    done.recv().await;
    drop(crashed);
    let consumer = consumer(&client, &database, booked).await?;
    done.recv().await;
    consumer.shutdown(Duration::from_secs(5)).await?;
    let balance = database.begin_read()?.open_table(BALANCE)?.get("account")?.map(|balance| balance.value());
    println!("balance: {}", balance.unwrap_or_default());
    drop(database);
    std::fs::remove_file(file)?;
    producer.shutdown().await;
    client.shutdown().await;
    cluster.shutdown().await
}
