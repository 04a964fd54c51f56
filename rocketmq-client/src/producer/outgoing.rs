//! [`Outgoing`]: a message ready for the wire. Made once, sent as often as it takes.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rocketmq_protocol::ByteString;
use rocketmq_protocol::message::{Compression, Properties, SysFlag, UniqueKeyGenerator, property};
use tracing::warn;

use super::Shared;
use super::builder::Settings;
use super::interceptor::MessageKind;
use crate::{Error, Message};

/// Compressing more than this takes so long that other tasks should not wait for it.
const COMPRESS_ELSEWHERE: usize = 64 * 1024;

/// A message, or a batch, ready for the wire.
pub(super) struct Outgoing {
    pub(super) topic: ByteString,
    pub(super) flag: i32,
    pub(super) sys_flag: SysFlag,
    pub(super) born_timestamp: i64,
    pub(super) properties: Properties,
    pub(super) body: Bytes,
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

impl Shared {
    /// Gives the message its id and compresses a long body.
    pub(super) async fn prepare(&self, message: &Message, kind: MessageKind) -> Result<Outgoing, Error> {
        let now = now_ms();
        let core = self.client.core();
        let (mut properties, message_id) = with_unique_key(&message.properties, &core.unique_keys, now)?;
        let (body, mut sys_flag) = compressed(&message.body, &self.settings).await;
        if kind == MessageKind::TransactionHalf {
            let half =
                properties.to_builder().set(property::TRAN_MSG, "true").set(property::PGROUP, &self.group);
            properties = half.build()?;
            sys_flag = sys_flag.with(SysFlag::TRANSACTION_PREPARED);
        }
        if let Some(namespace) = core.namespace.name() {
            properties = properties.with(property::INSTANCE_ID, namespace)?;
        }
        Ok(Outgoing {
            topic: core.namespace.wrap(&message.topic),
            flag: message.flag,
            sys_flag,
            born_timestamp: now,
            properties,
            body,
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

/// The properties with a unique key, and the key, sharing their buffer. A key that is there stays, so that a message
/// which is sent again is known as the same.
pub(super) fn with_unique_key(
    properties: &Properties,
    keys: &UniqueKeyGenerator,
    now_ms: i64,
) -> Result<(Properties, ByteString), Error> {
    let properties = match properties.get(property::UNIQ_KEY) {
        Some(_) => properties.clone(),
        None => properties.with(property::UNIQ_KEY, &keys.next(now_ms))?,
    };
    let key = properties.get(property::UNIQ_KEY).unwrap_or_default();
    let key = ByteString::from_utf8(properties.encoded().as_bytes().slice_ref(key.as_bytes()));
    Ok((properties, key.unwrap_or_default()))
}

/// The body as it goes out. One that does not get smaller, or that the compressor fails on, goes out as it is.
async fn compressed(body: &Bytes, settings: &Settings) -> (Bytes, SysFlag) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unique_key_is_given_once() {
        let keys = UniqueKeyGenerator::new([10, 0, 0, 1].into(), 1, 2);
        let plain = Properties::builder().set("a", "b").build().unwrap();
        let (properties, key) = with_unique_key(&plain, &keys, 5).unwrap();
        assert_eq!(key.len(), 32);
        assert_eq!(properties.get(property::UNIQ_KEY), Some(&*key));
        assert_eq!(properties.get("a"), Some("b"));
        let (again, same) = with_unique_key(&properties, &keys, 6).unwrap();
        assert_eq!((again, same), (properties, key));
    }
}
