//! [`Health`]: whether the store takes messages, and why not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::{error, info};

use super::cleaning::OverLimit;
use super::error::AppendError;

/// What keeps the store from taking messages. Asked before every append, so the good case is one load.
#[derive(Debug, Default)]
pub(super) struct Health {
    ill: AtomicBool,
    troubles: Mutex<Troubles>,
}

#[derive(Debug, Default)]
struct Troubles {
    /// The log could not be forced to disk. After that the kernel may call lost pages clean, so only reopening, which reads what is
    /// really there, cures it.
    log: Option<String>,
    /// Consume queues could not be written: their units stay in memory and must not pile up there.
    queues: Option<String>,
    /// The disk is used beyond the limit that cleaning watches.
    disk: Option<OverLimit>,
}

impl Troubles {
    fn are_there(&self) -> bool {
        self.log.is_some() || self.queues.is_some() || self.disk.is_some()
    }
}

impl Health {
    /// # Errors
    /// [`AppendError::NotWritable`] or [`AppendError::DiskUsage`].
    pub(super) fn check(&self) -> Result<(), AppendError> {
        if !self.ill.load(Ordering::Relaxed) {
            return Ok(());
        }
        let troubles = self.troubles();
        match (troubles.log.as_ref().or(troubles.queues.as_ref()), &troubles.disk) {
            (Some(reason), _) => Err(AppendError::NotWritable { reason: reason.clone() }),
            (None, Some(OverLimit { path, used_percent, limit_percent })) => Err(AppendError::DiskUsage {
                path: path.clone(),
                used_percent: *used_percent,
                limit_percent: *limit_percent,
            }),
            (None, None) => Ok(()),
        }
    }

    pub(super) fn log_failed(&self, error: &dyn std::error::Error) {
        let reason = reason(error);
        error!(error = %reason, "commit log cannot be flushed: taking no messages until the store is reopened");
        self.troubles().log.get_or_insert(reason);
        self.ill.store(true, Ordering::Relaxed);
    }

    pub(super) fn queues_failed(&self, error: &dyn std::error::Error) {
        let reason = reason(error);
        let mut troubles = self.troubles();
        if troubles.queues.is_none() {
            error!(error = %reason, "consume queues cannot be written: taking no messages until they can");
        }
        troubles.queues = Some(reason);
        self.ill.store(true, Ordering::Relaxed);
    }

    pub(super) fn queues_recovered(&self) {
        if !self.ill.load(Ordering::Relaxed) {
            return;
        }
        let mut troubles = self.troubles();
        if troubles.queues.take().is_some() {
            info!("consume queues can be written again");
        }
        self.ill.store(troubles.are_there(), Ordering::Relaxed);
    }

    /// What cleaning found the disk to be.
    pub(super) fn disk_checked(&self, over: Option<OverLimit>) {
        if over.is_none() && !self.ill.load(Ordering::Relaxed) {
            return;
        }
        let mut troubles = self.troubles();
        match (&troubles.disk, &over) {
            (None, Some(OverLimit { path, used_percent, limit_percent })) => {
                error!(path = %path.display(), used_percent, limit_percent, "disk too full: taking no messages until there is room");
            }
            (Some(OverLimit { path, limit_percent, .. }), None) => {
                info!(path = %path.display(), limit_percent, "the disk has room again: taking messages");
            }
            _ => {}
        }
        troubles.disk = over;
        self.ill.store(troubles.are_there(), Ordering::Relaxed);
    }

    fn troubles(&self) -> MutexGuard<'_, Troubles> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error and its cause in one line.
fn reason(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
