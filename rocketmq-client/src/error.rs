//! [`Error`]: what went wrong, with whom, and whether to try again.

use std::fmt::{self, Display};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rocketmq_protocol::message::MessageError;
use rocketmq_protocol::name::NameError;
use rocketmq_protocol::transport::{RequestError, Retry};
use rocketmq_protocol::{QueueId, ResponseCode, Version};

use crate::SendReceipt;

/// Why a call of the client failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody said where the name servers are.
    #[error(
        "no name server is known: give `name_servers` to the builder, set NAMESRV_ADDR, or give `name_server_url`"
    )]
    NoNameServer,
    /// The list of name servers could not be fetched over HTTP.
    #[error("no list of name servers from {url}: {reason}")]
    Discovery {
        /// Where it was asked for.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// No name server gave an answer.
    #[error("no name server answered: {}", joined(asked))]
    NameServersUnavailable {
        /// Every one that was asked, in this order.
        asked: Vec<NameServerFailure>,
    },
    /// The name servers do not know the topic.
    #[error(
        "topic {topic} does not exist: name server {name_server} has no route for it{}; create it with \
         `Client::create_topic`, or check that its brokers have registered there",
        if *auto_create_tried { " and none for TBW102 (no broker has autoCreateTopicEnable)" } else { "" }
    )]
    TopicNotFound {
        /// The topic.
        topic: String,
        /// Who said so.
        name_server: String,
        /// Whether it was also asked for the template of topics that are created by sending.
        auto_create_tried: bool,
    },
    /// The topic exists, but none of its queues can be used so.
    #[error(
        "topic {topic} has no queue that can be {wanted}: check its permission and that its masters are up"
    )]
    NoQueue {
        /// The topic.
        topic: String,
        /// `written` or `read`.
        wanted: &'static str,
    },
    /// No route names such a broker.
    #[error(
        "no route names an address for {wanted} of broker {broker}: it is down, or has not registered yet"
    )]
    BrokerNotFound {
        /// Name of the broker.
        broker: String,
        /// Which of its members: `the master`, `any member`.
        wanted: &'static str,
    },
    /// A request to one broker or name server failed.
    #[error(transparent)]
    Request(Arc<RequestError>),
    /// The time that the call had is over.
    #[error("{doing} was not done after {waited:?}")]
    Timeout {
        /// What took so long.
        doing: &'static str,
        /// How long.
        waited: Duration,
    },
    /// A message was sent but not accepted, or the answer did not arrive.
    #[error("send to {topic} failed after {elapsed:?}: {}", joined(attempts))]
    SendFailed {
        /// The topic.
        topic: String,
        /// Every attempt, in order. There is at least one.
        attempts: Vec<Attempt>,
        /// Time from the call to the end of the last one.
        elapsed: Duration,
    },
    /// The message is stored, but less safely than the broker is set up to, and that is not enough: a half message, or a
    /// producer with [`require_ok`](crate::ProducerBuilder::require_ok).
    #[error("the message to {} is stored, but not safely: {:?}", receipt.queue.topic, receipt.status)]
    NotSafelyStored {
        /// What the broker said.
        receipt: Box<SendReceipt>,
    },
    /// There is no room for another message in flight, and the producer is set up not to wait for it.
    #[error("no room: at most {messages} messages and {bytes} bytes may be in flight (max_in_flight)")]
    Overloaded {
        /// The limit of messages.
        messages: u32,
        /// The limit of bytes.
        bytes: u32,
    },
    /// The request is stored, but nobody replied in time.
    #[error("no reply to the request {message_id} to {topic} within {waited:?}")]
    NoReply {
        /// The topic.
        topic: String,
        /// Id of the request.
        message_id: String,
        /// How long.
        waited: Duration,
    },
    /// The broker is too old for what the message asks for, and would silently do something else.
    #[error("broker {broker} has version {} and cannot {what}, which takes {}", version.get(), needed.get())]
    BrokerTooOld {
        /// Name of the broker.
        broker: String,
        /// What it cannot do.
        what: &'static str,
        /// Its version, an ordinal of Java's `MQVersion`.
        version: Version,
        /// The first version that can.
        needed: Version,
    },
    /// An interceptor stopped the message.
    #[error("the message to {topic} was stopped by an interceptor: {reason}")]
    Intercepted {
        /// The topic.
        topic: String,
        /// What the interceptor said.
        reason: String,
    },
    /// The name of a topic or group is not allowed.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A message that no broker would take.
    #[error("the message to {topic} cannot be sent: {reason}")]
    InvalidMessage {
        /// The topic.
        topic: String,
        /// What is wrong, with value and limit.
        reason: String,
    },
    /// A property that cannot be written.
    #[error(transparent)]
    Format(#[from] MessageError),
    /// An argument or setting that makes no sense.
    #[error("{name}: {reason}")]
    InvalidArgument {
        /// The argument or setting.
        name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The selector chose no queue.
    #[error("the selector chose none of the {queues} queues of {topic}")]
    NoQueueSelected {
        /// The topic.
        topic: String,
        /// How many it could choose from.
        queues: usize,
    },
    /// The group is registered with this client already.
    #[error("{role} group {group} exists in client {client_id} already: use that one, or another `Client`")]
    GroupTaken {
        /// `producer` or `consumer`.
        role: &'static str,
        /// The group.
        group: String,
        /// The client.
        client_id: String,
    },
    /// A pulled message is not one.
    #[error("offset {offset} of {queue} holds a message that cannot be read")]
    Undecodable {
        /// The queue.
        queue: String,
        /// Where the unreadable message is, or the one before it.
        offset: i64,
        /// What is wrong with it.
        #[source]
        source: MessageError,
    },
    /// The offsets of a broadcasting consumer cannot be read, written, or had alone.
    #[error("offsets in {}: {reason}", folder.display())]
    LocalOffsets {
        /// Where they are.
        folder: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It was shut down.
    #[error("{what} was shut down")]
    Closed {
        /// `the client`, `the producer`, `the consumer`.
        what: &'static str,
    },
}

/// What came of asking one name server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NameServerFailure {
    /// Its address.
    pub addr: String,
    /// What it said, or why it said nothing.
    pub error: Box<Error>,
}

/// One attempt to send a message.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Attempt {
    /// Name of the broker.
    pub broker: String,
    /// The queue asked for.
    pub queue_id: QueueId,
    /// How it ended.
    pub error: Box<Error>,
    /// How long it took.
    pub took: Duration,
}

impl Error {
    /// Whether trying again makes sense.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Request(error) => error.retry(),
            Self::SendFailed { attempts, .. } => {
                if self.may_have_been_stored() {
                    Retry::MayDuplicate
                } else {
                    attempts.last().map_or(Retry::No, |attempt| attempt.error.retry())
                }
            }
            Self::NameServersUnavailable { .. }
            | Self::Discovery { .. }
            | Self::TopicNotFound { .. }
            | Self::NoQueue { .. }
            | Self::BrokerNotFound { .. }
            | Self::BrokerTooOld { .. }
            | Self::Overloaded { .. }
            | Self::Timeout { .. } => Retry::AnotherBroker,
            Self::NotSafelyStored { .. } | Self::NoReply { .. } => Retry::MayDuplicate,
            _ => Retry::No,
        }
    }

    /// Whether a request went out whose answer did not come: what it asked for may have been done.
    pub fn may_have_been_stored(&self) -> bool {
        match self {
            Self::Request(error) => error.retry() == Retry::MayDuplicate,
            Self::SendFailed { attempts, .. } => {
                attempts.iter().any(|attempt| attempt.error.may_have_been_stored())
            }
            Self::NotSafelyStored { .. } | Self::NoReply { .. } => true,
            _ => false,
        }
    }

    /// Whether time ran out.
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::Timeout { .. } | Self::NoReply { .. } => true,
            Self::Request(error) => matches!(**error, RequestError::Timeout { .. }),
            Self::SendFailed { attempts, .. } => {
                attempts.last().is_some_and(|attempt| attempt.error.is_timeout())
            }
            _ => false,
        }
    }

    /// The code of the (last) refusal.
    pub fn response_code(&self) -> Option<ResponseCode> {
        match self {
            Self::Request(error) => error.response_code(),
            Self::SendFailed { attempts, .. } => attempts.last()?.error.response_code(),
            _ => None,
        }
    }

    /// Whether a fresh route may help: the address is dead, or the broker does not hold what the route says it holds.
    pub(crate) fn doubts_route(&self) -> bool {
        match self {
            Self::Request(error) => match &**error {
                RequestError::Connect { .. } => true,
                RequestError::Refused { code, .. } => [
                    ResponseCode::TOPIC_NOT_EXIST,
                    ResponseCode::NO_PERMISSION,
                    ResponseCode::SERVICE_NOT_AVAILABLE,
                    ResponseCode::BROKER_NOT_EXIST,
                    ResponseCode::NOT_LEADER_FOR_QUEUE,
                ]
                .contains(code),
                _ => false,
            },
            Self::BrokerNotFound { .. } => true,
            _ => false,
        }
    }
}

impl From<RequestError> for Error {
    fn from(error: RequestError) -> Self {
        Self::Request(Arc::new(error))
    }
}

impl Display for NameServerFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.addr, WithCauses(&self.error))
    }
}

impl Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { broker, queue_id, error, took } = self;
        write!(f, "broker {broker}, queue {queue_id}, after {took:?}: {}", WithCauses(error))
    }
}

/// An error and what caused it, on one line: there is no `source` for a list.
struct WithCauses<'a>(&'a Error);

impl Display for WithCauses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = std::error::Error::source(self.0);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

fn joined<T: Display>(parts: &[T]) -> String {
    parts.iter().map(T::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn attempt(error: RequestError) -> Attempt {
        let took = Duration::from_millis(2);
        Attempt { broker: "broker-a".into(), queue_id: QueueId::new(3), error: Box::new(error.into()), took }
    }

    fn connect() -> RequestError {
        let source = io::Error::new(io::ErrorKind::ConnectionRefused, "refused");
        RequestError::Connect { addr: "127.0.0.1:1".into(), source }
    }

    #[test]
    fn a_failed_send_tells_every_attempt_and_its_cause() {
        let timeout =
            RequestError::Timeout { request: "SEND", addr: "h:2".into(), waited: Duration::from_secs(1) };
        let error = Error::SendFailed {
            topic: "orders".into(),
            attempts: vec![attempt(connect()), attempt(timeout)],
            elapsed: Duration::from_secs(3),
        };
        assert_eq!(
            error.to_string(),
            "send to orders failed after 3s: broker broker-a, queue 3, after 2ms: cannot connect to 127.0.0.1:1: \
             refused; broker broker-a, queue 3, after 2ms: SEND to h:2: no reply within 1s"
        );
        assert!(error.may_have_been_stored() && error.is_timeout());
        assert_eq!(error.retry(), Retry::MayDuplicate);
    }

    #[test]
    fn what_never_left_was_not_stored() {
        let error = Error::SendFailed {
            topic: "orders".into(),
            attempts: vec![attempt(connect())],
            elapsed: Duration::ZERO,
        };
        assert!(!error.may_have_been_stored());
        assert_eq!(error.retry(), Retry::AnotherBroker);
    }
}
