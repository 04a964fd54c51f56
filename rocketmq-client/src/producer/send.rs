//! Attempts to send: which queue, how often, and when to give up. Java: `DefaultMQProducerImpl.java`, `sendDefaultImpl`.

use std::time::Duration;

use rocketmq_protocol::body::MessageQueue;
use rocketmq_protocol::requests::{GetMaxOffset, SendBatchMessage, SendReplyMessage};
use rocketmq_protocol::transport::{Connection, Retry};
use rocketmq_protocol::{ByteString, ResponseCode, Version};
use tokio::time::Instant;
use tracing::debug;

use super::Shared;
use super::batch::{self, Batch};
use super::in_flight::Permit;
use super::interceptor::{MessageKind, SendEvent, StoredAt, before_send};
use super::options::Target;
use super::outgoing::{Outgoing, Shape, blank_request, compressed};
use super::receipt::{BatchReceipt, SendReceipt, SendStatus};
use crate::deadline::Deadline;
use crate::error::Attempt;
use crate::route_table::BrokerChoice;
use crate::{Error, Message};

/// First and longest pause before a broker is tried that has just turned us down.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Which queues a send may go to.
pub(super) enum Choice {
    /// Each attempt to the next one in turn, rather on another broker than the last; the first one on this broker, if it
    /// has any.
    Turn { first: Option<ByteString> },
    /// To this one and no other.
    Fixed(MessageQueue),
}

/// An answer that says: stored. In a box, as it passes through many hands.
pub(super) struct Sent {
    /// The queue as brokers know it.
    pub(super) stored: StoredAt,
    /// An earlier attempt got no answer.
    may_be_duplicate: bool,
}

/// A message that was sent.
pub(super) struct Dispatched {
    pub(super) message_id: ByteString,
    pub(super) sent: Box<Sent>,
}

impl Shared {
    /// What comes before a message is sent: interceptors, checks, room.
    pub(super) async fn admit(&self, message: &mut Message, deadline: Deadline) -> Result<Permit<'_>, Error> {
        if !self.interceptors.is_empty() {
            Box::pin(before_send(&self.interceptors, message)).await?;
        }
        message.validate(self.settings.max_message_size)?;
        self.in_flight.enter(message.body.len(), deadline).await
    }

    /// Sends one message that has room: [`Shared::admit`].
    pub(super) async fn dispatch(
        &self,
        message: &Message,
        kind: MessageKind,
        target: &Target,
        deadline: Deadline,
    ) -> Result<Dispatched, Error> {
        let body = compressed(&message.body, &self.settings).await;
        let mut outgoing = self.prepare(message, body, kind)?;
        let choice = match target {
            Target::Turn => Choice::Turn { first: None },
            _ => Box::pin(self.choose(target, message, deadline)).await?,
        };
        let message_id = std::mem::take(&mut outgoing.message_id);
        let sent = if self.interceptors.is_empty() {
            self.deliver(&mut outgoing, choice, deadline).await?
        } else {
            let delayed = kind == MessageKind::Normal && message.is_delayed();
            let kind = if delayed { MessageKind::Delayed } else { kind };
            let (messages, ids) = (std::slice::from_ref(message), std::slice::from_ref(&message_id));
            let delivering = self.deliver_observed(&mut outgoing, choice, deadline, messages, ids, kind);
            Box::pin(delivering).await?
        };
        let dispatched = Dispatched { message_id, sent };
        if self.is_too_little(&dispatched.sent) {
            return Err(not_safely_stored(dispatched.into_receipt(message)));
        }
        Ok(dispatched)
    }

    /// Sends messages as one.
    pub(super) async fn dispatch_batch(
        &self,
        mut messages: Vec<Message>,
        target: &Target,
        deadline: Deadline,
    ) -> Result<(Batch, Box<Sent>), Error> {
        for message in &mut messages {
            before_send(&self.interceptors, message).await?;
        }
        let bytes = messages.iter().map(batch::size).fold(0, usize::saturating_add);
        let _permit = self.in_flight.enter(bytes, deadline).await?;
        self.dispatch_batch_admitted(messages, target, deadline).await
    }

    /// As [`Shared::dispatch_batch`], for messages that have room already.
    pub(super) async fn dispatch_batch_admitted(
        &self,
        messages: Vec<Message>,
        target: &Target,
        deadline: Deadline,
    ) -> Result<(Batch, Box<Sent>), Error> {
        let core = self.client.core();
        let limit = self.settings.max_message_size;
        let blank = blank_request(&self.group, self.settings.default_queues);
        let mut batch = batch::encode(&messages, &core.unique_keys, &core.namespace, limit, blank)?;
        let choice = match messages.first() {
            Some(first) => self.choose(target, first, deadline).await?,
            None => Choice::Turn { first: None },
        };
        let Batch { outgoing, message_ids } = &mut batch;
        let sent = if self.interceptors.is_empty() {
            self.deliver(outgoing, choice, deadline).await?
        } else {
            let kind = MessageKind::Normal;
            let delivering = self.deliver_observed(outgoing, choice, deadline, &messages, message_ids, kind);
            Box::pin(delivering).await?
        };
        if self.is_too_little(&sent) {
            let first_id = batch.message_ids.first().cloned().unwrap_or_default();
            let receipt = sent.into_receipt(first_id, messages.first().unwrap_or(&Message::new("", "")));
            return Err(not_safely_stored(receipt));
        }
        Ok((batch, sent))
    }

    /// As [`Shared::deliver`], and the interceptors hear what came of it.
    async fn deliver_observed(
        &self,
        outgoing: &mut Outgoing,
        choice: Choice,
        deadline: Deadline,
        messages: &[Message],
        message_ids: &[ByteString],
        kind: MessageKind,
    ) -> Result<Box<Sent>, Error> {
        let began = Instant::now();
        let result = self.deliver(outgoing, choice, deadline).await;
        let event = SendEvent {
            group: self.group(),
            messages,
            message_ids,
            kind,
            result: result.as_ref().map(|sent| &sent.stored),
            took: began.elapsed(),
        };
        for interceptor in self.interceptors.iter() {
            interceptor.after_send(&event).await;
        }
        result
    }

    /// Whether the user wants it stored more safely than it is.
    fn is_too_little(&self, sent: &Sent) -> bool {
        self.settings.require_ok && sent.stored.status != SendStatus::Ok
    }

    /// Where the message is to go. A selector is asked once: on other attempts it might change its mind.
    pub(super) async fn choose(
        &self,
        target: &Target,
        message: &Message,
        deadline: Deadline,
    ) -> Result<Choice, Error> {
        match target {
            Target::Turn => Ok(Choice::Turn { first: None }),
            Target::Broker(broker) => Ok(Choice::Turn { first: Some(broker.clone()) }),
            Target::Queue(queue) if queue.topic != message.topic() => Err(Error::InvalidArgument {
                name: "queue",
                reason: format!("the message is for topic {}, the queue is {queue}", message.topic()),
            }),
            Target::Queue(queue) => Ok(Choice::Fixed(queue.clone())),
            Target::Selected(selector) => {
                let queues = self.queues(&message.topic, deadline).await?;
                match selector.select(&queues, message) {
                    Some(queue) => Ok(Choice::Fixed(queue.clone())),
                    None if queues.is_empty() => Err(no_queue(message.topic())),
                    None => Err(Error::NoQueueSelected {
                        topic: message.topic().to_owned(),
                        queues: queues.len(),
                    }),
                }
            }
        }
    }

    /// The queues of a topic that can be written, under the user's name for the topic.
    pub(super) async fn queues(
        &self,
        topic: &ByteString,
        deadline: Deadline,
    ) -> Result<Vec<MessageQueue>, Error> {
        let core = self.client.core();
        let wire_topic = core.namespace.wrap(topic);
        let route = core.route_to_send(&wire_topic, self.settings.default_queues, deadline).await?;
        let queues = route.publish.all().iter();
        let named = |queue: &MessageQueue| MessageQueue { topic: topic.clone(), ..queue.clone() };
        Ok(queues.map(named).collect())
    }

    /// Sends until a broker has stored it, or there is no sense or no time in trying on.
    pub(super) async fn deliver(
        &self,
        outgoing: &mut Outgoing,
        choice: Choice,
        deadline: Deadline,
    ) -> Result<Box<Sent>, Error> {
        let mut attempts: Vec<Attempt> = Vec::new();
        let mut counted = 0;
        let mut pause = FIRST_PAUSE;
        let mut stored_not_ok: Option<Box<Sent>> = None;
        loop {
            let (broker, elsewhere) = match self.place(outgoing, &choice, deadline).await {
                Ok(place) => place,
                Err(error) => return stored_not_ok.ok_or(error),
            };
            let began = Instant::now();
            let within = self.settings.attempt_timeout.map_or(deadline, |limit| deadline.within(limit));
            let mut attempt = self.attempt(outgoing, &broker, began, within).await;
            if let (Some(faults), Choice::Turn { .. }) = (&self.faults, &choice) {
                match &attempt {
                    Err(error) if counts_as_fault(error) => faults.failed(&broker),
                    _ => faults.worked(&broker, began.elapsed()),
                }
            }
            if let Ok(sent) = &mut attempt {
                let earlier = stored_not_ok.is_some();
                let unanswered = |attempt: &Attempt| attempt.error.may_have_been_stored();
                sent.may_be_duplicate = earlier || attempts.iter().any(unanswered);
                counted += 1;
                let again = self.settings.retry_not_ok
                    && sent.stored.status != SendStatus::Ok
                    && matches!(choice, Choice::Turn { .. })
                    && elsewhere
                    && counted < self.settings.max_attempts;
                if !again {
                    return attempt;
                }
            }
            let error = match attempt {
                Ok(sent) => {
                    stored_not_ok = Some(sent);
                    continue;
                }
                Err(error) => error,
            };
            debug!(topic = %outgoing.topic(), %broker, %error, "attempt to send failed");
            // A broker that could not be connected to had its route asked for already.
            if error.response_code().is_some() && error.doubts_route() {
                self.client.refresh_route(outgoing.topic(), deadline.share(2)).await;
            }
            let is_busy = error.response_code() == Some(ResponseCode::SYSTEM_BUSY);
            let may_repeat = match choice {
                Choice::Turn { .. } => {
                    let listed = |code| self.settings.retry_codes.contains(&code);
                    error.retry() != Retry::No || error.response_code().is_some_and(listed)
                }
                // What may have been stored, or has been refused here, must not overtake what comes after.
                Choice::Fixed(_) => is_busy || (error.doubts_route() && error.response_code().is_none()),
            };
            counted += u32::from(!is_busy || self.settings.max_attempts == 1);
            attempts.push(Attempt {
                broker: broker.to_string(),
                queue_id: outgoing.request.queue_id,
                error: Box::new(error),
                took: began.elapsed(),
            });
            let wait = if elsewhere && !is_busy { Duration::ZERO } else { jittered(pause) };
            if !may_repeat || counted >= self.settings.max_attempts || wait >= deadline.left() {
                if let Some(sent) = stored_not_ok {
                    return Ok(sent);
                }
                let topic = outgoing.topic().to_string();
                return Err(Error::SendFailed { topic, attempts, elapsed: deadline.elapsed() });
            }
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
                pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
            }
        }
    }

    /// Hands the message to a connection. What cannot be connected to is passed over.
    pub(super) async fn deliver_oneway(
        &self,
        outgoing: &mut Outgoing,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let mut is_second = false;
        loop {
            let turn = Choice::Turn { first: None };
            let (broker, elsewhere) = self.place(outgoing, &turn, deadline).await?;
            match self.client.broker(outgoing.topic(), &broker, BrokerChoice::Master, deadline).await {
                Ok(connection) => {
                    self.check_version(outgoing, &connection, deadline).await?;
                    return Ok(connection.send_oneway(&outgoing.request, deadline.left()).await?);
                }
                Err(error) if !elsewhere || is_second => return Err(error),
                Err(_) => is_second = true,
            }
        }
    }

    /// Addresses the request to the queue to try next: on another broker than the last one, where it can. Tells the
    /// broker, and whether there are queues on others.
    async fn place(
        &self,
        outgoing: &mut Outgoing,
        choice: &Choice,
        deadline: Deadline,
    ) -> Result<(ByteString, bool), Error> {
        let first = match choice {
            Choice::Fixed(queue) => {
                outgoing.address(queue);
                return Ok((queue.broker_name.clone(), false));
            }
            Choice::Turn { first } => first.as_deref(),
        };
        let core = self.client.core();
        let mut route = core.route_to_send(outgoing.topic(), self.settings.default_queues, deadline).await?;
        if route.publish.all().is_empty() {
            core.refresh_route(outgoing.topic(), deadline.share(2)).await;
            route = core.route_to_send(outgoing.topic(), self.settings.default_queues, deadline).await?;
        }
        let queues = &route.publish;
        let avoid = outgoing.broker();
        let preferred = match (first, avoid, &self.faults) {
            (Some(first), None, _) => queues.next_where(|broker| broker == first),
            (_, _, Some(faults)) => {
                let other = |broker: &str| Some(broker) != avoid;
                queues
                    .next_where(|broker| other(broker) && faults.is_available(broker))
                    .or_else(|| queues.next_where(|broker| other(broker) && faults.is_reachable(broker)))
            }
            _ => None,
        };
        let queue = preferred.or_else(|| queues.next(avoid)).ok_or_else(|| no_queue(outgoing.topic()))?;
        outgoing.address(queue);
        Ok((queue.broker_name.clone(), queues.has_other_than(&queue.broker_name)))
    }

    /// One attempt, begun just now.
    async fn attempt(
        &self,
        outgoing: &Outgoing,
        broker: &ByteString,
        began: Instant,
        deadline: Deadline,
    ) -> Result<Box<Sent>, Error> {
        let (core, master) = (self.client.core(), BrokerChoice::Master);
        let mut now = began;
        let connection = match core.connected(broker, master) {
            Some(connection) => connection,
            None => {
                let connection = core.broker(outgoing.topic(), broker, master, deadline).await?;
                now = Instant::now();
                connection
            }
        };
        if outgoing.is_timer {
            Box::pin(self.check_version(outgoing, &connection, deadline)).await?;
            now = Instant::now();
        }
        let (request, until) = (&outgoing.request, deadline.at());
        let (code, reply) = match outgoing.shape {
            Shape::Single => connection.call_coded_until(request, now, until).await,
            Shape::Batch => connection.call_coded_until(&SendBatchMessage(request.clone()), now, until).await,
            Shape::Reply => connection.call_coded_until(&SendReplyMessage(request.clone()), now, until).await,
        }?;
        let queue = MessageQueue::new(outgoing.topic().clone(), broker.clone(), reply.queue_id);
        let (status, broker_addr) = (SendStatus::from_code(code), connection.peer());
        let stored = StoredAt { status, queue, broker_addr, reply };
        Ok(Box::new(Sent { stored, may_be_duplicate: false }))
    }

    /// An old broker does not know timers, ignores what says when, and delivers at once.
    async fn check_version(
        &self,
        outgoing: &Outgoing,
        connection: &Connection,
        deadline: Deadline,
    ) -> Result<(), Error> {
        if !outgoing.is_timer {
            return Ok(());
        }
        if connection.peer_version().is_none() {
            let (topic, queue_id) = (outgoing.topic().clone(), outgoing.request.queue_id);
            let question = GetMaxOffset { topic, queue_id };
            match connection.call(&question, deadline.left()).await {
                Err(error) if error.response_code().is_none() => return Err(error.into()),
                _ => {} // any answer tells the version
            }
        }
        let version = connection.peer_version().unwrap_or(Version::new(0));
        if version >= Version::V5_0_0 {
            return Ok(());
        }
        let what = "deliver a message at a given time";
        let broker = outgoing.broker().unwrap_or_default().to_owned();
        Err(Error::BrokerTooOld { broker, what, version, needed: Version::V5_0_0 })
    }
}

impl Dispatched {
    /// The queue in it is of the topic as the user calls it.
    pub(super) fn into_receipt(self, message: &Message) -> SendReceipt {
        self.sent.into_receipt(self.message_id, message)
    }
}

impl Sent {
    fn into_receipt(self: Box<Self>, message_id: ByteString, message: &Message) -> SendReceipt {
        let Self { stored: StoredAt { status, mut queue, reply, .. }, may_be_duplicate } = *self;
        if queue.topic != message.topic() {
            queue.topic = message.topic.clone();
        }
        SendReceipt {
            status,
            message_id,
            offset_message_id: reply.message_id,
            queue,
            queue_offset: reply.queue_offset,
            recall_handle: reply.recall_handle,
            may_be_duplicate,
        }
    }

    pub(super) fn into_batch_receipt(self: Box<Self>, batch: Batch, topic: &str) -> BatchReceipt {
        let Self { stored: StoredAt { status, queue, reply, .. }, may_be_duplicate } = *self;
        BatchReceipt {
            status,
            message_ids: batch.message_ids,
            queue: MessageQueue { topic: topic.into(), ..queue },
            first_queue_offset: reply.queue_offset,
            may_be_duplicate,
        }
    }

    /// One receipt for each message of a batch.
    pub(super) fn into_receipts(self: Box<Self>, batch: Batch, topic: &str) -> Vec<SendReceipt> {
        let Self { stored: StoredAt { status, queue, reply, .. }, may_be_duplicate } = *self;
        let queue = MessageQueue { topic: topic.into(), ..queue };
        // Older brokers give the id of the first message only.
        let mut ids = reply.message_id.split(',');
        let receipt = |(at, message_id): (i64, ByteString)| SendReceipt {
            status,
            message_id,
            offset_message_id: ids.next().unwrap_or_default().into(),
            queue: queue.clone(),
            queue_offset: reply.queue_offset.plus(at),
            recall_handle: None,
            may_be_duplicate,
        };
        (0..).zip(batch.message_ids).map(receipt).collect()
    }
}

/// Whether the broker, rather than the message or we ourselves, is what went wrong.
fn counts_as_fault(error: &Error) -> bool {
    matches!(error, Error::Request(_)) && error.retry() != Retry::No
}

fn not_safely_stored(receipt: SendReceipt) -> Error {
    Error::NotSafelyStored { receipt: Box::new(receipt) }
}

fn no_queue(topic: &str) -> Error {
    Error::NoQueue { topic: topic.to_owned(), wanted: "written" }
}

/// Half to all of `pause`, so that many senders do not come back at the same moment.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..1.0))
}
