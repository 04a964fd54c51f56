//! A row in a database and a message about it: both or neither, whatever is killed when.
//!
//! The order service inserts orders in a database and announces them in transactions. It is killed at random, several
//! times. What it left open, the broker asks its successor about, and the database knows. In the end every order in the
//! database was announced once, and nothing else was.
//!
//! `cargo run --example transaction_with_database [-- --namesrv HOST:PORT]`
#![allow(clippy::print_stdout)] // showing is its purpose

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use redb::{Database, TableDefinition};
use rocketmq_client::{
    Ack, Batch, Client, ConsumeFrom, Filter, Message, Perm, Producer, PushConsumer, ReceivedMessage,
    TopicConfig, TransactionOutcome, TransactionProducer,
};
use rocketmq_examples::Cluster;

const ORDERS: TableDefinition<'_, &str, u64> = TableDefinition::new("orders");
/// How often the service is killed.
const KILLS: usize = 5;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The order service's database. Its calls block, so they run where blocking is allowed.
#[derive(Clone)]
struct Orders(Arc<Database>);

impl Orders {
    fn open(file: &Path) -> Outcome<Self> {
        let database = Database::create(file)?;
        let writing = database.begin_write()?;
        writing.open_table(ORDERS)?;
        writing.commit()?;
        Ok(Self(Arc::new(database)))
    }

    async fn insert(&self, order: String, amount: u64) -> Outcome<()> {
        let orders = self.clone();
        tokio::task::spawn_blocking(move || {
            let writing = orders.0.begin_write()?;
            writing.open_table(ORDERS)?.insert(order.as_str(), amount)?;
            writing.commit()?;
            Ok(())
        })
        .await?
    }

    async fn has(&self, order: String) -> Outcome<bool> {
        let orders = self.clone();
        tokio::task::spawn_blocking(move || {
            Ok(orders.0.begin_read()?.open_table(ORDERS)?.get(order.as_str())?.is_some())
        })
        .await?
    }

    fn all(&self) -> Outcome<Vec<String>> {
        let reading = self.0.begin_read()?;
        let range = reading.open_table(ORDERS)?.range::<&str>(..)?;
        range.map(|row| Ok(row?.0.value().to_owned())).collect()
    }
}

/// A producer that answers for every order in the database, whoever placed it.
async fn service(name_server: &str, topic: &str, orders: &Orders) -> Outcome<TransactionProducer> {
    let database = orders.clone();
    let checker = move |half: ReceivedMessage| {
        let database = database.clone();
        async move {
            let order = half.keys().next().unwrap_or_default().to_owned();
            // An order that is not there will not come any more: who was placing it waits for no more than its send.
            Ok(if database.has(order).await? {
                TransactionOutcome::Commit
            } else {
                TransactionOutcome::Rollback
            })
        }
    };
    let producer = Producer::builder("order-service").name_servers([name_server]).topics([topic]);
    Ok(producer.start_transactional(checker).await?)
}

/// Places orders until it is killed.
async fn place_orders(name_server: &str, topic: &str, file: &Path) -> Outcome<()> {
    let orders = Orders::open(file)?;
    let producer = service(name_server, topic, &orders).await?;
    let run = std::process::id();
    for number in 0_u64.. {
        let order = format!("order-{run}-{number}");
        let message = Message::builder(topic).body(format!("placed {order}")).key(&order).build()?;
        let database = orders.clone();
        let placed = producer.send_in_transaction(message, |_half| async move {
            if number % 5 == 4 {
                return Ok(TransactionOutcome::Rollback); // the customer has changed his mind
            }
            database.insert(order, number).await?;
            if number % 7 == 6 {
                return Err("as if the answer to the commit were lost".into());
            }
            Outcome::Ok(TransactionOutcome::Commit)
        });
        drop(placed.await); // whatever came of it, the database knows
    }
    Ok(())
}

async fn show() -> Outcome<()> {
    // The broker asks more often for the sake of the show: every 30 s otherwise.
    let cluster = Cluster::with(&[("transactionCheckInterval", "2000")]).await?;
    let file = std::env::temp_dir().join(format!("orders-{}.redb", std::process::id()));
    let topic = format!("orders-placed-{}", std::process::id()); // for this run alone
    let client = Client::builder().name_servers([cluster.name_server()]).start().await?;
    client.create_topic(&TopicConfig::new(&topic, 4, Perm::READ_WRITE)).await?;

    let announced = Arc::new(Mutex::new(BTreeMap::<String, usize>::new()));
    let seen = Arc::clone(&announced);
    let consumer = PushConsumer::builder(format!("shipping-{}", std::process::id()))
        .client(&client)
        .subscribe(&topic, Filter::All)
        .from(ConsumeFrom::Earliest)
        .handler(move |messages: Batch| {
            let seen = Arc::clone(&seen);
            async move {
                for order in messages.iter().flat_map(|message| message.keys()) {
                    *seen
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .entry(order.to_owned())
                        .or_default() += 1;
                }
                Ok(Ack::All)
            }
        })
        .start()
        .await?;

    for round in 1..=KILLS {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--place-orders", cluster.name_server(), &topic])
            .arg(&file)
            .spawn()?;
        let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.subsec_nanos();
        let lifetime = Duration::from_millis(500 + u64::from(nanos) % 1000);
        tokio::time::sleep(lifetime).await;
        child.kill()?;
        child.wait()?;
        println!("round {round}: killed the order service after {lifetime:?}");
    }

    // The last of the line places no orders, but answers for those of its predecessors.
    let orders = Orders::open(&file)?;
    let producer = service(cluster.name_server(), &topic, &orders).await?;
    let rows = orders.all()?;
    let begin = Instant::now();
    while announced.lock().unwrap_or_else(PoisonError::into_inner).len() < rows.len() {
        if begin.elapsed() > Duration::from_secs(180) {
            return Err("orders in the database were never announced".into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await; // for whatever should not come
    let announced = announced.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let matching = announced.keys().eq(&rows);
    let repeated = announced.values().filter(|times| **times > 1).count();
    println!(
        "{} orders in the database, {} announced, {repeated} of them more than once; the same ones: {matching}",
        rows.len(),
        announced.len(),
    );

    consumer.shutdown(Duration::from_secs(5)).await?;
    producer.shutdown().await;
    client.shutdown().await;
    drop(orders);
    std::fs::remove_file(&file)?;
    cluster.shutdown().await?;
    if matching { Ok(()) } else { Err("database and messages differ".into()) }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [_, "--place-orders", name_server, topic, file] => {
            place_orders(name_server, topic, Path::new(file)).await
        }
        _ => show().await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}
