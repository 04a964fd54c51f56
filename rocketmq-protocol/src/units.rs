//! Numbers that must not be mixed up.

use std::fmt;

macro_rules! units {
    ($($(#[$doc:meta])* $name:ident($repr:ty);)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name($repr);

        impl $name {
            /// Zero.
            pub const ZERO: Self = Self(0);

            /// Wraps the plain number.
            pub const fn new(value: $repr) -> Self {
                Self(value)
            }

            /// The plain number.
            pub const fn get(self) -> $repr {
                self.0
            }
        }

        impl From<$repr> for $name {
            fn from(value: $repr) -> Self {
                Self(value)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

units! {
    /// Number of a queue within its topic on one broker, from 0. Negative in a send: the broker picks one.
    QueueId(i32);
    /// Position in one queue, counted in messages, from 0.
    QueueOffset(i64);
    /// Position in the commit log, counted in bytes, from 0.
    LogPosition(i64);
    /// Number that pairs a response with its request on one connection. Wraps through negatives.
    Opaque(i32);
    /// What the broker filters tags by: Java's `String.hashCode` of the tag, sign-extended; 0 without a tag. In the
    /// delay topic: the due time in milliseconds. Source: `store/ConsumeQueue.java`.
    TagHash(i64);
}

impl QueueOffset {
    /// The offset `count` messages further on.
    #[must_use]
    pub const fn plus(self, count: i64) -> Self {
        Self(self.0.saturating_add(count))
    }
}

impl LogPosition {
    /// The position `bytes` further on.
    #[must_use]
    pub const fn plus(self, bytes: i64) -> Self {
        Self(self.0.saturating_add(bytes))
    }
}
