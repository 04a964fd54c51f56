//! [`CommitLog`]: the one place where message bytes are, in files of one size, one after the other.
//!
//! One append at a time; its lock covers taking offsets and a copy. A record never crosses a file's end: where it does not fit, a
//! blank header ends the file. The next file is made ahead of need by a thread of its own.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use rocketmq_protocol::message::{StoredMessageRef, SysFlag, stored};
use rocketmq_protocol::{LogPosition, QueueId, QueueOffset};

use super::consume_queue::ConsumeQueue;
use super::disk::Disk;
use super::error::{AppendError, StoreError};
use super::mapped_file::{FileWriter, MappedFile};
use super::message_store::Appended;
use super::options::{Clock, StoreOptions};
use super::wake::Wake;

/// Bytes of the header that ends a file: the bytes that remain, then the blank magic. Java: `store/CommitLog.java`,
/// `END_FILE_MIN_BLANK_LENGTH`.
pub(super) const BLANK_HEADER: usize = 8;
/// How far ahead of the appender pages are brought in at most, in bytes.
const WARM_AHEAD: usize = 4 * 1024 * 1024;
/// Pages are brought in so many bytes at a time: on a busy machine whoever waits for the processor gets it in between.
const WARM_AT_ONCE: usize = 64 * 1024;
/// Less than this is not worth waking a thread for.
const WARM_AT_LEAST: usize = 64 * 1024;
/// A record without topic, body and properties.
const SMALLEST_RECORD: usize = 91;

pub(super) struct CommitLog {
    dir: PathBuf,
    file_size: usize,
    /// What is this far behind the end is read to be read once.
    hot_bytes: i64,
    disk: Disk,
    clock: Clock,
    /// Oldest first, without gaps. Held for a lookup or a push.
    files: RwLock<VecDeque<Arc<MappedFile>>>,
    appender: Mutex<Appender>,
    /// Held while a file is made, so that it is made once.
    making: Mutex<()>,
    /// Where the readable log ends. Behind the bytes: who sees it can read up to it.
    end: AtomicI64,
    /// Store timestamp of the last record. Set before `end`'s next move, read before `end`.
    last_timestamp: AtomicI64,
    /// When the append that is going on took the lock; 0 when none is.
    held_since: AtomicI64,
    /// Wakes the thread that prepares what the appender will need next: pages, and the next file.
    pub(super) wanted_ahead: Wake,
}

struct Appender {
    current: Option<FileWriter>,
    /// The file after the current one.
    spare: Option<FileWriter>,
    /// Where the file after the current one starts.
    next_base: i64,
    /// Bytes of the current file that shall be warm: before the start they are, or are already asked for.
    warm: Range<usize>,
    /// Bytes appended in this run.
    appended: usize,
    closed: bool,
}

/// The file that cleaning looks at.
pub(super) struct OldestFile {
    /// Where it ends.
    pub(super) end: LogPosition,
    /// None of its records was stored later, in ms since 1970.
    pub(super) newest_ms: i64,
}

/// What recovery found.
pub(super) struct LogState {
    pub(super) files: VecDeque<Arc<MappedFile>>,
    /// The last of `files`, unless it is full.
    pub(super) current: Option<FileWriter>,
    pub(super) end: LogPosition,
    pub(super) last_timestamp: i64,
}

impl CommitLog {
    /// A log of files of `file_size` bytes.
    pub(super) fn new(options: &StoreOptions, file_size: usize, state: LogState) -> Self {
        let next_base =
            state.files.back().map_or(state.end.get(), |last| last.base().get() + file_size as i64);
        Self {
            dir: options.commit_log_dir.clone(),
            file_size,
            hot_bytes: i64::try_from(options.hot_log_bytes).unwrap_or(i64::MAX),
            disk: options.disk.clone(),
            clock: Arc::clone(&options.clock),
            files: RwLock::new(state.files),
            appender: Mutex::new(Appender {
                current: state.current,
                spare: None,
                next_base,
                warm: 0..0,
                appended: 0,
                closed: false,
            }),
            making: Mutex::default(),
            end: AtomicI64::new(state.end.get()),
            last_timestamp: AtomicI64::new(state.last_timestamp),
            held_since: AtomicI64::new(0),
            wanted_ahead: Wake::default(),
        }
    }

    /// First position there is.
    pub(super) fn start(&self) -> LogPosition {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        files.front().map_or_else(|| self.end(), |file| file.base())
    }

    /// Where the next record goes, give or take the end of a file.
    pub(super) fn end(&self) -> LogPosition {
        LogPosition::new(self.end.load(Ordering::Acquire))
    }

    pub(super) fn last_timestamp(&self) -> i64 {
        self.last_timestamp.load(Ordering::Acquire)
    }

    pub(super) fn file_size(&self) -> usize {
        self.file_size
    }

    /// Whether there is no file to append to.
    pub(super) fn is_full(&self) -> bool {
        self.lock_appender().current.is_none()
    }

    /// Whether an append has held the log for longer than `limit`.
    pub(super) fn is_held_longer_than(&self, limit: Duration) -> bool {
        let since = self.held_since.load(Ordering::Relaxed);
        let held_ms = || (self.clock)().saturating_sub(since);
        since != 0 && held_ms() > i64::try_from(limit.as_millis()).unwrap_or(i64::MAX)
    }

    /// Appends whole records of one queue, back to back in `records`, all in one file, and fills in their places.
    pub(super) fn append(&self, queue: &ConsumeQueue, records: &mut [u8]) -> Result<Appended, AppendError> {
        let count = check(queue.name.queue_id, records)?;
        if records.len() + BLANK_HEADER > self.file_size {
            let limit = self.file_size.saturating_sub(BLANK_HEADER) as u64;
            return Err(AppendError::TooLarge { size: records.len(), limit });
        }
        loop {
            let mut appender = self.lock_appender();
            if appender.closed {
                return Err(AppendError::Closed);
            }
            let now = (self.clock)();
            self.held_since.store(now, Ordering::Relaxed);
            if !appender.has_room(records.len()) {
                self.turn_over(&mut appender);
            }
            let appended = appender.write(queue, records, count, now);
            if let Some(appended) = appended {
                self.last_timestamp.store(now, Ordering::Release);
                self.end.store(appended.end.get(), Ordering::Release);
            }
            self.held_since.store(0, Ordering::Relaxed);
            let short = appender.wants_warm_pages() | (appender.spare.is_none() && appender.is_past_half());
            drop(appender);
            match appended {
                Some(appended) => {
                    if short {
                        self.wanted_ahead.announce();
                    }
                    return Ok(appended);
                }
                None => self.make_spare()?,
            }
        }
    }

    /// Goes on in the spare file, if there is one. Under the append lock.
    fn turn_over(&self, appender: &mut Appender) {
        let Some(spare) = appender.spare.take() else { return };
        if let Some(mut full) = appender.current.take() {
            let remaining = u32::try_from(full.remaining()).unwrap_or(u32::MAX);
            if full.remaining() >= BLANK_HEADER {
                full.write(&remaining.to_be_bytes());
                full.write(&stored::MAGIC_BLANK.to_be_bytes());
            }
            full.seal();
        }
        let file = Arc::clone(spare.file());
        let base = file.base().get();
        self.files.write().unwrap_or_else(PoisonError::into_inner).push_back(file);
        self.end.store(base, Ordering::Release);
        appender.next_base += self.file_size as i64;
        appender.current = Some(spare);
        appender.warm = 0..0;
    }

    /// Brings in the pages that will be written to next. Blocks.
    pub(super) fn warm_ahead(&self) {
        let (file, range) = {
            let mut appender = self.lock_appender();
            let Some(file) = appender.current.as_ref().map(|current| Arc::clone(current.file())) else {
                return;
            };
            let range = appender.warm.clone();
            appender.warm.start = range.end;
            (file, range)
        };
        let mut at = range.start;
        while at < range.end {
            // To where advice may begin, so that no step covers a part of the one before.
            let next = (at - at % WARM_AT_ONCE + WARM_AT_ONCE).min(range.end);
            file.warm(at, next);
            at = next;
            thread::yield_now();
        }
    }

    /// Makes the file after the current one, unless it is there. Blocks.
    pub(super) fn make_spare(&self) -> Result<(), StoreError> {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let base = {
            let appender = self.lock_appender();
            if appender.spare.is_some() || appender.closed {
                return Ok(());
            }
            appender.next_base
        };
        let spare = MappedFile::create(&self.dir, LogPosition::new(base), self.file_size, &self.disk)?;
        // Nobody but the holder of `making` sets the spare, so the base is still the next one.
        self.lock_appender().spare = Some(spare);
        Ok(())
    }

    /// Makes the file after the current one when the appender will soon need it. Blocks.
    pub(super) fn make_spare_if_short(&self) -> Result<(), StoreError> {
        if self.lock_appender().is_past_half() { self.make_spare() } else { Ok(()) }
    }

    /// Ends appending; the spare file goes away.
    pub(super) fn close(&self) -> Result<(), StoreError> {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let mut appender = self.lock_appender();
        appender.closed = true;
        let Some(spare) = appender.spare.take() else { return Ok(()) };
        drop(appender);
        let path = spare.file().path();
        std::fs::remove_file(path).map_err(StoreError::io("delete", path))
    }

    /// The oldest file, unless it is the last one.
    pub(super) fn oldest(&self) -> Option<OldestFile> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        let next = files.get(1)?;
        // The next file opens with the first record that is younger than all of the oldest one.
        let first = StoredMessageRef::parse(next.readable());
        let newest_ms = first.map_or_else(|_| self.last_timestamp(), |first| first.store_timestamp());
        Some(OldestFile { end: next.base(), newest_ms })
    }

    /// Deletes the oldest file. Who reads it goes on; nobody else finds it any more.
    pub(super) fn delete_oldest(&self) -> Result<(), StoreError> {
        let oldest = {
            let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
            files.front().filter(|_| files.len() > 1).map(Arc::clone)
        };
        let Some(oldest) = oldest else { return Ok(()) };
        // The name first: were it the other way round, a failure would leave a file that no longer belongs to the log.
        std::fs::remove_file(oldest.path()).map_err(StoreError::io("delete", oldest.path()))?;
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        if files.front().is_some_and(|front| Arc::ptr_eq(front, &oldest)) {
            files.pop_front();
        }
        Ok(())
    }

    /// The file that holds `position`, which may be its end if it is the last.
    pub(super) fn file_at(&self, position: LogPosition) -> Option<Arc<MappedFile>> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        let from_start = position.get().checked_sub(files.front()?.base().get())?;
        let at = usize::try_from(from_start).ok()? / self.file_size;
        files.get(at).map(Arc::clone)
    }

    /// Where the file that would hold `position` ends.
    pub(super) fn end_of_file(&self, position: LogPosition) -> LogPosition {
        let in_file = position.get().saturating_sub(self.start().get()).rem_euclid(self.file_size as i64);
        LogPosition::new(position.get().saturating_sub(in_file).saturating_add(self.file_size as i64))
    }

    /// The record at `position`, if one starts there.
    pub(super) fn record_at(&self, position: LogPosition) -> Option<Bytes> {
        let file = self.file_at(position)?;
        let start = usize::try_from(position.get() - file.base().get()).ok()?;
        let message = StoredMessageRef::parse(file.readable().get(start..)?).ok()?;
        if message.physical_offset() != position {
            return None;
        }
        self.slice(&file, start, start + message.total_size())
    }

    /// Bytes of a file, without a copy. Where whole stretches of old ones are read, the new ones keep their memory.
    pub(super) fn slice(&self, file: &Arc<MappedFile>, start: usize, end: usize) -> Option<Bytes> {
        if self.is_old(file, end) { file.slice_once(start, end) } else { file.slice(start, end) }
    }

    /// Whether any byte is far behind the end.
    pub(super) fn has_old_bytes(&self) -> bool {
        self.end().get().saturating_sub(self.start().get()) > self.hot_bytes
    }

    /// Whether the `len` bytes behind `position` are likely to be read from the disk, which takes its time.
    pub(super) fn is_cold(&self, position: LogPosition, len: usize) -> bool {
        let Some(file) = self.file_at(position) else { return false };
        let start = usize::try_from(position.get() - file.base().get()).unwrap_or(0);
        let end = start.saturating_add(len);
        self.is_old(&file, end) && !file.is_in_memory(start, end)
    }

    /// Whether the log has gone on far beyond.
    fn is_old(&self, file: &MappedFile, end: usize) -> bool {
        self.end().get().saturating_sub(file.base().get().saturating_add(end as i64)) > self.hot_bytes
    }

    /// Forces what lies between `from` and `to` to disk. Blocks.
    pub(super) fn flush(&self, from: LogPosition, to: LogPosition) -> Result<(), StoreError> {
        let mut at = from;
        while at < to {
            // Files that are deleted meanwhile need no flush.
            let Some(file) = self.file_at(at.max(self.start())) else { return Ok(()) };
            let base = file.base().get();
            let file_end = base + self.file_size as i64;
            let start = usize::try_from((at.get() - base).max(0)).unwrap_or(0);
            let end = usize::try_from(to.get().min(file_end) - base).unwrap_or(0);
            file.flush(start, end)?;
            at = LogPosition::new(file_end);
        }
        Ok(())
    }

    fn lock_appender(&self) -> MutexGuard<'_, Appender> {
        self.appender.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Appender {
    fn has_room(&self, size: usize) -> bool {
        self.current.as_ref().is_some_and(|current| size + BLANK_HEADER <= current.remaining())
    }

    /// Whether the appender comes near pages that nobody has touched yet: asked for again when half of the distance is
    /// gone. Who appends little needs no help.
    fn wants_warm_pages(&mut self) -> bool {
        let Some(current) = &self.current else { return false };
        let ahead = WARM_AHEAD.min(self.appended);
        if ahead < WARM_AT_LEAST || current.at() + ahead / 2 < self.warm.end {
            return false;
        }
        self.warm.start = self.warm.start.max(current.at());
        self.warm.end = current.at() + ahead;
        true
    }

    fn is_past_half(&self) -> bool {
        self.current.as_ref().is_none_or(|current| current.remaining() < current.at())
    }

    /// Gives the records their places and copies them in, if there is room.
    fn write(
        &mut self,
        queue: &ConsumeQueue,
        records: &mut [u8],
        count: usize,
        now: i64,
    ) -> Option<Appended> {
        if !self.has_room(records.len()) {
            return None;
        }
        let current = self.current.as_mut()?;
        let position = current.file().base().plus(current.at() as i64);
        let queue_offset = QueueOffset::new(queue.next());
        let mut next = queue_offset;
        let (mut at, mut rest) = (position, &mut *records);
        while let Some((record, following)) = split_record(rest) {
            // Prepared and rolled back messages have no place in a queue.
            let queued = is_queued(sys_flag(record));
            stored::patch(record, if queued { next } else { QueueOffset::ZERO }, at, now);
            next = next.plus(i64::from(queued));
            at = at.plus(record.len() as i64);
            rest = following;
        }
        queue.set_next(next.get());
        current.write(records);
        current.publish();
        self.appended = self.appended.saturating_add(records.len());
        Some(Appended { position, end: at, queue_offset, count, store_timestamp: now })
    }
}

/// Whether a message of that transaction state is in its consume queue. Java: `CommitLogDispatcherBuildConsumeQueue`.
pub(super) fn is_queued(sys_flag: SysFlag) -> bool {
    let transaction = sys_flag.transaction();
    transaction == SysFlag::TRANSACTION_NONE || transaction == SysFlag::TRANSACTION_COMMIT
}

/// The range of the record of `size` bytes at `position` within `file`; `None` unless one of that size starts there.
pub(super) fn record_range(file: &MappedFile, position: LogPosition, size: i32) -> Option<(usize, usize)> {
    let start = usize::try_from(position.get().checked_sub(file.base().get())?).ok()?;
    let end = start.checked_add(usize::try_from(size).ok()?)?;
    let record = file.readable().get(start..end)?;
    (*record.first_chunk()? == size.to_be_bytes()).then_some((start, end))
}

/// Checks that `records` are whole records of one queue; returns how many. What is not would end the log at the next recovery.
fn check(queue_id: QueueId, records: &[u8]) -> Result<usize, AppendError> {
    let size = records.len();
    let (mut rest, mut count) = (records, 0);
    while !rest.is_empty() {
        let malformed = || AppendError::Malformed { at: size - rest.len(), size };
        let declared = rest.first_chunk().and_then(|bytes| usize::try_from(i32::from_be_bytes(*bytes)).ok());
        let (record, following) =
            declared.and_then(|len| rest.split_at_checked(len)).ok_or_else(malformed)?;
        let field = |at: usize| {
            record.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes)
        };
        let known_magic = matches!(field(4), Some(stored::MAGIC_V1 | stored::MAGIC_V2));
        if record.len() < SMALLEST_RECORD || !known_magic || field(12) != Some(queue_id.get() as u32) {
            return Err(malformed());
        }
        count += 1;
        rest = following;
    }
    if count == 0 { Err(AppendError::Malformed { at: 0, size }) } else { Ok(count) }
}

/// Splits checked records behind the first.
fn split_record(records: &mut [u8]) -> Option<(&mut [u8], &mut [u8])> {
    let size = usize::try_from(i32::from_be_bytes(*records.first_chunk()?)).ok()?;
    records.split_at_mut_checked(size)
}

/// The system flag of a checked record.
fn sys_flag(record: &[u8]) -> SysFlag {
    let bytes = record.get(36..40).and_then(|bytes| bytes.try_into().ok());
    SysFlag::new(bytes.map_or(0, i32::from_be_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(dir: PathBuf, clock: Clock) -> CommitLog {
        let empty =
            LogState { files: VecDeque::new(), current: None, end: LogPosition::ZERO, last_timestamp: 0 };
        let mut options = StoreOptions::new("");
        (options.commit_log_dir, options.clock) = (dir, clock);
        CommitLog::new(&options, 4096, empty)
    }

    #[test]
    fn the_log_is_busy_while_one_append_holds_it_too_long() {
        let now = Arc::new(AtomicI64::new(5000));
        let clock = Arc::clone(&now);
        let log = log(PathBuf::new(), Arc::new(move || clock.load(Ordering::Relaxed)));
        let limit = Duration::from_secs(1);
        assert!(!log.is_held_longer_than(limit));
        log.held_since.store(4000, Ordering::Relaxed);
        assert!(!log.is_held_longer_than(limit));
        now.store(5001, Ordering::Relaxed);
        assert!(log.is_held_longer_than(limit));
        log.held_since.store(0, Ordering::Relaxed);
        assert!(!log.is_held_longer_than(limit));
    }

    #[test]
    fn a_spare_file_is_made_once_and_goes_away_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(dir.path().to_owned(), Arc::new(|| 0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| log.make_spare().unwrap());
            }
        });
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        log.close().unwrap();
        log.make_spare().unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
