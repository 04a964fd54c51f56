//! [`HeldPulls`]: pulls that found nothing and wait for a message to arrive.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rocketmq_protocol::QueueId;
use rocketmq_protocol::transport::Connection;
use tokio::sync::Notify;

use super::pull::HeldPull;
use crate::store::Arrival;

/// Pulls that wait, by queue and by deadline. A pull is in here until a message that it wants arrives, its time is
/// up, or the broker stops; then it is handed out to be answered.
#[derive(Default)]
pub(super) struct HeldPulls {
    /// Held to enter a pull or to take some out.
    state: Mutex<State>,
    /// Pulls in the table: lets an arrival nobody waits for pass without the lock.
    held: AtomicUsize,
    /// Something is to be handed out, or the first deadline changed.
    due: Notify,
}

#[derive(Default)]
struct State {
    by_topic: HashMap<String, HashMap<QueueId, Vec<Entry>>>,
    /// Deadline in ms and number of each entry, with where it is.
    deadlines: BTreeSet<(i64, u64, String, QueueId)>,
    awake: Vec<HeldPull>,
    next_number: u64,
    closed: bool,
}

struct Entry {
    number: u64,
    deadline_ms: i64,
    pull: HeldPull,
}

impl HeldPulls {
    /// Enters a pull until `deadline_ms`; gives it back when none is held any more. `arrived` tells, once it is
    /// counted, whether a message came in between.
    pub(super) fn hold(
        &self,
        pull: HeldPull,
        deadline_ms: i64,
        arrived: impl FnOnce(&HeldPull) -> bool,
    ) -> Option<HeldPull> {
        let mut guard = self.state();
        let state = &mut *guard;
        if state.closed {
            return Some(pull);
        }
        if pull.connection().is_closed() {
            return None; // too late for `forget`
        }
        let number = state.next_number;
        state.next_number += 1;
        let (topic, queue_id) = (pull.topic().to_owned(), pull.queue_id());
        // Counted before the queue is looked at again, so that an arrival either is seen there or sees the count.
        self.held.fetch_add(1, Ordering::SeqCst);
        if arrived(&pull) {
            self.held.fetch_sub(1, Ordering::SeqCst);
            state.awake.push(pull);
            drop(guard);
            self.due.notify_one();
            return None;
        }
        let first = state.deadlines.first().is_none_or(|(first, ..)| deadline_ms < *first);
        state.deadlines.insert((deadline_ms, number, topic.clone(), queue_id));
        state.by_topic.entry(topic).or_default().entry(queue_id).or_default().push(Entry {
            number,
            deadline_ms,
            pull,
        });
        drop(guard);
        if first {
            self.due.notify_one();
        }
        None
    }

    /// Drops the pulls of a connection that is gone: nobody reads their answers. Looks at every pull.
    pub(super) fn forget(&self, connection: &Connection) {
        let mut guard = self.state();
        let state = &mut *guard;
        let mut gone = Vec::new();
        state.by_topic.retain(|topic, queues| {
            queues.retain(|queue_id, entries| {
                let mut at = 0;
                while let Some(entry) = entries.get(at) {
                    if entry.pull.connection().id() != connection.id() {
                        at += 1;
                        continue;
                    }
                    let entry = entries.swap_remove(at);
                    state.deadlines.remove(&(entry.deadline_ms, entry.number, topic.clone(), *queue_id));
                    gone.push(entry.pull);
                }
                !entries.is_empty()
            });
            !queues.is_empty()
        });
        drop(guard);
        self.held.fetch_sub(gone.len(), Ordering::SeqCst);
    }

    /// Holds no more pulls, and hands out all there are.
    pub(super) fn close(&self) -> Vec<HeldPull> {
        self.state().closed = true;
        self.take_due(i64::MAX).0
    }

    /// Hands out the pulls that want the message. Called by the store's dispatch, so it only moves them.
    pub(super) fn arrived(&self, arrival: &Arrival<'_>) {
        if self.held.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(queues) = state.by_topic.get_mut(arrival.topic) else { return };
        let Some(entries) = queues.get_mut(&arrival.queue_id) else { return };
        let before = state.awake.len();
        let mut at = 0;
        while let Some(entry) = entries.get(at) {
            if entry.pull.offset() > arrival.queue_offset
                || !entry.pull.wants(arrival.tag_hash, arrival.properties)
            {
                at += 1;
                continue;
            }
            let entry = entries.swap_remove(at);
            state.deadlines.remove(&(
                entry.deadline_ms,
                entry.number,
                arrival.topic.to_owned(),
                arrival.queue_id,
            ));
            state.awake.push(entry.pull);
        }
        let woken = state.awake.len() - before;
        if entries.is_empty() {
            queues.remove(&arrival.queue_id);
            if queues.is_empty() {
                state.by_topic.remove(arrival.topic);
            }
        }
        drop(guard);
        if woken > 0 {
            self.held.fetch_sub(woken, Ordering::SeqCst);
            self.due.notify_one();
        }
    }

    /// Hands out all pulls of a queue: what they wait for has changed.
    pub(super) fn release(&self, topic: &str, queue_id: QueueId) {
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(queues) = state.by_topic.get_mut(topic) else { return };
        let Some(entries) = queues.remove(&queue_id) else { return };
        if queues.is_empty() {
            state.by_topic.remove(topic);
        }
        self.held.fetch_sub(entries.len(), Ordering::SeqCst);
        for Entry { number, deadline_ms, pull } in entries {
            state.deadlines.remove(&(deadline_ms, number, topic.to_owned(), queue_id));
            state.awake.push(pull);
        }
        drop(guard);
        self.due.notify_one();
    }

    /// Takes out up to `limit` pulls that messages have woken.
    pub(super) fn take_woken(&self, limit: usize) -> Vec<HeldPull> {
        let mut state = self.state();
        let first_left = state.awake.len().min(limit);
        state.awake.drain(..first_left).collect()
    }

    /// Waits for something to do before the first deadline.
    pub(super) async fn due(&self) {
        self.due.notified().await;
    }

    /// Takes out what a message has woken and what is overdue at `now_ms`; and tells the next deadline.
    pub(super) fn take_due(&self, now_ms: i64) -> (Vec<HeldPull>, Option<i64>) {
        let mut guard = self.state();
        let state = &mut *guard;
        let mut due = std::mem::take(&mut state.awake);
        while let Some((deadline, number, topic, queue_id)) = state.deadlines.pop_first() {
            if deadline > now_ms {
                state.deadlines.insert((deadline, number, topic, queue_id));
                return (due, Some(deadline));
            }
            let Some(queues) = state.by_topic.get_mut(&topic) else { continue };
            let Some(entries) = queues.get_mut(&queue_id) else { continue };
            let Some(at) = entries.iter().position(|entry| entry.number == number) else { continue };
            due.push(entries.swap_remove(at).pull);
            self.held.fetch_sub(1, Ordering::SeqCst);
            if entries.is_empty() {
                queues.remove(&queue_id);
                if queues.is_empty() {
                    state.by_topic.remove(&topic);
                }
            }
        }
        (due, None)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
