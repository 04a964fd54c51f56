//! A client for Apache RocketMQ 4.x and 5.x over the remoting protocol: producers and consumers for async Rust.
//!
//! A [`Client`] owns routes, connections and heartbeats; producers and consumers built from the same one share them.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::expect_used, clippy::unreachable))]

mod broker_requests;
mod client;
mod client_builder;
#[cfg(test)]
mod client_tests;
mod connections;
mod consumer;
mod deadline;
mod discovery;
mod error;
mod heartbeat;
mod members;
mod membership;
mod message;
mod message_query;
mod message_track;
mod name_server;
mod namespace;
mod producer;
mod queue_offsets;
mod received_message;
mod route;
mod route_table;
mod single_flight;
#[cfg(test)]
mod test_support;
mod topic_admin;
mod trace;

pub use client::Client;
pub use client_builder::ClientBuilder;
pub use consumer::{
    Ack, AllocateError, AllocateStrategy, Averagely, AveragelyByCircle, Batch, ByConfig, ByMachineRoom,
    ConsistentHash, ConsumeEvent, ConsumeFrom, ConsumeInterceptor, ConsumeResult, Deliveries, Delivery,
    Filter, HandlerError, LitePullConsumer, LitePullConsumerBuilder, MachineRoomNearby, MachineRoomResolver,
    MessageListener, OrderlyAck, OrderlyContext, OrderlyListener, PullConsumer, PullConsumerBuilder,
    PullOutcome, PullRequest, PushConsumer, PushConsumerBuilder, QueueLag, SeekTo, StreamConsumer,
    StreamConsumerBuilder, StuckQueue,
};
pub use error::{Attempt, Error, NameServerFailure};
pub use message::{Delay, Message, MessageBuilder};
pub use message_query::MessageQuery;
pub use message_track::{MessageTrack, TrackStatus};
pub use producer::{
    Accumulate, BatchReceipt, BatchSplitter, EndTransactionEvent, LatencyFault, MessageKind,
    MessageQueueSelector, Producer, ProducerBuilder, SelectByHash, SelectByMachineRoom, SelectByRandom,
    SendEvent, SendInterceptor, SendOptions, SendReceipt, SendStatus, StoredAt, Transaction,
    TransactionChecker, TransactionError, TransactionOutcome, TransactionProducer, TransactionReceipt,
};
pub use received_message::ReceivedMessage;
pub use trace::{Trace, TraceContext};

// What the signatures above are made of.
pub use rocketmq_protocol::body::{ConsumeStatus, MessageQueue, Perm, TopicConfig};
pub use rocketmq_protocol::message::{Compression, CompressionError, MessageError, Properties};
pub use rocketmq_protocol::name::NameError;
pub use rocketmq_protocol::transport::{RequestError, Retry};
pub use rocketmq_protocol::{ByteString, LogPosition, QueueId, QueueOffset, ResponseCode, Version};
