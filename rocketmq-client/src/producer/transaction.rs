//! [`TransactionProducer`]: messages that become visible when a transaction of the user's is committed.
//!
//! Java: `DefaultMQProducerImpl.java`, `sendMessageInTransaction`, `endTransaction`. There the end is sent one-way and
//! nobody learns whether it arrived; here commits and rollbacks are answered.

use std::fmt::Debug;
use std::future::Future;
use std::net::SocketAddr;

use rocketmq_protocol::message::{OffsetMessageId, property};
use rocketmq_protocol::requests::{EndTransaction, transaction_outcome};
use rocketmq_protocol::{ByteString, LogPosition};
use tracing::warn;

use super::Producer;
use super::interceptor::{EndTransactionEvent, MessageKind};
use super::options::Target;
use super::receipt::{SendReceipt, SendStatus};
use crate::route_table::BrokerChoice;
use crate::{Error, Message};

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransactionOutcome {
    /// The message becomes visible.
    Commit,
    /// The message is never seen.
    Rollback,
    /// Not known yet: the broker asks later, and in the end, after 15 times, gives the message up.
    Unknown,
}

impl TransactionOutcome {
    pub(super) const fn wire(self) -> i32 {
        match self {
            Self::Commit => transaction_outcome::COMMIT,
            Self::Rollback => transaction_outcome::ROLLBACK,
            Self::Unknown => transaction_outcome::UNKNOWN,
        }
    }
}

/// Sends messages that become visible when a local transaction is committed: a message is sent as half a message first,
/// which nobody sees; then the local transaction runs; and its outcome decides about the message.
///
/// When the outcome does not reach the broker, because the producer was killed in between or because it is
/// [`Unknown`](TransactionOutcome::Unknown), the broker asks a producer of the group, any of them: the
/// [`TransactionChecker`](crate::TransactionChecker) answers. So it must look into storage that they share, such as the
/// database of the transaction, and not into the memory of the process.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use rocketmq_client::{Message, Producer, ReceivedMessage, TransactionOutcome};
///
/// # async fn insert(order: &str) -> Result<(), std::io::Error> { Ok(()) }
/// # async fn exists(order: Option<&str>) -> Result<bool, std::io::Error> { Ok(true) }
/// let producer = Producer::builder("order-service")
///     .name_servers(["127.0.0.1:9876"])
///     .topics(["orders"])
///     .start_transactional(|half: ReceivedMessage| async move {
///         Ok(if exists(half.keys().next()).await? {
///             TransactionOutcome::Commit
///         } else {
///             TransactionOutcome::Rollback
///         })
///     })
///     .await?;
/// let message = Message::builder("orders").body("order 42").key("42").build()?;
/// producer
///     .send_in_transaction(message, |_half| async {
///         insert("42").await?;
///         Ok::<_, std::io::Error>(TransactionOutcome::Commit)
///     })
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TransactionProducer {
    producer: Producer,
}

/// What came of a message and its transaction.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TransactionReceipt {
    /// Where the half message is stored. When it is committed, it gets another place, under the same id.
    pub half: SendReceipt,
    /// What the local transaction said.
    pub outcome: TransactionOutcome,
    /// Why the broker has not confirmed the outcome, if it has not: it may have it, and asks otherwise.
    pub unconfirmed: Option<Error>,
}

/// Why a message was not sent in a transaction, or what became of the transaction is not known.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransactionError<E> {
    /// There is no half message to rely on, so the local transaction was not run.
    #[error("the half message was not stored; the local transaction was not run")]
    NotPrepared(#[source] Error),
    /// The local transaction failed, so that its outcome is unknown. The broker will ask the checker for it.
    #[error("the local transaction failed; the checker decides about the message")]
    Local {
        /// Where the half message is stored.
        half: Box<SendReceipt>,
        /// What the local transaction said.
        #[source]
        source: E,
    },
}

impl TransactionProducer {
    pub(super) fn new(producer: Producer) -> Self {
        Self { producer }
    }

    /// The producer of the same group, for messages that are in no transaction.
    pub fn producer(&self) -> &Producer {
        &self.producer
    }

    /// Sends a half message, runs the local transaction with its receipt, and ends the message's transaction as that says.
    ///
    /// An error of the local transaction does not roll the message back: who can tell whether its commit was lost, or
    /// only the answer to it? The checker can.
    ///
    /// # Cancel safety
    /// Dropped in the middle, the outcome is unknown: the checker will be asked.
    ///
    /// # Errors
    /// See [`TransactionError`].
    pub async fn send_in_transaction<F, Fut, E>(
        &self,
        message: Message,
        local: F,
    ) -> Result<TransactionReceipt, TransactionError<E>>
    where
        F: FnOnce(SendReceipt) -> Fut,
        Fut: Future<Output = Result<TransactionOutcome, E>>,
    {
        let half = self.prepare(message).await.map_err(TransactionError::NotPrepared)?;
        match local(half.receipt.clone()).await {
            Ok(outcome) => {
                let unconfirmed = half.end(outcome).await.err();
                if let Some(error) = &unconfirmed {
                    warn!(message_id = %half.receipt.message_id, %error, "outcome not confirmed: the broker will ask");
                }
                Ok(TransactionReceipt { half: half.receipt, outcome, unconfirmed })
            }
            Err(source) => Err(TransactionError::Local { half: Box::new(half.receipt), source }),
        }
    }

    /// Sends a half message, to be committed or rolled back with what this returns.
    ///
    /// # Cancel safety
    /// As [`Producer::send`]: a half message that was stored is asked about later.
    ///
    /// # Errors
    /// As [`Producer::send`]; [`Error::NotSafelyStored`] when the broker does not vouch for the half message, which is then
    /// rolled back.
    pub async fn prepare(&self, mut message: Message) -> Result<Transaction, Error> {
        if message.is_delayed() {
            return Err(Error::InvalidMessage {
                topic: message.topic().to_owned(),
                reason: "in a transaction it cannot be delayed".into(),
            });
        }
        let shared = &self.producer.shared;
        let deadline = self.producer.deadline_of(None);
        let kind = MessageKind::TransactionHalf;
        let permit = shared.admit(&mut message, deadline).await?;
        let dispatched = shared.dispatch(&message, kind, &Target::Turn, deadline).await?;
        drop(permit);
        let stored = &dispatched.sent.stored;
        let half = Transaction {
            topic: stored.queue.topic.clone(),
            position: stored.reply.message_id.parse::<OffsetMessageId>()?.position,
            transaction_id: stored.reply.transaction_id.clone(),
            broker_addr: stored.broker_addr,
            receipt: dispatched.into_receipt(&message),
            tag: message.tag().map(ByteString::from),
            keys: message.property(property::KEYS).map(ByteString::from),
            producer: self.producer.clone(),
        };
        if half.receipt.status != SendStatus::Ok {
            half.end(TransactionOutcome::Rollback).await.ok(); // else the checker is asked, and finds nothing
            return Err(Error::NotSafelyStored { receipt: Box::new(half.receipt) });
        }
        Ok(half)
    }

    /// As [`Producer::shutdown`]. Checks that are being answered may go unanswered: the broker asks again, and others.
    pub async fn shutdown(&self) {
        self.producer.shutdown().await;
    }
}

/// A half message that waits for its end. Dropped, its outcome is unknown, and the checker is asked for it.
#[must_use = "a half message that is neither committed nor rolled back is asked about later"]
pub struct Transaction {
    receipt: SendReceipt,
    /// As the broker knows it.
    topic: ByteString,
    position: LogPosition,
    transaction_id: Option<ByteString>,
    broker_addr: SocketAddr,
    tag: Option<ByteString>,
    keys: Option<ByteString>,
    producer: Producer,
}

impl Transaction {
    /// Where the half message is stored.
    pub fn receipt(&self) -> &SendReceipt {
        &self.receipt
    }

    /// Makes the message visible, and waits until the broker says that it is.
    ///
    /// # Cancel safety
    /// As if it had been dropped: the message may have been committed, else the checker is asked.
    ///
    /// # Errors
    /// The broker could not be reached or did not answer: it may have committed, and asks otherwise.
    pub async fn commit(self) -> Result<(), Error> {
        self.end(TransactionOutcome::Commit).await
    }

    /// Makes the message go unseen.
    ///
    /// # Cancel safety
    /// As [`Transaction::commit`].
    ///
    /// # Errors
    /// As [`Transaction::commit`].
    pub async fn rollback(self) -> Result<(), Error> {
        self.end(TransactionOutcome::Rollback).await
    }

    /// Nothing is repeated whose answer did not come: brokers of Java commit as often as they are told to.
    async fn end(&self, outcome: TransactionOutcome) -> Result<(), Error> {
        let shared = &self.producer.shared;
        let broker = &self.receipt.queue.broker_name;
        let deadline = self.producer.deadline_of(None);
        let request = EndTransaction {
            topic: Some(self.topic.clone()),
            producer_group: shared.group.clone(),
            queue_offset: self.receipt.queue_offset,
            position: self.position,
            outcome: outcome.wire(),
            from_check: false,
            message_id: self.receipt.message_id.clone(),
            transaction_id: self.transaction_id.clone(),
            broker_name: Some(broker.as_str().into()),
        };
        let connection = shared.client.broker(&self.topic, broker, BrokerChoice::Master, deadline).await?;
        let ended = if outcome == TransactionOutcome::Unknown {
            connection.send_oneway(&request, deadline.left()).await // brokers don't answer that
        } else {
            connection.call(&request, deadline.left()).await.map(drop)
        };
        let event = EndTransactionEvent {
            group: shared.group(),
            topic: &self.receipt.queue.topic,
            message_id: &self.receipt.message_id,
            tag: self.tag.as_deref(),
            keys: self.keys.as_deref(),
            transaction_id: &self.receipt.message_id,
            broker_addr: self.broker_addr,
            outcome,
            from_check: false,
        };
        for interceptor in shared.interceptors.iter() {
            interceptor.after_end_transaction(&event).await;
        }
        Ok(ended?)
    }
}

impl Debug for Transaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transaction").field("receipt", &self.receipt).finish_non_exhaustive()
    }
}
