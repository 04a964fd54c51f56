//! [`Verifier`]: whether what arrives is what was sent.

use std::collections::HashMap;

use rocketmq_client::{MessageQueue, ReceivedMessage};

use super::stamp::{NoStamp, Stamp};

/// Where a message was stored: number of its queue, as the verifier counts them, and offset.
type Place = (u32, i64);

/// Sequence numbers that memory is kept for.
const MOST: usize = 1 << 30;

/// Collects stamps in whatever order handlers get them. Keeps 24 bytes per message.
#[derive(Default)]
pub(crate) struct Verifier {
    producers: HashMap<u64, Vec<Option<Place>>>,
    queues: HashMap<MessageQueue, u32>,
    corrupt: u64,
    foreign: u64,
    duplicates: u64,
}

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Different messages that came whole.
    pub(crate) distinct: u64,
    /// Sequence numbers of a producer below its highest one that came, and did not come.
    pub(crate) lost: u64,
    /// Messages that came again.
    pub(crate) duplicates: u64,
    /// Messages stored in a queue behind a later one of the same producer.
    pub(crate) reordered: u64,
    /// Bodies that are not what was sent.
    pub(crate) corrupt: u64,
    /// Bodies that were sent without `--verify`.
    pub(crate) foreign: u64,
}

impl Verifier {
    pub(crate) fn see(&mut self, message: &ReceivedMessage) {
        let stamp = match message.body() {
            Ok(body) => Stamp::read(body),
            Err(_) => Err(NoStamp::Corrupt),
        };
        match stamp {
            Ok(stamp) => {
                let count = u32::try_from(self.queues.len()).unwrap_or(u32::MAX);
                let queue = *self.queues.entry(message.queue()).or_insert(count);
                self.stamped(stamp, (queue, message.queue_offset().get()));
            }
            Err(NoStamp::Corrupt) => self.corrupt += 1,
            Err(NoStamp::Foreign) => self.foreign += 1,
        }
    }

    fn stamped(&mut self, stamp: Stamp, place: Place) {
        let seen = self.producers.entry(stamp.producer).or_default();
        let Some(index) = usize::try_from(stamp.sequence).ok().filter(|index| *index < MOST) else {
            self.corrupt += 1;
            return;
        };
        if seen.len() <= index {
            seen.resize(index + 1, None);
        }
        match seen.get_mut(index) {
            Some(slot @ None) => *slot = Some(place),
            _ => self.duplicates += 1,
        }
    }

    pub(crate) fn verdict(&self) -> Verdict {
        let mut verdict = Verdict {
            duplicates: self.duplicates,
            corrupt: self.corrupt,
            foreign: self.foreign,
            ..Verdict::default()
        };
        for places in self.producers.values() {
            let mut highest: HashMap<u32, i64> = HashMap::new();
            for place in places {
                let Some((queue, offset)) = *place else {
                    verdict.lost += 1;
                    continue;
                };
                verdict.distinct += 1;
                let highest = highest.entry(queue).or_insert(-1);
                verdict.reordered += u64::from(offset < *highest);
                *highest = offset.max(*highest);
            }
        }
        verdict
    }
}

impl Verdict {
    /// Nothing is missing, nothing is wrong. A message may come twice, and several in flight may overtake one another.
    pub(crate) fn is_sound(&self) -> bool {
        self.lost + self.corrupt + self.foreign == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(seen: &[(u64, u64, Place)]) -> Verdict {
        let mut verifier = Verifier::default();
        for &(producer, sequence, place) in seen {
            verifier.stamped(Stamp { producer, sequence }, place);
        }
        verifier.verdict()
    }

    #[test]
    fn what_handlers_get_in_another_order_is_not_reordered() {
        let all = [(1, 2, (0, 1)), (1, 0, (0, 0)), (1, 1, (1, 0)), (2, 0, (0, 2))];
        let found = verdict(&all);
        assert_eq!(found, Verdict { distinct: 4, ..Verdict::default() });
        assert!(found.is_sound());
    }

    #[test]
    fn a_gap_is_a_loss_and_a_second_copy_a_duplicate() {
        let found = verdict(&[(1, 0, (0, 0)), (1, 3, (0, 1)), (1, 3, (0, 2))]);
        assert_eq!(found, Verdict { distinct: 2, lost: 2, duplicates: 1, ..Verdict::default() });
        assert!(!found.is_sound());
    }

    #[test]
    fn a_message_stored_behind_a_later_one_is_reordered() {
        let found = verdict(&[(1, 0, (0, 5)), (1, 1, (0, 4)), (1, 2, (0, 6))]);
        assert_eq!((found.reordered, found.is_sound()), (1, true));
    }
}
