//! [`OffsetStore`]: a group's offsets, kept by the brokers, or in a file where every member gets every message. "No
//! offset" is `None`, "could not ask" an error.

use std::sync::Arc;
use std::time::Duration;

use rocketmq_protocol::QueueOffset;
use rocketmq_protocol::body::MessageQueue;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::warn;

use super::assigned_queue::{AssignedQueue, by_broker};
use super::local_offsets::LocalOffsets;
use crate::deadline::Deadline;
use crate::{Client, Error};

/// Limit of one question or commit. Java: `OffsetStore`, 5 s.
const LIMIT: Duration = Duration::from_secs(5);

/// What handlers get to finish when their queue is given up. The next owner waits longer than this after the last commit that it
/// sees, so that what they finish does not come again.
const HANDLERS_MAY_FINISH: Duration = Duration::from_millis(400);

/// The offsets of a group.
pub(super) enum OffsetStore {
    /// Each with the broker of its queue.
    Brokers {
        client: Client,
        group: String,
        /// Nothing is committed to it: the user sees to that elsewhere.
        quiet: bool,
    },
    /// All in a file of this machine.
    Local(LocalOffsets),
}

/// When a queue is told to commit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    /// It stays ours.
    Progress,
    /// It is given up.
    Revoke,
}

impl OffsetStore {
    pub(super) fn new(client: Client, group: String) -> Self {
        Self::Brokers { client, group, quiet: false }
    }

    /// One that queues commit nothing to.
    pub(super) fn quiet(client: Client, group: String) -> Self {
        Self::Brokers { client, group, quiet: true }
    }

    pub(super) fn is_quiet(&self) -> bool {
        matches!(self, Self::Brokers { quiet: true, .. })
    }

    /// Whether the offsets are this member's own.
    pub(super) fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    /// Where the group stands in `queue`; `None` when it has not been there.
    pub(super) async fn stored(&self, queue: &MessageQueue) -> Result<Option<QueueOffset>, Error> {
        match self {
            Self::Brokers { client, group, .. } => {
                client.stored_offset(group, queue, Deadline::after(LIMIT)).await
            }
            Self::Local(offsets) => Ok(offsets.get(queue)),
        }
    }

    /// Makes `offset` the group's, and returns when the broker has it. A file is written by [`OffsetStore::save`].
    pub(super) async fn commit(&self, queue: &MessageQueue, offset: QueueOffset) -> Result<(), Error> {
        match self {
            Self::Brokers { client, group, .. } => {
                client.store_offset(group, queue, offset, Deadline::after(LIMIT)).await
            }
            Self::Local(offsets) => {
                offsets.set(queue, offset);
                Ok(())
            }
        }
    }

    /// Writes what a file has yet to say.
    pub(super) async fn save(&self) -> Result<(), Error> {
        match self {
            Self::Brokers { .. } => Ok(()),
            Self::Local(offsets) => offsets.save().await,
        }
    }
}

/// Commits the progress of `queues`, at every broker at the same time. A broker that fails is not asked for its other
/// queues: what they have to say stays with them.
///
/// # Errors
/// The first failure. All other brokers have been told.
pub(super) async fn commit_all(
    store: &Arc<OffsetStore>,
    queues: Vec<Arc<AssignedQueue>>,
    occasion: Occasion,
) -> Result<(), Error> {
    if occasion == Occasion::Revoke {
        queues.iter().for_each(|queue| queue.leave());
    }
    let patience = Instant::now() + HANDLERS_MAY_FINISH;
    let mut brokers = JoinSet::new();
    for (broker, queues) in by_broker(queues) {
        let store = Arc::clone(store);
        brokers.spawn(async move {
            let mut failure = None;
            if occasion == Occasion::Revoke {
                // Those that have handlers at work show the next owners that they are still there.
                for queue in queues.iter().filter(|queue| queue.is_handled()) {
                    if let Err(error) = queue.commit(&store).await {
                        warn!(%broker, queue = %queue.id, %error, "offset not committed");
                        failure = Some(error);
                        break;
                    }
                }
            }
            for queue in queues {
                let told = match (occasion, &failure) {
                    (Occasion::Progress, None) => queue.commit(&store).await,
                    (Occasion::Progress, Some(_)) => break,
                    (Occasion::Revoke, None) => queue.revoke(&store, patience).await,
                    (Occasion::Revoke, Some(_)) => {
                        queue.abandon();
                        continue;
                    }
                };
                if let Err(error) = told {
                    warn!(%broker, queue = %queue.id, %error, "offset not committed");
                    failure = Some(error);
                }
            }
            failure
        });
    }
    let mut failure = None;
    while let Some(ended) = brokers.join_next().await {
        failure = failure.or(ended.ok().flatten()); // they do not panic
    }
    let saved = store.save().await;
    failure.map_or(saved, Err)
}
