//! Keeps the locks of an ordered consumer's queues: asks for them at once when queues are assigned, renews them, and gives
//! them back. Java: `RebalanceImpl.java`, `lockAll`.

use std::sync::Arc;
use std::time::Duration;

use rocketmq_protocol::body::LockBatchRequest;
use rocketmq_protocol::requests::{LockBatch, UnlockBatch};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::assigned_queue::{AssignedQueue, by_broker};
use super::assignment::Assignment;
use super::pipeline::Pipeline;
use crate::deadline::Deadline;
use crate::route_table::BrokerChoice;

/// Limit of one request. Java: `RebalanceImpl.java`, 1 s.
const LIMIT: Duration = Duration::from_secs(1);
/// When to look again while no queue is assigned: the wake-up comes first.
const IDLE: Duration = Duration::from_secs(60);

/// Keeps the locks of what is assigned until it is dropped. `assigned` wakes it when queues were.
pub(super) async fn keep_locks(pipeline: Arc<Pipeline>, assignment: Arc<Assignment>, assigned: Arc<Notify>) {
    loop {
        let now = Instant::now();
        let is_due = |queue: &Arc<AssignedQueue>| queue.lock.due().is_some_and(|due| due <= now);
        let due = assignment.queues().into_iter().filter(is_due).collect();
        lock(&pipeline, due).await;
        let next = assignment.queues().iter().filter_map(|queue| queue.lock.due()).min();
        tokio::time::timeout_at(next.unwrap_or_else(|| now + IDLE), assigned.notified()).await.ok();
    }
}

/// Asks every broker for the locks of its queues, at the same time. A queue whose lock is lost is given up: somebody else
/// may be handling its messages.
async fn lock(pipeline: &Arc<Pipeline>, queues: Vec<Arc<AssignedQueue>>) {
    let mut asking = JoinSet::new();
    for (broker, queues) in by_broker(queues) {
        let pipeline = Arc::clone(pipeline);
        asking.spawn(async move {
            let asked = Instant::now();
            let request = LockBatch { queues: batch(&pipeline, &queues) };
            let Some(topic) = queues.first().map(|queue| &*queue.id.topic) else { return };
            let (master, deadline) = (BrokerChoice::Master, Deadline::after(LIMIT));
            let answer = pipeline.client.call_broker(topic, &broker, master, &request, deadline).await;
            if let Err(error) = &answer {
                debug!(%broker, queues = queues.len(), %error, "locks not asked for");
            }
            for queue in queues {
                let is_lost = match &answer {
                    Ok(reply) if reply.locked.lock_ok_mq_set.contains(&queue.id) => {
                        queue.lock.grant(asked);
                        false
                    }
                    Ok(_) => queue.lock.refuse(asked),
                    Err(_) => queue.lock.unanswered(asked),
                };
                if is_lost {
                    warn!(queue = %queue.id, "lock lost: the queue is given up, and its messages with it");
                    queue.lose_lock();
                    pipeline.rebalance.notify_one();
                }
            }
        });
    }
    while asking.join_next().await.is_some() {}
}

/// Gives locks back, so that the next owner need not wait until they expire.
pub(super) async fn unlock(pipeline: &Arc<Pipeline>, queues: Vec<Arc<AssignedQueue>>) {
    let mut asking = JoinSet::new();
    for (broker, queues) in by_broker(queues) {
        let pipeline = Arc::clone(pipeline);
        asking.spawn(async move {
            let request = UnlockBatch { queues: batch(&pipeline, &queues) };
            let Some(topic) = queues.first().map(|queue| &*queue.id.topic) else { return };
            let (master, deadline) = (BrokerChoice::Master, Deadline::after(LIMIT));
            if let Err(error) = pipeline.client.call_broker(topic, &broker, master, &request, deadline).await {
                warn!(%broker, queues = queues.len(), %error, "locks not given back; they expire after a minute");
            }
        });
    }
    while asking.join_next().await.is_some() {}
}

fn batch(pipeline: &Pipeline, queues: &[Arc<AssignedQueue>]) -> LockBatchRequest {
    LockBatchRequest {
        client_id: pipeline.client.id().to_owned(),
        consumer_group: pipeline.group.to_string(),
        mq_set: queues.iter().map(|queue| queue.id.clone()).collect(),
        only_this_broker: false,
    }
}
