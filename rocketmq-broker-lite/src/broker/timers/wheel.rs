//! [`TimerWheel`]: which second has which waiting messages, in the file `timerwheel`.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Two times seven days of seconds. Java: `TimerMessageStore.java`, `TIMER_WHEEL_TTL_DAY`, and
/// `TimerWheel.java`.
const SLOTS: i64 = 2 * 7 * 24 * 3600;
/// Bytes of a slot, big-endian: second i64 (0: empty), position of its first and of its last unit in the
/// timer log i64 each, messages i32, magic i32. Java: `Slot.java`.
const SLOT: usize = 32;

/// The messages of one second: a chain through the timer log, last one first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) count: i32,
}

/// The seconds that have messages. Every change is in the file at once; memory has only what still counts.
pub(super) struct TimerWheel {
    file: Arc<File>,
    slots: BTreeMap<i64, Slot>,
}

impl TimerWheel {
    /// Opens or makes the file. Seconds before `from` count as done.
    pub(super) fn open(path: &Path, from: i64) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let len = SLOTS as u64 * SLOT as u64;
        let mut slots = BTreeMap::new();
        match file.metadata()?.len() {
            0 => file.set_len(len)?, // sparse: only the seconds in use take room
            found if found != len => {
                return Err(io::Error::other(format!(
                    "timerwheel has {found} bytes, not {len}: another precision?"
                )));
            }
            _ => {
                let mut chunk = vec![0; SLOT * 4096];
                let mut left = len as usize;
                while left > 0 {
                    let part = chunk.get_mut(..left.min(SLOT * 4096)).unwrap_or_default();
                    file.read_exact(part)?;
                    left -= part.len();
                    let found = part.chunks_exact(SLOT).filter_map(decode);
                    slots.extend(found.filter(|(second, _)| *second >= from.max(1)));
                }
            }
        }
        Ok(Self { file: Arc::new(file), slots })
    }

    /// What has the seconds, to bring it to disk.
    pub(super) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Where the first unit is that a second still needs.
    pub(super) fn first_position(&self) -> Option<i64> {
        self.slots.values().map(|slot| slot.first).min()
    }

    /// Forgets the seconds that refer to `end` of the timer log or behind it, and tells which.
    pub(super) fn forget_beyond(&mut self, end: i64) -> Vec<i64> {
        let mut beyond = Vec::new();
        self.slots.retain(|second, slot| {
            let broken = slot.last >= end;
            beyond.extend(broken.then_some(*second));
            !broken
        });
        beyond
    }

    pub(super) fn get(&self, second: i64) -> Option<Slot> {
        self.slots.get(&second).copied()
    }

    /// The first second from `from` on that has messages.
    pub(super) fn next(&self, from: i64) -> Option<i64> {
        self.slots.range(from..).next().map(|(second, _)| *second)
    }

    pub(super) fn put(&mut self, second: i64, slot: Slot) -> io::Result<()> {
        let mut bytes = [0; SLOT];
        bytes[..8].copy_from_slice(&second.to_be_bytes());
        bytes[8..16].copy_from_slice(&slot.first.to_be_bytes());
        bytes[16..24].copy_from_slice(&slot.last.to_be_bytes());
        bytes[24..28].copy_from_slice(&slot.count.to_be_bytes());
        self.file.write_all_at(&bytes, second.rem_euclid(SLOTS) as u64 * SLOT as u64)?;
        self.slots.insert(second, slot);
        Ok(())
    }

    /// Adds the unit at `position` to a second's chain. One that takes a message back counts as one less.
    pub(super) fn add(&mut self, second: i64, position: i64, takes_back: bool) -> io::Result<()> {
        let count = if takes_back { -1 } else { 1 };
        let slot = match self.get(second) {
            Some(slot) => Slot { last: position, count: slot.count + count, ..slot },
            None => Slot { first: position, last: position, count },
        };
        self.put(second, slot)
    }

    /// Forgets a second. Its slot stays in the file, where the read time says that it is done, as in Java's.
    pub(super) fn forget(&mut self, second: i64) {
        self.slots.remove(&second);
    }
}

fn decode(slot: &[u8]) -> Option<(i64, Slot)> {
    let (second, rest) = slot.split_first_chunk()?;
    let (first, rest) = rest.split_first_chunk()?;
    let (last, rest) = rest.split_first_chunk()?;
    let (count, _) = rest.split_first_chunk()?;
    let (first, last) = (i64::from_be_bytes(*first), i64::from_be_bytes(*last));
    Some((i64::from_be_bytes(*second), Slot { first, last, count: i32::from_be_bytes(*count) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_survive_and_those_that_are_done_do_not_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("timerwheel");
        let mut wheel = TimerWheel::open(&path, 0).unwrap();
        let second = 1_795_329_699;
        wheel.add(second, 52, false).unwrap();
        wheel.add(second, 104, false).unwrap();
        wheel.add(second, 156, true).unwrap();
        wheel.add(second - 10, 0, false).unwrap();
        // Observed on 5.4.0: where Java has this second.
        let mut bytes = [0; 8];
        wheel.file.read_exact_at(&mut bytes, 283_299 * 32).unwrap();
        assert_eq!(i64::from_be_bytes(bytes), second);
        drop(wheel);
        let wheel = TimerWheel::open(&path, second - 5).unwrap();
        assert_eq!(wheel.get(second), Some(Slot { first: 52, last: 156, count: 1 }));
        assert_eq!((wheel.next(0), wheel.get(second - 10)), (Some(second), None));
    }
}
