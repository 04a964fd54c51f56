//! The Apache RocketMQ remoting protocol (4.x and 5.x): frames, requests, bodies and the stored message format.
//!
//! The core is pure and synchronous: bytes in, values out. With the feature `transport` come the tokio
//! [`transport::Connection`] and [`transport::Server`] that client, name server and broker share.
#![forbid(unsafe_code)]

mod byte_string;
mod code;
pub mod message;
mod units;

pub use byte_string::ByteString;
pub use code::{Language, RequestCode, ResponseCode, Version};
pub use units::{LogPosition, Opaque, QueueId, QueueOffset, TagHash};
