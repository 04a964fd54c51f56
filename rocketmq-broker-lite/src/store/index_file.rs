//! [`IndexFile`]: which messages have a key, as a hash table of fixed size in a file; finished, or the last of an orderly stop.
//!
//! Big-endian: a header of 40 bytes, then the slots, each the number of the newest item of its hash (i32, 0 for none), then the items:
//! key hash i32, log position i64, seconds since the header's first time i32, number of the next older item of the slot i32. Items
//! are numbered from 1. The file holds hashes only: what it finds must be compared. Java: `store/index/IndexFile.java`, `IndexHeader.java`.
//!
//! Files are read and written by position, not mapped: they are sparse, and the room that a mapping promises on a full disk is not there.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rocketmq_protocol::LogPosition;

use super::error::StoreError;

pub(super) const HEADER_SIZE: usize = 40;
pub(super) const SLOT_SIZE: usize = 4;
pub(super) const ITEM_SIZE: usize = 20;
/// Items read at a time: those of a slot that is in use a lot are near each other.
const BLOCK: u32 = 200;

/// How many slots and items a file has; fixed for the life of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) slots: u32,
    /// Item 0 included, which stands for none.
    pub(super) items: u32,
}

impl Layout {
    /// # Errors
    /// When Java could not have such files: it counts their bytes in an i32.
    pub(super) fn checked(slots: u64, items: u64) -> Result<Self, StoreError> {
        let refused = |option, value| {
            let reason =
                "files have at least 1 slot of 4 bytes and 2 items of 20, and less than 2147483648 bytes";
            Err(StoreError::Option { option, value, reason })
        };
        let (Ok(known_slots), Ok(known_items)) = (u32::try_from(slots), u32::try_from(items)) else {
            return refused("index_items (maxIndexNum)", items);
        };
        let layout = Self { slots: known_slots, items: known_items };
        match layout.file_size() <= i32::MAX as u64 {
            _ if slots == 0 => refused("index_slots (maxHashSlotNum)", slots),
            true if items > 1 => Ok(layout),
            _ => refused("index_items (maxIndexNum)", items),
        }
    }

    pub(super) fn file_size(self) -> u64 {
        self.item_at(self.items)
    }

    pub(super) fn slot_of(self, hash: i32) -> u32 {
        hash.unsigned_abs() % self.slots
    }

    fn slot_at(slot: u32) -> u64 {
        HEADER_SIZE as u64 + u64::from(slot) * SLOT_SIZE as u64
    }

    pub(super) fn item_at(self, item: u32) -> u64 {
        Self::slot_at(self.slots) + u64::from(item) * ITEM_SIZE as u64
    }
}

/// What a file says about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    /// Store time of the first message in ms.
    pub(super) begin_timestamp: i64,
    /// Store time of the last one.
    pub(super) end_timestamp: i64,
    pub(super) begin_position: LogPosition,
    /// Where the last message starts.
    pub(super) end_position: LogPosition,
    pub(super) used_slots: u32,
    /// Number of the item that comes next.
    pub(super) next_item: u32,
}

impl Header {
    pub(super) fn encode(self) -> [u8; HEADER_SIZE] {
        let mut bytes = [0; HEADER_SIZE];
        bytes[..8].copy_from_slice(&self.begin_timestamp.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.end_timestamp.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.begin_position.get().to_be_bytes());
        bytes[24..32].copy_from_slice(&self.end_position.get().to_be_bytes());
        bytes[32..36].copy_from_slice(&self.used_slots.to_be_bytes());
        bytes[36..].copy_from_slice(&self.next_item.to_be_bytes());
        bytes
    }

    /// Reads a header; numbers that cannot be become the nearest that can.
    fn decode(bytes: &[u8; HEADER_SIZE], layout: Layout) -> Self {
        let mut longs =
            bytes.chunks_exact(8).filter_map(|eight| eight.try_into().ok().map(i64::from_be_bytes));
        let mut long = || longs.next().unwrap_or(0);
        let (begin_timestamp, end_timestamp) = (long(), long());
        let (begin_position, end_position) = (LogPosition::new(long()), LogPosition::new(long()));
        let counts = long();
        let (used_slots, next_item) = ((counts >> 32) as i32, counts as i32);
        Self {
            begin_timestamp,
            end_timestamp,
            begin_position,
            end_position,
            used_slots: u32::try_from(used_slots).unwrap_or(0).min(layout.slots),
            next_item: u32::try_from(next_item).unwrap_or(0).clamp(1, layout.items),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.next_item <= 1
    }

    /// When item `number` was stored, to the second. The first item of a file that follows another one counts its seconds from the
    /// end of that one.
    fn time(&self, number: u32, item: &Item) -> i64 {
        let seconds = if number == 1 { 0 } else { i64::from(item.seconds) };
        self.begin_timestamp.saturating_add(seconds.saturating_mul(1000))
    }
}

/// A message under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) hash: i32,
    pub(super) position: LogPosition,
    /// Store time, in whole seconds behind the file's first message.
    pub(super) seconds: i32,
    /// Number of the next older item of the same slot; 0 for none.
    pub(super) previous: u32,
}

impl Item {
    pub(super) fn encode(self) -> [u8; ITEM_SIZE] {
        let mut bytes = [0; ITEM_SIZE];
        bytes[..4].copy_from_slice(&self.hash.to_be_bytes());
        bytes[4..12].copy_from_slice(&self.position.get().to_be_bytes());
        bytes[12..16].copy_from_slice(&self.seconds.to_be_bytes());
        bytes[16..].copy_from_slice(&self.previous.to_be_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (hash, rest) = bytes.split_first_chunk()?;
        let (position, rest) = rest.split_first_chunk()?;
        let (seconds, rest) = rest.split_first_chunk()?;
        Some(Self {
            hash: i32::from_be_bytes(*hash),
            position: LogPosition::new(i64::from_be_bytes(*position)),
            seconds: i32::from_be_bytes(*seconds),
            previous: u32::from_be_bytes(*rest.first_chunk()?),
        })
    }
}

/// What to look for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) hash: i32,
    /// Earliest and latest store time in ms.
    pub(super) begin: i64,
    pub(super) end: i64,
}

/// Visits the items of a chain, newest first, that have the hash and may be of the time.
pub(super) fn follow(
    header: &Header,
    first: u32,
    wanted: Wanted,
    mut item: impl FnMut(u32) -> Result<Option<Item>, StoreError>,
    visit: &mut dyn FnMut(LogPosition) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, StoreError> {
    let mut number = first;
    // Each item is older than the one before, so a number that does not fall is damage, and no chain is endless.
    let mut below = header.next_item;
    while (1..below).contains(&number) {
        let Some(item) = item(number)? else { break };
        let time = header.time(number, &item);
        if item.hash == wanted.hash && time <= wanted.end && visit(item.position).is_break() {
            return Ok(ControlFlow::Break(()));
        }
        if time.saturating_add(1000) <= wanted.begin && number > 1 {
            break;
        }
        below = number;
        number = item.previous;
    }
    Ok(ControlFlow::Continue(()))
}

/// A file that is not written to.
#[derive(Clone, Debug)]
pub(super) struct IndexFile {
    pub(super) path: PathBuf,
    pub(super) layout: Layout,
    pub(super) header: Header,
}

impl IndexFile {
    pub(super) fn load(path: PathBuf, layout: Layout) -> Result<Self, StoreError> {
        let mut bytes = [0; HEADER_SIZE];
        let read = File::open(&path).and_then(|file| file.read_exact_at(&mut bytes, 0));
        read.map_err(StoreError::io("read", &path))?;
        Ok(Self { header: Header::decode(&bytes, layout), path, layout })
    }

    pub(super) fn is_full(&self) -> bool {
        self.header.next_item >= self.layout.items
    }

    /// Whether the file may have messages stored between these times.
    pub(super) fn may_have(&self, begin: i64, end: i64) -> bool {
        !self.header.is_empty() && self.header.begin_timestamp <= end && begin <= self.header.end_timestamp
    }

    /// Visits what the file has, newest first.
    pub(super) fn find(
        &self,
        wanted: Wanted,
        visit: &mut dyn FnMut(LogPosition) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, StoreError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            // Deleted since, with the messages it finds.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(ControlFlow::Continue(())),
            Err(source) => return Err(StoreError::io("open", &self.path)(source)),
        };
        let mut first = [0; SLOT_SIZE];
        file.read_exact_at(&mut first, Layout::slot_at(self.layout.slot_of(wanted.hash)))
            .map_err(StoreError::io("read", &self.path))?;
        let mut items = ItemReader::new(&file, &self.path, self.layout);
        follow(&self.header, u32::from_be_bytes(first), wanted, |number| items.item(number), visit)
    }

    /// Forces the file to disk. Blocks.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        match File::open(&self.path).and_then(|file| file.sync_data()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io("sync", &self.path)(error))
            }
            _ => Ok(()), // deleted since
        }
    }

    /// How many of the last items are of the message at `position`.
    pub(super) fn items_at_end_of(&self, position: LogPosition) -> Result<usize, StoreError> {
        let file = File::open(&self.path).map_err(StoreError::io("open", &self.path))?;
        let mut items = ItemReader::new(&file, &self.path, self.layout);
        let mut count = 0;
        for number in (1..self.header.next_item).rev() {
            match items.item(number)? {
                Some(item) if item.position == position => count += 1,
                _ => break,
            }
        }
        Ok(count)
    }
}

/// Reads items, each below the one before, a block at a time.
pub(super) struct ItemReader<'a> {
    file: &'a File,
    path: &'a Path,
    layout: Layout,
    first: u32,
    block: Vec<u8>,
}

impl<'a> ItemReader<'a> {
    pub(super) fn new(file: &'a File, path: &'a Path, layout: Layout) -> Self {
        Self { file, path, layout, first: 0, block: Vec::new() }
    }

    pub(super) fn item(&mut self, number: u32) -> Result<Option<Item>, StoreError> {
        let in_block = |first: u32, block: &[u8]| {
            let at = number.checked_sub(first)? as usize * ITEM_SIZE;
            block.get(at..).and_then(Item::decode)
        };
        if let Some(item) = in_block(self.first, &self.block) {
            return Ok(Some(item));
        }
        self.first = number.saturating_sub(BLOCK - 1);
        self.block.resize((number - self.first + 1) as usize * ITEM_SIZE, 0);
        self.file
            .read_exact_at(&mut self.block, self.layout.item_at(self.first))
            .map_err(StoreError::io("read", self.path))?;
        Ok(in_block(self.first, &self.block))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_that_java_could_not_map_are_refused() {
        assert_eq!(Layout::checked(5_000_000, 20_000_000).unwrap().file_size(), 420_000_040);
        for (slots, items) in
            [(0, 10), (1, 1), (1, 0), (1 << 29, 10), (1, 1 << 27), (1 << 40, 10), (1, 1 << 40)]
        {
            assert!(
                matches!(Layout::checked(slots, items), Err(StoreError::Option { .. })),
                "{slots} {items}"
            );
        }
    }

    #[test]
    fn chains_that_turn_back_or_leave_the_file_are_cut() {
        let header = Header { next_item: 5, ..Header::default() };
        let wanted = Wanted { hash: 7, begin: 0, end: i64::MAX };
        let item = |previous| Item { hash: 7, position: LogPosition::ZERO, seconds: 0, previous };
        for (first, previous, visits) in
            [(4, 4, 1), (3, 4, 1), (4, u32::MAX, 1), (5, 0, 0), (u32::MAX, 0, 0), (4, 0, 1)]
        {
            let mut seen = 0;
            let mut visit = |_| {
                seen += 1;
                ControlFlow::Continue(())
            };
            let end = follow(&header, first, wanted, |_| Ok(Some(item(previous))), &mut visit);
            assert!(end.unwrap().is_continue());
            assert_eq!(seen, visits, "from {first} to {previous}");
        }
    }
}
