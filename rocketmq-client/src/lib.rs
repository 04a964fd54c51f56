//! A client for Apache RocketMQ 4.x and 5.x over the remoting protocol: producers and consumers for async Rust.
//!
//! A [`Client`] owns routes, connections and heartbeats; producers and consumers built from the same one share them.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::expect_used, clippy::unreachable))]

mod broker_requests;
mod client;
mod connections;
mod consumer;
mod deadline;
mod discovery;
mod error;
mod heartbeat;
mod members;
mod message;
mod name_server;
mod queue_offsets;
mod received_message;
mod route;
mod route_table;
mod single_flight;

pub use client::{Client, ClientBuilder};
pub use consumer::{Filter, PullConsumer, PullConsumerBuilder, PullOutcome, PullRequest};
pub use error::{Attempt, Error, NameServerFailure};
pub use message::{Delay, Message, MessageBuilder};
pub use received_message::ReceivedMessage;
