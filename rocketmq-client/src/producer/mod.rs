//! [`Producer`]: sends messages.

mod accumulate;
mod batch;
mod builder;
#[cfg(test)]
mod delivery_tests;
mod fault_table;
mod in_flight;
mod interceptor;
mod options;
mod outgoing;
mod recall;
mod receipt;
mod request_reply;
mod selector;
mod send;
#[cfg(test)]
mod tests;
mod transaction;
mod transaction_check;
#[cfg(test)]
mod transaction_tests;

use std::sync::Arc;
use std::time::Duration;

use rocketmq_protocol::ByteString;
use rocketmq_protocol::body::MessageQueue;
use tracing::warn;

use crate::deadline::Deadline;
use crate::membership::Membership;
use crate::trace::Tracer;
use crate::{Client, Error, Message};

pub use accumulate::Accumulate;
pub use batch::BatchSplitter;
pub use builder::ProducerBuilder;
pub use fault_table::LatencyFault;
pub use interceptor::{EndTransactionEvent, MessageKind, SendEvent, SendInterceptor, StoredAt};
pub use options::SendOptions;
use outgoing::compressed;
pub(crate) use outgoing::now_ms;
pub use receipt::{BatchReceipt, SendReceipt, SendStatus};
pub(crate) use request_reply::AwaitedReplies;
pub use selector::{MessageQueueSelector, SelectByHash, SelectByMachineRoom, SelectByRandom};
pub use transaction::{
    Transaction, TransactionError, TransactionOutcome, TransactionProducer, TransactionReceipt,
};
pub(crate) use transaction_check::TransactionCheck;
pub use transaction_check::TransactionChecker;

use accumulate::Accumulator;
use builder::Settings;
use fault_table::FaultTable;
use in_flight::InFlight;
use interceptor::Interceptors;

/// Sends messages. Cheap to clone; any number of tasks may send at the same time.
///
/// A send is one future: awaited it is a synchronous send, and many of them at once are pipelined over one connection per
/// broker. What is in flight is bounded ([`ProducerBuilder::max_in_flight`]): beyond that, sends wait.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use rocketmq_client::{Message, Producer};
/// use tokio::task::JoinSet;
///
/// let producer = Producer::builder("order-service").name_servers(["127.0.0.1:9876"]).start().await?;
/// let receipt = producer.send(Message::new("orders", "hello")).await?;
/// println!("{} is at {} of {}", receipt.message_id, receipt.queue_offset, receipt.queue);
///
/// let mut sends = JoinSet::new();
/// for number in 0..1000 {
///     let producer = producer.clone();
///     sends.spawn(async move { producer.send(Message::new("orders", format!("order {number}"))).await });
/// }
/// while let Some(sent) = sends.join_next().await {
///     sent??;
/// }
/// producer.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Producer {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    group: ByteString,
    client: Client,
    owns_client: bool,
    membership: Membership,
    settings: Settings,
    in_flight: InFlight,
    faults: Option<Arc<FaultTable>>,
    interceptors: Interceptors,
    accumulator: Option<Accumulator>,
    tracer: Option<Tracer>,
}

impl Producer {
    /// Sets up a producer in `group`.
    pub fn builder(group: impl Into<String>) -> ProducerBuilder {
        ProducerBuilder::new(group.into())
    }

    /// The group, in the namespace of the client if that has one.
    pub fn group(&self) -> &str {
        self.shared.group()
    }

    /// The client it sends through.
    pub fn client(&self) -> &Client {
        &self.shared.client
    }

    /// Sends a message to the next queue of its topic in turn. What one broker does not take is tried on another, within
    /// the send timeout, always under the same message id.
    ///
    /// A receipt whose [`SendStatus`] is not `Ok` is for a message that is stored, but less safely than the broker is set
    /// up to; it is up to the caller to send it again.
    ///
    /// # Cancel safety
    /// A dropped send leaves nothing behind in the client; the message may have been stored.
    ///
    /// # Errors
    /// [`Error::SendFailed`] tells every attempt. Before the first one: a message that no broker would take, a topic that
    /// does not exist, name servers that cannot be reached.
    pub async fn send(&self, message: Message) -> Result<SendReceipt, Error> {
        self.send_with(message, SendOptions::default()).await
    }

    /// Sends a message as `options` say. To a queue of the caller's choice there is one attempt, repeated only while the
    /// broker cannot be connected to or is busy: another queue would break the order.
    ///
    /// # Cancel safety
    /// As [`Producer::send`].
    ///
    /// # Errors
    /// As [`Producer::send`]; also [`Error::NoQueueSelected`].
    pub async fn send_with(&self, mut message: Message, options: SendOptions) -> Result<SendReceipt, Error> {
        let deadline = self.deadline_of(options.timeout);
        if let Some(accumulator) = self.shared.accumulator.as_ref().filter(|_| options.timeout.is_none()) {
            if accumulator.takes(&message, &options.target) {
                return Box::pin(accumulator.send(&self.shared, message, options.target, deadline)).await;
            }
        }
        let _permit = self.shared.admit(&mut message, deadline).await?;
        let sent = self.shared.dispatch(&message, MessageKind::Normal, &options.target, deadline).await?;
        Ok(sent.into_receipt(&message))
    }

    /// Sends a message without waiting for an answer: it is on its way when this returns, and nobody will tell whether it
    /// arrives. Brokers that cannot be connected to are passed over.
    ///
    /// # Errors
    /// As [`Producer::send`], short of what brokers would say.
    pub async fn send_oneway(&self, mut message: Message) -> Result<(), Error> {
        let deadline = self.deadline_of(None);
        let _permit = self.shared.admit(&mut message, deadline).await?;
        let body = compressed(&message.body, &self.shared.settings).await;
        let mut outgoing = self.shared.prepare(&message, body, MessageKind::Normal)?;
        self.shared.deliver_oneway(&mut outgoing, deadline).await
    }

    /// Sends messages as one: to one queue, at consecutive offsets, all of them or none. They have one topic, no delay and
    /// together no more than the largest message may have; [`BatchSplitter`] makes such batches.
    ///
    /// # Cancel safety
    /// As [`Producer::send`].
    ///
    /// # Errors
    /// As [`Producer::send`]; also [`Error::InvalidMessage`] for messages that do not go together.
    pub async fn send_batch(
        &self,
        messages: impl IntoIterator<Item = Message>,
    ) -> Result<BatchReceipt, Error> {
        self.send_batch_with(messages, SendOptions::default()).await
    }

    /// As [`Producer::send_batch`], with options: a selector sees the first message.
    ///
    /// # Cancel safety
    /// As [`Producer::send`].
    ///
    /// # Errors
    /// As [`Producer::send_batch`] and [`Producer::send_with`].
    pub async fn send_batch_with(
        &self,
        messages: impl IntoIterator<Item = Message>,
        options: SendOptions,
    ) -> Result<BatchReceipt, Error> {
        let deadline = self.deadline_of(options.timeout);
        let messages: Vec<_> = messages.into_iter().collect();
        let topic = messages.first().map(|first| first.topic.clone()).unwrap_or_default();
        let (batch, sent) = self.shared.dispatch_batch(messages, &options.target, deadline).await?;
        Ok(sent.into_batch_receipt(batch, &topic))
    }

    /// The queues of a topic that can be sent to.
    ///
    /// # Errors
    /// As [`Producer::send`], before its first attempt.
    pub async fn queues(&self, topic: &str) -> Result<Vec<MessageQueue>, Error> {
        self.shared.queues(&topic.into(), self.deadline_of(None)).await
    }

    /// Asks for the routes of these topics and tells their brokers of the group. What cannot be done now is done with the
    /// first send.
    async fn preload(&self, topics: &[ByteString]) {
        let core = self.shared.client.core();
        for topic in topics {
            let topic = core.namespace.wrap(topic);
            let deadline = self.shared.client.request_deadline();
            if let Err(error) =
                core.route_to_send(&topic, self.shared.settings.default_queues, deadline).await
            {
                warn!(group = self.group(), %topic, %error, "no route at the start");
            }
        }
        if !topics.is_empty() {
            core.heartbeat().await;
        }
    }

    /// Waits for the sends under way, up to the send timeout, leaves the group, and stops the client if it is the
    /// producer's own. Later sends fail. May be called again.
    pub async fn shutdown(&self) {
        if let Some(accumulator) = &self.shared.accumulator {
            accumulator.flush_all();
        }
        self.shared.in_flight.close(self.shared.settings.send_timeout).await;
        if let Some(tracer) = &self.shared.tracer {
            tracer.close().await;
        }
        self.shared.membership.leave().await;
        if self.shared.owns_client {
            self.shared.client.shutdown().await;
        }
    }

    fn deadline_of(&self, timeout: Option<Duration>) -> Deadline {
        Deadline::after(timeout.unwrap_or(self.shared.settings.send_timeout))
    }
}

impl Shared {
    fn group(&self) -> &str {
        &self.group
    }
}
