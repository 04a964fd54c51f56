//! The journal: a file of lines that every process of a run appends to. A line is written at once, so what a process wrote
//! before it was killed is there, and lines of several processes stand in the order in which they were written.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::load::Group;

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// The member is one of Java's.
    Java(u32),
    /// The member consumes with both groups.
    Started(u32),
    /// It is about to be told to leave.
    Leaving(u32),
    /// It is about to be killed.
    Killing(u32),
    /// It has handled message `seq` of `key`.
    Handled { group: Group, member: u32, key: usize, seq: usize },
    /// It got something that was never sent.
    Corrupt { member: u32 },
}

impl Entry {
    pub(crate) fn line(&self) -> String {
        match self {
            Self::Java(member) => format!("java {member}\n"),
            Self::Started(member) => format!("started {member}\n"),
            Self::Leaving(member) => format!("leaving {member}\n"),
            Self::Killing(member) => format!("killing {member}\n"),
            Self::Handled { group, member, key, seq } => format!("{} {member} {key} {seq}\n", group.name()),
            Self::Corrupt { member } => format!("corrupt {member}\n"),
        }
    }

    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let (verb, member) = (words.next()?, words.next()?.parse().ok()?);
        let entry = match verb {
            "java" => Self::Java(member),
            "started" => Self::Started(member),
            "leaving" => Self::Leaving(member),
            "killing" => Self::Killing(member),
            "corrupt" => Self::Corrupt { member },
            name => {
                let group = Group::ALL.into_iter().find(|group| group.name() == name)?;
                let (key, seq) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
                Self::Handled { group, member, key, seq }
            }
        };
        words.next().is_none().then_some(entry)
    }
}

/// The file.
pub(crate) struct Journal {
    path: PathBuf,
}

/// Reads the journal while it grows.
pub(crate) struct Reader {
    file: File,
    /// The beginning of a line.
    rest: Vec<u8>,
}

impl Journal {
    pub(crate) fn create(folder: &Path) -> io::Result<Self> {
        let journal = Self { path: folder.join("journal") };
        journal.writer()?;
        Ok(journal)
    }

    /// For one process to append to: its standard output.
    pub(crate) fn writer(&self) -> io::Result<File> {
        OpenOptions::new().append(true).create(true).open(&self.path)
    }

    pub(crate) fn append(&self, entry: &Entry) -> io::Result<()> {
        self.writer()?.write_all(entry.line().as_bytes())
    }

    pub(crate) fn reader(&self) -> io::Result<Reader> {
        Ok(Reader { file: File::open(&self.path)?, rest: Vec::new() })
    }
}

impl Reader {
    /// Gives `take` every line that was completed since the last call.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else.
    pub(crate) fn read(&mut self, mut take: impl FnMut(Entry)) -> io::Result<()> {
        self.file.read_to_end(&mut self.rest)?;
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { return Ok(()) };
        let left = self.rest.split_off(end + 1);
        let lines = String::from_utf8_lossy(&self.rest);
        for line in lines.lines() {
            let strange = || io::Error::other(format!("the journal has a line {line:?}"));
            take(Entry::parse(line).ok_or_else(strange)?);
        }
        self.rest = left;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_as_they_were_written_and_half_a_line_waits_for_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::create(folder.path()).unwrap();
        let mut reader = journal.reader().unwrap();
        let entries = [
            Entry::Started(7),
            Entry::Handled { group: Group::Concurrent, member: 7, key: 3, seq: 0 },
            Entry::Handled { group: Group::Ordered, member: 7, key: 0, seq: 12 },
            Entry::Corrupt { member: 7 },
            Entry::Killing(7),
            Entry::Java(8),
            Entry::Leaving(8),
        ];
        let (first, others) = entries.split_first().unwrap();
        journal.append(first).unwrap();
        journal.writer().unwrap().write_all(b"concurrent 7 3").unwrap();
        let mut read = Vec::new();
        reader.read(|entry| read.push(entry)).unwrap();
        assert_eq!(read, [Entry::Started(7)]);
        journal.writer().unwrap().write_all(b" 0\n").unwrap();
        others[1..].iter().for_each(|entry| journal.append(entry).unwrap());
        reader.read(|entry| read.push(entry)).unwrap();
        assert_eq!(read, entries);
        journal.writer().unwrap().write_all(b"nonsense 5\n").unwrap();
        reader.read(|_| {}).unwrap_err();
    }
}
