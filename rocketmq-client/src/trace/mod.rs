//! [`Trace`]: tells a topic which messages were sent and consumed, by whom, where and how fast, for Java's tools and ours to
//! show.
//!
//! Records are gathered by a task of its own and sent by a producer of its own: tracing never delays what it traces.
//! Java: `client/trace/AsyncTraceDispatcher.java`.

mod context;
mod record;

pub(crate) use context::Propagation;
pub use context::TraceContext;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use rocketmq_protocol::name::TRACE_TOPIC;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::consumer::{ConsumeEvent, ConsumeInterceptor, ConsumeResult};
use crate::producer::now_ms;
use crate::{
    Client, EndTransactionEvent, Error, Message, MessageKind, Producer, ReceivedMessage, SendEvent,
    SendInterceptor, SendStatus, TransactionOutcome,
};
use record::{ContextCode, PubKind, Record};

/// Records that wait; more are dropped and counted. Java: 2048.
const QUEUE: usize = 2048;
/// A trace message is no longer than this. Java: `maxMsgSize`.
const MAX_BYTES: usize = 128_000;
/// Longest wait for the records of a closing producer or consumer.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Where a broker does not say which region it is in.
const DEFAULT_REGION: &str = "DefaultRegion";

/// How messages are traced: for [`ProducerBuilder::trace`](crate::ProducerBuilder::trace) and
/// [`PushConsumerBuilder::trace`](crate::PushConsumerBuilder::trace). Off unless given there.
///
/// Traces are messages to a topic, by default `RMQ_SYS_TRACE_TOPIC`, which a broker has with `traceTopicEnable=true` or which
/// is created like any other. `mqadmin queryMsgTraceById` reads them. What cannot be sent is dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    topic: String,
    batch: usize,
    linger: Duration,
}

impl Default for Trace {
    fn default() -> Self {
        Self { topic: TRACE_TOPIC.to_owned(), batch: 10, linger: Duration::from_secs(5) }
    }
}

impl Trace {
    /// The topic that traces go to. Messages to it are not traced.
    #[must_use]
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = topic.into();
        self
    }

    /// Records that go out together, at least 1. Default 10.
    #[must_use]
    pub fn batch(mut self, records: usize) -> Self {
        self.batch = records.max(1);
        self
    }

    /// How long a record waits for others. Default 5 s.
    #[must_use]
    pub fn linger(mut self, time: Duration) -> Self {
        self.linger = time;
        self
    }

    /// Starts the task that sends records, in the name of `group`. It ends when the tracer is closed or dropped.
    pub(crate) async fn start(
        self,
        client: &Client,
        group: &str,
        role: &'static str,
    ) -> Result<Tracer, Error> {
        let name = format!("_INNER_TRACE_PRODUCER-{group}-{role}-{:08x}", rand::random::<u32>());
        let name: String = name.chars().take(120).collect();
        let producer =
            Producer::builder(name).client(client).send_timeout(Duration::from_secs(5)).start().await?;
        let (records, waiting) = mpsc::channel(QUEUE);
        let (closing, closed) = (CancellationToken::new(), CancellationToken::new());
        let topic: Arc<str> = self.topic.as_str().into();
        let tracer = Tracer {
            shared: Arc::new(Shared {
                records,
                topic,
                dropped: AtomicU64::new(0),
                closing: closing.clone(),
                closed: closed.clone(),
            }),
        };
        let done = closed.drop_guard();
        client.core().spawn(async move {
            self.send_records(producer, waiting, closing).await;
            drop(done);
        });
        Ok(tracer)
    }

    async fn send_records(
        self,
        producer: Producer,
        mut records: mpsc::Receiver<Record>,
        closing: CancellationToken,
    ) {
        let mut gathered = Vec::new();
        let mut since = Instant::now();
        loop {
            let next = tokio::select! {
                record = records.recv() => record,
                () = tokio::time::sleep_until(since + self.linger), if !gathered.is_empty() => {
                    self.send(&producer, &mut gathered).await;
                    continue;
                }
                () = closing.cancelled() => {
                    records.close();
                    records.recv().await
                }
            };
            let Some(record) = next else { break };
            if gathered.is_empty() {
                since = Instant::now();
            }
            gathered.push(record);
            if gathered.len() >= self.batch {
                self.send(&producer, &mut gathered).await;
            }
        }
        self.send(&producer, &mut gathered).await;
        producer.shutdown().await;
    }

    async fn send(&self, producer: &Producer, records: &mut Vec<Record>) {
        let (mut body, mut keys) = (String::new(), BTreeSet::new());
        for record in records.drain(..) {
            let before = body.len();
            record.encode(&mut body);
            if body.len() > MAX_BYTES && before > 0 {
                let rest = body.split_off(before);
                self.send_text(producer, std::mem::replace(&mut body, rest), std::mem::take(&mut keys)).await;
            }
            keys.extend(record.keys().map(str::to_owned));
        }
        if !body.is_empty() {
            self.send_text(producer, body, keys).await;
        }
    }

    async fn send_text(&self, producer: &Producer, body: String, keys: BTreeSet<String>) {
        let builder = Message::builder(self.topic.as_str()).body(body);
        let message = keys.iter().fold(builder, |builder, key| builder.key(key)).build();
        let sent = match message {
            Ok(message) => producer.send(message).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = sent {
            warn!(topic = self.topic, %error, "trace not sent");
        }
    }
}

/// Takes what is to be traced. Cheap to clone; the records of the last one are sent when it goes.
#[derive(Clone)]
pub(crate) struct Tracer {
    shared: Arc<Shared>,
}

struct Shared {
    records: mpsc::Sender<Record>,
    topic: Arc<str>,
    dropped: AtomicU64,
    closing: CancellationToken,
    closed: CancellationToken,
}

impl Tracer {
    fn put(&self, record: Record) {
        if self.shared.records.try_send(record).is_err() {
            let dropped = self.shared.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            debug!(dropped, "trace record dropped: too many wait, or the producer is closed");
        }
    }

    /// Waits a moment until every record is sent.
    pub(crate) async fn close(&self) {
        self.shared.closing.cancel();
        if tokio::time::timeout(LAST_WORDS, self.shared.closed.cancelled()).await.is_err() {
            warn!("traces lost: they could not be sent in time");
        }
    }
}

#[async_trait]
impl SendInterceptor for Tracer {
    /// As Java, failed sends are not traced: there is no message to find.
    async fn after_send(&self, event: &SendEvent<'_>) {
        let Ok(stored) = event.result else { return };
        let Some(first) = event.messages.first() else { return };
        if first.topic().starts_with(&*self.shared.topic) || stored.reply.trace_on == Some(false) {
            return;
        }
        let cost = event.took.as_millis();
        let began = now_ms() - i64::try_from(cost).unwrap_or_default();
        let mut places = stored.reply.message_id.split(',');
        for (message, message_id) in event.messages.iter().zip(event.message_ids) {
            self.put(Record::Pub {
                timestamp: began,
                region: stored.reply.region.as_deref().unwrap_or(DEFAULT_REGION).to_owned(),
                group: event.group.to_owned(),
                topic: message.topic().to_owned(),
                message_id: message_id.to_string(),
                tags: message.tag().map(str::to_owned),
                keys: message.property("KEYS").map(str::to_owned),
                broker_addr: stored.broker_addr.to_string(),
                body_len: message.body().len(),
                cost,
                kind: match event.kind {
                    MessageKind::TransactionHalf => PubKind::Half,
                    MessageKind::Delayed => PubKind::Delay,
                    MessageKind::Normal | MessageKind::Reply => PubKind::Normal,
                },
                offset_message_id: places.next().unwrap_or_default().to_owned(),
                success: stored.status == SendStatus::Ok,
            });
        }
    }

    async fn after_end_transaction(&self, event: &EndTransactionEvent<'_>) {
        self.put(Record::EndTransaction {
            timestamp: now_ms(),
            region: DEFAULT_REGION.to_owned(),
            group: event.group.to_owned(),
            topic: event.topic.to_owned(),
            message_id: event.message_id.to_owned(),
            tags: event.tag.map(str::to_owned),
            keys: event.keys.map(str::to_owned),
            broker_addr: event.broker_addr.to_string(),
            transaction_id: event.transaction_id.to_owned(),
            state: match event.outcome {
                TransactionOutcome::Commit => "COMMIT_MESSAGE",
                TransactionOutcome::Rollback => "ROLLBACK_MESSAGE",
                TransactionOutcome::Unknown => "UNKNOW",
            },
            from_check: event.from_check,
        });
    }
}

#[async_trait]
impl ConsumeInterceptor for Tracer {
    async fn before_consume(&self, event: &ConsumeEvent<'_>) {
        let timestamp = now_ms();
        for message in event.messages.iter().filter(|message| is_traced(message)) {
            self.put(Record::SubBefore {
                timestamp,
                region: message.property("MSG_REGION").map(str::to_owned),
                group: event.group.to_owned(),
                request_id: event.id.to_owned(),
                message_id: message.message_id().into_owned(),
                reconsume_times: message.reconsume_times(),
                keys: message.property("KEYS").map(str::to_owned),
            });
        }
    }

    async fn after_consume(&self, event: &ConsumeEvent<'_>, result: &ConsumeResult) {
        let timestamp = now_ms();
        let messages = u128::try_from(event.messages.len()).unwrap_or(1).max(1);
        for message in event.messages.iter().filter(|message| is_traced(message)) {
            self.put(Record::SubAfter {
                request_id: event.id.to_owned(),
                message_id: message.message_id().into_owned(),
                cost: result.took.as_millis() / messages,
                code: match &result.outcome {
                    Ok(true) => ContextCode::Success,
                    Ok(false) => ContextCode::Failed,
                    Err(_) => ContextCode::Exception,
                },
                keys: message.property("KEYS").map(str::to_owned),
                timestamp,
                group: event.group.to_owned(),
            });
        }
    }
}

/// A broker can say that its region is not to be traced.
fn is_traced(message: &ReceivedMessage) -> bool {
    message.property("TRACE_ON") != Some("false")
}
