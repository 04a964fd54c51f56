//! [`Progress`]: a line on a terminal that tells how it goes. Elsewhere nothing.

use std::io::{IsTerminal, Write, stderr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

/// Counts what is done; shows it every half second until it is dropped.
pub(crate) struct Progress {
    counts: Arc<Counts>,
    showing: Option<JoinHandle<()>>,
}

#[derive(Default)]
pub(crate) struct Counts {
    messages: AtomicU64,
    errors: AtomicU64,
}

impl Counts {
    pub(crate) fn went_well(&self, messages: u64) {
        self.messages.fetch_add(messages, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self, messages: u64) {
        self.errors.fetch_add(messages, Ordering::Relaxed);
    }

    pub(crate) fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }
}

impl Progress {
    pub(crate) fn start() -> Self {
        let counts = Arc::new(Counts::default());
        let showing = stderr().is_terminal().then(|| tokio::spawn(show(Arc::clone(&counts))));
        Self { counts, showing }
    }

    pub(crate) fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }
}

async fn show(counts: Arc<Counts>) {
    let began = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(500));
    let (mut last, mut last_at) = (0, began);
    loop {
        let now = ticks.tick().await.into_std();
        let messages = counts.messages();
        let errors = counts.errors.load(Ordering::Relaxed);
        let passed = now.duration_since(last_at).as_secs_f64();
        let rate = if passed > 0.0 { (messages - last) as f64 / passed } else { 0.0 };
        let text = format!(
            "\r\x1b[K{:4.0} s  {messages} messages  {rate:.0}/s  {errors} errors",
            now.duration_since(began).as_secs_f64()
        );
        stderr().write_all(text.as_bytes()).ok(); // a terminal that went away is no reason to stop
        (last, last_at) = (messages, now);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(showing) = &self.showing {
            showing.abort();
            stderr().write_all(b"\r\x1b[K").ok();
        }
    }
}
