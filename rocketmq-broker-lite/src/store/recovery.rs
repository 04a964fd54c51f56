//! Recovery: from whatever a stop, a kill or a power cut left to a log and queues that agree.
//!
//! The log decides. It is read from where everything before is known to be good, up to the first thing that is no record; what follows
//! is dropped. Every record read gets its unit in its queue again, unless it is there, and units of dropped records go.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rocketmq_protocol::LogPosition;
use rocketmq_protocol::message::{MessageError, StoredMessageRef};
use tracing::{info, warn};

use super::batch_queues::BatchQueues;
use super::checkpoint::Checkpoint;
use super::commit_log::{BLANK_HEADER, LogState};
use super::disk::Disk;
use super::dispatch::{QueueUnits, is_blank};
use super::error::StoreError;
use super::mapped_file::MappedFile;
use super::progress::{Progress, Report};
use super::queue_files::log_files;
use super::queue_table::QueueTable;

/// Bytes of units kept in memory while dispatching a long log. With many queues a write touches many files, so not too often.
const UNWRITTEN_LIMIT: u64 = 64 << 20;
/// After so many records recovery looks at the time.
const RECORDS_BETWEEN_LOOKS: u64 = 4096;

/// The files of a log, one behind the other.
pub(super) struct LogFiles {
    found: Vec<(i64, PathBuf)>,
    file_size: usize,
}

impl LogFiles {
    /// # Errors
    /// When one is missing in between, or has another size.
    pub(super) fn list(dir: &Path, file_size: usize) -> Result<Self, StoreError> {
        let found = log_files(dir, file_size as u64)?;
        for pair in found.windows(2) {
            if let [(base, _), (next, path)] = pair {
                let expected = base.saturating_add(file_size as i64);
                if *next != expected {
                    return Err(StoreError::Gap { path: path.clone(), expected: LogPosition::new(expected) });
                }
            }
        }
        Ok(Self { found, file_size })
    }

    /// Between what positions they can have records.
    pub(super) fn extent(&self) -> Range<LogPosition> {
        let (start, end) = match (self.found.first(), self.found.last()) {
            (Some((first, _)), Some((last, _))) => (*first, last.saturating_add(self.file_size as i64)),
            _ => (0, 0),
        };
        LogPosition::new(start)..LogPosition::new(end)
    }
}

/// What recovery works on.
pub(super) struct Recovery<'a> {
    pub(super) dir: &'a Path,
    pub(super) file_size: usize,
    pub(super) disk: &'a Disk,
    pub(super) queues: &'a QueueTable,
    pub(super) batch_queues: &'a mut BatchQueues,
    pub(super) queue_units: &'a QueueUnits,
    /// Where the last record with a unit starts, over all queues.
    pub(super) last_unit: Option<LogPosition>,
    pub(super) checkpoint: Checkpoint,
    /// Whether the last run ended in order.
    pub(super) clean: bool,
    pub(super) check_crc: bool,
}

/// What recovery found out.
pub(super) struct Recovered {
    pub(super) log: LogState,
    /// The units of every record before it are on disk.
    pub(super) queued_until: LogPosition,
    /// Start of the last record, if any was read.
    pub(super) last_position: Option<LogPosition>,
}

/// Where and why reading the log ended.
struct Cut {
    /// Bytes of the file that are good.
    at: usize,
    /// What is wrong with the bytes that follow; nothing, if they are zeros.
    damage: Option<Damage>,
}

/// Why bytes are no record of this log.
#[derive(Debug, thiserror::Error)]
enum Damage {
    #[error(transparent)]
    Message(#[from] MessageError),
    #[error("the record says it is at position {0}")]
    Elsewhere(LogPosition),
    #[error("the body does not match its checksum")]
    Checksum,
}

/// What reading the log has come to.
struct Scan {
    /// Records before this one are in the queues already.
    dispatch_from: LogPosition,
    /// Whether it began at the beginning of the log.
    all: bool,
    /// A queue lacks units of records from before.
    lacking: bool,
    last: Option<(LogPosition, i64)>,
    records: u64,
    progress: Progress,
    /// Where the last file ends.
    extent: LogPosition,
}

impl Recovery<'_> {
    /// Recovers a log of these files, which the queues were loaded for.
    pub(super) fn run(mut self, files: &LogFiles) -> Result<Recovered, StoreError> {
        let (start_file, start) = self.start(files)?;
        match self.read(files, start_file, start)? {
            Some(recovered) => Ok(recovered),
            None => {
                let beginning = files.extent().start;
                warn!(
                    from = %beginning,
                    "consume queues lack units of older messages, reading the whole commit log"
                );
                let recovered = self.read(files, 0, beginning)?;
                Ok(recovered.expect("nothing is older than the log's start"))
            }
        }
    }

    /// Reads the log from `start` on; `None` if the queues turn out to need what is before.
    fn read(
        &mut self,
        log_files: &LogFiles,
        start_file: usize,
        start: LogPosition,
    ) -> Result<Option<Recovered>, StoreError> {
        let found = &log_files.found;
        let mut files: VecDeque<Arc<MappedFile>> = VecDeque::with_capacity(found.len());
        let mut current = None;
        let extent = log_files.extent();
        let mut end = extent.start.get();
        let mut scan = Scan {
            dispatch_from: start,
            all: start_file == 0 && start == extent.start,
            lacking: false,
            last: None,
            records: 0,
            progress: Progress::new(start, Instant::now()),
            extent: extent.end,
        };

        let mut rest = found.iter().enumerate();
        for (index, &(base, ref path)) in rest.by_ref() {
            let file = MappedFile::open_full(path.clone(), LogPosition::new(base), self.file_size)?;
            let from = start.get().max(base) - base;
            if index < start_file {
                files.push_back(file);
                end = base + self.file_size as i64;
                continue;
            }
            let outcome = self.scan(&file, usize::try_from(from).unwrap_or(0), &mut scan)?;
            if scan.lacking {
                return Ok(None);
            }
            match outcome {
                None => {
                    end = base + self.file_size as i64;
                    files.push_back(file);
                }
                Some(cut) => {
                    end = base + cut.at as i64;
                    if let Some(damage) = &cut.damage {
                        warn!(path = %file.path().display(), position = end, reason = %damage, "the commit log ends in a damaged record, dropping it and what follows");
                    }
                    drop(file); // remapped: what is behind the end may be written again
                    let base = LogPosition::new(base);
                    let writer = MappedFile::open_at(self.dir, base, self.file_size, cut.at, self.disk)?;
                    files.push_back(Arc::clone(writer.file()));
                    current = Some(writer);
                    break;
                }
            }
        }
        for (_, (_, path)) in rest {
            delete_behind_end(path)?;
        }
        let end = LogPosition::new(end);
        let log_start = files.front().map_or(end, |file| file.base());
        if self.last_unit >= Some(end) {
            self.queues.truncate(end)?;
        }
        self.queues.settle(log_start)?;
        self.batch_queues.fit(log_start, end)?;
        if !self.clean {
            info!(records = scan.records, from = %start, log_end = %end, "commit log recovered");
        }
        let last_timestamp = scan.last.map_or(0, |(_, timestamp)| timestamp);
        let log = LogState { files, current, end, last_timestamp };
        Ok(Some(Recovered {
            log,
            queued_until: start,
            last_position: scan.last.map(|(position, _)| position),
        }))
    }

    /// Where to start reading: file and position. Queues need nothing from before it.
    fn start(&self, files: &LogFiles) -> Result<(usize, LogPosition), StoreError> {
        let beginning = (0, files.extent().start);
        // Without any queue unit all of the log is read, so that removing the folder of the queues rebuilds them.
        let Some(last_queued) = self.last_unit else { return Ok(beginning) };
        if self.queues.is_damaged() || self.batch_queues.are_lacking() {
            return Ok(beginning);
        }
        for (index, (base, path)) in files.found.iter().enumerate().rev() {
            let base = LogPosition::new(*base);
            let file = MappedFile::open_full(path.clone(), base, self.file_size)?;
            let Ok(first) = StoredMessageRef::parse(file.readable()) else { continue };
            if first.physical_offset() != base || first.store_timestamp() == 0 {
                continue;
            }
            if !self.clean {
                if first.store_timestamp() <= self.checkpoint.recovered_until() {
                    return Ok((index, base));
                }
            } else if base <= last_queued {
                // An orderly stop wrote all units, so the last of them names a good record, if it is one.
                let in_file = usize::try_from(last_queued.get() - base.get()).unwrap_or(0);
                let record = file.readable().get(in_file..).map(StoredMessageRef::parse);
                let good = matches!(record, Some(Ok(message)) if message.physical_offset() == last_queued);
                return Ok((index, if good { last_queued } else { base }));
            }
        }
        Ok(beginning)
    }

    /// Reads the records of a file from byte `at` on. `None` if the log goes on in the next file.
    fn scan(&mut self, file: &MappedFile, mut at: usize, scan: &mut Scan) -> Result<Option<Cut>, StoreError> {
        let bytes = file.readable();
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let position = file.base().plus(at as i64);
            if is_blank(rest) {
                return Ok(None);
            }
            let message = match self.record(rest, position) {
                Ok(message) => message,
                Err(damage) => {
                    let nothing = rest.iter().take(BLANK_HEADER).all(|byte| *byte == 0);
                    return Ok(Some(Cut { at, damage: (!nothing).then_some(damage) }));
                }
            };
            if position >= scan.dispatch_from {
                scan.lacking |= !scan.all && self.lacks_older(&message);
                if scan.lacking {
                    return Ok(None);
                }
                self.dispatch(&message)?;
            }
            scan.last = Some((position, message.store_timestamp()));
            scan.records += 1;
            at += message.total_size();
            if scan.records % RECORDS_BETWEEN_LOOKS == 0 {
                scan.tell(file.base().plus(at as i64));
            }
        }
        Ok(None)
    }

    fn record<'b>(&self, bytes: &'b [u8], position: LogPosition) -> Result<StoredMessageRef<'b>, Damage> {
        let message = StoredMessageRef::parse(bytes)?;
        if message.physical_offset() != position {
            return Err(Damage::Elsewhere(message.physical_offset()));
        }
        if self.check_crc && !message.crc_matches() {
            return Err(Damage::Checksum);
        }
        Ok(message)
    }

    /// Whether messages between the end of a queue and this one are missing in it.
    fn lacks_older(&self, message: &StoredMessageRef<'_>) -> bool {
        let end = || self.queues.find(message.topic(), message.queue_id()).map_or(0, |queue| queue.max());
        self.queue_units.of(message).is_some()
            && !self.batch_queues.are_for(message)
            && message.queue_offset().get() > end()
    }

    fn dispatch(&mut self, message: &StoredMessageRef<'_>) -> Result<(), StoreError> {
        if let Some(unit) = self.queue_units.of(message) {
            if self.batch_queues.are_for(message) {
                return self.batch_queues.put(message, unit);
            }
            self.last_unit = self.last_unit.max(Some(unit.position));
            self.queues.put(message.topic(), message.queue_id(), message.queue_offset(), unit);
            if self.queues.unwritten_bytes() > UNWRITTEN_LIMIT {
                self.queues.write(true)?;
            }
        }
        Ok(())
    }
}

impl Scan {
    fn tell(&mut self, at: LogPosition) {
        if let Some(Report { bytes_per_second, remaining_bytes, remaining_seconds }) =
            self.progress.report(at, self.extent, Instant::now())
        {
            let records = self.records;
            info!(position = %at, records, bytes_per_second, remaining_bytes, remaining_seconds, "recovering the commit log");
        }
    }
}

/// Deletes a file behind the log's end: made ahead of need, or cut off.
fn delete_behind_end(path: &Path) -> Result<(), StoreError> {
    let mut head = [0; BLANK_HEADER];
    File::open(path).and_then(|mut file| file.read_exact(&mut head)).map_err(StoreError::io("read", path))?;
    if head != [0; BLANK_HEADER] {
        warn!(path = %path.display(), "dropping a file behind the end of the commit log");
    }
    fs::remove_file(path).map_err(StoreError::io("delete", path))
}
