//! [`Tasks`]: the tasks of a broker, which end with it.

use std::future::Future;

use futures_util::future::BoxFuture;
use tokio_util::task::TaskTracker;
use tracing::error;

use crate::store::ConfigFileError;

/// Spawns on behalf of the broker, which waits for all of it when it stops.
///
/// In boxes: tokio's code for a task is compiled for each type of one.
#[derive(Clone, Default)]
pub(super) struct Tasks(TaskTracker);

impl Tasks {
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let task: BoxFuture<'static, ()> = Box::pin(task);
        self.0.spawn(task);
    }

    /// Runs what may wait for the disk.
    pub(super) fn spawn_blocking(&self, work: impl FnOnce() + Send + 'static) {
        let work: Box<dyn FnOnce() + Send> = Box::new(work);
        self.0.spawn_blocking(work);
    }

    /// Writes a file of `config/` that nobody waits for.
    pub(super) fn save(
        &self,
        name: &'static str,
        saving: impl Future<Output = Result<(), ConfigFileError>> + Send + 'static,
    ) {
        self.spawn(async move {
            if let Err(error) = saving.await {
                error!(file = name, error = &error as &dyn std::error::Error, "configuration not saved");
            }
        });
    }

    /// Waits until every task has ended.
    pub(super) async fn end(&self) {
        self.0.close();
        self.0.wait().await;
    }
}
