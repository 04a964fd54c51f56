//! [`Connection`]: the handle on a connection. Cheap to clone; the task that drives it lives elsewhere.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::error::RequestError;
use super::outbox::Outbox;
use super::socket::TransportOptions;
use crate::request::{
    Payload, ReplyShape, Request, RequestShape, Segments, encode_reply, encode_request_head,
};
use crate::{Frame, FrameTooLong, HeaderFields, Opaque, RequestCode, ResponseCode, Version};

/// Tells connections of one process apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(u64);

/// A connection to a peer.
#[derive(Clone)]
pub struct Connection {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    id: ConnectionId,
    /// As it was asked for, for errors.
    name: String,
    peer: SocketAddr,
    local: SocketAddr,
    pub(super) options: TransportOptions,
    /// What tasks leave for the driver. Held to encode a frame or look up a call, never while waiting.
    state: Mutex<State>,
    /// Requests of the peer that have no answer yet.
    in_flight: AtomicUsize,
    /// No more requests are read; the driver waits for those in flight.
    stopping: AtomicBool,
    /// How often something arrived.
    reads: AtomicU64,
    /// Release of the peer by its last answer; negative before the first one.
    peer_version: AtomicI32,
    /// Tells callers that the outbox has room again.
    room: Notify,
    pub(super) closed: CancellationToken,
}

#[derive(Default)]
struct State {
    outbox: Outbox,
    calls: FxHashMap<i32, PendingCall>,
    /// No call is overdue before this.
    next_overdue: Option<Instant>,
    next_opaque: i32,
    /// Wakes the driver.
    driver: Option<Waker>,
    /// The driver has nothing to do until something is queued.
    idle: bool,
    /// Somebody waits for room.
    crowded: bool,
    closed: bool,
}

/// A request of any type.
struct Ask<'a> {
    code: RequestCode,
    /// Codes of answers that are no refusal.
    accepts: &'static [ResponseCode],
    body: Segments,
    fields: &'a (dyn HeaderFields + Sync),
}

impl<'a> Ask<'a> {
    fn of<R: Request>(request: &'a R) -> Self {
        Self { code: R::CODE, accepts: R::ACCEPTS, body: request.body(), fields: request }
    }
}

/// A call that waits for its answer.
struct PendingCall {
    reply: oneshot::Sender<Frame>,
    overdue_at: Instant,
}

/// A peer that has sent nothing at all for as long as a call waited, and at least for this time, counts as dead: other
/// calls need not find that out each for itself.
const SILENCE: Duration = Duration::from_secs(1);

/// What `Instant` can surely add: more than any caller waits.
const LONGEST_WAIT: Duration = Duration::from_secs(86_400 * 365);

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

impl Connection {
    /// A connection that is closed with `closed`.
    pub(super) fn new(
        name: String,
        peer: SocketAddr,
        local: SocketAddr,
        options: TransportOptions,
        closed: CancellationToken,
    ) -> Self {
        let shared = Shared {
            id: ConnectionId(NEXT_ID.fetch_add(1, Ordering::Relaxed)),
            name,
            peer,
            local,
            options,
            state: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            reads: AtomicU64::new(0),
            peer_version: AtomicI32::new(-1),
            room: Notify::new(),
            closed,
        };
        Self { shared: Arc::new(shared) }
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Tells this connection apart from every other one of the process.
    pub fn id(&self) -> ConnectionId {
        self.shared.id
    }

    /// Address of the peer.
    pub fn peer(&self) -> SocketAddr {
        self.shared.peer
    }

    /// Our own address.
    pub fn local(&self) -> SocketAddr {
        self.shared.local
    }

    /// Release of the peer, which it tells with its first answer.
    pub fn peer_version(&self) -> Option<Version> {
        let ordinal = self.shared.peer_version.load(Ordering::Relaxed);
        (ordinal >= 0).then_some(Version::new(ordinal))
    }

    /// Requests of the peer that have no answer yet.
    pub fn requests_in_progress(&self) -> usize {
        self.shared.in_flight()
    }

    /// Whether the connection is gone.
    pub fn is_closed(&self) -> bool {
        self.shared.closed.is_cancelled()
    }

    /// How often something has arrived: a peer for which this does not grow says nothing.
    pub fn reads(&self) -> u64 {
        self.shared.reads.load(Ordering::Relaxed)
    }

    /// Waits until the connection is gone.
    pub async fn closed(&self) {
        self.shared.closed.cancelled().await;
    }

    /// Closes the connection. Calls under way fail; what is queued is not sent.
    pub fn close(&self) {
        self.shared.close();
    }

    /// Sends `request` and waits up to `timeout` for its reply.
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing behind; the request may have been carried out.
    ///
    /// # Errors
    /// See [`RequestError`]; an answer whose code the request does not accept is [`RequestError::Refused`].
    pub async fn call<R: Request>(&self, request: &R, timeout: Duration) -> Result<R::Reply, RequestError> {
        self.call_coded(request, timeout).await.map(|(_, reply)| reply)
    }

    /// As [`Connection::call`], for requests that accept with more than one code.
    ///
    /// # Errors
    /// As for [`Connection::call`].
    pub async fn call_coded<R: Request>(
        &self,
        request: &R,
        timeout: Duration,
    ) -> Result<(ResponseCode, R::Reply), RequestError> {
        let now = Instant::now();
        self.call_coded_until(request, now, now + timeout.min(LONGEST_WAIT)).await
    }

    /// As [`Connection::call_coded`], for callers that know what time it is `now`, and by when they want the reply.
    ///
    /// # Errors
    /// As for [`Connection::call`].
    pub async fn call_coded_until<R: Request>(
        &self,
        request: &R,
        now: Instant,
        overdue_at: Instant,
    ) -> Result<(ResponseCode, R::Reply), RequestError> {
        let answer = self.exchange(&Ask::of(request), now, overdue_at).await?;
        match R::Reply::read(&answer) {
            Ok(reply) => Ok((answer.response_code(), reply)),
            Err(source) => {
                Err(RequestError::Reply { request: name_of(R::CODE), addr: self.shared.name.clone(), source })
            }
        }
    }

    /// [`Connection::call_coded_until`] for every type of request: compiled once.
    async fn exchange(
        &self,
        ask: &Ask<'_>,
        now: Instant,
        overdue_at: Instant,
    ) -> Result<Frame, RequestError> {
        let reads = self.shared.reads.load(Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        let mut call = Some(PendingCall { reply: sender, overdue_at });
        let opaque = match self.try_enqueue(ask, &mut call)? {
            Some(opaque) => opaque,
            // Mostly there is room: in a box, what waits for it is no part of every call.
            None => Box::pin(self.enqueue_when_room(ask, call, now, overdue_at)).await?,
        };
        let slot = CallSlot { shared: &self.shared, opaque };
        // The driver answers, and drops what is overdue: cheaper than a timer for each call.
        let answer = answer.await;
        std::mem::forget(slot); // whoever ended the wait has taken the call out
        let answer = match answer {
            Ok(answer) => answer,
            Err(_) if Instant::now() >= overdue_at => {
                let timeout = overdue_at.saturating_duration_since(now);
                if timeout >= SILENCE && self.shared.reads.load(Ordering::Relaxed) == reads {
                    warn!(peer = self.shared.name, silent_for = ?timeout, "connection closed: the peer answers nothing");
                    self.close();
                }
                return Err(self.timed_out(ask, timeout));
            }
            Err(_) => {
                let (request, addr) = (name_of(ask.code), self.shared.name.clone());
                return Err(RequestError::Closed { request, addr });
            }
        };
        let code = answer.response_code();
        if !ask.accepts.contains(&code) {
            let (request, addr) = (name_of(ask.code), self.shared.name.clone());
            let remark = answer.remark.map(|remark| remark.to_string());
            return Err(RequestError::Refused { request, addr, code, remark });
        }
        Ok(answer)
    }

    /// Sends `request` without waiting for an answer: it is on its way when this returns, no more is known.
    ///
    /// # Errors
    /// The connection is closed, has no room for `timeout`, or the request is too long.
    pub async fn send_oneway<R: Request>(&self, request: &R, timeout: Duration) -> Result<(), RequestError> {
        let ask = Ask::of(request);
        if self.try_enqueue(&ask, &mut None)?.is_none() {
            let now = Instant::now();
            Box::pin(self.enqueue_when_room(&ask, None, now, now + timeout.min(LONGEST_WAIT))).await?;
        }
        Ok(())
    }

    /// As [`Connection::send_oneway`], but never waits: what finds no room is not sent.
    ///
    /// # Errors
    /// The connection is closed or crowded, or the request is too long.
    pub fn try_send_oneway<R: Request>(&self, request: &R) -> Result<(), RequestError> {
        let ask = Ask::of(request);
        match self.try_enqueue(&ask, &mut None) {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(self.timed_out(&ask, Duration::ZERO)),
            Err(error) => Err(error),
        }
    }

    /// Queues the request as soon as there is room.
    async fn enqueue_when_room(
        &self,
        ask: &Ask<'_>,
        mut call: Option<PendingCall>,
        since: Instant,
        until: Instant,
    ) -> Result<Opaque, RequestError> {
        loop {
            let room = self.shared.room.notified();
            if let Some(opaque) = self.try_enqueue(ask, &mut call)? {
                return Ok(opaque);
            }
            tokio::select! {
                () = room => {}
                () = self.shared.closed.cancelled() => return Err(self.not_sent(ask)),
                () = tokio::time::sleep_until(until) => return Err(self.timed_out(ask, since.elapsed())),
            }
        }
    }

    /// Queues the request and, when there is one, the call that waits for its reply; `None` when there is no room.
    fn try_enqueue(
        &self,
        ask: &Ask<'_>,
        call: &mut Option<PendingCall>,
    ) -> Result<Option<Opaque>, RequestError> {
        let shared = &*self.shared;
        let mut state = shared.lock();
        if state.closed {
            return Err(self.not_sent(ask));
        }
        if state.outbox.len() > shared.options.max_queued_bytes {
            state.crowded = true;
            return Ok(None);
        }
        let opaque = Opaque::new(state.next_opaque);
        state.next_opaque = state.next_opaque.wrapping_add(1);
        let shape = RequestShape {
            opaque,
            oneway: call.is_none(),
            encoding: shared.options.encoding,
            max_frame: shared.options.max_frame,
        };
        state
            .outbox
            .push(&|out| encode_request_head(out, ask.code, &shape, ask.body.len(), ask.fields), &ask.body)
            .map_err(|source| RequestError::TooLong {
                request: name_of(ask.code),
                addr: shared.name.clone(),
                source,
            })?;
        if let Some(call) = call.take() {
            if state.next_overdue.is_none_or(|next| call.overdue_at < next) {
                state.next_overdue = Some(call.overdue_at);
                state.idle = true; // however busy it is, it must hear of this
            }
            state.calls.insert(opaque.get(), call);
        }
        shared.wake_driver(state);
        Ok(Some(opaque))
    }

    fn timed_out(&self, ask: &Ask<'_>, waited: Duration) -> RequestError {
        RequestError::Timeout { request: name_of(ask.code), addr: self.shared.name.clone(), waited }
    }

    fn not_sent(&self, ask: &Ask<'_>) -> RequestError {
        RequestError::NotSent { request: name_of(ask.code), addr: self.shared.name.clone() }
    }

    /// Queues the answer to a request of the peer. What the peer can no longer get is dropped.
    pub(super) fn answer<P: Payload>(&self, shape: &ReplyShape, payload: &P) -> Result<(), FrameTooLong> {
        let body = payload.body();
        let mut state = self.shared.lock();
        if !state.closed {
            state.outbox.push(&|out| encode_reply(out, shape, body.len(), payload), &body)?;
            self.shared.wake_driver(state);
        }
        Ok(())
    }

    pub(super) fn begin_request(&self) {
        self.shared.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end_request(&self) {
        // At the limit the driver waits to read on, and when stopping for the last one to end.
        let before = self.shared.in_flight.fetch_sub(1, Ordering::AcqRel);
        if before >= self.shared.options.max_in_flight || self.shared.stopping.load(Ordering::Acquire) {
            let mut state = self.shared.lock();
            state.idle = true;
            self.shared.wake_driver(state);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can leave the state half-changed by a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_driver(&self, mut state: MutexGuard<'_, State>) {
        let driver = if std::mem::take(&mut state.idle) { state.driver.take() } else { None };
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// The driver collects before it goes idle again, and need not be woken.
    pub(super) fn begin_serving(&self) {
        self.lock().idle = false;
    }

    /// Moves what is queued to `writing` once that is written, and makes sure that the driver is woken when there is more,
    /// unless it is `serving`.
    pub(super) fn collect(&self, writing: &mut Outbox, context: &Context<'_>, serving: bool) {
        let mut state = self.lock();
        match &mut state.driver {
            Some(driver) => driver.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        if !writing.is_empty() {
            return; // the socket wakes the driver, which then looks again
        }
        let is_empty = state.outbox.is_empty();
        state.idle = is_empty && !serving;
        if !is_empty {
            std::mem::swap(writing, &mut state.outbox);
            if std::mem::take(&mut state.crowded) {
                self.room.notify_waiters();
            }
        }
    }

    /// When the driver has to look for overdue calls next.
    pub(super) fn next_overdue(&self) -> Option<Instant> {
        self.lock().next_overdue
    }

    /// Ends the calls whose time is over at `now`.
    pub(super) fn end_overdue(&self, now: Instant) {
        let mut state = self.lock();
        let is_overdue = |(_, call): &(&i32, &PendingCall)| call.overdue_at <= now;
        let overdue: Vec<_> = state.calls.iter().filter(is_overdue).map(|(opaque, _)| *opaque).collect();
        let overdue: Vec<_> = overdue.iter().filter_map(|opaque| state.calls.remove(opaque)).collect();
        state.next_overdue = state.calls.values().map(|call| call.overdue_at).min();
        drop(state);
        drop(overdue); // fails them
    }

    pub(super) fn complete(&self, answer: Frame) {
        self.peer_version.store(answer.version.get(), Ordering::Relaxed);
        let call = self.lock().calls.remove(&answer.opaque.get());
        if let Some(call) = call {
            // The caller may have given up in between.
            call.reply.send(answer).ok();
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    pub(super) fn note_read(&self) {
        self.reads.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn begin_stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.lock().outbox.len()
    }

    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.idle = true;
        let calls = std::mem::take(&mut state.calls);
        self.wake_driver(state);
        self.closed.cancel();
        drop(calls); // fails every pending call
    }
}

/// Frees the slot of a call that its caller no longer waits for.
struct CallSlot<'a> {
    shared: &'a Shared,
    opaque: Opaque,
}

impl Drop for CallSlot<'_> {
    fn drop(&mut self) {
        self.shared.lock().calls.remove(&self.opaque.get());
    }
}

fn name_of(request: RequestCode) -> &'static str {
    request.name().unwrap_or("request")
}

impl PartialEq for Connection {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for Connection {}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("id", &self.shared.id.0).field("peer", &self.shared.peer).finish()
    }
}
