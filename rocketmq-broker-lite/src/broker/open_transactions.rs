//! [`OpenTransactions`]: the half messages that nobody has decided about yet, when to ask about each, and from where a broker that
//! starts has to read. It does no I/O and reads no clock.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use rocketmq_protocol::{LogPosition, QueueOffset};

/// Open transactions by the place of their half message in its queue.
#[derive(Debug, Default)]
pub(super) struct OpenTransactions {
    open: BTreeMap<QueueOffset, Open>,
    due: BTreeSet<(i64, QueueOffset)>,
    /// Places that half messages had before, and the one that each has now.
    earlier: HashMap<QueueOffset, QueueOffset>,
    /// Op messages that may still be needed, oldest first, each with the last half message that it is about.
    ops: VecDeque<(QueueOffset, QueueOffset)>,
    /// Behind the last half message.
    next_half: QueueOffset,
    /// Behind the last op message.
    next_op: QueueOffset,
}

/// A half message that nobody has decided about yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) position: LogPosition,
    /// How often producers were asked.
    pub(super) checks: u32,
    /// When it was stored first, in ms since 1970 as all times here.
    pub(super) since_ms: i64,
    /// Nobody is asked before.
    pub(super) immune_until_ms: i64,
    /// When to do something about it next.
    pub(super) due_ms: i64,
    /// The broker found it when it started: that it has ended may not be noted.
    pub(super) inherited: bool,
    /// Places that it had before.
    pub(super) earlier: Vec<QueueOffset>,
}

impl OpenTransactions {
    /// Starts behind what was read before.
    pub(super) fn starting_at(next_half: QueueOffset, next_op: QueueOffset) -> Self {
        Self { next_half, next_op, ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Takes up a half message.
    pub(super) fn open(&mut self, at: QueueOffset, half: Open) {
        self.next_half = self.next_half.max(at.plus(1));
        self.due.insert((half.due_ms, at));
        self.earlier.extend(half.earlier.iter().map(|place| (*place, at)));
        self.open.insert(at, half);
    }

    /// The transaction whose half message is at this place, or was; and where it is now.
    pub(super) fn find(&self, at: QueueOffset) -> Option<(QueueOffset, &Open)> {
        let at = self.earlier.get(&at).copied().unwrap_or(at);
        self.open.get(&at).map(|half| (at, half))
    }

    /// Takes a transaction out: it has ended, or its half message moves to another place.
    pub(super) fn close(&mut self, at: QueueOffset) -> Option<Open> {
        let half = self.open.remove(&at)?;
        self.due.remove(&(half.due_ms, at));
        for place in &half.earlier {
            self.earlier.remove(place);
        }
        Some(half)
    }

    /// Does something about a transaction later.
    pub(super) fn postpone(&mut self, at: QueueOffset, due_ms: i64) {
        if let Some(half) = self.open.get_mut(&at) {
            self.due.remove(&(half.due_ms, at));
            half.due_ms = due_ms;
            self.due.insert((due_ms, at));
        }
    }

    /// Notes that an op message says of half messages up to `last_half` that they are done.
    pub(super) fn note_op(&mut self, at: QueueOffset, last_half: QueueOffset) {
        self.next_op = self.next_op.max(at.plus(1));
        self.ops.push_back((at, last_half));
    }

    pub(super) fn next_due(&self) -> Option<i64> {
        self.due.first().map(|(due_ms, _)| *due_ms)
    }

    /// What is due at `now_ms`, at most `max`.
    pub(super) fn due(&self, now_ms: i64, max: usize) -> Vec<(QueueOffset, Open)> {
        let due = self.due.iter().take_while(|(due_ms, _)| *due_ms <= now_ms).take(max);
        due.filter_map(|(_, at)| Some((*at, self.open.get(at)?.clone()))).collect()
    }

    /// From where half messages and op messages must be read to find what is open.
    pub(super) fn resume_at(&mut self) -> (QueueOffset, QueueOffset) {
        let half = self.open.first_key_value().map_or(self.next_half, |(at, _)| *at);
        while self.ops.front().is_some_and(|(_, last_half)| *last_half < half) {
            self.ops.pop_front();
        }
        (half, self.ops.front().map_or(self.next_op, |(at, _)| *at))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn half(due_ms: i64) -> Open {
        Open {
            position: LogPosition::ZERO,
            checks: 0,
            since_ms: 0,
            immune_until_ms: 0,
            due_ms,
            inherited: false,
            earlier: Vec::new(),
        }
    }

    fn at(offset: usize) -> QueueOffset {
        QueueOffset::new(offset as i64)
    }

    #[test]
    fn a_moved_half_message_is_found_at_every_place_it_had() {
        let mut open = OpenTransactions::default();
        open.open(at(0), half(5));
        for (from, to) in [(0, 3), (3, 9)] {
            let mut moved = open.close(at(from)).unwrap();
            moved.earlier.push(at(from));
            open.open(at(to), moved);
        }
        for place in [0, 3, 9] {
            assert_eq!(open.find(at(place)).unwrap().0, at(9));
        }
        open.close(at(9)).unwrap();
        assert!([0, 3, 9].iter().all(|place| open.find(at(*place)).is_none()));
        assert!(open.earlier.is_empty() && open.due.is_empty());
    }

    proptest! {
        /// The two queues as they are on disk, and what a broker finds open that reads from where it is told.
        #[test]
        fn who_reads_from_where_it_resumes_finds_what_is_open(steps in prop::collection::vec((0..3_u8, any::<prop::sample::Index>(), 0..50_i64), 0..60)) {
            let mut state = OpenTransactions::default();
            let (mut halves, mut ops): (usize, Vec<Vec<QueueOffset>>) = (0, Vec::new());
            let mut model = BTreeSet::new();
            for (step, which, due_ms) in steps {
                let chosen = (!model.is_empty()).then(|| *which.get(&model.iter().copied().collect::<Vec<_>>()));
                match (step, chosen) {
                    (1, Some(place)) => {
                        state.close(place).unwrap();
                        state.note_op(at(ops.len()), place);
                        ops.push(vec![place]);
                        model.remove(&place);
                    }
                    (2, Some(place)) => {
                        let mut moved = state.close(place).unwrap();
                        moved.earlier.push(place);
                        moved.due_ms = due_ms;
                        state.open(at(halves), moved);
                        state.note_op(at(ops.len()), place);
                        ops.push(vec![place]);
                        model.remove(&place);
                        model.insert(at(halves));
                        halves += 1;
                    }
                    _ => {
                        state.open(at(halves), half(due_ms));
                        model.insert(at(halves));
                        halves += 1;
                    }
                }
                let (half_from, op_from) = state.resume_at();
                let ended: BTreeSet<_> = ops.iter().skip(op_from.get() as usize).flatten().copied().collect();
                let found: BTreeSet<_> =
                    (half_from.get() as usize..halves).map(at).filter(|place| !ended.contains(place)).collect();
                prop_assert_eq!(&found, &model);
                prop_assert_eq!(state.len(), model.len());
                let due = state.due(25, 1000);
                prop_assert!(due.iter().all(|(_, half)| half.due_ms <= 25));
                prop_assert_eq!(due.is_empty(), state.next_due().is_none_or(|first| first > 25));
            }
        }
    }
}
