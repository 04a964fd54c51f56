//! [`QueueLag`]: how far a consumer is behind.

use std::sync::Arc;

use rocketmq_protocol::QueueOffset;
use rocketmq_protocol::body::MessageQueue;
use tokio::task::JoinSet;

use super::assigned_queue::AssignedQueue;
use super::pipeline::Pipeline;
use crate::Error;

/// Questions that are asked at the same time.
const PARALLEL: usize = 16;

/// How far a consumer is behind in one queue.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueLag {
    /// The queue.
    pub queue: MessageQueue,
    /// Everything before is finished: handled, or stored elsewhere for another try.
    pub next: QueueOffset,
    /// Behind the last message of the queue.
    pub end: QueueOffset,
}

impl QueueLag {
    /// Messages that are not finished, those among them that no filter lets through.
    pub fn messages(&self) -> u64 {
        u64::try_from(self.end.get().saturating_sub(self.next.get())).unwrap_or_default()
    }
}

/// Asks the brokers for the ends of `queues`. A queue that the consumer has not begun to read is left out.
pub(super) async fn lag(
    pipeline: &Arc<Pipeline>,
    queues: Vec<Arc<AssignedQueue>>,
) -> Result<Vec<QueueLag>, Error> {
    let mut asking: JoinSet<Result<Option<QueueLag>, Error>> = JoinSet::new();
    let mut found = Vec::with_capacity(queues.len());
    for queue in queues {
        if asking.len() >= PARALLEL {
            if let Some(Ok(lag)) = asking.join_next().await {
                found.extend(lag?);
            }
        }
        let client = pipeline.client.clone();
        asking.spawn(async move {
            let Some(next) = queue.committable() else { return Ok(None) };
            let end = client.max_offset(&queue.id, client.request_deadline()).await?;
            let queue = client.core().namespace.unwrap_queue(queue.id.clone());
            Ok(Some(QueueLag { queue, next, end }))
        });
    }
    while let Some(lag) = asking.join_next().await {
        if let Ok(lag) = lag {
            found.extend(lag?); // they do not panic
        }
    }
    found.sort_by(|a, b| a.queue.cmp(&b.queue));
    Ok(found)
}
