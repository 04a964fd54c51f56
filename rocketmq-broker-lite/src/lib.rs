//! A complete RocketMQ broker: the wire of the Java broker, and its store files.
//!
//! [`Standalone`] is a name server and a broker in the caller's process, up and down in milliseconds: what a test or
//! a small service embeds. [`Broker`] is the broker alone. [`store`] is what lies below it.
#![deny(unsafe_code)]

mod broker;
mod config;
mod filter;
mod standalone;
pub mod store;

pub use broker::{Broker, BrokerBuilder, BrokerError, SubscriptionConflict};
pub use config::{BrokerConfig, BrokerRole, ConfigError, FlushDisk, KeyUse};
pub use rocketmq_protocol::transport::Clock;
pub use rocketmq_protocol::{RequestCode, ResponseCode};
pub use standalone::{Standalone, StandaloneBuilder, StandaloneError};
