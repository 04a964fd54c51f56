//! [`Health`]: whether the store takes messages, and why not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::{error, info};

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
}

impl Health {
    /// # Errors
    /// [`AppendError::NotWritable`] with the reason.
    pub(super) fn check(&self) -> Result<(), AppendError> {
        if !self.ill.load(Ordering::Relaxed) {
            return Ok(());
        }
        let troubles = self.troubles();
        match troubles.log.as_ref().or(troubles.queues.as_ref()) {
            Some(reason) => Err(AppendError::NotWritable { reason: reason.clone() }),
            None => Ok(()),
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
        self.ill.store(troubles.log.is_some(), Ordering::Relaxed);
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
