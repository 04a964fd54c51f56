//! [`Index`]: finds messages by key, in files `ROOT/index/<17 digits>`.
//!
//! It is derived from the log and follows dispatch at its own pace, on its own thread, so it costs the append path one atomic swap.
//! Whoever asks for a key first brings the index up to date himself: a message that was acknowledged is found. Each checkpoint puts the
//! file that is being filled on disk too, so after a kill only what came later is added again; a file that no checkpoint vouches
//! for is dropped and built again from the log, in the background.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rocketmq_protocol::LogPosition;
use rocketmq_protocol::message::StoredMessageRef;
use tracing::{info, warn};

use super::commit_log::CommitLog;
use super::disk::Disk;
use super::dispatch::is_blank;
use super::error::StoreError;
use super::index_file::{Header, IndexFile, Layout, Wanted};
use super::index_key::IndexKey;
use super::index_writer::IndexWriter;
use super::options::{Clock, StoreOptions};
use super::progress::{Progress, Report};
use super::wake::Wake;

/// How long the index lets messages gather: nobody waits for it, and it need not be woken for each.
const GATHER: Duration = Duration::from_millis(100);
/// Pause before the next try when a file cannot be written.
const RETRY: Duration = Duration::from_secs(1);
/// Bytes of items that go to a file together.
const WRITE_SIZE: usize = 64 * 1024;
/// Messages after which the thread gives way: on a busy machine whoever waits for the processor gets it in between.
const GIVE_WAY_AFTER: usize = 128;
/// How long one who asks for a key, or an orderly stop, works on what the index is behind.
const CATCH_UP: Duration = Duration::from_secs(3);
/// How far the westernmost time zone is behind UTC.
const WESTERNMOST_MS: i64 = 12 * 3600 * 1000;

/// Which messages [`super::Store::query`] returns.
#[derive(Clone, Copy, Debug)]
pub struct KeyQuery<'a> {
    /// Topic they are stored under.
    pub topic: &'a str,
    /// What they were sent with.
    pub key: IndexKey<'a>,
    /// Earliest store time in ms since 1970.
    pub begin_timestamp: i64,
    /// Latest store time.
    pub end_timestamp: i64,
    /// Messages at most, the newest.
    pub max_messages: usize,
    /// Bytes of records at most; the first comes whatever its size.
    pub max_bytes: usize,
}

/// What [`super::Store::query`] found.
#[derive(Clone, Debug)]
pub struct KeyMatches {
    /// The records, oldest first.
    pub records: Vec<Bytes>,
    /// Store time of the last message in the index, in ms since 1970; 0 when it is empty.
    pub last_timestamp: i64,
    /// Where that message starts.
    pub last_position: LogPosition,
}

pub(super) struct Index {
    dir: PathBuf,
    layout: Layout,
    disk: Disk,
    clock: Clock,
    /// Held for some thousand items, or a search of the newest file.
    builder: Mutex<Builder>,
    /// Store time up to which the files are on disk.
    stored_until: AtomicI64,
    pub(super) wake: Wake,
}

struct Builder {
    /// Oldest first, without the one that is being written.
    files: Vec<IndexFile>,
    writer: Option<IndexWriter>,
    /// The message to go on with.
    position: LogPosition,
    /// How many of its keys are in.
    keys_done: usize,
    /// Files that were written and not forced to disk, oldest first.
    unsynced: Vec<IndexFile>,
}

impl Index {
    /// Loads the files, but for those that cannot be relied on.
    pub(super) fn open(
        options: &StoreOptions,
        clean: bool,
        stored_until: i64,
        log: &CommitLog,
    ) -> Result<Self, StoreError> {
        let dir = options.root.join("index");
        let layout = Layout::checked(options.index_slots, options.index_items)?;
        let log_start = log.start();
        let mut files: Vec<IndexFile> = Vec::new();
        let mut found = index_files(&dir, layout)?.into_iter();
        for path in found.by_ref() {
            let file = IndexFile::load(path, layout)?;
            // The checkpoint says which files were forced to disk.
            let whole = clean || file.header.end_timestamp <= stored_until;
            let last = file.header.end_position;
            let fits = file.header.is_empty() || last < log_start || log.record_at(last).is_some();
            if whole && fits {
                files.push(file);
                continue;
            }
            warn!(path = %file.path.display(), "dropping an index file that may be incomplete, and those behind it, to build them again");
            remove(&file.path)?;
            break;
        }
        found.try_for_each(|path| remove(&path))?;

        let mut builder =
            Builder { files, writer: None, position: log_start, keys_done: 0, unsynced: Vec::new() };
        if let Some(last) = builder.files.iter().rfind(|file| !file.header.is_empty()) {
            builder.position = last.header.end_position.max(log_start);
            if builder.position == last.header.end_position {
                builder.keys_done = builder.items_of(builder.position)?;
            }
        }
        Ok(Self {
            dir,
            layout,
            disk: options.disk.clone(),
            clock: options.clock.clone(),
            builder: Mutex::new(builder),
            stored_until: AtomicI64::new(stored_until),
            wake: Wake::default(),
        })
    }

    /// Store time up to which the index is on disk.
    pub(super) fn stored_until(&self) -> i64 {
        self.stored_until.load(Ordering::Acquire)
    }

    /// Thread: indexes what was dispatched, which `dispatched` tells.
    pub(super) fn follow(&self, log: &CommitLog, dispatched: impl Fn() -> LogPosition) {
        let (mut pause, mut failing) = (GATHER, false);
        while self.wake.wait(pause) {
            let mut progress = Progress::new(self.lock().position, Instant::now());
            let outcome = self.build(log, &dispatched, |at| {
                self.sync()?;
                if let Some(Report { bytes_per_second, remaining_bytes, remaining_seconds }) =
                    progress.report(at, dispatched(), Instant::now())
                {
                    info!(position = %at, bytes_per_second, remaining_bytes, remaining_seconds, "building the key index");
                }
                Ok(!self.wake.is_stopped())
            });
            pause = match &outcome {
                Ok(()) => GATHER,
                Err(_) => RETRY,
            };
            if let Err(error) = &outcome {
                self.wake.announce();
                if !failing {
                    warn!(
                        error = error as &dyn std::error::Error,
                        "key index cannot be written, it stays behind until it can"
                    );
                }
            } else if failing {
                info!("key index can be written again");
            }
            failing = outcome.is_err();
        }
    }

    /// Indexes what was dispatched, until it is all or `go_on` says no.
    fn build(
        &self,
        log: &CommitLog,
        dispatched: impl Fn() -> LogPosition,
        mut go_on: impl FnMut(LogPosition) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        loop {
            let mut builder = self.lock();
            builder.forget(log.start())?;
            let more = builder.build(self, log, dispatched());
            // What is in memory goes to the file even if the next file cannot be made.
            let written = builder.writer.as_mut().map_or(Ok(()), IndexWriter::write);
            let position = builder.position;
            drop(builder);
            written?;
            let more = more?;
            if !go_on(position)? || !more {
                return Ok(());
            }
        }
    }

    /// Forces finished files to disk, after which a kill does not cost them any more. Blocks, but nobody else.
    fn sync(&self) -> Result<(), StoreError> {
        let unsynced = std::mem::take(&mut self.lock().unsynced);
        for (at, file) in unsynced.iter().enumerate() {
            if let Err(error) = file.sync() {
                self.lock().unsynced.splice(..0, unsynced.iter().skip(at).cloned());
                return Err(error);
            }
            self.stored_until.fetch_max(file.header.end_timestamp, Ordering::Release);
        }
        Ok(())
    }

    /// Puts the index on disk, brought up to date before unless it is switched off: `dispatched` is `None` then. Blocks; one thread at a time.
    pub(super) fn store(&self, log: &CommitLog, dispatched: Option<LogPosition>) -> Result<(), StoreError> {
        if let Some(dispatched) = dispatched {
            self.catch_up(log, dispatched)?;
        }
        let stored = self.store_current()?;
        // Files that were finished before, or meanwhile, come before the one that is being filled now.
        self.sync()?;
        if let Some(until) = stored {
            self.stored_until.fetch_max(until, Ordering::Release);
        }
        Ok(())
    }

    /// Puts the file that is being filled on disk, in steps between which the power may go. Returns its end.
    fn store_current(&self) -> Result<Option<i64>, StoreError> {
        let unstored = |builder: &Builder| {
            let writer = builder.writer.as_ref().filter(|writer| !writer.is_stored())?;
            Some((writer.file(), writer.path().to_owned()))
        };
        let sync = |file: &fs::File, path: &Path| file.sync_data().map_err(StoreError::io("sync", path));
        // Most of it, while others go on.
        let Some((file, path)) = unstored(&self.lock()) else { return Ok(None) };
        sync(&file, &path)?;
        let mut builder = self.lock();
        let Some((file, path)) = unstored(&builder) else { return Ok(None) };
        let Some(writer) = builder.writer.as_mut() else { return Ok(None) };
        writer.count()?;
        writer.sync()?;
        let header = writer.write_slots()?;
        drop(builder);
        sync(&file, &path)?;
        // A file that got full meanwhile has a later header.
        match self.lock().writer.as_mut().filter(|writer| writer.path() == path) {
            Some(writer) => writer.store(header)?,
            None => return Ok(None),
        }
        Ok(Some(header.end_timestamp))
    }

    /// Whether the files have all that was dispatched.
    pub(super) fn is_stored(&self, dispatched: Option<LogPosition>) -> bool {
        let builder = self.lock();
        builder.unsynced.is_empty()
            && builder.writer.as_ref().is_none_or(IndexWriter::is_stored)
            && dispatched.is_none_or(|dispatched| builder.position >= dispatched)
    }

    /// Brings the index up to date, or as far as it gets in some seconds.
    fn catch_up(&self, log: &CommitLog, dispatched: LogPosition) -> Result<(), StoreError> {
        let started = Instant::now();
        self.build(log, || dispatched, |_| Ok(started.elapsed() < CATCH_UP))
    }

    /// See [`super::Store::query`].
    pub(super) fn query(
        &self,
        log: &CommitLog,
        dispatched: Option<LogPosition>,
        is_deleted: &dyn Fn(&StoredMessageRef<'_>) -> bool,
        query: KeyQuery<'_>,
    ) -> Result<KeyMatches, StoreError> {
        if let Some(Err(error)) = dispatched.map(|dispatched| self.catch_up(log, dispatched)) {
            warn!(
                error = &error as &dyn std::error::Error,
                "answering a key query from an index that is behind"
            );
        }
        let wanted = Wanted {
            hash: query.key.hash(query.topic),
            begin: query.begin_timestamp,
            end: query.end_timestamp,
        };
        let mut search = Search { log, is_deleted, query, found: Vec::new(), bytes: 0 };
        let mut visit = |position| search.visit(position);
        let builder = self.lock();
        let last = builder.last_header().copied().unwrap_or_default();
        let mut outcome = match &builder.writer {
            Some(writer) => writer.find(wanted, &mut visit)?,
            None => ControlFlow::Continue(()),
        };
        let files: Vec<IndexFile> =
            builder.files.iter().filter(|file| file.may_have(wanted.begin, wanted.end)).cloned().collect();
        drop(builder);
        for file in files.iter().rev() {
            if outcome.is_break() {
                break;
            }
            outcome = file.find(wanted, &mut visit)?;
        }
        search.found.sort_unstable_by_key(|(position, _)| *position);
        Ok(KeyMatches {
            records: search.found.into_iter().map(|(_, record)| record).collect(),
            last_timestamp: last.end_timestamp,
            last_position: last.end_position,
        })
    }

    /// A path for a new file, behind the last one. Names are times, Java's of the broker's time zone: by the westernmost one, the next file
    /// of a Java broker sorts behind ours wherever it runs.
    fn new_path(&self, last: Option<&Path>) -> PathBuf {
        let last: i64 =
            last.and_then(Path::file_name).and_then(|name| name.to_str()?.parse().ok()).unwrap_or(0);
        let name = file_name((self.clock)().saturating_sub(WESTERNMOST_MS)).max(last + 1);
        self.dir.join(format!("{name:017}"))
    }

    fn lock(&self) -> MutexGuard<'_, Builder> {
        self.builder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Builder {
    /// Indexes messages of one log file up to `end`, a write's worth of them. False if there were none.
    fn build(&mut self, index: &Index, log: &CommitLog, end: LogPosition) -> Result<bool, StoreError> {
        if self.position < log.start() {
            (self.position, self.keys_done) = (log.start(), 0);
        }
        if self.position >= end {
            return Ok(false);
        }
        let Some(file) = log.file_at(self.position) else { return Ok(false) };
        let in_file =
            |position: LogPosition| usize::try_from(position.get() - file.base().get()).unwrap_or(0);
        let readable = file.readable();
        let readable = readable.get(..in_file(end)).unwrap_or(readable);
        for number in 1_usize.. {
            let Some(rest) = readable.get(in_file(self.position)..).filter(|rest| !rest.is_empty()) else {
                break;
            };
            let size = match StoredMessageRef::parse(rest) {
                Ok(message) => {
                    self.add(index, &message)?;
                    message.total_size()
                }
                Err(_) if is_blank(rest) => log.file_size() - in_file(self.position),
                Err(_) => rest.len(), // dispatch has skipped it, aloud
            };
            (self.position, self.keys_done) = (self.position.plus(size as i64), 0);
            if self.writer.as_ref().is_some_and(|writer| writer.unwritten() >= WRITE_SIZE) {
                break;
            }
            if number % GIVE_WAY_AFTER == 0 {
                thread::yield_now();
            }
        }
        Ok(true)
    }

    fn add(&mut self, index: &Index, message: &StoredMessageRef<'_>) -> Result<(), StoreError> {
        for key in IndexKey::of(message).skip(self.keys_done) {
            self.make_room(index)?;
            if let Some(writer) = &mut self.writer {
                writer.put(key.hash(message.topic()), self.position, message.store_timestamp());
            }
            self.keys_done += 1;
        }
        Ok(())
    }

    /// Sees to it that there is a file being filled, and room in it for an item.
    fn make_room(&mut self, index: &Index) -> Result<(), StoreError> {
        let writer = match &mut self.writer {
            Some(writer) if !writer.is_full() => return Ok(()),
            Some(full) => {
                let finished = full.finish()?;
                self.unsynced.push(finished.clone());
                self.files.push(finished);
                self.writer = None;
                self.new_writer(index)?
            }
            None => match self.files.last() {
                Some(last) if !last.is_full() => {
                    let writer = IndexWriter::reopen(last, index.disk.clone())?;
                    self.files.pop();
                    writer
                }
                _ => self.new_writer(index)?,
            },
        };
        self.writer = Some(writer);
        Ok(())
    }

    fn new_writer(&self, index: &Index) -> Result<IndexWriter, StoreError> {
        let last = self.files.last();
        fs::create_dir_all(&index.dir).map_err(StoreError::io("create", &index.dir))?;
        let path = index.new_path(last.map(|last| last.path.as_path()));
        IndexWriter::create(path, index.layout, last.map(|last| &last.header), index.disk.clone())
    }

    /// How many items the message at `position` has, given that it is the last one that has any.
    fn items_of(&self, position: LogPosition) -> Result<usize, StoreError> {
        let mut count = 0;
        for file in self.files.iter().rev().filter(|file| !file.header.is_empty()) {
            let here = file.items_at_end_of(position)?;
            count += here;
            if here + 1 < file.header.next_item as usize {
                break;
            }
        }
        Ok(count)
    }

    fn last_header(&self) -> Option<&Header> {
        self.writer.as_ref().map(IndexWriter::header).or(self.files.last().map(|file| &file.header))
    }

    /// Deletes files of which the log has no message any more, but never the newest.
    fn forget(&mut self, log_start: LogPosition) -> Result<(), StoreError> {
        let spared = usize::from(self.writer.is_none());
        while let Some(oldest) = self.files.first() {
            if self.files.len() <= spared || oldest.header.end_position >= log_start {
                break;
            }
            remove(&oldest.path)?;
            self.files.remove(0);
        }
        Ok(())
    }
}

/// What a query has found so far.
struct Search<'a> {
    log: &'a CommitLog,
    is_deleted: &'a dyn Fn(&StoredMessageRef<'_>) -> bool,
    query: KeyQuery<'a>,
    found: Vec<(LogPosition, Bytes)>,
    bytes: usize,
}

impl Search<'_> {
    /// Takes the message at `position` if it is one of those asked for: another key may have the same hash.
    fn visit(&mut self, position: LogPosition) -> ControlFlow<()> {
        let query = &self.query;
        if self.found.len() >= query.max_messages {
            return ControlFlow::Break(());
        }
        // Newest first; it has the key twice, or was added again after a kill.
        if self.found.last().is_some_and(|(known, _)| *known <= position) {
            return ControlFlow::Continue(());
        }
        let Some(record) = self.log.record_at(position) else { return ControlFlow::Continue(()) };
        let is_wanted = StoredMessageRef::parse(&record).is_ok_and(|message| {
            message.topic() == query.topic
                && (query.begin_timestamp..=query.end_timestamp).contains(&message.store_timestamp())
                && IndexKey::of(&message).any(|key| key == query.key)
                && !(self.is_deleted)(&message)
        });
        if is_wanted {
            self.bytes = self.bytes.saturating_add(record.len());
            if self.bytes > query.max_bytes && !self.found.is_empty() {
                return ControlFlow::Break(());
            }
            self.found.push((position, record));
        }
        ControlFlow::Continue(())
    }
}

/// The index files in `dir` by name; empty ones, of which no more than the name was made, are deleted.
fn index_files(dir: &Path, layout: Layout) -> Result<Vec<PathBuf>, StoreError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(StoreError::io("list", dir)(source)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(StoreError::io("list", dir))?;
        let (name, path) = (entry.file_name(), entry.path());
        let metadata = entry.metadata().map_err(StoreError::io("inspect", &path))?;
        let is_index = name.len() == 17 && name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
        if !is_index || metadata.is_dir() {
            continue;
        }
        match metadata.len() {
            0 => remove(&path)?,
            found if found != layout.file_size() => {
                return Err(StoreError::FileSize { path, found, expected: layout.file_size() });
            }
            _ => files.push(path),
        }
    }
    files.sort_unstable();
    Ok(files)
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("delete", path)(error)),
        _ => Ok(()),
    }
}

/// The digits `yyyyMMddHHmmssSSS` of a time in ms since 1970.
fn file_name(time_ms: i64) -> i64 {
    let (days, ms) = (time_ms.div_euclid(86_400_000), time_ms.rem_euclid(86_400_000));
    // Years that begin in March have the leap day at their end, so that months have fixed starts. See Hinnant, "chrono-Compatible
    // Low-Level Date Algorithms".
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let date = (year.clamp(0, 9999) * 100 + month) * 100 + day;
    let time = (ms / 3_600_000 * 100 + ms / 60_000 % 60) * 100 + ms / 1000 % 60;
    (date * 1_000_000 + time) * 1000 + ms % 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_by_date_and_time() {
        for (time_ms, name) in [
            (0, 19_700_101_000_000_000),
            (951_782_399_999, 20_000_228_235_959_999),
            (951_782_400_000, 20_000_229_000_000_000),
            (1_795_257_693_651, 20_261_121_104_133_651),
            (4_107_542_400_000, 21_000_301_000_000_000),
        ] {
            assert_eq!(file_name(time_ms), name);
        }
    }
}
