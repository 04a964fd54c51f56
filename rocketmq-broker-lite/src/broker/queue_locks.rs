//! [`QueueLocks`]: which client of a group may consume which queue in order.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rocketmq_protocol::body::{LockBatchRequest, LockBatchResponse, MessageQueue, UnlockBatchRequest};
use rocketmq_protocol::transport::Clock;

/// How long a lock lasts that is not renewed; clients renew every 20 s. Java: `RebalanceLockManager.java`,
/// `rocketmq.broker.rebalance.lockMaxLiveTime`.
const LIFE: Duration = Duration::from_secs(60);

/// Locks by group and queue, in memory only. As in Java they outlive connections: a client gives its own back before it leaves, those of
/// one that was lost end with their time, so that nobody overtakes what it may still be consuming.
pub(super) struct QueueLocks {
    /// Held to look at or change the locks of a group.
    groups: Mutex<HashMap<String, BTreeMap<MessageQueue, QueueLock>>>,
    clock: Clock,
}

struct QueueLock {
    client_id: String,
    ends_ms: i64,
}

impl QueueLocks {
    pub(super) fn new(clock: Clock) -> Self {
        Self { groups: Mutex::default(), clock }
    }

    /// Takes or renews the locks that nobody else holds, and tells which these are.
    pub(super) fn lock(&self, request: LockBatchRequest) -> LockBatchResponse {
        let now = self.clock.now_ms();
        let ends_ms = now.saturating_add(LIFE.as_millis() as i64);
        let mut groups = self.groups();
        groups.retain(|_, locks| {
            locks.retain(|_, lock| lock.ends_ms > now);
            !locks.is_empty()
        });
        let locks = groups.entry(request.consumer_group).or_default();
        let mut lock_ok_mq_set = Vec::new();
        for queue in request.mq_set {
            let mine = locks.get(&queue).is_none_or(|lock| lock.client_id == request.client_id);
            if mine {
                locks.insert(queue.clone(), QueueLock { client_id: request.client_id.clone(), ends_ms });
                lock_ok_mq_set.push(queue);
            }
        }
        LockBatchResponse { lock_ok_mq_set }
    }

    /// Gives back those locks that the client holds.
    pub(super) fn unlock(&self, request: &UnlockBatchRequest) {
        let mut groups = self.groups();
        let Some(locks) = groups.get_mut(&request.consumer_group) else { return };
        for queue in &request.mq_set {
            if locks.get(queue).is_some_and(|lock| lock.client_id == request.client_id) {
                locks.remove(queue);
            }
        }
        if locks.is_empty() {
            groups.remove(&request.consumer_group);
        }
    }

    /// Whether somebody of the group holds a lock.
    pub(super) fn any_held(&self, group: &str) -> bool {
        let now = self.clock.now_ms();
        self.groups().get(group).is_some_and(|locks| locks.values().any(|lock| lock.ends_ms > now))
    }

    fn groups(&self) -> MutexGuard<'_, HashMap<String, BTreeMap<MessageQueue, QueueLock>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(client: &str, queues: &[i32]) -> LockBatchRequest {
        LockBatchRequest {
            client_id: client.to_owned(),
            consumer_group: "g".to_owned(),
            mq_set: queues.iter().map(|id| MessageQueue::new("orders", "b", *id)).collect(),
            only_this_broker: false,
        }
    }

    fn locked(locks: &QueueLocks, client: &str, queues: &[i32]) -> Vec<i32> {
        let response = locks.lock(request(client, queues));
        response.lock_ok_mq_set.iter().map(|queue| queue.queue_id.get()).collect()
    }

    #[test]
    fn a_lock_is_one_clients_until_it_gives_it_back() {
        let locks = QueueLocks::new(Clock::system());
        assert_eq!(locked(&locks, "a", &[0, 1]), [0, 1]);
        assert_eq!(locked(&locks, "b", &[0, 1, 2]), [2]);
        locks.unlock(&request("b", &[0]));
        assert_eq!(locked(&locks, "b", &[0]), [0; 0], "only its holder can give it back");
        locks.unlock(&request("a", &[0]));
        assert_eq!(locked(&locks, "b", &[0, 1]), [0]);
    }

    #[test]
    fn groups_do_not_exclude_each_other() {
        let locks = QueueLocks::new(Clock::system());
        assert_eq!(locked(&locks, "a", &[0]), [0]);
        let other = LockBatchRequest { consumer_group: "h".to_owned(), ..request("b", &[0]) };
        assert_eq!(locks.lock(other).lock_ok_mq_set.len(), 1);
    }

    #[test]
    fn a_lock_that_is_not_renewed_for_a_minute_is_free() {
        let clock = Clock::system();
        let locks = QueueLocks::new(clock.clone());
        assert_eq!(locked(&locks, "a", &[0, 1]), [0, 1]);
        clock.advance(Duration::from_secs(40));
        assert_eq!(locked(&locks, "a", &[0]), [0]);
        clock.advance(Duration::from_secs(25));
        assert!(locks.any_held("g"));
        assert_eq!(locked(&locks, "b", &[0, 1]), [1]);
        clock.advance(Duration::from_secs(61));
        assert!(!locks.any_held("g"));
    }
}
