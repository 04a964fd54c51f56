//! [`TimerLog`]: the units of waiting messages, in the files of `timerlog/`.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rocketmq_protocol::LogPosition;

/// Bytes of a unit. Java: `TimerLog.java`, `UNIT_SIZE`.
const UNIT: i64 = 52;
/// What ends a file: bytes left i32, 0 i64, magic i32. Java: `TimerLog.java`, `MIN_BLANK_LEN`.
const BLANK: i64 = 16;
const BLANK_MAGIC: u32 = 0xcbd4_3194;

/// Every unit has it.
pub(super) const MAGIC: i32 = 1;
/// The message goes back to the timer topic when its second has come.
pub(super) const MAGIC_ROLL: i32 = 1 << 1;
/// The message takes another one back.
pub(super) const MAGIC_DELETE: i32 = 1 << 2;

/// A waiting message, 52 bytes, big-endian: size i32, position of the unit before it in its second i64 (-1:
/// none), magic i32, when it was taken in i64, how long it waits from then i32, position in the commit log
/// i64, size i32, hash of the topic i32, 8 bytes unused. Java: `TimerLog.java`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) previous: i64,
    pub(super) magic: i32,
    pub(super) taken_in_ms: i64,
    pub(super) wait_ms: i32,
    pub(super) position: LogPosition,
    pub(super) size: i32,
    pub(super) topic_hash: i32,
}

impl Unit {
    /// The second it waits for.
    pub(super) fn second(&self) -> i64 {
        (self.taken_in_ms + i64::from(self.wait_ms)).div_euclid(1000)
    }

    /// Whether it waits for a later turn of the wheel then.
    pub(super) fn rolls(&self) -> bool {
        self.magic & MAGIC_ROLL != 0
    }

    fn encode(&self) -> [u8; UNIT as usize] {
        let mut bytes = [0; UNIT as usize];
        bytes[..4].copy_from_slice(&(UNIT as i32).to_be_bytes());
        bytes[4..12].copy_from_slice(&self.previous.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.magic.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.taken_in_ms.to_be_bytes());
        bytes[24..28].copy_from_slice(&self.wait_ms.to_be_bytes());
        bytes[28..36].copy_from_slice(&self.position.get().to_be_bytes());
        bytes[36..40].copy_from_slice(&self.size.to_be_bytes());
        bytes[40..44].copy_from_slice(&self.topic_hash.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8; UNIT as usize]) -> Option<Self> {
        let (size, rest) = bytes.split_first_chunk()?;
        let (previous, rest) = rest.split_first_chunk()?;
        let (magic, rest) = rest.split_first_chunk()?;
        let (taken_in_ms, rest) = rest.split_first_chunk()?;
        let (wait_ms, rest) = rest.split_first_chunk()?;
        let (position, rest) = rest.split_first_chunk()?;
        let (record_size, rest) = rest.split_first_chunk()?;
        let (topic_hash, _) = rest.split_first_chunk()?;
        let unit = Self {
            previous: i64::from_be_bytes(*previous),
            magic: i32::from_be_bytes(*magic),
            taken_in_ms: i64::from_be_bytes(*taken_in_ms),
            wait_ms: i32::from_be_bytes(*wait_ms),
            position: LogPosition::new(i64::from_be_bytes(*position)),
            size: i32::from_be_bytes(*record_size),
            topic_hash: i32::from_be_bytes(*topic_hash),
        };
        (i64::from(i32::from_be_bytes(*size)) == UNIT && unit.magic & MAGIC != 0).then_some(unit)
    }
}

/// Appends and reads units. Java reads the same files; they must have its size.
pub(super) struct TimerLog {
    dir: PathBuf,
    file_size: i64,
    files: BTreeMap<i64, Arc<File>>,
    end: i64,
}

impl TimerLog {
    /// Opens the files; the end is found by [`TimerLog::recover`].
    pub(super) fn open(dir: &Path, file_size: u64) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let Some(base) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let len = entry.metadata()?.len();
            if len != file_size {
                let path = entry.path();
                let what =
                    format!("{} has {len} bytes, mappedFileSizeTimerLog is {file_size}", path.display());
                return Err(io::Error::other(what));
            }
            files.insert(base, Arc::new(OpenOptions::new().read(true).write(true).open(entry.path())?));
        }
        Ok(Self { dir: dir.to_owned(), file_size: file_size as i64, files, end: 0 })
    }

    /// Where the next unit goes.
    pub(super) fn end(&self) -> i64 {
        self.end
    }

    /// The files from that of `position` on.
    pub(super) fn files_from(&self, position: i64) -> Vec<Arc<File>> {
        self.files
            .range(position - position.rem_euclid(self.file_size)..)
            .map(|(_, file)| Arc::clone(file))
            .collect()
    }

    /// Whether there are files before the one that is being filled.
    pub(super) fn has_old_files(&self) -> bool {
        self.files.len() > 1
    }

    /// Deletes the files that end before `position`.
    pub(super) fn delete_before(&mut self, position: i64) -> io::Result<()> {
        while let Some(first) = self.files.first_entry() {
            if first.key() + self.file_size > position {
                break;
            }
            fs::remove_file(self.dir.join(format!("{:020}", first.key())))?;
            first.remove();
        }
        Ok(())
    }

    /// Goes through the units before the end.
    pub(super) fn for_each(&self, mut see: impl FnMut(i64, &Unit)) -> io::Result<()> {
        let mut at = self.files.keys().next().copied().unwrap_or(self.end);
        while at < self.end {
            if let Some(unit) = self.read(at)? {
                see(at, &unit);
            }
            at = self.after(at);
        }
        Ok(())
    }

    /// Goes through the units from the file of `from` on, as long as they are `valid`, and appends behind
    /// them from now on.
    pub(super) fn recover(
        &mut self,
        from: i64,
        mut valid: impl FnMut(i64, &Unit) -> io::Result<bool>,
    ) -> io::Result<()> {
        let first = self.files.keys().next().copied().unwrap_or(0);
        let mut at = (from - from.rem_euclid(self.file_size)).max(first);
        self.end = at;
        while let Some(unit) = self.read(at)? {
            if !valid(at, &unit)? {
                break;
            }
            at = self.after(at);
            self.end = at;
        }
        Ok(())
    }

    /// The position behind the unit at `at`.
    fn after(&self, at: i64) -> i64 {
        let next = at + UNIT;
        let left = self.file_size - next.rem_euclid(self.file_size);
        if left < UNIT + BLANK { next + left } else { next }
    }

    pub(super) fn read(&self, at: i64) -> io::Result<Option<Unit>> {
        let Some((base, file)) = self.files.range(..=at).next_back() else { return Ok(None) };
        let mut bytes = [0; UNIT as usize];
        match file.read_exact_at(&mut bytes, (at - base) as u64) {
            Ok(()) => Ok(Unit::decode(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Appends a unit and tells where it is.
    pub(super) fn append(&mut self, unit: &Unit) -> io::Result<i64> {
        let at = self.end;
        let base = at - at.rem_euclid(self.file_size);
        if !self.files.contains_key(&base) {
            let path = self.dir.join(format!("{base:020}"));
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
            file.set_len(self.file_size as u64)?;
            File::open(&self.dir)?.sync_all()?;
            self.files.insert(base, Arc::new(file));
        }
        let Some(file) = self.files.get(&base) else { return Err(io::Error::other("no timer log file")) };
        file.write_all_at(&unit.encode(), (at - base) as u64)?;
        let (next, written) = (self.after(at), at + UNIT);
        if next != written {
            let mut blank = [0; BLANK as usize];
            blank[..4].copy_from_slice(&((next - written) as i32).to_be_bytes());
            blank[12..].copy_from_slice(&BLANK_MAGIC.to_be_bytes());
            let room = usize::try_from(next - written).unwrap_or(0).min(blank.len());
            file.write_all_at(blank.get(..room).unwrap_or_default(), (written - base) as u64)?;
        }
        self.end = next;
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(position: i64) -> Unit {
        Unit {
            previous: position - 1,
            magic: MAGIC | MAGIC_DELETE,
            taken_in_ms: 1_795_257_702_000,
            wait_ms: 3_597_000,
            position: LogPosition::new(position),
            size: 423,
            topic_hash: 336_296_332,
        }
    }

    #[test]
    fn a_unit_is_laid_out_as_javas() {
        // Observed on 5.4.0, the fifth unit of the golden store.
        let told = "00000034000000000000009c00000005000001a1fe7ec570";
        let mut golden = unit(149_198);
        golden.previous = 156;
        let bytes = golden.encode();
        let text: String = bytes[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text, told[..32]);
        assert_eq!(Unit::decode(&bytes), Some(golden));
        assert_eq!(golden.second(), 1_795_261_299);
        assert_eq!(Unit::decode(&[0; UNIT as usize]), None);
    }

    #[test]
    fn units_go_on_in_the_next_file_and_are_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = TimerLog::open(dir.path(), 240).unwrap();
        let positions: Vec<_> = (0..12).map(|number| log.append(&unit(number)).unwrap()).collect();
        assert_eq!(positions[..6], [0, 52, 104, 156, 240, 292]);
        let mut log = TimerLog::open(dir.path(), 240).unwrap();
        let mut found = Vec::new();
        log.recover(0, |at, unit| {
            found.push((at, unit.position.get()));
            Ok(true)
        })
        .unwrap();
        assert_eq!(found, positions.into_iter().zip(0..).collect::<Vec<_>>());
        let end = log.end();
        assert_eq!(log.append(&unit(12)).unwrap(), end);
        log.delete_before(479).unwrap();
        let mut left = Vec::new();
        log.for_each(|at, _| left.push(at)).unwrap();
        assert_eq!(left, [240, 292, 344, 396, 480, 532, 584, 636, 720]);
        assert_eq!((log.files_from(650).len(), fs::read_dir(dir.path()).unwrap().count()), (2, 3));
        assert!(TimerLog::open(dir.path(), 400).is_err());
    }
}
