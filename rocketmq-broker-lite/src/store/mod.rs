//! The message store: commit log, consume queues and what keeps them right, in the files of the Java broker.
//!
//! Data flows one way: append, commit log, dispatch, consume queue and arrival listeners, read. The store knows
//! topics, queues and records; it knows nothing of the network. See [`Store`].

mod arrival;
mod config_file;
mod disk;
mod error;
mod message_store;
mod options;
mod read;

pub use arrival::Arrival;
pub use config_file::{ConfigFile, ConfigFileError};
pub use disk::Disk;
pub use error::{AppendError, FlushError, StoreError};
pub use message_store::{Appended, QueueRange, Store};
pub use options::{Clock, FlushMode, StoreOptions};
pub use read::{ReadLimits, ReadOutcome, ReadStatus, TimeBoundary};
