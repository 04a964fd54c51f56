//! What can go wrong in the store, one enum per boundary.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rocketmq_protocol::LogPosition;

/// The store cannot be opened, read or closed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file operation failed.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The disk has no room for a file that must be wholly there before it is used.
    #[error("disk full: {path} needs {needed} bytes, {available} are free")]
    DiskFull {
        /// The file that could not be allocated.
        path: PathBuf,
        /// Its size.
        needed: u64,
        /// What the file system has left.
        available: u64,
    },
    /// Another process has the store open.
    #[error(
        "the store {root} is in use by another broker (its file `lock` is locked); stop that one or choose another folder"
    )]
    InUse {
        /// The store's root folder.
        root: PathBuf,
    },
    /// A file has not the configured size: the store was made with another setting, or the file is damaged.
    #[error(
        "{path} is {found} bytes long, not {expected}: set the file size this store was made with, or move the file away"
    )]
    FileSize {
        /// The file.
        path: PathBuf,
        /// Its length.
        found: u64,
        /// The configured size.
        expected: u64,
    },
    /// The files of the commit log do not follow each other.
    #[error("the commit log ends at {expected} before {path}: a file between them is missing")]
    Gap {
        /// The first file behind the gap.
        path: PathBuf,
        /// The position it should start at.
        expected: LogPosition,
    },
    /// The disk lost what was appended behind `position`; only reopening the store shows what is left.
    #[error("the commit log behind {position} could not be flushed earlier; reopen the store")]
    FlushFailed {
        /// What is before is on disk.
        position: LogPosition,
    },
    /// An option that cannot work.
    #[error("{option} = {value}: {reason}")]
    Option {
        /// Its name.
        option: &'static str,
        /// What it was set to.
        value: u64,
        /// What it must be.
        reason: &'static str,
    },
}

impl StoreError {
    /// Names the action and the path of an [`io::Error`]: `map_err(StoreError::io("open", &path))`.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// A record was not appended; nothing of it is in the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The records do not fit one commit log file.
    #[error("{size} bytes do not fit a commit log file, the limit is {limit}")]
    TooLarge {
        /// Bytes of all records together.
        size: usize,
        /// Bytes that fit.
        limit: u64,
    },
    /// The bytes are not whole records, one after the other.
    #[error("not a whole record at byte {at} of {size}")]
    Malformed {
        /// Where the record starts in the buffer.
        at: usize,
        /// Length of the buffer.
        size: usize,
    },
    /// The topic cannot be the name of a folder.
    #[error("topic {topic:?} cannot name a folder")]
    Topic {
        /// The topic.
        topic: String,
    },
    /// Queue ids are not negative.
    #[error("queue id {queue_id} is negative")]
    QueueId {
        /// The queue id.
        queue_id: i32,
    },
    /// The topic's queues are of the kind `BatchCQ`, which this store reads and does not write.
    #[error(
        "topic {topic:?} has batch consume queues (queue.type=BatchCQ), which can be read here, not written"
    )]
    BatchQueue {
        /// The topic.
        topic: String,
    },
    /// There is no room for the next commit log file. Reads go on; appends do again once there is room.
    #[error("disk full: {path} needs {needed} bytes, {available} are free")]
    DiskFull {
        /// The file that could not be allocated.
        path: PathBuf,
        /// Its size.
        needed: u64,
        /// What the file system has left.
        available: u64,
    },
    /// The disk is so full that the rest of it is kept for what is not messages. Reads go on; appends do again once there is room.
    #[error(
        "the disk of {path} is {used_percent} % used, and above {limit_percent} % (diskSpaceWarningLevelRatio) no messages are taken: make room"
    )]
    DiskUsage {
        /// The folder whose disk it is.
        path: PathBuf,
        /// How full it was found to be.
        used_percent: u8,
        /// The limit.
        limit_percent: u8,
    },
    /// The next commit log file could not be made.
    #[error("no next commit log file")]
    NextFile(#[source] StoreError),
    /// The store takes no messages for now, for the reason given.
    #[error("the store is not writable: {reason}")]
    NotWritable {
        /// What happened and to which file.
        reason: String,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl AppendError {
    /// Whether the same records will never be taken, however things change.
    pub fn is_permanent(&self) -> bool {
        matches!(
            self,
            Self::TooLarge { .. }
                | Self::Malformed { .. }
                | Self::Topic { .. }
                | Self::QueueId { .. }
                | Self::BatchQueue { .. }
        )
    }
}

impl From<StoreError> for AppendError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::DiskFull { path, needed, available } => Self::DiskFull { path, needed, available },
            other => Self::NextFile(other),
        }
    }
}

/// A record is appended, but whether it is on disk is not known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlushError {
    /// The disk was too slow.
    #[error("not flushed within {waited:?}")]
    Timeout {
        /// The time limit.
        waited: Duration,
    },
    /// The disk refused: the store takes no further messages until it is reopened.
    #[error("the commit log could not be flushed")]
    Failed,
    /// The store was closed before.
    #[error("the store is closed")]
    Closed,
}
