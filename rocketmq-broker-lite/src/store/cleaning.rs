//! Cleaning: what is too old, or too much for the disk, goes.
//!
//! Log files go whole, oldest first, never the last one, and each only once the queue units of its records are on disk: otherwise a crash
//! would take the numbers of a queue with its last messages. Queue files follow the log. Who reads a file that is deleted goes on reading:
//! its name goes first, its memory last.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rocketmq_protocol::LogPosition;
use tracing::info;
use tz::TimeZone;

use super::batch_queues::BatchQueues;
use super::commit_log::CommitLog;
use super::error::StoreError;
use super::health::Health;
use super::options::StoreOptions;
use super::queue_table::QueueTable;

/// Log files that one round deletes at most. Java: `deleteFileBatchMax`.
const BATCH: usize = 10;

/// Which log files [`super::Store::clean`] deletes, and from when on messages are refused. Usages are percentages of the disk, 100 never happens.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CleaningRules {
    /// A file expires this long after its last message was stored. Java: `fileReservedTime`; default 72 h.
    pub keep: Duration,
    /// Expired files are deleted in these hours of the day, 0 to 23, local time. Java: `deleteWhen`; default 4.
    pub hours: Vec<u8>,
    /// Above this usage, expired files are deleted at any hour. Java: `diskMaxUsedSpaceRatio`; default 75.
    pub any_hour_above: u8,
    /// Above this usage, files are deleted although they have not expired, until it is not exceeded any more; `None`: they never are.
    /// Java: `diskSpaceCleanForciblyRatio`, `cleanFileForciblyEnable`; default 85.
    pub forcibly_above: Option<u8>,
    /// Above this usage, no messages are taken. Java: `diskSpaceWarningLevelRatio`; default 90.
    pub refuse_above: u8,
}

impl Default for CleaningRules {
    fn default() -> Self {
        Self {
            keep: Duration::from_secs(72 * 3600),
            hours: vec![4],
            any_hour_above: 75,
            forcibly_above: Some(85),
            refuse_above: 90,
        }
    }
}

/// A disk that is used beyond a limit.
#[derive(Debug)]
pub(super) struct OverLimit {
    pub(super) path: PathBuf,
    pub(super) used_percent: u8,
    pub(super) limit_percent: u8,
}

/// One round.
pub(super) struct Cleaning<'a> {
    pub(super) options: &'a StoreOptions,
    /// Whether expired files go at whatever hour it is.
    pub(super) any_hour: bool,
    pub(super) log: &'a CommitLog,
    pub(super) queues: &'a QueueTable,
    pub(super) batch_queues: &'a BatchQueues,
    pub(super) health: &'a Health,
    /// Puts the units of every record before a position on disk; false if they are not all made yet.
    pub(super) sync_queues: &'a dyn Fn(LogPosition) -> Result<bool, StoreError>,
}

impl Cleaning<'_> {
    /// The queues fit a log that starts at `cleaned`.
    pub(super) fn run(&self, cleaned: &mut LogPosition) -> Result<(), StoreError> {
        let deleted = self.delete_log_files();
        let start = self.log.start();
        if start > *cleaned {
            let queue_files = self.queues.expire(start)? + self.batch_queues.expire(start)?;
            *cleaned = start;
            info!(log_start = %start, queue_files, "deleted old files");
        }
        deleted
    }

    fn delete_log_files(&self) -> Result<(), StoreError> {
        let rules = &self.options.cleaning;
        let now = (self.options.clock)();
        let keep_ms = i64::try_from(rules.keep.as_millis()).unwrap_or(i64::MAX);
        // Each file that goes may make room enough for the next one to stay.
        for _ in 0..BATCH {
            let used = self.check_usage()?;
            let Some(oldest) = self.log.oldest() else { return Ok(()) };
            let expired = oldest.newest_ms.saturating_add(keep_ms) <= now;
            let forced = rules.forcibly_above.is_some_and(|limit| used > limit);
            let hour =
                || self.any_hour || used > rules.any_hour_above || rules.hours.contains(&local_hour(now));
            if !(forced || (expired && hour())) {
                return Ok(());
            }
            if !(self.sync_queues)(oldest.end)? {
                return Ok(());
            }
            self.log.delete_oldest()?;
        }
        self.check_usage().map(drop)
    }

    /// Says to those who append whether the disk is too full; returns how full it is.
    fn check_usage(&self) -> Result<u8, StoreError> {
        let StoreOptions { root, commit_log_dir, .. } = self.options;
        let usage =
            |path: &Path| Ok::<_, StoreError>((self.options.disk.used_percent(path)?, path.to_owned()));
        let (used_percent, path) = usage(commit_log_dir)?.max(usage(root)?);
        let limit_percent = self.options.cleaning.refuse_above;
        let over = used_percent > limit_percent;
        self.health.disk_checked(over.then_some(OverLimit { path, used_percent, limit_percent }));
        Ok(used_percent)
    }
}

/// The hour of the day, where the machine is.
fn local_hour(now_ms: i64) -> u8 {
    let seconds = now_ms.div_euclid(1000);
    let zone = match std::env::var("TZ") {
        Ok(zone) => TimeZone::from_posix_tz(&zone),
        Err(_) => TimeZone::local(),
    };
    // A zone that nobody knows is UTC, as for every other program.
    let ahead = zone.ok().and_then(|zone| Some(zone.find_local_time_type(seconds).ok()?.ut_offset()));
    let hour = seconds.saturating_add(ahead.unwrap_or(0).into()).div_euclid(3600).rem_euclid(24);
    u8::try_from(hour).unwrap_or(0)
}
