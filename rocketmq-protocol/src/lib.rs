//! The Apache RocketMQ remoting protocol (4.x and 5.x): frames, requests, bodies and the stored message format.
//!
//! The core is pure and synchronous: bytes in, values out. With the feature `transport` come the tokio
//! [`transport::Connection`] and [`transport::Server`] that client, name server and broker share.
#![forbid(unsafe_code)]

pub mod body;
mod byte_string;
mod code;
mod fields;
mod frame;
mod header;
pub mod json;
pub mod message;
pub mod name;
pub mod request;
pub mod requests;
#[cfg(feature = "transport")]
pub mod transport;
mod units;
mod utf8;

pub use byte_string::ByteString;
pub use code::{Language, RequestCode, ResponseCode, Version};
pub use fields::{FieldValue, Fields, MalformedFields};
pub use frame::{Frame, FrameDecoder, FrameError, FrameTooLong, MAX_FRAME_BYTES};
pub use header::{Encoding, FieldWriter, HeaderError, HeaderFields};
pub use units::{LogPosition, Opaque, QueueId, QueueOffset, TagHash};
