//! [`ProcessQueue`]: what was read from one queue and is not finished yet.
//!
//! A message is finished once it was handled, or stored elsewhere for another try. The offset to commit is that of the
//! first unfinished message, whatever was finished behind it, so that a crash loses nothing. Pure: no I/O, no clock.

use std::collections::VecDeque;

use rocketmq_protocol::QueueOffset;

/// What was read from one queue and is not finished yet.
#[derive(Debug)]
pub(super) struct ProcessQueue {
    /// By rising offset. The first one is unfinished; finished ones go when they become the first.
    slots: VecDeque<Slot>,
    /// Where to read on.
    next: QueueOffset,
    /// Whether the broker has confirmed `next`; before, there is nothing to commit.
    read: bool,
    held: Held,
}

#[derive(Debug)]
struct Slot {
    offset: QueueOffset,
    bytes: usize,
    finished: bool,
}

/// A number of messages and the bytes of their bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

impl Held {
    fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes;
    }
}

impl ProcessQueue {
    /// An empty one that is to be read from `start` on.
    pub(super) fn new(start: QueueOffset) -> Self {
        Self { slots: VecDeque::new(), next: start, read: false, held: Held::default() }
    }

    /// Takes what the broker answered: the offsets and body lengths of the wanted messages, and where to read on.
    /// Calls `take` for each message that is new; one that lies before what was read already is not.
    ///
    /// Returns what is held in addition.
    pub(super) fn put<M>(
        &mut self,
        messages: impl IntoIterator<Item = (QueueOffset, usize, M)>,
        next: QueueOffset,
        mut take: impl FnMut(M),
    ) -> Held {
        let mut added = Held::default();
        for (offset, bytes, message) in messages {
            if offset < self.next {
                continue;
            }
            self.slots.push_back(Slot { offset, bytes, finished: false });
            self.next = offset.plus(1);
            added.add(bytes);
            take(message);
        }
        self.next = self.next.max(next);
        self.read = true;
        self.held.messages += added.messages;
        self.held.bytes += added.bytes;
        added
    }

    /// Marks messages as finished. Those that are not held, or were finished before, do not count.
    ///
    /// Returns what is no longer held.
    pub(super) fn finish(&mut self, offsets: impl IntoIterator<Item = QueueOffset>) -> Held {
        let mut freed = Held::default();
        for offset in offsets {
            // As a rule they finish in their order.
            let is_first = self.slots.front().is_some_and(|first| first.offset == offset);
            let found =
                if is_first { Ok(0) } else { self.slots.binary_search_by_key(&offset, |slot| slot.offset) };
            let Some(slot) = found.ok().and_then(|at| self.slots.get_mut(at)) else { continue };
            if !std::mem::replace(&mut slot.finished, true) {
                freed.add(slot.bytes);
            }
            while self.slots.front().is_some_and(|slot| slot.finished) {
                self.slots.pop_front();
            }
        }
        self.held.messages -= freed.messages;
        self.held.bytes -= freed.bytes;
        freed
    }

    /// Forgets every message: the queue is no longer ours. Returns what is no longer held.
    pub(super) fn clear(&mut self) -> Held {
        self.slots.clear();
        self.read = false;
        std::mem::take(&mut self.held)
    }

    /// Where to read on.
    pub(super) fn next(&self) -> QueueOffset {
        self.next
    }

    /// The offset to commit: of the first unfinished message; when there is none, where to read on. `None` until the
    /// broker has answered.
    pub(super) fn committable(&self) -> Option<QueueOffset> {
        self.read.then(|| self.slots.front().map_or(self.next, |first| first.offset))
    }

    /// Whether nothing is unfinished.
    pub(super) fn is_idle(&self) -> bool {
        self.slots.is_empty()
    }

    /// What is unfinished.
    pub(super) fn held(&self) -> Held {
        self.held
    }

    /// Offsets between the first unfinished and the last message.
    pub(super) fn span(&self) -> i64 {
        self.bounds().map_or(0, |(first, last)| last.get().saturating_sub(first.get()))
    }

    /// Offsets of the first unfinished and of the last message, if there are any.
    pub(super) fn bounds(&self) -> Option<(QueueOffset, QueueOffset)> {
        Some((self.slots.front()?.offset, self.slots.back()?.offset))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn read(queue: &mut ProcessQueue, offsets: &[i64], next: i64) -> Vec<i64> {
        let mut taken = Vec::new();
        let messages = offsets.iter().map(|&offset| (QueueOffset::new(offset), 10, offset));
        queue.put(messages, QueueOffset::new(next), |offset| taken.push(offset));
        taken
    }

    fn finish(queue: &mut ProcessQueue, offset: i64) -> Held {
        queue.finish([QueueOffset::new(offset)])
    }

    fn committable(queue: &ProcessQueue) -> Option<i64> {
        queue.committable().map(QueueOffset::get)
    }

    #[test]
    fn the_smallest_unfinished_offset_is_committed_whatever_is_finished_behind_it() {
        let mut queue = ProcessQueue::new(QueueOffset::new(5));
        assert_eq!(read(&mut queue, &[5, 6, 8], 12), [5, 6, 8]);
        assert_eq!((committable(&queue), queue.span()), (Some(5), 3));
        finish(&mut queue, 6);
        finish(&mut queue, 8);
        assert_eq!(committable(&queue), Some(5));
        finish(&mut queue, 5);
        assert_eq!((committable(&queue), queue.is_idle(), queue.span()), (Some(12), true, 0));
    }

    #[test]
    fn nothing_is_committed_before_the_broker_has_answered_or_after_the_queue_is_gone() {
        let mut queue = ProcessQueue::new(QueueOffset::new(5));
        assert_eq!(committable(&queue), None);
        read(&mut queue, &[], 9);
        assert_eq!(committable(&queue), Some(9)); // a filtered range counts
        read(&mut queue, &[9], 10);
        assert_eq!(queue.clear(), Held { messages: 1, bytes: 10 });
        assert_eq!((committable(&queue), finish(&mut queue, 9)), (None, Held::default()));
    }

    #[test]
    fn a_message_that_comes_or_ends_twice_counts_once() {
        let mut queue = ProcessQueue::new(QueueOffset::ZERO);
        read(&mut queue, &[0, 1], 2);
        assert_eq!(read(&mut queue, &[1, 2], 3), [2]);
        assert_eq!(queue.held(), Held { messages: 3, bytes: 30 });
        assert_eq!(finish(&mut queue, 1), Held { messages: 1, bytes: 10 });
        assert_eq!(finish(&mut queue, 1), Held::default());
        assert_eq!(queue.held(), Held { messages: 2, bytes: 20 });
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// The broker answers with this many messages, each after a gap, and a filtered range behind them.
        Read(Vec<u8>, u8),
        /// One of the unfinished messages is handled, or sent back and stored.
        Finish(prop::sample::Index),
        /// One of them fails, and the send-back too: it stays.
        Fail,
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (prop::collection::vec(0u8..4, 0..6), 0u8..4).prop_map(|(gaps, tail)| Step::Read(gaps, tail)),
            any::<prop::sample::Index>().prop_map(Step::Finish),
            Just(Step::Fail),
        ]
    }

    proptest! {
        #[test]
        fn an_offset_moves_only_past_messages_that_were_handled_or_safely_sent_back(
            start in 0i64..100,
            steps in prop::collection::vec(any_step(), 0..200),
        ) {
            let mut queue = ProcessQueue::new(QueueOffset::new(start));
            let mut unfinished = BTreeSet::new();
            let (mut next, mut before, mut answered) = (start, None, false);
            for step in steps {
                match step {
                    Step::Read(gaps, tail) => {
                        let mut offsets = Vec::new();
                        for gap in gaps {
                            offsets.push(next + i64::from(gap));
                            next += i64::from(gap) + 1;
                        }
                        next += i64::from(tail);
                        prop_assert_eq!(&read(&mut queue, &offsets, next), &offsets);
                        unfinished.extend(offsets);
                        answered = true;
                    }
                    Step::Finish(which) if !unfinished.is_empty() => {
                        let offset = *which.get(&Vec::from_iter(unfinished.iter().copied()));
                        prop_assert_eq!(finish(&mut queue, offset), Held { messages: 1, bytes: 10 });
                        unfinished.remove(&offset);
                    }
                    Step::Finish(_) | Step::Fail => {}
                }
                let now = committable(&queue);
                prop_assert_eq!(now, answered.then(|| unfinished.first().copied().unwrap_or(next)));
                prop_assert!(now >= before, "an offset never goes back");
                before = now;
                prop_assert_eq!(queue.held(), Held { messages: unfinished.len(), bytes: unfinished.len() * 10 });
                prop_assert_eq!(queue.is_idle(), unfinished.is_empty());
                prop_assert_eq!(queue.next().get(), next);
            }
        }
    }
}
