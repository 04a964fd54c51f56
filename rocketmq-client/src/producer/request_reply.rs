//! Request and reply: a message to a topic, and the answer of whoever consumes it.
//!
//! The request names the client that waits and a correlation id; the reply goes to a broker, which pushes it to that
//! client. Java: `DefaultMQProducerImpl.java`, `request`; `client/utils/MessageUtil.java`;
//! `client/impl/ClientRemotingProcessor.java`, `receiveReplyMessage`.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dashmap::DashMap;
use rocketmq_protocol::message::{Properties, StoredMessage, SysFlag, property};
use rocketmq_protocol::name::reply_topic;
use rocketmq_protocol::requests::PushReplyMessage;
use rocketmq_protocol::transport::Call;
use rocketmq_protocol::{ByteString, LogPosition, QueueOffset, ResponseCode};
use tokio::sync::oneshot;
use tracing::debug;

use super::Producer;
use super::interceptor::MessageKind;
use super::options::Target;
use super::outgoing::now_ms;
use crate::deadline::Deadline;
use crate::{Error, Message, ReceivedMessage, SendReceipt};

/// What marks a reply, in the property `MSG_TYPE`.
const REPLY: &str = "reply";

/// Requests of a client that wait for their replies.
#[derive(Default)]
pub(crate) struct AwaitedReplies {
    /// By correlation id. No guard is held while waiting.
    waiting: DashMap<String, oneshot::Sender<ReceivedMessage>>,
}

impl AwaitedReplies {
    fn expect(self: &Arc<Self>, correlation_id: &str) -> (Expected, oneshot::Receiver<ReceivedMessage>) {
        let (sender, reply) = oneshot::channel();
        self.waiting.insert(correlation_id.to_owned(), sender);
        (Expected { replies: Arc::clone(self), correlation_id: correlation_id.to_owned() }, reply)
    }

    /// Takes a reply that a broker pushes. One that nobody waits for any more is dropped, and the broker told that all is
    /// well: it has done its part.
    pub(crate) fn serve(&self, call: &Call) {
        match call.read::<PushReplyMessage>().map_err(|error| error.to_string()).and_then(received) {
            Ok(reply) => {
                let correlation_id = reply.property(property::CORRELATION_ID).unwrap_or_default();
                match self.waiting.remove(correlation_id) {
                    Some((_, waiting)) => drop(waiting.send(reply)), // given up in between
                    None => debug!(correlation_id, "reply dropped: nobody waits for it"),
                }
                call.done();
            }
            Err(error) => call.refuse(ResponseCode::SYSTEM_ERROR, error),
        }
    }
}

/// The place of one request among those that wait, until it is dropped.
struct Expected {
    replies: Arc<AwaitedReplies>,
    correlation_id: String,
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.replies.waiting.remove(&self.correlation_id);
    }
}

fn received(push: PushReplyMessage) -> Result<ReceivedMessage, String> {
    let host = |text: &str| text.parse().unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
    let properties = Properties::new(push.properties.unwrap_or_default());
    let properties =
        properties.with(property::ARRIVE_TIME, &now_ms().to_string()).map_err(|error| error.to_string())?;
    let stored = StoredMessage {
        topic: push.topic,
        queue_id: push.queue_id,
        queue_offset: QueueOffset::ZERO, // replies are pushed, not read from a queue
        physical_offset: LogPosition::ZERO,
        flag: push.flag,
        sys_flag: SysFlag::new(push.sys_flag),
        born_timestamp: push.born_timestamp,
        born_host: host(&push.born_host),
        store_timestamp: push.store_timestamp,
        store_host: host(&push.store_host),
        reconsume_times: push.reconsume_times,
        prepared_transaction_offset: LogPosition::ZERO,
        body: push.body,
        properties,
    };
    Ok(ReceivedMessage::new(stored, &ByteString::EMPTY))
}

impl Producer {
    /// Sends a message and waits for the reply of whoever consumes it: [`Producer::reply`]. Any number of requests may be
    /// under way at once.
    ///
    /// # Cancel safety
    /// A dropped request waits no longer; the message may have been stored, and may be replied to in vain.
    ///
    /// # Errors
    /// [`Error::NoReply`] when the message is stored but the reply does not come within `timeout`; else as
    /// [`Producer::send`].
    pub async fn request(&self, message: Message, timeout: Duration) -> Result<ReceivedMessage, Error> {
        let deadline = Deadline::after(timeout);
        let core = self.shared.client.core();
        let correlation_id = correlation_id();
        let properties = message
            .properties
            .to_builder()
            .set(property::CORRELATION_ID, &correlation_id)
            .set(property::REPLY_TO_CLIENT, &core.id)
            .set(property::TTL, &timeout.as_millis().to_string());
        let mut message = Message { properties: properties.build()?, ..message };
        let topic = message.topic().to_owned();
        self.be_known_to_repliers(&message.topic, deadline).await?;
        let (_expected, reply) = core.replies.expect(&correlation_id);
        let permit = self.shared.admit(&mut message, deadline).await?;
        let sent = self.shared.dispatch(&message, MessageKind::Normal, &Target::Turn, deadline).await?;
        drop(permit); // what waits for its reply is on its way no more
        let replied = tokio::time::timeout(deadline.left(), reply).await;
        replied.ok().and_then(Result::ok).ok_or_else(|| Error::NoReply {
            topic,
            message_id: sent.message_id.to_string(),
            waited: deadline.elapsed(),
        })
    }

    /// A broker pushes replies only to clients that it has had a heartbeat of, and the replier may send to any broker of
    /// the cluster: all of them must know us.
    async fn be_known_to_repliers(&self, topic: &ByteString, deadline: Deadline) -> Result<(), Error> {
        let core = self.shared.client.core();
        let topic = core.namespace.wrap(topic);
        let route = core.route_to_send(&topic, self.shared.settings.default_queues, deadline).await?;
        let clusters: BTreeSet<_> =
            route.data.broker_datas.iter().map(|broker| broker.cluster.as_str()).collect();
        for cluster in clusters {
            let topic = ByteString::from(reply_topic(cluster));
            if core.routes.get(&topic).is_none() {
                // Without that topic, nobody can reply there: the brokers of the request's own topic remain.
                drop(core.fetch_route(&topic, deadline.share(2)).await);
            }
        }
        deadline.run("telling brokers who waits for the reply", core.heartbeat()).await.map(drop)
    }

    /// Replies to a request that was consumed.
    ///
    /// # Errors
    /// [`Error::InvalidMessage`] when it is no request; else as [`Producer::send`]. A requester that is gone, or waits no
    /// longer, is an error of the broker's.
    pub async fn reply(
        &self,
        request: &ReceivedMessage,
        body: impl Into<Bytes>,
    ) -> Result<SendReceipt, Error> {
        let mut message = reply_to(request, body.into())?;
        let deadline = self.deadline_of(None);
        // The broker that the request came through has had a heartbeat of the requester.
        let same_broker = Target::Broker(request.broker_name().into());
        let _permit = self.shared.admit(&mut message, deadline).await?;
        let sent = self.shared.dispatch(&message, MessageKind::Reply, &same_broker, deadline).await?;
        Ok(sent.into_receipt(&message))
    }
}

/// Java: `MessageUtil.createReplyMessage`.
fn reply_to(request: &ReceivedMessage, body: Bytes) -> Result<Message, Error> {
    let wanted = |name: &'static str| {
        request.property(name).ok_or_else(|| Error::InvalidMessage {
            topic: request.topic().to_owned(),
            reason: format!("as a reply: what it replies to is no request, it has no property {name}"),
        })
    };
    let mut properties = Properties::builder()
        .set(property::MSG_TYPE, REPLY)
        .set(property::CORRELATION_ID, wanted(property::CORRELATION_ID)?)
        .set(property::REPLY_TO_CLIENT, wanted(property::REPLY_TO_CLIENT)?);
    if let Some(ttl) = request.property(property::TTL) {
        properties = properties.set(property::TTL, ttl);
    }
    let topic = reply_topic(wanted(property::CLUSTER)?);
    Ok(Message { properties: properties.build()?, ..Message::new(topic, body) })
}

/// A random UUID (version 4).
fn correlation_id() -> String {
    let random = rand::random::<u128>() & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{random:032x}");
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0..8), part(8..12), part(12..16), part(16..20), part(20..32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_correlation_id_is_a_random_uuid() {
        let id = correlation_id();
        let groups: Vec<_> = id.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12]);
        assert_eq!(id.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&id.as_bytes()[19]), "{id}");
        assert_ne!(id, correlation_id());
    }
}
