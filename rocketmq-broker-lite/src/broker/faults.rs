//! [`Faults`]: refusals and delays that a test asks for, by request.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rocketmq_protocol::transport::{Call, Clock, Connection, Service};
use rocketmq_protocol::{RequestCode, ResponseCode};
use tokio_util::sync::CancellationToken;

use super::tasks::Tasks;

/// What shall go wrong. Costs one load per request when nothing shall.
#[derive(Default)]
pub(super) struct Faults {
    any: AtomicBool,
    /// Held to look one up.
    by_code: Mutex<HashMap<RequestCode, Fault>>,
}

#[derive(Clone, Copy, Default)]
struct Fault {
    refusal: Option<(ResponseCode, usize)>,
    delay: Duration,
}

impl Faults {
    pub(super) fn fail_next(&self, request: RequestCode, with: ResponseCode, times: usize) {
        self.change(request, |fault| fault.refusal = (times > 0).then_some((with, times)));
    }

    pub(super) fn delay(&self, request: RequestCode, by: Duration) {
        self.change(request, |fault| fault.delay = by);
    }

    fn change(&self, request: RequestCode, change: impl FnOnce(&mut Fault)) {
        let mut by_code = self.by_code();
        let fault = by_code.entry(request).or_default();
        change(fault);
        if fault.refusal.is_none() && fault.delay.is_zero() {
            by_code.remove(&request);
        }
        self.any.store(!by_code.is_empty(), Ordering::Release);
    }

    /// What is to happen to this request: a refusal is used up by it.
    fn next(&self, request: RequestCode) -> Option<(Duration, Option<ResponseCode>)> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let Fault { refusal, delay } = *self.by_code().get(&request)?;
        if let Some((with, times)) = refusal {
            self.fail_next(request, with, times - 1);
        }
        Some((delay, refusal.map(|(with, _)| with)))
    }

    fn by_code(&self) -> MutexGuard<'_, HashMap<RequestCode, Fault>> {
        self.by_code.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A service in front of which faults happen.
pub(super) struct Faulty<S> {
    pub(super) service: Arc<S>,
    pub(super) faults: Arc<Faults>,
    pub(super) clock: Clock,
    pub(super) tasks: Tasks,
    /// Ends the delays.
    pub(super) stop: CancellationToken,
}

impl<S: Service> Service for Faulty<S> {
    fn serve(&self, call: Call) {
        let Some((delay, refusal)) = self.faults.next(call.frame().request_code()) else {
            return self.service.serve(call);
        };
        if delay.is_zero() {
            return serve(&*self.service, call, refusal);
        }
        let (service, clock, stop) = (Arc::clone(&self.service), self.clock.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = clock.sleep(delay) => serve(&*service, call, refusal),
            }
        });
    }

    fn served(&self) {
        self.service.served();
    }

    fn disconnected(&self, connection: &Connection) {
        self.service.disconnected(connection);
    }
}

fn serve(service: &impl Service, call: Call, refusal: Option<ResponseCode>) {
    match refusal {
        Some(code) => call.refuse(code, "refused on request of the test"),
        None => service.serve(call),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_lasts_for_the_number_of_requests_that_was_asked_for() {
        let faults = Faults::default();
        let send = RequestCode::SEND_MESSAGE_V2;
        assert_eq!(faults.next(send), None);
        faults.fail_next(send, ResponseCode::SYSTEM_BUSY, 2);
        assert_eq!(faults.next(RequestCode::PULL_MESSAGE), None);
        let busy = Some((Duration::ZERO, Some(ResponseCode::SYSTEM_BUSY)));
        assert_eq!([(); 3].map(|()| faults.next(send)), [busy, busy, None]);
    }

    #[test]
    fn a_delay_lasts_until_it_is_taken_back() {
        let faults = Faults::default();
        let (pull, delay) = (RequestCode::PULL_MESSAGE, Duration::from_secs(1));
        faults.delay(pull, delay);
        faults.fail_next(pull, ResponseCode::SYSTEM_ERROR, 1);
        assert_eq!(faults.next(pull), Some((delay, Some(ResponseCode::SYSTEM_ERROR))));
        assert_eq!(faults.next(pull), Some((delay, None)));
        faults.delay(pull, Duration::ZERO);
        assert_eq!(faults.next(pull), None);
    }
}
