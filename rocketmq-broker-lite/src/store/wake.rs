//! [`Wake`]: how a background thread learns that there is work, at the cost of one atomic swap per announcement.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Between a thread that sleeps until there is work and the many that make work for it.
#[derive(Debug, Default)]
pub(super) struct Wake {
    /// Announced and not yet taken: whoever finds it set need not touch the mutex.
    announced: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    work: bool,
    urgent: bool,
    stopped: bool,
}

impl Wake {
    /// There is work. What it is must be visible to other threads before this call.
    pub(super) fn announce(&self) {
        // A swap, not a load: if it finds `true`, the thread's own swap comes later and sees what we made visible before.
        if !self.announced.swap(true, Ordering::SeqCst) {
            self.change(|state| state.work = true);
        }
    }

    /// There is work that somebody waits for: no pause before it.
    pub(super) fn urge(&self) {
        self.announced.store(true, Ordering::SeqCst);
        self.change(|state| (state.work, state.urgent) = (true, true));
    }

    /// Ends the thread's sleeps, now and later.
    pub(super) fn stop(&self) {
        self.change(|state| state.stopped = true);
    }

    /// Whether [`Wake::stop`] was called: a long piece of work asks in between.
    pub(super) fn is_stopped(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).stopped
    }

    /// Sleeps until there is work, then for `pause` to let more of it gather, unless it is urgent. False once stopped.
    pub(super) fn wait(&self, pause: Duration) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = |state: &mut State| !state.work && !state.stopped;
        let state = self.changed.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
        let gathering = |state: &mut State| !state.urgent && !state.stopped;
        let waited = self.changed.wait_timeout_while(state, pause, gathering);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        (state.work, state.urgent) = (false, false);
        self.announced.swap(false, Ordering::SeqCst);
        !state.stopped
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }
}
