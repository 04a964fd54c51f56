//! The message format: what the commit log stores and what a pull answers, byte for byte the same.
//!
//! [`NewMessage`] is encoded into a record, [`StoredMessageRef`] looks at one without copying, [`StoredMessage`] owns
//! one by sharing the buffer it came in.

pub mod batch;
mod compression;
mod error;
mod hex;
mod host;
mod inner_batch;
mod lz4_frame;
mod new_message;
mod offset_message_id;
mod properties;
pub mod property;
mod reader;
mod recall_handle;
pub mod stored;
mod stored_message;
mod sys_flag;
mod tag_hash;
mod unique_key;

pub use compression::{Compression, CompressionError};
pub use error::MessageError;
pub use inner_batch::InnerMessages;
pub use new_message::NewMessage;
pub use offset_message_id::{OffsetMessageId, OffsetMessageIds};
pub use properties::{Pairs, Properties, PropertiesBuilder, PropertiesRef, RawPairs};
pub use recall_handle::RecallHandle;
pub use stored::StoredMessageRef;
pub use stored_message::{StoredMessage, StoredMessages};
pub use sys_flag::SysFlag;
pub use tag_hash::{java_string_hash, java_string_hash_on, tag_hash};
pub use unique_key::UniqueKeyGenerator;
