//! [`Outcomes`]: what became of each transaction; the database of the services, which outlives each of them.
//!
//! A folder of symbolic links named by message id that point to the outcome: the system makes a link whole or not at all,
//! and only if there is none of that name, so what is decided stays, whoever is killed.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rocketmq_client::TransactionOutcome;

/// What was decided about a transaction, and what its service said to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Decision {
    Commit,
    Rollback,
    /// It is committed, but the broker has to ask.
    UnknownCommit,
    /// It is rolled back, but the broker has to ask.
    UnknownRollback,
    /// Nothing had been decided when the broker asked.
    Abandoned,
}

impl Decision {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Commit, "commit"),
        (Self::Rollback, "rollback"),
        (Self::UnknownCommit, "unknown-commit"),
        (Self::UnknownRollback, "unknown-rollback"),
        (Self::Abandoned, "abandoned"),
    ];

    /// A third each, and half of the last third each.
    pub(crate) fn in_turn(number: u64) -> Self {
        match number % 6 {
            0 | 3 => Self::Commit,
            1 | 4 => Self::Rollback,
            2 => Self::UnknownCommit,
            _ => Self::UnknownRollback,
        }
    }

    /// Whether the message is to be seen.
    pub(crate) fn is_commit(self) -> bool {
        matches!(self, Self::Commit | Self::UnknownCommit)
    }

    /// What the service tells the broker of its own accord.
    pub(crate) fn told(self) -> TransactionOutcome {
        match self {
            Self::Commit => TransactionOutcome::Commit,
            Self::Rollback | Self::Abandoned => TransactionOutcome::Rollback,
            Self::UnknownCommit | Self::UnknownRollback => TransactionOutcome::Unknown,
        }
    }

    /// What it answers when it is asked.
    pub(crate) fn answered(self) -> TransactionOutcome {
        if self.is_commit() { TransactionOutcome::Commit } else { TransactionOutcome::Rollback }
    }
}

/// The folder.
#[derive(Clone)]
pub(crate) struct Outcomes(PathBuf);

impl Outcomes {
    pub(crate) fn in_folder(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// Decides about a transaction, unless that is done; returns what is decided.
    pub(crate) fn decide(&self, message_id: &str, decision: Decision) -> io::Result<Decision> {
        let link = self.0.join(message_id);
        let name = Decision::ALL.iter().find(|(known, _)| *known == decision).map_or("", |(_, name)| name);
        match symlink(name, &link) {
            Ok(()) => Ok(decision),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => read(&link),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn len(&self) -> io::Result<usize> {
        Ok(std::fs::read_dir(&self.0)?.count())
    }

    /// All that is decided, by message id.
    pub(crate) fn all(&self) -> io::Result<HashMap<String, Decision>> {
        let mut all = HashMap::new();
        for entry in std::fs::read_dir(&self.0)? {
            let entry = entry?;
            all.insert(entry.file_name().to_string_lossy().into_owned(), read(&entry.path())?);
        }
        Ok(all)
    }
}

fn read(link: &Path) -> io::Result<Decision> {
    let name = std::fs::read_link(link)?;
    let known = Decision::ALL.iter().find(|(_, known)| name.as_os_str() == *known);
    known.map(|(decision, _)| *decision).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_decided_stays() {
        let folder = tempfile::tempdir().unwrap();
        let outcomes = Outcomes::in_folder(folder.path());
        assert_eq!(outcomes.decide("a", Decision::UnknownCommit).unwrap(), Decision::UnknownCommit);
        assert_eq!(outcomes.decide("a", Decision::Abandoned).unwrap(), Decision::UnknownCommit);
        assert_eq!(outcomes.decide("b", Decision::Abandoned).unwrap(), Decision::Abandoned);
        assert_eq!(outcomes.decide("b", Decision::Commit).unwrap(), Decision::Abandoned);
        assert_eq!(outcomes.len().unwrap(), 2);
        assert_eq!(outcomes.all().unwrap()["a"], Decision::UnknownCommit);
    }

    #[test]
    fn a_third_each_is_committed_rolled_back_and_unknown() {
        let told = |outcome| (0..6).filter(|n| Decision::in_turn(*n).told() == outcome).count();
        assert_eq!(told(TransactionOutcome::Commit), 2);
        assert_eq!(told(TransactionOutcome::Rollback), 2);
        assert_eq!(told(TransactionOutcome::Unknown), 2);
        assert_eq!((0..6).filter(|n| Decision::in_turn(*n).is_commit()).count(), 3);
    }
}
