//! [`Dispatcher`]: what was read and waits for a free worker, in the order it was read.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use super::assigned_queue::AssignedQueue;
use super::handler::Batch;

/// Messages on their way to the handler.
pub(super) struct Delivery {
    pub(super) queue: Arc<AssignedQueue>,
    pub(super) messages: Batch,
}

/// What waits for a free worker. [Flow control](super::flow_control) bounds it.
pub(super) struct Dispatcher {
    /// Held to push or pop.
    ready: Mutex<VecDeque<Delivery>>,
    /// A permit for each delivery; closed when no more is handed out.
    available: Semaphore,
}

impl Dispatcher {
    pub(super) fn new() -> Self {
        Self { ready: Mutex::default(), available: Semaphore::new(0) }
    }

    pub(super) fn push(&self, deliveries: impl IntoIterator<Item = Delivery>) {
        let mut ready = self.lock();
        let before = ready.len();
        ready.extend(deliveries);
        let more = ready.len() - before;
        drop(ready);
        self.available.add_permits(more);
    }

    /// The next delivery whose queue is still ours; `None` once it is closed.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub(super) async fn next(&self) -> Option<Delivery> {
        loop {
            self.available.acquire().await.ok()?.forget();
            let next = self.lock().pop_front();
            match next {
                Some(delivery) if delivery.queue.is_leaving() => {}
                next => return next,
            }
        }
    }

    /// Hands out no more.
    pub(super) fn close(&self) {
        self.available.close();
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Delivery>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
