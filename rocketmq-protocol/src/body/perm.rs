//! [`Perm`]: what may be done with a topic's queues on a broker.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Permission bits of a topic. Unknown bits survive. Java: `common/constant/PermName.java`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Perm(i32);

impl Perm {
    /// Nothing may be done.
    pub const NONE: Self = Self(0);
    /// Topics created after this one take its settings (the topic `TBW102`).
    pub const INHERIT: Self = Self(1);
    /// Clients may send.
    pub const WRITE: Self = Self(2);
    /// Clients may pull.
    pub const READ: Self = Self(4);
    /// Clients may send and pull.
    pub const READ_WRITE: Self = Self(6);

    /// Takes any bits.
    pub const fn new(bits: i32) -> Self {
        Self(bits)
    }

    /// The bits on the wire.
    pub const fn get(self) -> i32 {
        self.0
    }

    /// Whether all bits of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These bits and those of `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These bits except those of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl Default for Perm {
    /// Read and write, as a topic is created.
    fn default() -> Self {
        Self::READ_WRITE
    }
}

/// `RWX` with `-` for each missing bit, as `mqadmin` prints it.
impl fmt::Display for Perm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bit, letter) in [(Self::READ, "R"), (Self::WRITE, "W"), (Self::INHERIT, "X")] {
            f.write_str(if self.contains(bit) { letter } else { "-" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Perm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({self})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_added_taken_and_told() {
        let perm = Perm::READ_WRITE.with(Perm::INHERIT).without(Perm::WRITE);
        assert_eq!(perm, Perm::new(5));
        assert_eq!(perm.to_string(), "R-X");
        assert!(perm.contains(Perm::READ) && !perm.contains(Perm::READ_WRITE));
    }
}
