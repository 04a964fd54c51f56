//! [`Producer`]: sends messages.

mod batch;
mod builder;
mod in_flight;
mod options;
mod outgoing;
mod receipt;
mod selector;
mod send;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use rocketmq_protocol::ByteString;

use crate::deadline::Deadline;
use crate::membership::Membership;
use crate::{Client, Error, Message};

pub use batch::BatchSplitter;
pub use builder::ProducerBuilder;
pub use options::SendOptions;
pub use receipt::{BatchReceipt, SendReceipt, SendStatus};
pub use selector::{MessageQueueSelector, SelectByHash, SelectByRandom};

use builder::Settings;
use in_flight::InFlight;

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
}

impl Producer {
    /// Sets up a producer in `group`.
    pub fn builder(group: impl Into<String>) -> ProducerBuilder {
        ProducerBuilder::new(group.into())
    }

    /// The group.
    pub fn group(&self) -> &str {
        &self.shared.group
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
    pub async fn send_with(&self, message: Message, options: SendOptions) -> Result<SendReceipt, Error> {
        let deadline = self.deadline(&options);
        message.validate(self.shared.settings.max_message_size)?;
        let _permit = self.shared.in_flight.enter(message.body.len(), deadline).await?;
        let outgoing = self.shared.prepare(&message).await?;
        let choice = self.shared.choose(&options.target, &message, deadline).await?;
        self.shared.deliver(&outgoing, choice, deadline).await.map(|sent| sent.into_receipt(&outgoing))
    }

    /// Sends a message without waiting for an answer: it is on its way when this returns, and nobody will tell whether it
    /// arrives. Brokers that cannot be connected to are passed over.
    ///
    /// # Errors
    /// As [`Producer::send`], short of what brokers would say.
    pub async fn send_oneway(&self, message: Message) -> Result<(), Error> {
        let deadline = self.deadline(&SendOptions::default());
        message.validate(self.shared.settings.max_message_size)?;
        let _permit = self.shared.in_flight.enter(message.body.len(), deadline).await?;
        let outgoing = self.shared.prepare(&message).await?;
        self.shared.deliver_oneway(&outgoing, deadline).await
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
        let deadline = self.deadline(&SendOptions::default());
        let keys = &self.shared.client.core().unique_keys;
        let batch = batch::encode(messages, keys, self.shared.settings.max_message_size)?;
        let _permit = self.shared.in_flight.enter(batch.outgoing.body.len(), deadline).await?;
        let sent = self.shared.deliver(&batch.outgoing, send::Choice::Turn, deadline).await?;
        Ok(sent.into_batch_receipt(batch))
    }

    /// Waits for the sends under way, up to the send timeout, leaves the group, and stops the client if it is the
    /// producer's own. Later sends fail. May be called again.
    pub async fn shutdown(&self) {
        self.shared.in_flight.close(self.shared.settings.send_timeout).await;
        self.shared.membership.leave().await;
        if self.shared.owns_client {
            self.shared.client.shutdown().await;
        }
    }

    fn deadline(&self, options: &SendOptions) -> Deadline {
        Deadline::after(options.timeout.unwrap_or(self.shared.settings.send_timeout))
    }
}
