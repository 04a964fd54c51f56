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
    /// Has let other tasks go first since something was queued.
    gave_way: bool,
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
            gave_way: false,
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
        // The runtime puts us right behind the task that queued the first frame. The tasks that are ready by now may
        // queue more, and one write is as dear as the next, whatever it carries.
        if !self.gave_way && self.connection.shared().queued_bytes() > 0 {
            self.gave_way = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.gave_way = false;
        let ended = self.poll_io(context, stopping);
        if ended.is_pending() {
            self.poll_overdue(context); // now: what is queued from here on wakes us
        }
        ended
    }

    fn poll_io(&mut self, context: &mut Context<'_>, stopping: bool) -> Poll<Ended> {
        loop {
            if let Poll::Ready(Err(error)) = self.poll_write(context) {
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
            if self.writing.len() > options.max_queued_bytes || shared.in_flight() >= options.max_in_flight {
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

    /// Writes what is queued, as far as the socket takes it.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            self.connection.shared().collect(&mut self.writing, context);
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
        while let Some(frame) = self.decoder.decode(&mut self.incoming)? {
            if frame.is_response() {
                self.connection.shared().complete(frame);
            } else {
                self.service.serve(Call::new(frame, self.connection.clone()));
                if self.connection.shared().queued_bytes() >= WORTH_A_WRITE {
                    if let Poll::Ready(Err(error)) = self.poll_write(context) {
                        return Poll::Ready(Err(error.into()));
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S> Drop for Driver<S> {
    fn drop(&mut self) {
        self.connection.close();
        self.service.disconnected(&self.connection);
    }
}
