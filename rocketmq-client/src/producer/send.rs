//! Attempts to send: which queue, how often, and when to give up. Java: `DefaultMQProducerImpl.java`, `sendDefaultImpl`.

use std::time::Duration;

use rocketmq_protocol::body::MessageQueue;
use rocketmq_protocol::name::AUTO_CREATE_TOPIC;
use rocketmq_protocol::requests::{SendBatchMessage, SendMessage, SendReply};
use rocketmq_protocol::transport::{Connection, Retry};
use rocketmq_protocol::{ByteString, QueueId, ResponseCode};
use tokio::time::Instant;
use tracing::debug;

use super::Shared;
use super::batch::Batch;
use super::options::Target;
use super::outgoing::Outgoing;
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
    /// Each attempt to the next one in turn, rather on another broker than the last.
    Turn,
    /// To this one and no other.
    Fixed(MessageQueue),
}

/// An answer that says: stored.
pub(super) struct Sent {
    status: SendStatus,
    queue: MessageQueue,
    reply: SendReply,
}

/// Queue of one attempt.
struct Place {
    broker: ByteString,
    queue_id: QueueId,
}

impl Shared {
    /// Where the message is to go. A selector is asked once: on other attempts it might change its mind.
    pub(super) async fn choose(
        &self,
        target: &Target,
        message: &Message,
        deadline: Deadline,
    ) -> Result<Choice, Error> {
        match target {
            Target::Turn => Ok(Choice::Turn),
            Target::Queue(queue) if queue.topic != message.topic() => Err(Error::InvalidArgument {
                name: "queue",
                reason: format!("the message is for topic {}, the queue is {queue}", message.topic()),
            }),
            Target::Queue(queue) => Ok(Choice::Fixed(queue.clone())),
            Target::Selected(selector) => {
                let core = self.client.core();
                let default_queues = self.settings.default_queues;
                let route = core.route_to_send(&message.topic, default_queues, deadline).await?;
                let queues = route.publish.all();
                match selector.select(queues, message) {
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

    /// Sends until a broker has stored it, or there is no sense or no time in trying on.
    pub(super) async fn deliver(
        &self,
        outgoing: &Outgoing,
        choice: Choice,
        deadline: Deadline,
    ) -> Result<Sent, Error> {
        let mut attempts: Vec<Attempt> = Vec::new();
        let mut counted = 0;
        let mut pause = FIRST_PAUSE;
        loop {
            let last_broker = attempts.last().map(|attempt| attempt.broker.as_str());
            let (place, elsewhere) = self.place(outgoing, &choice, last_broker, deadline).await?;
            let began = Instant::now();
            let within = self.settings.attempt_timeout.map_or(deadline, |limit| deadline.within(limit));
            let error = match self.attempt(outgoing, &place, within).await {
                Ok((code, reply)) => {
                    let queue = MessageQueue::new(&*outgoing.topic, &*place.broker, reply.queue_id);
                    return Ok(Sent { status: SendStatus::from_code(code), queue, reply });
                }
                Err(error) => error,
            };
            debug!(topic = %outgoing.topic, broker = %place.broker, %error, "attempt to send failed");
            // A broker that could not be connected to had its route asked for already.
            if error.response_code().is_some() && error.doubts_route() {
                self.client.refresh_route(&outgoing.topic, deadline.share(2)).await;
            }
            let is_busy = error.response_code() == Some(ResponseCode::SYSTEM_BUSY);
            let may_repeat = match choice {
                Choice::Turn => error.retry() != Retry::No,
                // What may have been stored, or has been refused here, must not overtake what comes after.
                Choice::Fixed(_) => is_busy || (error.doubts_route() && error.response_code().is_none()),
            };
            counted += u32::from(!is_busy || self.settings.max_attempts == 1);
            attempts.push(Attempt {
                broker: place.broker.to_string(),
                queue_id: place.queue_id,
                error: Box::new(error),
                took: began.elapsed(),
            });
            let wait = if elsewhere && !is_busy { Duration::ZERO } else { jittered(pause) };
            if !may_repeat || counted >= self.settings.max_attempts || wait >= deadline.left() {
                let topic = outgoing.topic.to_string();
                return Err(Error::SendFailed { topic, attempts, elapsed: deadline.elapsed() });
            }
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
                pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
            }
        }
    }

    /// Hands the message to a connection. What cannot be connected to is passed over.
    pub(super) async fn deliver_oneway(&self, outgoing: &Outgoing, deadline: Deadline) -> Result<(), Error> {
        let mut avoid: Option<ByteString> = None;
        loop {
            let (place, elsewhere) = self.place(outgoing, &Choice::Turn, avoid.as_deref(), deadline).await?;
            match self.connection(outgoing, &place, deadline).await {
                Ok(connection) => {
                    return Ok(connection
                        .send_oneway(&self.request(outgoing, &place), deadline.left())
                        .await?);
                }
                Err(error) if !elsewhere || avoid.is_some() => return Err(error),
                Err(_) => avoid = Some(place.broker),
            }
        }
    }

    /// The queue to try next, and whether queues on other brokers are left.
    async fn place(
        &self,
        outgoing: &Outgoing,
        choice: &Choice,
        avoid: Option<&str>,
        deadline: Deadline,
    ) -> Result<(Place, bool), Error> {
        if let Choice::Fixed(queue) = choice {
            let place = Place { broker: queue.broker_name.as_str().into(), queue_id: queue.queue_id };
            return Ok((place, false));
        }
        let core = self.client.core();
        let mut route = core.route_to_send(&outgoing.topic, self.settings.default_queues, deadline).await?;
        if route.publish.all().is_empty() {
            core.refresh_route(&outgoing.topic, deadline.share(2)).await;
            route = core.route_to_send(&outgoing.topic, self.settings.default_queues, deadline).await?;
        }
        let (queue, broker) = route.publish.next(avoid).ok_or_else(|| no_queue(&outgoing.topic))?;
        let place = Place { broker: broker.clone(), queue_id: queue.queue_id };
        Ok((place, route.publish.has_other_than(broker)))
    }

    async fn attempt(
        &self,
        outgoing: &Outgoing,
        place: &Place,
        deadline: Deadline,
    ) -> Result<(ResponseCode, SendReply), Error> {
        let connection = self.connection(outgoing, place, deadline).await?;
        let request = self.request(outgoing, place);
        let answer = if outgoing.is_batch {
            connection.call_coded(&SendBatchMessage(request), deadline.left()).await
        } else {
            connection.call_coded(&request, deadline.left()).await
        };
        Ok(answer?)
    }

    async fn connection(
        &self,
        outgoing: &Outgoing,
        place: &Place,
        deadline: Deadline,
    ) -> Result<Connection, Error> {
        self.client.broker(&outgoing.topic, &place.broker, BrokerChoice::Master, deadline).await
    }

    /// Made for each attempt: queue and broker are those of the attempt.
    fn request(&self, outgoing: &Outgoing, place: &Place) -> SendMessage {
        SendMessage {
            producer_group: self.group.clone(),
            topic: outgoing.topic.clone(),
            default_topic: ByteString::from_static(AUTO_CREATE_TOPIC),
            default_topic_queue_nums: self.settings.default_queues,
            queue_id: place.queue_id,
            sys_flag: outgoing.sys_flag.get(),
            born_timestamp: outgoing.born_timestamp,
            flag: outgoing.flag,
            properties: Some(outgoing.properties.encoded().clone()),
            reconsume_times: 0,
            unit_mode: false,
            max_reconsume_times: None,
            batch: outgoing.is_batch,
            broker_name: Some(place.broker.clone()),
            body: outgoing.body.clone(),
        }
    }
}

impl Sent {
    pub(super) fn into_receipt(self, outgoing: &Outgoing) -> SendReceipt {
        let Self { status, queue, reply } = self;
        SendReceipt {
            status,
            message_id: outgoing.message_id.clone(),
            offset_message_id: reply.message_id,
            queue,
            queue_offset: reply.queue_offset,
            recall_handle: reply.recall_handle,
        }
    }

    pub(super) fn into_batch_receipt(self, batch: Batch) -> BatchReceipt {
        let Self { status, queue, reply } = self;
        BatchReceipt { status, message_ids: batch.message_ids, queue, first_queue_offset: reply.queue_offset }
    }
}

fn no_queue(topic: &str) -> Error {
    Error::NoQueue { topic: topic.to_owned(), wanted: "written" }
}

/// Half to all of `pause`, so that many senders do not come back at the same moment.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..1.0))
}
