//! [`Driver`]: the task that reads and writes one connection.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep};
use tokio_util::io::poll_read_buf;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::call::{Call, Service};
use super::connection::Connection;
use super::outbox::{Outbox, no_slices};
use crate::{FrameDecoder, FrameError};

const MIN_READ: usize = 4 * 1024;
const MAX_READ: usize = 256 * 1024;
/// Answers of so many bytes (some thirty sends, a single pull) go at once, so that the peer works on them while the rest of its requests
/// is served: with one write for all, the two would take turns.
const WORTH_A_WRITE: usize = 4 * 1024;

/// Owns the socket of one connection until it closes.
pub(super) struct Driver<S> {
    stream: S,
    connection: Connection,
    service: Arc<dyn Service>,
    decoder: FrameDecoder,
    incoming: BytesMut,
    /// Bytes that the next read has room for: small while little arrives, so that idle connections cost little.
    read_size: usize,
    writing: Outbox,
    /// Rings when a call is overdue.
    overdue: Option<Pin<Box<Sleep>>>,
    give_way: GiveWay,
    active: bool,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("closed by the peer")]
    ByPeer,
    #[error("closed here")]
    Here,
    #[error("no traffic for {0:?}")]
    Idle(Duration),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    pub(super) fn new(stream: S, connection: Connection, service: Arc<dyn Service>) -> Self {
        let decoder = FrameDecoder::new(connection.shared().options.max_frame);
        Self {
            stream,
            connection,
            service,
            decoder,
            incoming: BytesMut::new(),
            read_size: MIN_READ,
            writing: Outbox::default(),
            overdue: None,
            give_way: GiveWay::default(),
            active: false,
        }
    }

    /// Drives the connection until it closes. Once `stop` is cancelled no more requests are taken; those in progress
    /// are answered first.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let idle_timeout = self.connection.shared().options.idle_timeout;
        let idle = tokio::time::sleep(idle_timeout);
        tokio::pin!(idle);
        let closed = self.connection.shared().closed.clone();
        let mut stopping = false;
        let ended = loop {
            tokio::select! {
                biased;
                () = closed.cancelled() => break Ended::Here,
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    self.connection.shared().begin_stop();
                }
                ended = poll_fn(|context| self.poll(context, stopping)) => break ended,
                () = &mut idle => {
                    // One look per period instead of a timer reset per read.
                    if !std::mem::take(&mut self.active) && self.connection.shared().in_flight() == 0 {
                        break Ended::Idle(idle_timeout);
                    }
                    idle.as_mut().reset(Instant::now() + idle_timeout);
                }
            }
        };
        match ended {
            Ended::Frame(error) => {
                // Java closes without a word, and there is no request to answer; the operator is told.
                let error = &error as &dyn std::error::Error;
                warn!(peer = %self.connection.peer(), error, "connection closed: malformed frame");
            }
            ended => debug!(peer = %self.connection.peer(), reason = %ended, "connection closed"),
        }
    }

    fn poll(&mut self, context: &mut Context<'_>, stopping: bool) -> Poll<Ended> {
        if self.give_way.now(self.connection.shared().queued_bytes()) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let ended = self.poll_io(context, stopping);
        if ended.is_pending() {
            self.poll_overdue(context); // now: what is queued from here on wakes us
        }
        ended
    }

    fn poll_io(&mut self, context: &mut Context<'_>, stopping: bool) -> Poll<Ended> {
        loop {
            if let Poll::Ready(Err(error)) = self.poll_write(context, false) {
                return Poll::Ready(error.into());
            }
            let shared = self.connection.shared();
            if stopping {
                if shared.in_flight() == 0 && self.writing.is_empty() && shared.queued_bytes() == 0 {
                    return Poll::Ready(Ended::Here);
                }
                return Poll::Pending;
            }
            // A peer that does not read its answers, or asks faster than it is served, is not read from.
            let options = &shared.options;
            let unwritten =
                if self.writing.is_empty() { 0 } else { self.writing.len() + shared.queued_bytes() };
            if unwritten > options.max_queued_bytes || shared.in_flight() >= options.max_in_flight {
                return Poll::Pending;
            }
            match ready!(self.poll_read(context)) {
                Ok(()) => {}
                Err(ended) => return Poll::Ready(ended),
            }
        }
    }

    /// Ends the calls whose time is over.
    fn poll_overdue(&mut self, context: &mut Context<'_>) {
        while let Some(at) = self.connection.shared().next_overdue() {
            let alarm = self.overdue.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
            if alarm.deadline() != at {
                alarm.as_mut().reset(at);
            }
            if alarm.as_mut().poll(context).is_pending() {
                return;
            }
            self.connection.shared().end_overdue(Instant::now());
        }
    }

    /// Writes what is queued, as far as the socket takes it. While `serving`, this looks again without being woken.
    fn poll_write(&mut self, context: &mut Context<'_>, serving: bool) -> Poll<io::Result<()>> {
        loop {
            self.connection.shared().collect(&mut self.writing, context, serving);
            if self.writing.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let mut slices = no_slices();
            let count = self.writing.slices(&mut slices);
            let slices = slices.get(..count).unwrap_or_default();
            let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.active = true;
            self.writing.advance(written);
        }
    }

    /// Reads once and handles every frame that is complete.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        if self.incoming.capacity() - self.incoming.len() < self.read_size {
            self.incoming.reserve(self.read_size);
        }
        let room = self.incoming.capacity() - self.incoming.len();
        let read = ready!(poll_read_buf(Pin::new(&mut self.stream), context, &mut self.incoming))?;
        if read == 0 {
            return Poll::Ready(Err(Ended::ByPeer));
        }
        self.active = true;
        self.connection.shared().note_read();
        if read == room {
            self.read_size = (self.read_size * 2).min(MAX_READ);
        } else if read < self.read_size / 4 {
            self.read_size = (self.read_size / 2).max(MIN_READ);
        }
        // Answers are queued on this very task as a rule: woken by each first one, it would be run once more for nothing,
        // and the runtime would rouse another thread for that.
        self.connection.shared().begin_serving();
        let mut served = false;
        while let Some(frame) = self.decoder.decode(&mut self.incoming)? {
            if frame.is_response() {
                self.connection.shared().complete(frame);
            } else {
                self.service.serve(Call::new(frame, self.connection.clone()));
                served = true;
                if self.connection.shared().queued_bytes() >= WORTH_A_WRITE {
                    if let Poll::Ready(Err(error)) = self.poll_write(context, true) {
                        return Poll::Ready(Err(error.into()));
                    }
                }
            }
        }
        if served {
            self.service.served();
        }
        Poll::Ready(Ok(()))
    }
}

/// Whether to let other tasks go first once something is queued. The runtime puts a driver right behind the task that
/// queued the first frame; the tasks that are ready by then may queue more, and one write is as dear as the next, whatever
/// it carries. But where a single task talks, giving way only makes the runtime rouse another thread.
#[derive(Default)]
struct GiveWay {
    /// What was queued when it gave way.
    queued_before: Option<usize>,
    /// More was queued the last time.
    pays: bool,
    /// How often it has not been tried since.
    untried: u8,
}

impl GiveWay {
    /// Tries again after so many writes.
    const TRY_AFTER: u8 = 16;

    fn now(&mut self, queued: usize) -> bool {
        if let Some(before) = self.queued_before.take() {
            self.pays = queued > before;
            return false;
        }
        if queued == 0 {
            return false;
        }
        self.untried += 1;
        if !self.pays && self.untried < Self::TRY_AFTER {
            return false;
        }
        self.untried = 0;
        self.queued_before = Some(queued);
        true
    }
}

impl<S> Drop for Driver<S> {
    fn drop(&mut self) {
        self.connection.close();
        self.service.disconnected(&self.connection);
    }
}

#[cfg(test)]
mod tests {
    use super::GiveWay;

    /// Whether it gave way before a write of `first` bytes, which are `then` when its turn comes again.
    fn write(give_way: &mut GiveWay, first: usize, then: usize) -> bool {
        give_way.now(first) && {
            assert!(!give_way.now(then), "it gives way once for a write");
            true
        }
    }

    #[test]
    fn a_driver_gives_way_as_long_as_that_brings_more_to_write() {
        let mut give_way = GiveWay::default();
        let mut writes = |first, then| (0..32).filter(|_| write(&mut give_way, first, then)).count();
        assert_eq!(writes(0, 0), 0, "nothing is queued");
        assert_eq!(writes(100, 100), 2, "a try now and then");
        assert_eq!(writes(100, 6400), 17, "from the first try that pays");
        assert_eq!(writes(100, 100), 2, "until one does not");
    }
}
