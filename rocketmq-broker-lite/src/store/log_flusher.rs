//! [`LogFlusher`]: forces the commit log to disk; one flush answers all who wait.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rocketmq_protocol::LogPosition;
use tokio::sync::watch;

use super::commit_log::CommitLog;
use super::error::{FlushError, StoreError};
use super::wake::Wake;

pub(super) struct LogFlusher {
    pub(super) wake: Wake,
    progress: watch::Sender<Progress>,
    /// Store timestamp up to which the log is on disk.
    timestamp: AtomicI64,
}

#[derive(Clone, Copy, Debug)]
struct Progress {
    flushed: LogPosition,
    failed: bool,
    closed: bool,
}

impl LogFlusher {
    /// Everything before `flushed` is on disk.
    pub(super) fn new(flushed: LogPosition, timestamp: i64) -> Self {
        let progress = Progress { flushed, failed: false, closed: false };
        Self {
            wake: Wake::default(),
            progress: watch::Sender::new(progress),
            timestamp: AtomicI64::new(timestamp),
        }
    }

    pub(super) fn timestamp(&self) -> i64 {
        self.timestamp.load(Ordering::Acquire)
    }

    /// Flushes what is appended so far. Blocks. One thread at a time.
    pub(super) fn flush(&self, log: &CommitLog) -> Result<(), StoreError> {
        let Progress { flushed: from, failed, .. } = *self.progress.borrow();
        if failed {
            // The kernel reports lost pages once; a second flush would succeed without them.
            return Err(StoreError::FlushFailed { position: from });
        }
        // In this order: a record of that time is before that end.
        let timestamp = log.last_timestamp();
        let end = log.end();
        if from < end {
            let outcome = log.flush(from, end);
            self.progress.send_modify(|progress| match &outcome {
                Ok(()) => progress.flushed = end,
                Err(_) => progress.failed = true,
            });
            outcome?;
        }
        self.timestamp.store(timestamp, Ordering::Release);
        Ok(())
    }

    /// No flush will come any more.
    pub(super) fn close(&self) {
        self.progress.send_modify(|progress| progress.closed = true);
    }

    /// Waits until everything before `position` is on disk.
    pub(super) async fn wait(&self, position: LogPosition, limit: Duration) -> Result<(), FlushError> {
        let mut progress = self.progress.subscribe();
        if progress.borrow().flushed < position {
            self.wake.urge();
        }
        let reached =
            progress.wait_for(|progress| progress.flushed >= position || progress.failed || progress.closed);
        let outcome = tokio::time::timeout(limit, reached).await;
        match outcome.map(|progress| progress.map(|progress| *progress)) {
            Err(_) => Err(FlushError::Timeout { waited: limit }),
            Ok(Ok(progress)) if progress.flushed >= position => Ok(()),
            Ok(Ok(progress)) if progress.failed => Err(FlushError::Failed),
            Ok(_) => Err(FlushError::Closed),
        }
    }
}
