//! [`MessageQueueSelector`]: chooses the queue that a message goes to.

use std::collections::BTreeSet;

use rocketmq_protocol::body::MessageQueue;
use rocketmq_protocol::message::java_string_hash;

use crate::Message;

/// Chooses the queue that a message goes to. [`SendOptions::choose`](crate::SendOptions::choose) takes a closure.
pub trait MessageQueueSelector: Send + Sync {
    /// One of `queues`, which are those of the topic that can be written; `None` fails the send.
    fn select<'a>(&self, queues: &'a [MessageQueue], message: &Message) -> Option<&'a MessageQueue>;
}

/// The same queue for the same key. Java's `SelectMessageQueueByHash` chooses the same one, given the same key as a
/// `String` or `Long` and the same queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelectByHash {
    hash: i32,
}

impl SelectByHash {
    /// By text: Java's `String.hashCode`.
    pub fn of(key: &str) -> Self {
        Self { hash: java_string_hash(key) }
    }

    /// By number: Java's `Long.hashCode`.
    pub fn of_number(key: i64) -> Self {
        Self { hash: (key ^ (key >> 32)) as i32 }
    }
}

impl MessageQueueSelector for SelectByHash {
    fn select<'a>(&self, queues: &'a [MessageQueue], _: &Message) -> Option<&'a MessageQueue> {
        // The remainder first, then its absolute value, as in Java: |i32::MIN| is no i32.
        let remainder = i64::from(self.hash) % i64::try_from(queues.len()).ok().filter(|len| *len > 0)?;
        queues.get(usize::try_from(remainder.unsigned_abs()).ok()?)
    }
}

/// Any queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SelectByRandom;

impl MessageQueueSelector for SelectByRandom {
    fn select<'a>(&self, queues: &'a [MessageQueue], _: &Message) -> Option<&'a MessageQueue> {
        queues.get(rand::random_range(0..queues.len().max(1)))
    }
}

/// A queue in one of these machine rooms, at random: a broker's room is what stands before the `@` of its name.
/// (Java's `SelectMessageQueueByMachineRoom` chooses nothing.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectByMachineRoom {
    rooms: BTreeSet<String>,
}

impl SelectByMachineRoom {
    /// Brokers in these rooms. None of them there, no queue is chosen, and the send fails.
    pub fn of<R: Into<String>>(rooms: impl IntoIterator<Item = R>) -> Self {
        Self { rooms: rooms.into_iter().map(Into::into).collect() }
    }

    fn has(&self, queue: &MessageQueue) -> bool {
        queue.broker_name.split_once('@').is_some_and(|(room, _)| self.rooms.contains(room))
    }
}

impl MessageQueueSelector for SelectByMachineRoom {
    fn select<'a>(&self, queues: &'a [MessageQueue], _: &Message) -> Option<&'a MessageQueue> {
        let near = queues.iter().filter(|queue| self.has(queue)).count();
        queues.iter().filter(|queue| self.has(queue)).nth(rand::random_range(0..near.max(1)))
    }
}

/// A closure as a selector: the compiler sees the signature of a closure only where an `Fn` bound spells it out.
pub(super) struct SelectBy<F>(pub(super) F);

impl<F> MessageQueueSelector for SelectBy<F>
where
    F: for<'a> Fn(&'a [MessageQueue], &Message) -> Option<&'a MessageQueue> + Send + Sync,
{
    fn select<'a>(&self, queues: &'a [MessageQueue], message: &Message) -> Option<&'a MessageQueue> {
        (self.0)(queues, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(selector: impl MessageQueueSelector, count: i32) -> Option<i32> {
        let queues: Vec<_> = (0..count).map(|id| MessageQueue::new("t", "b", id)).collect();
        selector.select(&queues, &Message::new("t", "b")).map(|queue| queue.queue_id.get())
    }

    #[test]
    fn a_key_chooses_the_queue_that_java_chooses() {
        // "polygenelubricants" hashes to i32::MIN, whose absolute value is no i32.
        assert_eq!(chosen(SelectByHash::of("polygenelubricants"), 7), Some(2));
        assert_eq!(chosen(SelectByHash::of("a"), 10), Some(7));
        assert_eq!(chosen(SelectByHash::of_number(5), 4), Some(1));
        assert_eq!(chosen(SelectByHash::of_number(-1), 4), Some(0));
        assert_eq!(chosen(SelectByHash::of_number(1 << 32), 4), Some(1));
    }

    #[test]
    fn a_machine_room_has_the_brokers_that_are_named_after_it() {
        let queues = ["a@1", "b@1", "plain", "a@2"].map(|broker| MessageQueue::new("t", broker, 0));
        let select = |rooms: &[&str]| {
            let selector = SelectByMachineRoom::of(rooms.iter().copied());
            selector.select(&queues, &Message::new("t", "b")).map(|queue| queue.broker_name.as_str())
        };
        for _ in 0..20 {
            assert!(select(&["a"]).is_some_and(|broker| broker.starts_with("a@")));
            assert!(select(&["a", "b"]).is_some_and(|broker| broker != "plain"));
        }
        assert_eq!(select(&["b"]), Some("b@1"));
        assert_eq!(select(&["c", "plain"]), None);
    }

    #[test]
    fn where_there_is_no_queue_none_is_chosen() {
        assert_eq!(chosen(SelectByHash::of("a"), 0), None);
        assert_eq!(chosen(SelectByRandom, 0), None);
        assert!(chosen(SelectByRandom, 3).is_some());
    }
}
