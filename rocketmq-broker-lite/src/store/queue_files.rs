//! [`QueueFiles`]: the files of all consume queues, of which a bounded number is open at a time.
//!
//! `ROOT/consumequeue/<topic>/<queue id>/<20 digits>`: files of one size, sparse, named by the byte offset of their first unit. They
//! are read and written by position, not mapped: a queue that is not in use costs no handle and no address space.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rocketmq_protocol::QueueId;

use super::disk::Disk;
use super::error::StoreError;
use super::mapped_file::file_path;
use super::unit::{UNIT_SIZE, Unit};

/// More files than this are synced by syncing their file system once.
const SYNC_ONE_BY_ONE: usize = 64;

/// Which queue.
#[derive(Clone, Debug)]
pub(super) struct QueueName {
    /// Unique among the queues of this process: a cheap key.
    pub(super) number: u32,
    pub(super) topic: Arc<str>,
    pub(super) queue_id: QueueId,
}

#[derive(Debug)]
pub(super) struct QueueFiles {
    root: PathBuf,
    file_size: i64,
    disk: Disk,
    capacity: usize,
    /// Held for a lookup or an insert, not during reads and writes.
    open: Mutex<OpenFiles>,
    /// Written since the last sync.
    unsynced: Mutex<HashSet<PathBuf>>,
}

#[derive(Debug, Default)]
struct OpenFiles {
    files: HashMap<(u32, i64), (Arc<File>, u64)>,
    uses: u64,
}

impl QueueFiles {
    pub(super) fn new(root: PathBuf, file_size: u64, capacity: usize, disk: Disk) -> Self {
        let file_size =
            i64::try_from(file_size.div_ceil(UNIT_SIZE as u64)).unwrap_or(i64::MAX / 32) * UNIT_SIZE as i64;
        Self {
            root,
            file_size,
            disk,
            capacity: capacity.max(1),
            open: Mutex::default(),
            unsynced: Mutex::default(),
        }
    }

    /// The folder of all queues.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Units in one file.
    pub(super) fn units_per_file(&self) -> i64 {
        self.file_size / UNIT_SIZE as i64
    }

    /// The first unit of the file that holds `unit`.
    pub(super) fn file_start(&self, unit: i64) -> i64 {
        unit - unit.rem_euclid(self.units_per_file())
    }

    /// Reads whole units from `unit` on into `units`, within one file; returns how many. None where there is no file.
    pub(super) fn read(&self, queue: &QueueName, unit: i64, units: &mut [u8]) -> Result<usize, StoreError> {
        let start = self.file_start(unit);
        let Some(file) = self.open(queue, start, false)? else { return Ok(0) };
        let left_in_file = bytes_of(start + self.units_per_file() - unit);
        let wanted = units.len().min(usize::try_from(left_in_file).unwrap_or(usize::MAX));
        let mut filled = 0;
        while let Some(rest) = units.get_mut(filled..wanted).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, bytes_of(unit - start) + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(StoreError::io("read", &self.path(queue, start))(source)),
            }
        }
        Ok(filled / UNIT_SIZE)
    }

    /// Writes whole units from `unit` on, into as many files as they take.
    pub(super) fn write(&self, queue: &QueueName, mut unit: i64, mut units: &[u8]) -> Result<(), StoreError> {
        while !units.is_empty() {
            let start = self.file_start(unit);
            let left_in_file = usize::try_from(start + self.units_per_file() - unit).unwrap_or(usize::MAX);
            let (now, later) = units.split_at(units.len().min(left_in_file.saturating_mul(UNIT_SIZE)));
            self.write_in_file(queue, start, unit, now)?;
            unit += (now.len() / UNIT_SIZE) as i64;
            units = later;
        }
        Ok(())
    }

    fn write_in_file(
        &self,
        queue: &QueueName,
        start: i64,
        unit: i64,
        units: &[u8],
    ) -> Result<(), StoreError> {
        let path = self.path(queue, start);
        let file = match self.open(queue, start, false)? {
            Some(file) => file,
            None => {
                let file = self.open(queue, start, true)?;
                let file =
                    file.ok_or_else(|| StoreError::io("create", &path)(io::ErrorKind::NotFound.into()))?;
                // A queue that starts in the middle of a file: the units before it must not read as the end of the queue.
                let blank = Unit::BLANK.encode().repeat(usize::try_from(unit - start).unwrap_or(0));
                if let Err(source) = self.disk.write_at(&file, &blank, 0) {
                    lock(&self.open).files.remove(&(queue.number, start));
                    let _ = fs::remove_file(&path); // the next try starts over
                    return Err(StoreError::io("write", &path)(source));
                }
                file
            }
        };
        self.disk.write_at(&file, units, bytes_of(unit - start)).map_err(StoreError::io("write", &path))?;
        lock(&self.unsynced).insert(path);
        Ok(())
    }

    /// Whether any file was written since the last [`QueueFiles::sync`].
    pub(super) fn is_synced(&self) -> bool {
        lock(&self.unsynced).is_empty()
    }

    /// Forces what was written to disk.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        let paths = std::mem::take(&mut *lock(&self.unsynced));
        let outcome = if paths.len() > SYNC_ONE_BY_ONE {
            File::open(&self.root)
                .and_then(|dir| Ok(rustix::fs::syncfs(dir)?))
                .map_err(StoreError::io("sync", &self.root))
        } else {
            paths.iter().try_for_each(|path| match File::open(path).and_then(|file| file.sync_data()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(StoreError::io("sync", path)(error))
                }
                _ => Ok(()), // deleted since
            })
        };
        if outcome.is_err() {
            lock(&self.unsynced).extend(paths);
        }
        outcome
    }

    /// First and last file of a queue, as their first units; checks that all have their size.
    pub(super) fn extent(&self, queue: &QueueName) -> Result<Option<(i64, i64)>, StoreError> {
        let files = log_files(&self.dir(queue), self.file_size.unsigned_abs())?;
        let first_unit = |(base, _): &(i64, PathBuf)| base / UNIT_SIZE as i64;
        Ok(files.first().map(first_unit).zip(files.last().map(first_unit)))
    }

    /// Removes every unit from `unit` on, of which the last may be in the file that starts with the unit `last`.
    pub(super) fn truncate(&self, queue: &QueueName, unit: i64, last: i64) -> Result<(), StoreError> {
        let kept = self.file_start(unit);
        let mut start = last;
        while start >= kept {
            let path = self.path(queue, start);
            if start > kept || start == unit {
                self.delete(queue, start)?;
            } else if let Some(file) = self.open(queue, start, false)? {
                // Cut and grown again, the file reads as zeros behind the cut.
                file.set_len(bytes_of(unit - start))
                    .and_then(|()| file.set_len(self.file_size.unsigned_abs()))
                    .map_err(StoreError::io("truncate", &path))?;
            }
            start -= self.units_per_file();
        }
        Ok(())
    }

    /// Deletes the files from the one that starts with the unit `from` on, up to that of `to`, which stays.
    pub(super) fn delete_before(&self, queue: &QueueName, from: i64, to: i64) -> Result<usize, StoreError> {
        let mut deleted = 0;
        let mut start = self.file_start(from);
        while start < self.file_start(to) {
            deleted += usize::from(self.delete(queue, start)?);
            start += self.units_per_file();
        }
        Ok(deleted)
    }

    /// Deletes a file; false if there is none. Who reads it goes on.
    fn delete(&self, queue: &QueueName, start: i64) -> Result<bool, StoreError> {
        let path = self.path(queue, start);
        let removed = fs::remove_file(&path);
        lock(&self.open).files.remove(&(queue.number, start));
        match removed {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(StoreError::io("delete", &path)(source)),
        }
    }

    /// Deletes all of a queue, and the folder of its topic with the last one.
    pub(super) fn remove(&self, queue: &QueueName) -> Result<(), StoreError> {
        lock(&self.open).files.retain(|(number, _), _| *number != queue.number);
        let dir = self.dir(queue);
        fs::remove_dir_all(&dir).map_err(StoreError::io("delete", &dir))?;
        let topic = self.root.join(&*queue.topic);
        match fs::remove_dir(&topic) {
            Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => {
                Err(StoreError::io("delete", &topic)(error))
            }
            _ => Ok(()),
        }
    }

    fn open(&self, queue: &QueueName, start: i64, create: bool) -> Result<Option<Arc<File>>, StoreError> {
        let key = (queue.number, start);
        {
            let mut open = lock(&self.open);
            open.uses += 1;
            let now = open.uses;
            if let Some((file, used)) = open.files.get_mut(&key) {
                *used = now;
                return Ok(Some(Arc::clone(file)));
            }
        }
        let path = self.path(queue, start);
        let file = if create {
            let dir = self.dir(queue);
            fs::create_dir_all(&dir).map_err(StoreError::io("create", &dir))?;
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path);
            let file = file.map_err(StoreError::io("create", &path))?;
            file.set_len(self.file_size.unsigned_abs()).map_err(StoreError::io("extend", &path))?;
            file
        } else {
            match OpenOptions::new().read(true).write(true).open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(source) => return Err(StoreError::io("open", &path)(source)),
            }
        };
        let file = Arc::new(file);
        let mut open = lock(&self.open);
        if open.files.len() >= self.capacity {
            let longest_unused = open.files.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| *key);
            longest_unused.map(|key| open.files.remove(&key));
        }
        let now = open.uses;
        open.files.insert(key, (Arc::clone(&file), now));
        Ok(Some(file))
    }

    fn dir(&self, queue: &QueueName) -> PathBuf {
        self.root.join(&*queue.topic).join(queue.queue_id.to_string())
    }

    fn path(&self, queue: &QueueName, start: i64) -> PathBuf {
        file_path(&self.dir(queue), start * UNIT_SIZE as i64)
    }
}

fn bytes_of(units: i64) -> u64 {
    units.unsigned_abs() * UNIT_SIZE as u64
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The files in `dir` by base, each `file_size` long: a last one that is empty is deleted, any other length is an error. Folders and
/// names that are not numbers are left alone. Java: `store/MappedFileQueue.java`, `doLoad`.
pub(super) fn log_files(dir: &Path, file_size: u64) -> Result<Vec<(i64, PathBuf)>, StoreError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(StoreError::io("list", dir)(source)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(StoreError::io("list", dir))?;
        let metadata = entry.metadata().map_err(StoreError::io("inspect", &entry.path()))?;
        let base =
            entry.file_name().to_str().and_then(|name| name.parse::<i64>().ok()).filter(|base| *base >= 0);
        if let (false, Some(base)) = (metadata.is_dir(), base) {
            files.push((base, entry.path(), metadata.len()));
        }
    }
    files.sort_unstable();
    if let Some((_, path, 0)) = files.last() {
        fs::remove_file(path).map_err(StoreError::io("delete", path))?;
        files.pop();
    }
    let sized = |(base, path, found)| match found == file_size {
        true => Ok((base, path)),
        false => Err(StoreError::FileSize { path, found, expected: file_size }),
    };
    files.into_iter().map(sized).collect()
}
