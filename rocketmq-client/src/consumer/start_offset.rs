//! [`ConsumeFrom`]: where a group begins in a queue it has no offset for.

use std::time::{SystemTime, UNIX_EPOCH};

use rocketmq_protocol::body::ConsumeFromWhere;

/// Where a group begins in a queue it has no offset for. Where it has one, it goes on from there.
///
/// A broker answers with offset 0 for a group it does not know when it still has the queue's first message in memory,
/// so that a new group gets everything in a young topic, whatever is chosen here. Queues that appear while the consumer
/// runs are read from their beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConsumeFrom {
    /// With messages that are sent from now on.
    #[default]
    Latest,
    /// With the oldest message there is.
    Earliest,
    /// With the first message stored at this time or later.
    Time(SystemTime),
}

impl ConsumeFrom {
    pub(super) fn on_wire(self) -> ConsumeFromWhere {
        match self {
            Self::Latest => ConsumeFromWhere::LastOffset,
            Self::Earliest => ConsumeFromWhere::FirstOffset,
            Self::Time(_) => ConsumeFromWhere::Timestamp,
        }
    }

    /// What to ask the broker for. Java: `RebalancePushImpl.java`, `computePullFromWhereWithException`.
    pub(super) fn begin(self, queue: QueueKind) -> Begin {
        match (self, queue) {
            (Self::Earliest, _) | (_, QueueKind::Appeared) | (Self::Latest, QueueKind::Retry) => Begin::Min,
            (Self::Latest, QueueKind::Known) | (Self::Time(_), QueueKind::Retry) => Begin::Max,
            (Self::Time(time), QueueKind::Known) => {
                let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
                Begin::Time(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
            }
        }
    }
}

/// What sets queues without an offset apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QueueKind {
    /// It was there when the consumer started.
    Known,
    /// It was not: every message in it is one that the group has yet to see.
    Appeared,
    /// It belongs to the group's retry topic.
    Retry,
}

/// The offset to begin at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// Of the oldest message.
    Min,
    /// Behind the newest message.
    Max,
    /// Of the first message stored at this time, in milliseconds since 1970, or later.
    Time(i64),
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_queue_without_an_offset_begins_as_in_java() {
        let at = ConsumeFrom::Time(UNIX_EPOCH + Duration::from_millis(1234));
        let table = [
            (ConsumeFrom::Latest, QueueKind::Known, Begin::Max),
            (ConsumeFrom::Earliest, QueueKind::Known, Begin::Min),
            (at, QueueKind::Known, Begin::Time(1234)),
            (ConsumeFrom::Latest, QueueKind::Retry, Begin::Min), // or the first failures would be lost
            (ConsumeFrom::Earliest, QueueKind::Retry, Begin::Min),
            (at, QueueKind::Retry, Begin::Max),
        ];
        for (from, queue, begin) in table {
            assert_eq!(from.begin(queue), begin, "{from:?} {queue:?}");
        }
    }

    #[test]
    fn a_queue_that_appeared_is_read_from_its_beginning() {
        for from in [ConsumeFrom::Latest, ConsumeFrom::Earliest, ConsumeFrom::Time(SystemTime::now())] {
            assert_eq!(from.begin(QueueKind::Appeared), Begin::Min);
        }
    }
}
