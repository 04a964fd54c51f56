//! [`InFlight`]: bounds what is on its way, in messages and in bytes.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, TryAcquireError};

use crate::Error;
use crate::deadline::Deadline;

/// Room for messages on their way. Who comes first gets room first.
pub(super) struct InFlight {
    messages: Semaphore,
    bytes: Semaphore,
    max_messages: u32,
    max_bytes: u32,
    waits: bool,
}

/// The room that one send takes.
pub(super) struct Permit<'a> {
    _message: SemaphorePermit<'a>,
    _bytes: SemaphorePermit<'a>,
}

impl InFlight {
    /// Where there is no room, senders wait or fail at once.
    pub(super) fn new(max_messages: u32, max_bytes: u32, waits: bool) -> Self {
        let room = |permits: u32| Semaphore::new(usize::try_from(permits).unwrap_or(Semaphore::MAX_PERMITS));
        Self { messages: room(max_messages), bytes: room(max_bytes), max_messages, max_bytes, waits }
    }

    /// Takes room, or waits for it. A body larger than all the room there is waits until it is alone.
    pub(super) async fn enter(&self, bytes: usize, deadline: Deadline) -> Result<Permit<'_>, Error> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).clamp(1, self.max_bytes);
        // Mostly there is room, and no timer is needed to find that out.
        match self.enter_at_once(bytes) {
            Err(Error::Overloaded { .. }) if self.waits => {}
            entered => return entered,
        }
        let closed = |_| Error::Closed { what: "the producer" };
        let enter = async {
            let message = self.messages.acquire().await.map_err(closed)?;
            let bytes = self.bytes.acquire_many(bytes).await.map_err(closed)?;
            Ok(Permit { _message: message, _bytes: bytes })
        };
        Box::pin(deadline.run("waiting for room among the messages in flight", enter)).await?
    }

    fn enter_at_once(&self, bytes: u32) -> Result<Permit<'_>, Error> {
        let refused = |error| match error {
            TryAcquireError::Closed => Error::Closed { what: "the producer" },
            TryAcquireError::NoPermits => {
                Error::Overloaded { messages: self.max_messages, bytes: self.max_bytes }
            }
        };
        let message = self.messages.try_acquire().map_err(refused)?;
        let bytes = self.bytes.try_acquire_many(bytes).map_err(refused)?;
        Ok(Permit { _message: message, _bytes: bytes })
    }

    /// Waits up to `grace` until nothing is in flight, and lets nobody in from then on.
    pub(super) async fn close(&self, grace: Duration) {
        // The line is fair: who comes after us waits, and is then turned away.
        let all = self.messages.acquire_many(self.max_messages);
        if tokio::time::timeout(grace, all).await.is_err() {
            tracing::warn!("producer closed with messages in flight");
        }
        self.messages.close();
        self.bytes.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn sends_wait_for_room_by_count_and_by_bytes_and_give_up_in_time() {
        let room = InFlight::new(2, 10, true);
        let deadline = || Deadline::after(Duration::from_secs(1));
        let first = room.enter(8, deadline()).await.unwrap();
        assert!(room.enter(3, deadline()).await.is_err_and(|error| error.is_timeout()));
        let second = room.enter(2, deadline()).await.unwrap();
        assert!(room.enter(0, deadline()).await.is_err());
        drop(first);
        drop(second);
        let alone = room.enter(1000, deadline()).await.unwrap();
        assert!(room.enter(0, deadline()).await.is_err());
        drop(alone);
        assert!(room.enter(10, deadline()).await.is_ok());
    }

    #[tokio::test]
    async fn a_producer_that_does_not_wait_fails_at_once_and_tells_the_limits() {
        let room = InFlight::new(2, 10, false);
        let deadline = Deadline::after(Duration::from_secs(9));
        let inside = room.enter(8, deadline).await.unwrap();
        let error = room.enter(3, deadline).await.err().unwrap();
        assert_eq!(
            error.to_string(),
            "no room: at most 2 messages and 10 bytes may be in flight (max_in_flight)"
        );
        assert!(room.enter(2, deadline).await.is_ok(), "the refused one left no trace");
        drop(inside);
        assert!(room.enter(10, deadline).await.is_ok());
        room.close(Duration::ZERO).await;
        assert!(matches!(room.enter(1, deadline).await, Err(Error::Closed { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn closing_waits_for_those_inside_and_turns_away_who_comes_after() {
        let room = InFlight::new(2, 10, true);
        let deadline = Deadline::after(Duration::from_secs(9));
        let inside = room.enter(1, deadline).await.unwrap();
        let leave = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(inside);
        };
        let late = async {
            tokio::task::yield_now().await;
            room.enter(1, deadline).await
        };
        let (late, (), ()) = tokio::join!(late, room.close(Duration::from_secs(5)), leave);
        assert!(matches!(late, Err(Error::Closed { what: "the producer" })));
        assert!((1..2).contains(&deadline.elapsed().as_secs()));
    }
}
