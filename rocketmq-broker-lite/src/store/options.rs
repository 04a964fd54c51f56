//! [`StoreOptions`]: where the store lives, how big its files are, when it syncs.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::cleaning::CleaningRules;
use super::disk::Disk;
use super::error::StoreError;

/// Tells the time, in ms since 1970. Everything in the store that stamps or compares times asks this.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// When an appended record is forced to disk. Java: `flushDiskType`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlushMode {
    /// In the background (`ASYNC_FLUSH`): a killed process loses nothing, a power cut loses the last moments.
    #[default]
    Async,
    /// As soon as it is appended (`SYNC_FLUSH`): whoever awaits [`super::Store::flushed`] has it on disk.
    Sync,
}

/// How a [`super::Store`] is laid out and behaves. The file sizes must be those the store was made with.
#[derive(Clone)]
#[non_exhaustive]
pub struct StoreOptions {
    /// Root folder. Java: `storePathRootDir`.
    pub root: PathBuf,
    /// Folder of the commit log. Java: `storePathCommitLog`; default `root/commitlog`.
    pub commit_log_dir: PathBuf,
    /// Bytes of one commit log file. Java: `mappedFileSizeCommitLog`; default 1 GiB.
    pub commit_log_file_size: u64,
    /// The end of the log that should stay in memory: what is read from further back makes way first. Default 256 MiB.
    pub hot_log_bytes: u64,
    /// Bytes of one consume queue file, rounded up to whole units of 20. Java: `mappedFileSizeConsumeQueue`; default 6,000,000.
    pub consume_queue_file_size: u64,
    /// Bytes of one batch consume queue file, rounded up to whole units of 46. Java: `mapperFileSizeBatchConsumeQueue`; default 13,800,000.
    pub batch_queue_file_size: u64,
    /// Topics of which the queues are such, as the configuration has it: if one has lost its folder, opening the store makes it again
    /// from the log. Java: the topic's attribute `queue.type`; default none.
    pub batch_topics: Vec<String>,
    /// Whether messages get into the index, by which they are found by key. Java: `messageIndexEnable`; default true.
    pub index: bool,
    /// Hash slots of one index file. Java: `maxHashSlotNum`; default 5,000,000. The file that is being filled has them in memory,
    /// 4 bytes each.
    pub index_slots: u64,
    /// Items of one index file, one per key of a message, and one that is not used. Java: `maxIndexNum`; default 20,000,000. They have 20
    /// bytes each in a sparse file.
    pub index_items: u64,
    /// When records are forced to disk. Java: `flushDiskType`; default `Async`.
    pub flush_mode: FlushMode,
    /// How long a background flush lets appends gather. Java: `flushIntervalCommitLog`; default 500 ms.
    pub flush_interval: Duration,
    /// Pause between two writes of the consume queues. Java: `flushIntervalConsumeQueue`; default 1 s.
    pub queue_flush_interval: Duration,
    /// When every consume queue is written and synced, and the checkpoint with them: what a recovery after a kill
    /// has to read again. Java: `flushConsumeQueueThoroughInterval`; default 60 s.
    pub thorough_queue_flush_interval: Duration,
    /// How long [`super::Store::flushed`] waits. Java: `syncFlushTimeout`; default 5 s.
    pub sync_flush_timeout: Duration,
    /// How long one append may hold the log before the store calls itself busy. Java: `osPageCacheBusyTimeOutMills`; default 1 s.
    pub busy_after: Duration,
    /// Whether recovery verifies body checksums. Java: `checkCRCOnRecover`; default true.
    pub check_crc_on_recover: bool,
    /// Delay of each level, level 1 first: units of `SCHEDULE_TOPIC_XXXX` carry their due time in place of a tag hash.
    /// Java: `messageDelayLevel`; default 1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h.
    pub delay_levels: Vec<Duration>,
    /// What [`super::Store::clean`] deletes.
    pub cleaning: CleaningRules,
    /// Consume queue files kept open; default 256.
    pub open_queue_files: usize,
    /// Tells the time; default the system's.
    pub clock: Clock,
    /// Where bytes go; default the real disk.
    pub disk: Disk,
}

impl StoreOptions {
    /// The defaults of the Java broker, in the folder `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        let minutes = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 30, 60, 120].map(|minutes| minutes * 60);
        Self {
            commit_log_dir: root.join("commitlog"),
            root,
            commit_log_file_size: 1 << 30,
            hot_log_bytes: 256 << 20,
            consume_queue_file_size: 6_000_000,
            batch_queue_file_size: 13_800_000,
            batch_topics: Vec::new(),
            index: true,
            index_slots: 5_000_000,
            index_items: 20_000_000,
            flush_mode: FlushMode::Async,
            flush_interval: Duration::from_millis(500),
            queue_flush_interval: Duration::from_secs(1),
            thorough_queue_flush_interval: Duration::from_secs(60),
            sync_flush_timeout: Duration::from_secs(5),
            busy_after: Duration::from_secs(1),
            check_crc_on_recover: true,
            delay_levels: [1, 5, 10, 30].into_iter().chain(minutes).map(Duration::from_secs).collect(),
            cleaning: CleaningRules::default(),
            open_queue_files: 256,
            clock: Arc::new(system_time_ms),
            disk: Disk::default(),
        }
    }
}

impl StoreOptions {
    /// The size of a log file, if files of that size can be.
    pub(super) fn checked_log_file_size(&self) -> Result<usize, StoreError> {
        let size = self.commit_log_file_size;
        // Records say their size, and blanks what remains, in an i32.
        match usize::try_from(size) {
            Ok(bytes) if (4096..=i32::MAX as u64).contains(&size) => Ok(bytes),
            _ => Err(StoreError::Option {
                option: "commit_log_file_size (mappedFileSizeCommitLog)",
                value: size,
                reason: "it must be from 4096 to 2147483647 bytes",
            }),
        }
    }
}

fn system_time_ms() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreOptions")
            .field("root", &self.root)
            .field("commit_log_dir", &self.commit_log_dir)
            .field("commit_log_file_size", &self.commit_log_file_size)
            .field("consume_queue_file_size", &self.consume_queue_file_size)
            .field("flush_mode", &self.flush_mode)
            .finish_non_exhaustive()
    }
}
