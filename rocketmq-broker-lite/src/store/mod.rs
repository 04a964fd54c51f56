//! The message store: commit log, consume queues, key index and what keeps them right, in the files of the Java broker.
//!
//! Data flows one way: append, commit log, dispatch, consume queue, key index and arrival listeners, read. The store knows
//! topics, queues and records; it knows nothing of the network. See [`Store`].

mod arrival;
mod batch_queues;
mod batch_unit;
mod checkpoint;
mod cleaning;
mod commit_log;
mod config_file;
mod consume_queue;
mod disk;
mod dispatch;
mod error;
mod health;
mod index;
mod index_file;
mod index_key;
mod index_writer;
mod lock;
mod log_flusher;
mod mapped_file;
mod message_store;
mod options;
mod progress;
mod queue_files;
mod queue_table;
mod read;
mod recovery;
mod unit;
mod wake;

pub use arrival::Arrival;
pub use cleaning::CleaningRules;
pub use config_file::{ConfigFile, ConfigFileError};
pub use disk::Disk;
pub use error::{AppendError, FlushError, StoreError};
pub use index::{KeyMatches, KeyQuery};
pub use index_key::IndexKey;
pub use message_store::{Appended, QueueRange, Store};
pub use options::{Clock, FlushMode, StoreOptions};
pub use read::{QueueEntry, ReadLimits, ReadOutcome, ReadStatus, TimeBoundary};
