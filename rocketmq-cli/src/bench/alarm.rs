//! [`Alarm`]: wakes a task at a point in time, to some microseconds. The runtime's own timers go by milliseconds, which
//! is what is to be measured here.

use std::time::Instant;

pub(crate) use imp::Alarm;

/// Returns at `at` without ever having slept: other tasks run meanwhile, and the processor stays awake.
pub(crate) async fn stay_awake_until(at: Instant) {
    while Instant::now() < at {
        tokio::task::yield_now().await; // which also looks what has arrived
    }
}

#[cfg(target_os = "linux")]
mod imp {
    use std::io;
    use std::os::fd::OwnedFd;
    use std::time::Instant;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    use crate::Failure;

    /// A timer of the kernel; its file becomes readable when time is up.
    pub(crate) struct Alarm {
        timer: AsyncFd<OwnedFd>,
        /// What it is set to, until it rings: a task that is woken for something else need not set it again.
        set_to: Option<Instant>,
    }

    impl Alarm {
        #[allow(
            deprecated,
            reason = "unsound for a type that lends a descriptor it does not own; this one owns it"
        )]
        pub(crate) fn new() -> Result<Self, Failure> {
            let make = || {
                let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
                AsyncFd::with_interest(timerfd_create(TimerfdClockId::Monotonic, flags)?, Interest::READABLE)
            };
            let timer = make().map_err(|source| Failure::System { doing: "make a timer", source })?;
            Ok(Self { timer, set_to: None })
        }

        /// Returns at `at`, or at once when that is over. May be dropped and asked again.
        pub(crate) async fn wait_until(&mut self, at: Instant) -> Result<(), Failure> {
            self.ring(at).await.map_err(|source| Failure::System { doing: "set a timer", source })
        }

        async fn ring(&mut self, at: Instant) -> io::Result<()> {
            loop {
                let left = at.saturating_duration_since(Instant::now());
                let Ok(value) = Timespec::try_from(left) else {
                    return Err(io::ErrorKind::InvalidInput.into());
                };
                if left.is_zero() {
                    return Ok(());
                }
                if self.set_to != Some(at) {
                    let once = Itimerspec { it_interval: Timespec::default(), it_value: value };
                    timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::empty(), &once)?;
                    self.set_to = Some(at);
                }
                // Setting the timer again takes back that it is readable, so it need not be read.
                self.timer.readable().await?.clear_ready();
                self.set_to = None;
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use std::time::Instant;

    use crate::Failure;

    /// The runtime's timer.
    pub(crate) struct Alarm;

    impl Alarm {
        pub(crate) fn new() -> Result<Self, Failure> {
            Ok(Self)
        }

        /// Returns at `at`, or at once when that is over. May be dropped and asked again.
        pub(crate) async fn wait_until(&mut self, at: Instant) -> Result<(), Failure> {
            tokio::time::sleep_until(at.into()).await;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Alarm;

    #[tokio::test]
    async fn an_alarm_does_not_ring_early_and_can_be_set_again() {
        let mut alarm = Alarm::new().unwrap();
        let began = Instant::now();
        for number in 1..=20 {
            let at = began + Duration::from_micros(300) * number;
            // Given up half-way, as in a select.
            let early = Duration::from_micros(50);
            tokio::time::timeout(early, alarm.wait_until(at)).await.ok();
            alarm.wait_until(at).await.unwrap();
            assert!(Instant::now() >= at);
        }
        alarm.wait_until(began).await.unwrap();
    }
}
