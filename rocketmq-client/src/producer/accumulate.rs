//! [`Accumulator`]: gathers single sends into batches.
//!
//! Java: `client/producer/ProduceAccumulator.java`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rocketmq_protocol::ByteString;
use rocketmq_protocol::body::MessageQueue;
use rocketmq_protocol::message::property;
use rocketmq_protocol::name::RETRY_PREFIX;
use tokio::sync::{Notify, oneshot};

use super::batch::{size, waits};
use super::interceptor::MessageKind;
use super::options::Target;
use super::{SendReceipt, Shared};
use crate::deadline::Deadline;
use crate::{Error, Message};

/// How single sends are gathered into batches; for
/// [`ProducerBuilder::accumulate`](crate::ProducerBuilder::accumulate).
///
/// Sends of one topic, tag and queue that happen within [`linger`](Self::linger) go out as one batch, each with its own
/// receipt. They fail together. What cannot be in a batch goes by itself: delayed messages, sends with a selector or a
/// timeout of their own, transactions, requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accumulate {
    linger: Duration,
    batch_bytes: usize,
    held_bytes: usize,
}

impl Default for Accumulate {
    fn default() -> Self {
        Self { linger: Duration::from_millis(10), batch_bytes: 32 * 1024, held_bytes: 32 * 1024 * 1024 }
    }
}

impl Accumulate {
    /// How long the first message of a batch waits for others, from 1 ms to 30 s. Default 10 ms.
    #[must_use]
    pub fn linger(mut self, time: Duration) -> Self {
        self.linger = time;
        self
    }

    /// A batch that has reached so many bytes goes at once, from 1 B to 2 MiB. Default 32 KiB.
    #[must_use]
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.batch_bytes = bytes;
        self
    }

    /// Bytes that wait in batches; messages beyond go by themselves. Default 32 MiB.
    #[must_use]
    pub fn held_bytes(mut self, bytes: usize) -> Self {
        self.held_bytes = bytes;
        self
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if !(Duration::from_millis(1)..=Duration::from_secs(30)).contains(&self.linger) {
            return Err(format!("linger of {:?}, allowed are 1 ms to 30 s", self.linger));
        }
        if !(1..=2 * 1024 * 1024).contains(&self.batch_bytes) {
            return Err(format!("batches of {} bytes, allowed are 1 to 2,097,152", self.batch_bytes));
        }
        if self.held_bytes == 0 {
            return Err("nothing can wait in 0 bytes".to_owned());
        }
        Ok(())
    }
}

/// Batches that are being filled.
pub(super) struct Accumulator {
    rules: Accumulate,
    /// Held to add a message or take a batch, never while sending.
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    batches: HashMap<Key, Filling>,
    /// Bytes in all of them.
    bytes: usize,
    /// Tells a batch from the one that had its key before.
    next_number: u64,
}

/// What the messages of a batch have in common.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    topic: ByteString,
    queue: Option<MessageQueue>,
    waits: bool,
    tag: Option<String>,
}

struct Filling {
    number: u64,
    messages: Vec<Message>,
    receipts: Vec<oneshot::Sender<Result<SendReceipt, Error>>>,
    bytes: usize,
    deadline: Deadline,
    /// Tells the task that waits for the linger time that it is over.
    ready: Arc<Notify>,
}

impl Accumulator {
    pub(super) fn new(rules: Accumulate) -> Self {
        Self { rules, open: Mutex::default() }
    }

    /// Whether the message may wait for others.
    pub(super) fn takes(&self, message: &Message, target: &Target) -> bool {
        matches!(target, Target::Turn | Target::Queue(_))
            && !message.is_delayed()
            && !message.topic.starts_with(RETRY_PREFIX)
            && message.property(property::PGROUP).is_none()
            && self.open().bytes.saturating_add(size(message)) <= self.rules.held_bytes
    }

    /// Sends a message with others.
    ///
    /// # Cancel safety
    /// A dropped send is sent all the same.
    pub(super) async fn send(
        &self,
        shared: &Arc<Shared>,
        mut message: Message,
        target: Target,
        deadline: Deadline,
    ) -> Result<SendReceipt, Error> {
        let _permit = shared.admit(&mut message, deadline).await?;
        let receipt = self.add(shared, message, target, deadline);
        receipt.await.unwrap_or(Err(Error::Closed { what: "the client" }))
    }

    fn add(
        &self,
        shared: &Arc<Shared>,
        message: Message,
        target: Target,
        deadline: Deadline,
    ) -> oneshot::Receiver<Result<SendReceipt, Error>> {
        let (sender, receipt) = oneshot::channel();
        let queue = if let Target::Queue(queue) = target { Some(queue) } else { None };
        let tag = message.tag().map(str::to_owned);
        let key = Key { topic: message.topic.clone(), queue, waits: waits(&message), tag };
        let bytes = size(&message);
        let mut open = self.open();
        open.bytes += bytes;
        let number = open.next_number;
        let mut is_new = false;
        let filling = open.batches.entry(key.clone()).or_insert_with(|| {
            is_new = true;
            let ready = Arc::new(Notify::new());
            Filling { number, messages: Vec::new(), receipts: Vec::new(), bytes: 0, deadline, ready }
        });
        filling.messages.push(message);
        filling.receipts.push(sender);
        filling.bytes += bytes;
        let ready = Arc::clone(&filling.ready);
        let is_full = filling.bytes > self.rules.batch_bytes;
        if is_new {
            open.next_number += 1;
            let (shared, ready) = (Arc::clone(shared), Arc::clone(&ready));
            let linger = self.rules.linger;
            // It lives as long as the sends that wait for it, at most for the linger time and a send.
            shared.client.core().clone().spawn(async move {
                drop(tokio::time::timeout(linger, ready.notified()).await);
                flush(&shared, &key, number).await;
            });
        }
        if is_full {
            ready.notify_one();
        }
        receipt
    }

    /// Lets every batch go at once.
    pub(super) fn flush_all(&self) {
        for filling in self.open().batches.values() {
            filling.ready.notify_one();
        }
    }

    /// Takes the batch out, unless another has its place already.
    fn take(&self, key: &Key, number: u64) -> Option<Filling> {
        let mut open = self.open();
        open.batches.get(key).filter(|filling| filling.number == number)?;
        let filling = open.batches.remove(key)?;
        open.bytes = open.bytes.saturating_sub(filling.bytes);
        Some(filling)
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn flush(shared: &Shared, key: &Key, number: u64) {
    let Some(filling) = shared.accumulator.as_ref().and_then(|open| open.take(key, number)) else { return };
    let Filling { mut messages, receipts, deadline, .. } = filling;
    let target = key.queue.clone().map_or(Target::Turn, Target::Queue);
    let results = match messages.pop() {
        // Alone it needs no batch, and may be compressed.
        Some(only) if messages.is_empty() => {
            let sent = shared.dispatch(&only, MessageKind::Normal, &target, deadline).await;
            sent.map(|sent| vec![sent.into_receipt(&only)])
        }
        last => {
            messages.extend(last);
            let sent = shared.dispatch_batch_admitted(messages, &target, deadline).await;
            sent.map(|(batch, sent)| sent.into_receipts(batch, &key.topic))
        }
    };
    match results {
        Ok(results) => {
            for (receipt, result) in receipts.into_iter().zip(results) {
                drop(receipt.send(Ok(result))); // given up in between
            }
        }
        Err(error) => {
            for receipt in receipts {
                drop(receipt.send(Err(error.clone())));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rocketmq_protocol::request::Request;
    use rocketmq_protocol::requests::{SendBatchMessage, SendMessage};
    use tokio::task::JoinSet;

    use super::*;
    use crate::test_support::*;
    use crate::{Delay, Producer, ResponseCode};

    fn send_all(producer: &Producer, messages: Vec<Message>) -> JoinSet<Result<SendReceipt, Error>> {
        let mut sends = JoinSet::new();
        for message in messages {
            let producer = producer.clone();
            sends.spawn(async move { producer.send(message).await });
        }
        sends
    }

    #[tokio::test]
    async fn sends_at_the_same_time_become_one_batch_with_a_receipt_each() {
        let (name_server, broker) = one_broker().await;
        let linger = Duration::from_millis(100);
        let gather = Accumulate::default().linger(linger);
        let producer = producer(&name_server).accumulate(gather).start().await.unwrap();
        let receipts =
            send_all(&producer, vec![Message::new("orders", "x"); 20]).join_all().await.into_iter();
        let mut receipts: Vec<_> = receipts.map(Result::unwrap).collect();
        assert_eq!(
            (broker.script.count(SendBatchMessage::CODE), broker.script.count(SendMessage::CODE)),
            (1, 0)
        );
        receipts.sort_by_key(|receipt| receipt.queue_offset);
        let offsets: Vec<_> = receipts.iter().map(|receipt| receipt.queue_offset.get()).collect();
        assert_eq!(offsets, (0..20).collect::<Vec<_>>());
        receipts.dedup_by(|a, b| a.message_id == b.message_id);
        assert_eq!(receipts.len(), 20);
        let accumulator = producer.shared.accumulator.as_ref().unwrap();
        assert_eq!(accumulator.open().bytes, 0);
    }

    #[tokio::test]
    async fn a_full_batch_does_not_wait_and_different_messages_do_not_mix() {
        let (name_server, broker) = one_broker().await;
        let gather = Accumulate::default().linger(Duration::from_secs(30)).batch_bytes(1000);
        let producer = producer(&name_server).accumulate(gather).start().await.unwrap();
        let tagged = |tag| Message::builder("orders").body(vec![0; 600]).tag(tag).build().unwrap();
        let messages = vec![tagged("a"), tagged("b"), tagged("a"), tagged("b")];
        for receipt in send_all(&producer, messages).join_all().await {
            receipt.unwrap();
        }
        assert_eq!(broker.script.count(SendBatchMessage::CODE), 2);
    }

    #[tokio::test]
    async fn what_cannot_be_in_a_batch_goes_by_itself_and_shutdown_waits_for_nobody() {
        let (name_server, broker) = one_broker().await;
        let gather = Accumulate::default().linger(Duration::from_secs(30));
        let producer = producer(&name_server).accumulate(gather).start().await.unwrap();
        let delayed = Message::builder("orders").body("x").delay(Delay::Level(1)).build().unwrap();
        producer.send(delayed).await.unwrap();
        let last = crate::SendOptions::new().choose(|queues, _| queues.last());
        producer.send_with(Message::new("orders", "x"), last).await.unwrap();
        assert_eq!(broker.script.count(SendMessage::CODE), 2);
        let waiting = send_all(&producer, vec![Message::new("orders", "x")]);
        let accumulator = producer.shared.accumulator.as_ref().unwrap();
        while accumulator.open().batches.is_empty() {
            tokio::task::yield_now().await;
        }
        producer.shutdown().await;
        waiting.join_all().await.pop().unwrap().unwrap();
        assert_eq!(broker.script.count(SendMessage::CODE), 3);
    }

    #[tokio::test]
    async fn a_batch_fails_for_all_its_messages() {
        let (name_server, broker) = one_broker().await;
        let gather = Accumulate::default().linger(Duration::from_millis(50));
        let producer = producer(&name_server).accumulate(gather).start().await.unwrap();
        broker.script.answer(SendBatchMessage::CODE, [Answer::Refuse(ResponseCode::MESSAGE_ILLEGAL)]);
        let receipts = send_all(&producer, vec![Message::new("orders", "x"); 3]).join_all().await;
        for receipt in receipts {
            assert_eq!(receipt.unwrap_err().response_code(), Some(ResponseCode::MESSAGE_ILLEGAL));
        }
        let refused = Accumulate::default().linger(Duration::ZERO);
        let error = super::super::Producer::builder("g").accumulate(refused).start().await.err().unwrap();
        assert!(error.to_string().contains("1 ms to 30 s"), "{error}");
    }
}
