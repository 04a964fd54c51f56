//! [`MappedFile`]: a commit log file of fixed size in memory, with one [`FileWriter`] and any number of readers.
//!
//! Bytes below the published length never change; readers get nothing beyond it. The mapping lives as long as
//! anybody holds the file or a slice of it, so a file may be unlinked while it is read. All its bytes are allocated on disk
//! before it is mapped, so that writing to it cannot fail for want of room.
#![allow(unsafe_code)] // The one place: memory that the kernel shares with a file.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use memmap2::{MmapOptions, MmapRaw};
use rocketmq_protocol::LogPosition;

use super::disk::Disk;
use super::error::StoreError;

/// Advice is given for whole pages; no page is larger.
const ADVICE_ALIGNMENT: usize = 64 * 1024;
/// Bytes that the kernel is told of at a time when they were read for the last time in a while.
const COOLED_AT_ONCE: usize = 1 << 20;

/// A file of the commit log, mapped.
#[derive(Debug)]
pub(super) struct MappedFile {
    path: PathBuf,
    base: LogPosition,
    map: MmapRaw,
    /// Bytes that may be read. Only the writer moves it, only upwards.
    published: AtomicUsize,
}

/// The right to append to one [`MappedFile`]. There is one per file, and it is not `Clone`.
#[derive(Debug)]
pub(super) struct FileWriter {
    file: Arc<MappedFile>,
    /// Where the next byte goes, at or behind the published length.
    at: usize,
}

impl MappedFile {
    /// Makes an empty file of `size` bytes in `dir`, named by `base`. A left-over of that name is replaced.
    pub(super) fn create(
        dir: &Path,
        base: LogPosition,
        size: usize,
        disk: &Disk,
    ) -> Result<FileWriter, StoreError> {
        let path = file_path(dir, base.get());
        // Unlinked, not truncated: if anybody still reads it, truncating would pull the memory from under them.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::io("delete", &path)(error));
            }
            _ => {}
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
        let file = file.map_err(StoreError::io("create", &path))?;
        if let Err(error) = disk.allocate(&file, &path, size as u64) {
            // Half a file would keep the room that others need, and a Java broker from starting.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        Self::map(path, base, size, 0, &file)
    }

    /// Opens a file that is complete: all its `size` bytes can be read.
    pub(super) fn open_full(path: PathBuf, base: LogPosition, size: usize) -> Result<Arc<Self>, StoreError> {
        let file =
            OpenOptions::new().read(true).write(true).open(&path).map_err(StoreError::io("open", &path))?;
        Self::map(path, base, size, size, &file).map(|writer| writer.file)
    }

    /// Opens a file to go on at `end`: what is behind it is made zero, so that nothing there can pass for a record later.
    pub(super) fn open_at(
        dir: &Path,
        base: LogPosition,
        size: usize,
        end: usize,
        disk: &Disk,
    ) -> Result<FileWriter, StoreError> {
        let path = file_path(dir, base.get());
        let file =
            OpenOptions::new().read(true).write(true).open(&path).map_err(StoreError::io("open", &path))?;
        disk.allocate(&file, &path, size as u64)?; // Java's files may be sparse
        disk.zero(&file, &path, end as u64, size as u64)?;
        Self::map(path, base, size, end, &file)
    }

    fn map(
        path: PathBuf,
        base: LogPosition,
        size: usize,
        end: usize,
        file: &File,
    ) -> Result<FileWriter, StoreError> {
        let map = MmapOptions::new().len(size).map_raw(file).map_err(StoreError::io("map", &path))?;
        let file = Arc::new(Self { path, base, map, published: AtomicUsize::new(end) });
        Ok(FileWriter { file, at: end })
    }

    /// Position of the file's first byte.
    pub(super) fn base(&self) -> LogPosition {
        self.base
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Everything that can be read now.
    pub(super) fn readable(&self) -> &[u8] {
        let published = self.published.load(Ordering::Acquire);
        // SAFETY: `published <= map.len()`: `FileWriter` checks it before each write, the constructors start at or below it.
        // Bytes below `published` are never written again: the only writer of this mapping, `FileWriter`, writes at `at >= published`
        // and publishes with Release after the bytes are there. The file is not truncated while mapped: it is ours
        // alone by the store's `lock` file, and the store only ever unlinks it.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr(), published) }
    }

    /// The bytes from `start` to `end` of the file, without a copy; `None` unless all of them can be read.
    pub(super) fn slice(self: &Arc<Self>, start: usize, end: usize) -> Option<Bytes> {
        self.readable().get(start..end)?;
        Some(Bytes::from_owner(Slice { file: Arc::clone(self), start, end }))
    }

    /// As [`MappedFile::slice`], of bytes that nobody is likely to read again soon: once somebody has read across the end of their block, they
    /// are the first to leave memory when that gets short, before the end of the log does.
    pub(super) fn slice_once(self: &Arc<Self>, start: usize, end: usize) -> Option<Bytes> {
        self.readable().get(start..end)?;
        Some(Bytes::from_owner(ReadOnce(Slice { file: Arc::clone(self), start, end })))
    }

    /// Tells the kernel that the bytes from `start` to `end` are not needed soon.
    fn cool(&self, start: usize, end: usize) {
        let Some(len) = end.min(self.map.len()).checked_sub(start) else { return };
        // SAFETY: the range is inside the mapping, which lives as long as `self`. MADV_COLD only changes the order in which the kernel
        // takes pages back; it changes no byte and unmaps nothing. A kernel before 5.4 does not know it, and nothing is lost.
        let _ = unsafe {
            rustix::mm::madvise(self.map.as_mut_ptr().add(start).cast(), len, rustix::mm::Advice::LinuxCold)
        };
    }

    /// Has the kernel provide the pages from `start` to `end`, ready to be written to, so that no append waits for them. Blocks.
    pub(super) fn warm(&self, start: usize, end: usize) {
        let start = start - start % ADVICE_ALIGNMENT;
        let Some(len) = end.min(self.map.len()).checked_sub(start) else { return };
        // SAFETY: the range is inside the mapping, which lives as long as `self`. MADV_POPULATE_WRITE brings pages in and
        // changes no byte; all of them are allocated on disk. A kernel before 5.14 does not know it, and nothing is lost.
        let _ = unsafe {
            rustix::mm::madvise(
                self.map.as_mut_ptr().add(start).cast(),
                len,
                rustix::mm::Advice::LinuxPopulateWrite,
            )
        };
    }

    /// Whether all bytes from `start` to `end` are in memory, as far as the kernel tells.
    pub(super) fn is_in_memory(&self, start: usize, end: usize) -> bool {
        let page = rustix::param::page_size();
        let start = start - start % page;
        let Some(len) = end.min(self.map.len()).checked_sub(start) else { return false };
        let mut pages = vec![0_u8; len.div_ceil(page)];
        // SAFETY: the range is inside the mapping, which lives as long as `self`, and begins at a page; `pages` has a byte for each
        // page of it, which is all that mincore(2) writes to.
        let told = unsafe { libc::mincore(self.map.as_mut_ptr().add(start).cast(), len, pages.as_mut_ptr()) };
        told == 0 && pages.iter().all(|page| page & 1 == 1)
    }

    /// Forces the bytes from `start` to `end` to disk. Blocks.
    pub(super) fn flush(&self, start: usize, end: usize) -> Result<(), StoreError> {
        self.map.flush_range(start, end.saturating_sub(start)).map_err(StoreError::io("flush", &self.path))
    }
}

impl FileWriter {
    pub(super) fn file(&self) -> &Arc<MappedFile> {
        &self.file
    }

    /// Where the next byte goes, from the file's start.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn remaining(&self) -> usize {
        self.file.map.len() - self.at
    }

    /// Copies `bytes` behind what was written. Nobody sees them before [`FileWriter::publish`].
    pub(super) fn write(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.remaining(), "the commit log checks the room first");
        // SAFETY: `at + bytes.len() <= map.len()` by the line above, so the target is inside the mapping. `&mut self` is the only writer of
        // this mapping, and no reader's slice reaches beyond `published <= at`, so nothing else refers to the target. It cannot
        // overlap `bytes`: a `&[u8]` into this mapping ends at or below `published`.
        unsafe {
            std::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                self.file.map.as_mut_ptr().add(self.at),
                bytes.len(),
            );
        }
        self.at += bytes.len();
    }

    /// Lets readers see what was written.
    pub(super) fn publish(&mut self) {
        self.file.published.store(self.at, Ordering::Release);
    }

    /// Ends the file: the rest, whatever it holds, counts as written.
    pub(super) fn seal(mut self) -> Arc<MappedFile> {
        self.at = self.file.map.len();
        self.publish();
        self.file
    }
}

/// What a [`Bytes`] of a mapped file keeps alive.
struct Slice {
    file: Arc<MappedFile>,
    start: usize,
    end: usize,
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        self.file.readable().get(self.start..self.end).unwrap_or_default()
    }
}

/// A [`Slice`] that is read for the last time in a while.
struct ReadOnce(Slice);

impl AsRef<[u8]> for ReadOnce {
    fn as_ref(&self) -> &[u8] {
        self.0.as_ref()
    }
}

impl Drop for ReadOnce {
    fn drop(&mut self) {
        // A call for each slice would cost more than sending it: whoever reads across the end of a block speaks for all of it.
        let block = |at: usize| at - at % COOLED_AT_ONCE;
        let (start, end) = (block(self.0.start), block(self.0.end));
        if start < end {
            self.0.file.cool(start, end);
        }
    }
}

/// Path of a file named by the position of its first byte, 20 decimal digits. Java: `store/util/UtilAll.offset2FileName`.
pub(super) fn file_path(dir: &Path, base: i64) -> PathBuf {
    dir.join(format!("{base:020}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty_file(dir: &Path) -> FileWriter {
        MappedFile::create(dir, LogPosition::new(4096), 4096, &Disk::default()).unwrap()
    }

    #[test]
    fn a_new_file_has_its_whole_size_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let writer = empty_file(dir.path());
        let metadata = std::fs::metadata(dir.path().join("00000000000000004096")).unwrap();
        assert_eq!(metadata.len(), 4096);
        assert!(std::os::unix::fs::MetadataExt::blocks(&metadata) * 512 >= 4096);
        assert_eq!(writer.remaining(), 4096);
    }

    #[test]
    fn readers_see_what_is_published_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = empty_file(dir.path());
        writer.write(b"abc");
        assert_eq!(writer.file().readable(), b"");
        writer.publish();
        writer.write(b"def");
        assert_eq!(writer.file().readable(), b"abc");
        assert_eq!(writer.file().slice(1, 3).unwrap(), &b"bc"[..]);
        assert_eq!(writer.file().slice(1, 4), None);
    }

    #[test]
    fn a_slice_outlives_the_file_and_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = empty_file(dir.path());
        writer.write(b"abc");
        writer.publish();
        let slice = writer.file().slice(0, 3).unwrap();
        std::fs::remove_file(writer.file().path()).unwrap();
        drop(writer);
        assert_eq!(slice, &b"abc"[..]);
    }

    /// KiB of a mapping that the kernel takes for in use.
    fn in_use(file: &MappedFile) -> u64 {
        let start = format!("{:x}-", file.map.as_ptr() as usize);
        let mappings = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mapping = mappings.lines().skip_while(|line| !line.starts_with(&start));
        let line = mapping.into_iter().find_map(|line| line.strip_prefix("Referenced:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn warm_pages_are_in_memory_and_hold_what_they_held() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = MappedFile::create(dir.path(), LogPosition::ZERO, 1 << 20, &Disk::default()).unwrap();
        file.write(b"abc");
        file.publish();
        file.file().warm(0, 1 << 20);
        file.file().warm(1 << 20, 2 << 20);
        assert!(file.file().is_in_memory(0, 1 << 20));
        assert_eq!(file.file().readable(), b"abc");
    }

    #[test]
    fn what_is_read_once_is_the_first_to_leave_memory() {
        const SIZE: usize = 1 << 20;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("00000000000000000000");
        std::fs::write(&path, vec![7; SIZE]).unwrap();
        File::open(&path).unwrap().sync_all().unwrap(); // what is old is on disk
        let file = MappedFile::open_full(path, LogPosition::ZERO, SIZE).unwrap();
        let sum = |bytes: Bytes| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
        assert_eq!(sum(file.slice(0, SIZE).unwrap()), 7 * SIZE as u64);
        let before = in_use(&file);
        assert_eq!(sum(file.slice_once(SIZE / 4 + 5, SIZE).unwrap()), 7 * (SIZE - SIZE / 4 - 5) as u64);
        let after = in_use(&file);
        assert!(after < before, "{before} KiB before, {after} KiB after");
        assert_eq!(sum(file.slice(0, SIZE).unwrap()), 7 * SIZE as u64);
        assert!(file.slice_once(1, SIZE + 1).is_none());
    }

    #[test]
    fn a_full_disk_is_an_error_and_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::default();
        disk.set_full(true);
        let error = MappedFile::create(dir.path(), LogPosition::ZERO, 4096, &disk).unwrap_err();
        assert!(matches!(error, StoreError::DiskFull { needed: 4096, available: 0, .. }), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_lies_behind_the_end_of_a_reopened_file_is_cleared() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("00000000000000000000"), [7; 8192]).unwrap();
        let writer =
            MappedFile::open_at(dir.path(), LogPosition::ZERO, 8192, 5000, &Disk::default()).unwrap();
        assert_eq!(writer.file().readable(), [7; 5000]);
        let file = writer.seal();
        assert_eq!(file.readable().get(5000..), Some(&[0; 3192][..]));
    }
}
