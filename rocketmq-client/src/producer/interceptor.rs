//! [`SendInterceptor`]: code of the user's that runs around every send.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rocketmq_protocol::ByteString;
use rocketmq_protocol::body::MessageQueue;
use rocketmq_protocol::requests::SendReply;

use super::receipt::SendStatus;
use super::transaction::TransactionOutcome;
use crate::{Error, HandlerError, Message};

/// Runs around every send of a producer: to add properties, to refuse messages, to measure.
///
/// Interceptors run in the order they were given in, within the task and the time of the send: what takes long delays it.
#[async_trait]
pub trait SendInterceptor: Send + Sync + 'static {
    /// Before a message gets its id. It may be changed ([`Message::set_property`]); an error stops it.
    async fn before_send(&self, message: &mut Message) -> Result<(), HandlerError> {
        let _ = message;
        Ok(())
    }

    /// After the last attempt, whatever came of it. Not for one-way sends, of which nobody knows what comes.
    async fn after_send(&self, event: &SendEvent<'_>) {
        let _ = event;
    }

    /// After a transaction was ended, by its producer or by the answer to a check.
    async fn after_end_transaction(&self, event: &EndTransactionEvent<'_>) {
        let _ = event;
    }
}

/// A send that is over.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SendEvent<'a> {
    /// The producer's group.
    pub group: &'a str,
    /// What was sent: one message, or those of a batch.
    pub messages: &'a [Message],
    /// The id of each.
    pub message_ids: &'a [ByteString],
    /// What kind of message.
    pub kind: MessageKind,
    /// What came of it.
    pub result: Result<&'a StoredAt, &'a Error>,
    /// Time from the first attempt to the end of the last.
    pub took: Duration,
}

/// What kind of message is sent. Java: `client/trace/TraceBean.java`, `common/message/MessageType.java`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MessageKind {
    /// Visible at once.
    Normal,
    /// Visible when its transaction is committed.
    TransactionHalf,
    /// Visible later.
    Delayed,
    /// The reply to a request.
    Reply,
}

/// Where and how a message is stored.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoredAt {
    /// How safely.
    pub status: SendStatus,
    /// The queue.
    pub queue: MessageQueue,
    /// Address of the broker.
    pub broker_addr: SocketAddr,
    /// What the broker said.
    pub(crate) reply: SendReply,
}

/// A transaction that was ended.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct EndTransactionEvent<'a> {
    /// The producer's group.
    pub group: &'a str,
    /// Topic of the message.
    pub topic: &'a str,
    /// Its id.
    pub message_id: &'a str,
    /// Its tag.
    pub tag: Option<&'a str>,
    /// Its keys.
    pub keys: Option<&'a str>,
    /// The transaction's id, which is the message's.
    pub transaction_id: &'a str,
    /// Address of the broker.
    pub broker_addr: SocketAddr,
    /// How it ended.
    pub outcome: TransactionOutcome,
    /// Whether the broker had asked.
    pub from_check: bool,
}

/// The interceptors of a producer.
pub(super) type Interceptors = Arc<[Box<dyn SendInterceptor>]>;

/// Lets each see the message before it is sent.
pub(super) async fn before_send(
    interceptors: &[Box<dyn SendInterceptor>],
    message: &mut Message,
) -> Result<(), Error> {
    for interceptor in interceptors {
        if let Err(error) = interceptor.before_send(message).await {
            return Err(Error::Intercepted { topic: message.topic().to_owned(), reason: error.to_string() });
        }
    }
    Ok(())
}
