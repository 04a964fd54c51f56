//! One side of a feature: says what it sees, and judges nothing. The features: `tests/interop/README.md`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rocketmq_client::{
    Ack, Client, ClientBuilder, ConsumeFrom, Delay, Filter, LitePullConsumer, OrderlyAck, Perm, Producer,
    PushConsumer, ReceivedMessage, SeekTo, SelectByHash, SendOptions, SendReceipt, SendStatus, TopicConfig,
    Trace, TransactionOutcome, TransactionProducer,
};
use tokio::signal::unix::{SignalKind, signal};

use crate::Outcome;
use crate::sequence::{builder, message, verify};

const NAMESPACE: &str = "tenant";
const LATER: Duration = Duration::from_secs(2);
const CREATE_LIMIT: Duration = Duration::from_secs(30);
const REPLY_LIMIT: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(3);

pub(crate) struct Feature {
    name: String,
    role: Role,
    namesrv: String,
    topic: String,
    group: String,
    count: u32,
}

enum Sender {
    Plain(Producer),
    Transactional(TransactionProducer),
}

#[derive(Clone, Copy)]
enum Role {
    Create,
    Produce,
    Consume,
}

async fn told_to_end() -> Outcome<()> {
    signal(SignalKind::terminate())?.recv().await;
    Ok(())
}

fn ms(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Feature {
    pub(crate) fn parse(arguments: &[String]) -> Option<Self> {
        let [name, role, namesrv, topic, group, count] = arguments else { return None };
        let role = match role.as_str() {
            "create" => Role::Create,
            "produce" => Role::Produce,
            "consume" => Role::Consume,
            _ => return None,
        };
        let [name, namesrv, topic, group] = [name, namesrv, topic, group].map(String::clone);
        Some(Self { name, role, namesrv, topic, group, count: count.parse().ok()? })
    }

    pub(crate) async fn run(self) -> Outcome<bool> {
        match self.role {
            Role::Create => self.create().await?,
            Role::Produce => self.produce().await?,
            Role::Consume if self.name.starts_with("lite-") => self.poll().await?,
            Role::Consume => self.consume().await?,
        }
        println!("ended");
        Ok(true)
    }

    /// The topic, once there is a broker; and waits until the name server knows it.
    async fn create(&self) -> Outcome<()> {
        let client = Client::builder().name_servers([&self.namesrv]).start().await?;
        let name = match self.name.as_str() {
            "namespace" => format!("{NAMESPACE}%{}", self.topic),
            _ => self.topic.clone(),
        };
        let topic = TopicConfig::new(&name, 4, Perm::READ_WRITE);
        let created = async {
            while let Err(error) = client.create_topic(&topic).await {
                eprintln!("{error:?}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            while !client.queues(&name).await.is_ok_and(|queues| !queues.is_empty()) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(CREATE_LIMIT, created).await?;
        client.shutdown().await;
        Ok(())
    }

    async fn produce(&self) -> Outcome<()> {
        let client = self.client().start().await?;
        let mut builder =
            Producer::builder(&self.group).client(&client).send_timeout(Duration::from_secs(15));
        if self.name == "trace" {
            builder = builder.trace(Trace::default());
        }
        let sender = if self.name == "transaction" {
            Sender::Transactional(builder.start_transactional(check).await?)
        } else {
            Sender::Plain(builder.start().await?)
        };
        for i in 0..self.count {
            match &sender {
                Sender::Plain(producer) => self.send(producer, i).await?,
                Sender::Transactional(producer) => self.send_in_transaction(producer, i).await?,
            }
        }
        println!("done");
        told_to_end().await?;
        match sender {
            Sender::Plain(producer) => producer.shutdown().await,
            Sender::Transactional(producer) => producer.shutdown().await,
        }
        client.shutdown().await;
        Ok(())
    }

    fn client(&self) -> ClientBuilder {
        let client = Client::builder().name_servers([&self.namesrv]);
        if self.name == "namespace" { client.namespace(NAMESPACE) } else { client }
    }

    async fn send(&self, producer: &Producer, i: u32) -> Outcome<()> {
        let due = SystemTime::now() + LATER;
        let message = builder(&self.topic, i).property("n", &i.to_string());
        let message = match self.name.as_str() {
            "delay" => message.property("due", &ms(due).to_string()).delay(Delay::Level(2)),
            "timer" => message.property("due", &ms(due).to_string()).delay(Delay::At(due)),
            _ => message,
        };
        let message = message.build()?;
        let receipt = match self.name.as_str() {
            "ordered" => {
                let by_key = SendOptions::new().selector(SelectByHash::of(&format!("key{}", i % 8)));
                producer.send_with(message, by_key).await?
            }
            "request" => {
                let reply = producer.request(message, REPLY_LIMIT).await?;
                println!("reply {}", String::from_utf8_lossy(reply.body()?));
                return Ok(());
            }
            _ => producer.send(message).await?,
        };
        sent(i, &receipt)?;
        if self.name == "timer" && i % 4 == 0 {
            let handle = receipt.recall_handle.ok_or("no handle to take the message back with")?;
            producer.recall(&self.topic, &handle).await?;
            println!("recalled {i}");
        }
        Ok(())
    }

    async fn send_in_transaction(&self, producer: &TransactionProducer, i: u32) -> Outcome<()> {
        let outcome = match i % 3 {
            0 => TransactionOutcome::Commit,
            1 => TransactionOutcome::Rollback,
            _ => TransactionOutcome::Unknown,
        };
        let local = |_half| async move { Ok::<_, std::io::Error>(outcome) };
        let receipt = producer.send_in_transaction(message(&self.topic, i)?, local).await?;
        sent(i, &receipt.half)
    }

    async fn consume(&self) -> Outcome<()> {
        let mut members = Vec::new();
        for member in 1..=if self.name == "broadcast" { 2 } else { 1 } {
            let client = self.client();
            let client = match self.name.as_str() {
                "broadcast" => client.client_id(format!("127.0.0.1@member{member}")), // Java's, for the same file
                _ => client,
            };
            let client = client.start().await?;
            members.push((self.join(&client, member).await?, client));
        }
        println!("started");
        told_to_end().await?;
        for (consumer, client) in members {
            consumer.shutdown(Duration::from_secs(4)).await?;
            client.shutdown().await;
        }
        Ok(())
    }

    async fn join(&self, client: &Client, member: u32) -> Outcome<PushConsumer> {
        let filter = match self.name.as_str() {
            "tags" => Filter::tags(["t1", "t3"]),
            "sql" => Filter::sql("n BETWEEN 100 AND 199 OR (TAGS = 't2' AND n >= 300)"),
            _ => Filter::All,
        };
        let mut builder = PushConsumer::builder(&self.group)
            .client(client)
            .subscribe(&self.topic, filter)
            .from(ConsumeFrom::Earliest);
        let fails: fn(u32, u32) -> bool = match self.name.as_str() {
            "retry" => |i, times| i % 10 == 9 || times < i % 3,
            "ordered" => |i, times| i % 40 == 7 && times < 2,
            _ => |_, _| false,
        };
        builder = match self.name.as_str() {
            "retry" => builder.max_reconsume_times(3),
            "ordered" => builder.suspend_time(Duration::from_millis(100)),
            "broadcast" => builder.broadcasting(),
            "trace" => builder.trace(Trace::default()),
            _ => builder,
        };
        if self.name == "ordered" {
            let builder = builder.ordered(move |messages, _| async move {
                for message in &messages {
                    if see(message, member, fails)?.is_none() {
                        return Ok(OrderlyAck::Suspend);
                    }
                }
                Ok(OrderlyAck::Commit)
            });
            return Ok(builder.start().await?);
        }
        let replier = match self.name.as_str() {
            "request" => Some(Producer::builder(&self.group).client(client).start().await?),
            _ => None,
        };
        let builder = builder.handler(move |messages| {
            let replier = replier.clone();
            async move {
                for message in &messages {
                    let Some(i) = see(message, member, fails)? else { return Ok(Ack::Retry) };
                    if let Some(replier) = &replier {
                        replier.reply(message, i.to_string()).await?;
                    }
                }
                Ok(Ack::All)
            }
        });
        Ok(builder.start().await?)
    }

    /// `lite-first` polls half of the messages and commits; `lite-rest` polls so many, then from the begin, without end.
    async fn poll(&self) -> Outcome<()> {
        let mut consumer = LitePullConsumer::builder(&self.group)
            .name_servers([&self.namesrv])
            .subscribe(&self.topic, Filter::All)
            .from(ConsumeFrom::Earliest)
            .auto_commit(false)
            .start()
            .await?;
        let first = self.name == "lite-first";
        poll(&mut consumer, "got", if first { self.count / 2 } else { self.count }).await?;
        consumer.commit().await?;
        println!("done");
        if first {
            told_to_end().await?;
        } else {
            for queue in consumer.assigned_queues() {
                consumer.seek(&queue, SeekTo::Begin).await?;
            }
            tokio::select! {
                polled = poll(&mut consumer, "again", u32::MAX) => polled?,
                ended = told_to_end() => ended?,
            }
        }
        Ok(consumer.shutdown().await?)
    }
}

async fn poll(consumer: &mut LitePullConsumer, word: &str, wanted: u32) -> Outcome<()> {
    let mut polled = 0;
    while polled < wanted {
        for message in &consumer.poll(PATIENCE).await? {
            println!("{word} {}", verify(message)?);
            polled += 1;
        }
    }
    Ok(())
}

fn sent(i: u32, receipt: &SendReceipt) -> Outcome<()> {
    if receipt.status != SendStatus::Ok {
        return Err(format!("send status {:?}", receipt.status).into());
    }
    println!("sent {i} id {} at {}", receipt.message_id, receipt.offset_message_id);
    Ok(())
}

async fn check(half: ReceivedMessage) -> Outcome<TransactionOutcome> {
    let i = verify(&half)?;
    println!("checked {i}");
    Ok(if i % 2 == 0 { TransactionOutcome::Commit } else { TransactionOutcome::Rollback })
}

/// Its number, if it is done with this time.
fn see(message: &ReceivedMessage, member: u32, fails: fn(u32, u32) -> bool) -> Outcome<Option<u32>> {
    let i = verify(message)?;
    let times = u32::try_from(message.reconsume_times())?;
    let due = message.property("due").map(str::parse::<i64>).transpose()?;
    let late = due.map_or(0, |due| ms(SystemTime::now()) - due);
    let failed = fails(i, times);
    let word = if failed { "failed" } else { "got" };
    println!("{word} {i} times {times} late {late} member {member}");
    Ok((!failed).then_some(i))
}
