//! [`IndexWriter`]: the index file that is being filled.
//!
//! Its slots are in memory, its items go to the file as they gather; slots and header follow at each checkpoint and when it is full. What a
//! header counts can be found, and a kill at any moment costs none of it, for a Java broker either: see [`IndexWriter::count`].

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rocketmq_protocol::LogPosition;

use super::disk::Disk;
use super::error::StoreError;
use super::index_file::{
    HEADER_SIZE, Header, ITEM_SIZE, IndexFile, Item, ItemReader, Layout, SLOT_SIZE, Wanted, follow,
};

/// Bytes of slots that are written together.
const PAGE: usize = 4096;

#[derive(Debug)]
pub(super) struct IndexWriter {
    path: PathBuf,
    file: Arc<File>,
    disk: Disk,
    layout: Layout,
    header: Header,
    /// The header in the file.
    stored: Header,
    /// As they are to be in the file. Memory that no key hit is not there yet.
    slots: Vec<u8>,
    /// Which pages of `slots` the file lacks.
    changed: Vec<bool>,
    /// Items that the file lacks: the last ones.
    unwritten: Vec<u8>,
}

impl IndexWriter {
    /// Makes a file that goes on behind `previous`.
    pub(super) fn create(
        path: PathBuf,
        layout: Layout,
        previous: Option<&Header>,
        disk: Disk,
    ) -> Result<Self, StoreError> {
        // As Java has it: until the first item comes, the file begins where the one before ended.
        let (timestamp, position) =
            previous.map_or((0, LogPosition::ZERO), |header| (header.end_timestamp, header.end_position));
        let header = Header {
            begin_timestamp: timestamp,
            end_timestamp: timestamp,
            begin_position: position,
            end_position: position,
            used_slots: 0,
            next_item: 1,
        };
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
        let file = file.map_err(StoreError::io("create", &path))?;
        let made = file.set_len(layout.file_size()).and_then(|()| disk.write_at(&file, &header.encode(), 0));
        if let Err(source) = made {
            let _ = fs::remove_file(&path); // a file of the wrong size would be refused at the next start
            return Err(StoreError::io("write", &path)(source));
        }
        Ok(Self::new(path, file, disk, layout, header))
    }

    /// Goes on with a finished file that has room.
    pub(super) fn reopen(finished: &IndexFile, disk: Disk) -> Result<Self, StoreError> {
        let IndexFile { path, layout, header } = finished;
        let file =
            OpenOptions::new().read(true).write(true).open(path).map_err(StoreError::io("open", path))?;
        let mut writer = Self::new(path.clone(), file, disk, *layout, *header);
        writer.load_slots().map_err(StoreError::io("read", path))?;
        Ok(writer)
    }

    fn new(path: PathBuf, file: File, disk: Disk, layout: Layout, header: Header) -> Self {
        let slots = vec![0; layout.slots as usize * SLOT_SIZE];
        let changed = vec![false; slots.len().div_ceil(PAGE)];
        let file = Arc::new(file);
        Self { path, file, disk, layout, header, stored: header, slots, changed, unwritten: Vec::new() }
    }

    fn load_slots(&mut self) -> io::Result<()> {
        let mut page = [0; PAGE];
        let mut at = HEADER_SIZE as u64;
        for slots in self.slots.chunks_mut(PAGE) {
            let page = page.get_mut(..slots.len()).unwrap_or_default();
            self.file.read_exact_at(page, at)?;
            if page.iter().any(|byte| *byte != 0) {
                slots.copy_from_slice(page); // what is zero stays memory that is not there
            }
            at += PAGE as u64;
        }
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// To force it to disk without holding this.
    pub(super) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    /// Whether the file finds every item by itself.
    pub(super) fn is_stored(&self) -> bool {
        self.stored == self.header
    }

    pub(super) fn is_full(&self) -> bool {
        self.header.next_item >= self.layout.items
    }

    /// Bytes of items in memory.
    pub(super) fn unwritten(&self) -> usize {
        self.unwritten.len()
    }

    /// Adds an item. The file must not be full.
    pub(super) fn put(&mut self, hash: i32, position: LogPosition, timestamp: i64) {
        let Header { begin_timestamp: begin, next_item: number, .. } = self.header;
        let slot = self.layout.slot_of(hash) as usize * SLOT_SIZE;
        let Some(newest) = self.slots.get_mut(slot..slot + SLOT_SIZE) else { return };
        let known = newest.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        let previous = if known < number { known } else { 0 };
        newest.copy_from_slice(&number.to_be_bytes());
        if let Some(changed) = self.changed.get_mut(slot / PAGE) {
            *changed = true;
        }
        let seconds = if begin > 0 { timestamp.saturating_sub(begin) / 1000 } else { 0 };
        let seconds = i32::try_from(seconds.max(0)).unwrap_or(i32::MAX);
        self.unwritten.extend_from_slice(&Item { hash, position, seconds, previous }.encode());
        if number == 1 {
            (self.header.begin_timestamp, self.header.begin_position) = (timestamp, position);
        }
        self.header.used_slots += u32::from(previous == 0);
        (self.header.end_timestamp, self.header.end_position) = (timestamp, position);
        self.header.next_item += 1;
    }

    fn first_unwritten(&self) -> u32 {
        self.header.next_item - (self.unwritten.len() / ITEM_SIZE) as u32
    }

    /// Writes the items to the file.
    pub(super) fn write(&mut self) -> Result<(), StoreError> {
        if !self.unwritten.is_empty() {
            let at = self.layout.item_at(self.first_unwritten());
            let written = self.disk.write_at(&self.file, &self.unwritten, at);
            written.map_err(StoreError::io("write", &self.path))?;
            self.unwritten.clear();
        }
        Ok(())
    }

    /// Lets the file count all items, before slots name them: both brokers take a slot that names an item beyond the count for an empty
    /// one. The header still ends where it did, so whoever opens the file after a kill adds the messages behind that again.
    pub(super) fn count(&mut self) -> Result<(), StoreError> {
        self.write()?;
        let Header { end_timestamp, end_position, .. } = self.stored;
        self.store(Header { end_timestamp, end_position, ..self.header })
    }

    /// Writes the slots of what was counted. Returns the header for [`IndexWriter::store`], once the slots are where they should be.
    pub(super) fn write_slots(&mut self) -> Result<Header, StoreError> {
        let io = |source| StoreError::io("write", &self.path)(source);
        let pages = self.slots.chunks(PAGE).zip(&mut self.changed).enumerate();
        for (index, (page, changed)) in pages.filter(|(_, (_, changed))| **changed) {
            self.disk.write_at(&self.file, page, (HEADER_SIZE + index * PAGE) as u64).map_err(io)?;
            *changed = false;
        }
        Ok(self.header)
    }

    /// Writes a header.
    pub(super) fn store(&mut self, header: Header) -> Result<(), StoreError> {
        let written = self.disk.write_at(&self.file, &header.encode(), 0);
        written.map_err(StoreError::io("write", &self.path))?;
        self.stored = header;
        Ok(())
    }

    /// Forces what was written to disk. Blocks.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(StoreError::io("sync", &self.path))
    }

    /// Writes everything to the file. May be tried again, and more items may follow as long as there is room.
    pub(super) fn finish(&mut self) -> Result<IndexFile, StoreError> {
        self.count()?;
        self.sync()?;
        let header = self.write_slots()?;
        self.store(header)?;
        Ok(IndexFile { path: self.path.clone(), layout: self.layout, header })
    }

    /// Visits what the file has, newest first.
    pub(super) fn find(
        &self,
        wanted: Wanted,
        visit: &mut dyn FnMut(LogPosition) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, StoreError> {
        let slot = self.layout.slot_of(wanted.hash) as usize * SLOT_SIZE;
        let first = self.slots.get(slot..).and_then(|slots| slots.first_chunk());
        let first = first.map_or(0, |bytes| u32::from_be_bytes(*bytes));
        let mut items = ItemReader::new(&self.file, &self.path, self.layout);
        let in_file = self.first_unwritten();
        let item = |number: u32| match number.checked_sub(in_file) {
            None => items.item(number),
            Some(later) => Ok(self.unwritten.get(later as usize * ITEM_SIZE..).and_then(Item::decode)),
        };
        follow(&self.header, first, wanted, item, visit)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    const LAYOUT: Layout = Layout { slots: 3, items: 40 };

    fn writer(dir: &Path) -> IndexWriter {
        IndexWriter::create(dir.join("20260101000000000"), LAYOUT, None, Disk::default()).unwrap()
    }

    fn everything(hash: i32) -> Wanted {
        Wanted { hash, begin: 0, end: i64::MAX }
    }

    type Find<'a> =
        &'a dyn Fn(&mut dyn FnMut(LogPosition) -> ControlFlow<()>) -> Result<ControlFlow<()>, StoreError>;

    fn found(find: Find<'_>) -> Vec<i64> {
        let mut found = Vec::new();
        let visit = &mut |position: LogPosition| {
            found.push(position.get());
            ControlFlow::Continue(())
        };
        assert!(find(visit).unwrap().is_continue());
        found
    }

    #[test]
    fn the_first_item_of_a_following_file_counts_its_seconds_from_the_end_of_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let previous = Header { end_timestamp: 1_000_000, next_item: 40, ..Header::default() };
        let path = dir.path().join("20260101000000000");
        let mut writer = IndexWriter::create(path, LAYOUT, Some(&previous), Disk::default()).unwrap();
        writer.put(7, LogPosition::new(10), 5_000_000);
        writer.put(7, LogPosition::new(20), 5_003_900);
        writer.put(7, LogPosition::new(30), 4_000_000); // the clock was set back
        let seconds: Vec<_> =
            writer.unwritten.chunks(ITEM_SIZE).map(|item| Item::decode(item).unwrap().seconds).collect();
        assert_eq!(seconds, [4000, 3, 0]);
        assert_eq!(writer.header.begin_timestamp, 5_000_000);
        let at_the_start = Wanted { hash: 7, begin: 0, end: 5_000_000 };
        assert_eq!(found(&|visit| writer.find(at_the_start, visit)), [30, 10]);
    }

    /// What the file finds by itself, were the process killed now.
    fn found_by_itself(path: &Path, hash: i32) -> Vec<i64> {
        let file = IndexFile::load(path.to_owned(), LAYOUT).unwrap();
        found(&|visit| file.find(everything(hash), visit))
    }

    #[test]
    fn a_kill_between_two_writes_costs_nothing_that_was_stored_before() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(dir.path());
        let path = writer.path.clone();
        // Two keys of one slot, one of another: chains of three rounds.
        for round in 0..3_i64 {
            let stored: Vec<_> = [1, 4, 2].map(|hash| found_by_itself(&path, hash)).to_vec();
            let end = writer.stored.end_position;
            for (at, hash) in [1, 4, 2].into_iter().enumerate() {
                writer.put(hash, LogPosition::new(round * 100 + at as i64 + 1), 5000 + round);
            }
            let keeps = || {
                for (hash, stored) in [1, 4, 2].into_iter().zip(&stored) {
                    let found = found_by_itself(&path, hash);
                    assert!(found.ends_with(stored), "round {round}: {found:?} without {stored:?}");
                }
                IndexFile::load(path.clone(), LAYOUT).unwrap().header.end_position
            };
            writer.write().unwrap();
            assert_eq!(keeps(), end);
            writer.count().unwrap();
            assert_eq!(keeps(), end);
            let header = writer.write_slots().unwrap();
            assert_eq!(keeps(), end, "the messages behind it are added again");
            // Items that come between are not counted yet.
            writer.put(2, LogPosition::new(round * 100 + 50), 5000 + round);
            writer.store(header).unwrap();
            assert_eq!(keeps(), LogPosition::new(round * 100 + 3));
            assert!(!writer.is_stored());
        }
        let finished = writer.finish().unwrap();
        assert_eq!(found(&|visit| finished.find(everything(4), visit)), [202, 102, 2]);
        assert_eq!(found(&|visit| finished.find(everything(2), visit)), [250, 203, 150, 103, 50, 3]);
        let mut reopened = IndexWriter::reopen(&finished, Disk::default()).unwrap();
        assert!(reopened.is_stored());
        reopened.put(4, LogPosition::new(300), 6000);
        assert_eq!(found(&|visit| reopened.find(everything(4), visit)), [300, 202, 102, 2]);
        assert_eq!(found_by_itself(&path, 4), [202, 102, 2]);
    }

    #[test]
    fn items_that_a_full_disk_refuses_are_found_and_written_later() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(dir.path());
        writer.put(7, LogPosition::new(10), 5000);
        writer.write().unwrap();
        writer.disk.set_full(true);
        writer.put(7, LogPosition::new(20), 5000);
        writer.write().unwrap_err();
        writer.finish().unwrap_err();
        assert_eq!(found(&|visit| writer.find(everything(7), visit)), [20, 10]);
        writer.disk.set_full(false);
        let finished = writer.finish().unwrap();
        assert_eq!(found(&|visit| finished.find(everything(7), visit)), [20, 10]);
    }

    proptest! {
        #[test]
        fn every_item_is_found_by_its_hash_newest_first(
            hashes in proptest::collection::vec(0_i32..9, 1..39),
            write_at in 0_usize..39,
            reopen_at in 0_usize..39,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut writer = writer(dir.path());
            for (at, hash) in hashes.iter().enumerate() {
                if at == write_at {
                    writer.write().unwrap();
                }
                if at == reopen_at {
                    writer = IndexWriter::reopen(&writer.finish().unwrap(), Disk::default()).unwrap();
                }
                writer.put(*hash, LogPosition::new(at as i64), 1000);
            }
            let live: Vec<_> = (0..9).map(|hash| found(&|visit| writer.find(everything(hash), visit))).collect();
            let finished = writer.finish().unwrap();
            for (hash, live) in live.into_iter().enumerate() {
                let hash = hash as i32;
                let expected: Vec<_> =
                    (0..hashes.len()).rev().filter(|at| hashes[*at] == hash).map(|at| at as i64).collect();
                prop_assert_eq!(&live, &expected);
                prop_assert_eq!(found(&|visit| finished.find(everything(hash), visit)), expected);
            }
            prop_assert_eq!(finished.header.next_item as usize, hashes.len() + 1);
        }

        #[test]
        fn any_bytes_in_a_file_are_searched_and_continued_without_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 40 + 12 + 800),
            sane_header in any::<bool>(),
            hash in any::<i32>(),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("20260101000000000");
            let mut bytes = bytes;
            if sane_header {
                bytes[36..40].copy_from_slice(&[0, 0, 0, 30]);
            }
            // Small numbers, so that chains stay within the file.
            for number in bytes[40..].chunks_mut(4) {
                number[..3].fill(0);
                number[3] %= 45;
            }
            std::fs::write(&path, &bytes).unwrap();
            let file = IndexFile::load(path, LAYOUT).unwrap();
            for hash in (0..45).chain([hash]) {
                let mut visited = 0;
                let visit = &mut |_| {
                    visited += 1;
                    ControlFlow::Continue(())
                };
                prop_assert!(file.find(everything(hash), visit).unwrap().is_continue());
                prop_assert!(visited < 40);
            }
            file.items_at_end_of(file.header.end_position).unwrap();
            if !file.is_full() {
                let mut writer = IndexWriter::reopen(&file, Disk::default()).unwrap();
                while !writer.is_full() {
                    writer.put(hash.saturating_abs(), LogPosition::new(1), 1);
                }
                writer.finish().unwrap();
            }
        }
    }
}
