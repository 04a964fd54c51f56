//! [`Outgoing`]: a message ready for the wire. Made once, sent as often as it takes.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rocketmq_protocol::body::MessageQueue;
use rocketmq_protocol::message::{Compression, SysFlag, property};
use rocketmq_protocol::name::AUTO_CREATE_TOPIC;
use rocketmq_protocol::requests::SendMessage;
use rocketmq_protocol::{ByteString, QueueId};
use tracing::warn;

use super::Shared;
use super::builder::Settings;
use super::interceptor::MessageKind;
use crate::{Error, Message};

/// Compressing more than this takes so long that other tasks should not wait for it.
const COMPRESS_ELSEWHERE: usize = 64 * 1024;

/// A message, or a batch, ready for the wire.
pub(super) struct Outgoing {
    /// Its queue and broker are those of the last attempt.
    pub(super) request: SendMessage,
    pub(super) shape: Shape,
    pub(super) message_id: ByteString,
    /// Brokers before 5.0 would deliver it at once.
    pub(super) is_timer: bool,
}

/// What request carries a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Single,
    Batch,
    /// To a client that waits for it.
    Reply,
}

impl Outgoing {
    /// As brokers know it.
    pub(super) fn topic(&self) -> &ByteString {
        &self.request.topic
    }

    /// Says where the next attempt goes.
    pub(super) fn address(&mut self, queue: &MessageQueue) {
        self.request.queue_id = queue.queue_id;
        self.request.broker_name = Some(queue.broker_name.clone());
    }

    /// That of the last attempt; nothing before the first one.
    pub(super) fn broker(&self) -> Option<&str> {
        self.request.broker_name.as_deref()
    }
}

/// A request of this group without a message.
pub(super) fn blank_request(group: &ByteString, default_queues: i32) -> SendMessage {
    SendMessage {
        producer_group: group.clone(),
        topic: ByteString::EMPTY,
        default_topic: ByteString::from_static(AUTO_CREATE_TOPIC),
        default_topic_queue_nums: default_queues,
        queue_id: QueueId::ZERO,
        sys_flag: 0,
        born_timestamp: 0,
        flag: 0,
        properties: None,
        reconsume_times: 0,
        unit_mode: false,
        max_reconsume_times: None,
        batch: false,
        broker_name: None,
        body: Bytes::new(),
    }
}

impl Shared {
    /// Gives the message its id; `body` is its body as [`compressed`] left it.
    pub(super) fn prepare(
        &self,
        message: &Message,
        (body, mut sys_flag): (Bytes, SysFlag),
        kind: MessageKind,
    ) -> Result<Outgoing, Error> {
        let now = now_ms();
        let core = self.client.core();
        let (mut properties, message_id) = message.properties.with_unique_key(&core.unique_keys, now)?;
        if kind == MessageKind::TransactionHalf {
            let half =
                properties.to_builder().set(property::TRAN_MSG, "true").set(property::PGROUP, &self.group);
            properties = half.build()?;
            sys_flag = sys_flag.with(SysFlag::TRANSACTION_PREPARED);
        }
        if let Some(namespace) = core.namespace.name() {
            properties = properties.with(property::INSTANCE_ID, namespace)?;
        }
        let request = SendMessage {
            topic: core.namespace.wrap(&message.topic),
            sys_flag: sys_flag.get(),
            born_timestamp: now,
            flag: message.flag,
            properties: Some(properties.into()),
            body,
            ..blank_request(&self.group, self.settings.default_queues)
        };
        Ok(Outgoing {
            request,
            shape: if kind == MessageKind::Reply { Shape::Reply } else { Shape::Single },
            message_id,
            is_timer: message.is_timer(),
        })
    }
}

pub(crate) fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

/// The body as it goes out. One that does not get smaller, or that the compressor fails on, goes out as it is.
pub(super) async fn compressed(body: &Bytes, settings: &Settings) -> (Bytes, SysFlag) {
    if body.len() < settings.compress_above {
        return (body.clone(), SysFlag::NONE);
    }
    let (compression, level) = (settings.compression, settings.compression_level);
    let result = if body.len() <= COMPRESS_ELSEWHERE {
        smaller(body, compression, level)
    } else {
        let body = body.clone();
        let compressing = tokio::task::spawn_blocking(move || smaller(&body, compression, level));
        compressing.await.unwrap_or_default() // only a panic or the end of the runtime gets in between
    };
    match result {
        Some(smaller) => (smaller, SysFlag::NONE.with_compression(compression)),
        None => (body.clone(), SysFlag::NONE),
    }
}

fn smaller(body: &Bytes, compression: Compression, level: u32) -> Option<Bytes> {
    match compression.compress(body, level) {
        Ok(result) => Some(result).filter(|result| result.len() < body.len()),
        Err(error) => {
            warn!(%error, "body sent uncompressed");
            None
        }
    }
}
