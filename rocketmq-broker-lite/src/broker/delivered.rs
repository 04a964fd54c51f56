//! Whether a message that waited is in its queue already: a broker that is killed has delivered more than it has noted.

use rocketmq_protocol::QueueId;
use rocketmq_protocol::message::{StoredMessageRef, property};
use tracing::warn;

use crate::store::{IndexKey, KeyQuery, Store};

/// Messages of one unique key to look at, the newest: one that fails comes again with the same key.
const MOST: usize = 32;
/// Bytes of them.
const MOST_BYTES: usize = 8 * 1024 * 1024;

/// Whether `waiting` was put into this queue at `from_ms` or later. No if that cannot be told: without a unique key, or without an index.
pub(super) fn is_delivered(
    store: &Store,
    waiting: &StoredMessageRef<'_>,
    (topic, queue_id): (&str, QueueId),
    from_ms: i64,
) -> bool {
    let Some(key) = waiting.properties().get(property::UNIQ_KEY) else { return false };
    let found = store.query(KeyQuery {
        topic,
        key: IndexKey::Key(key),
        begin_timestamp: from_ms,
        end_timestamp: i64::MAX,
        max_messages: MOST,
        max_bytes: MOST_BYTES,
    });
    let records = match found {
        Ok(found) => found.records,
        Err(error) => {
            warn!(
                error = &error as &dyn std::error::Error,
                "cannot tell what was delivered, it may come again"
            );
            return false;
        }
    };
    records.iter().filter_map(|record| StoredMessageRef::parse(record).ok()).any(|there| {
        there.queue_id() == queue_id
            && there.store_timestamp() >= from_ms
            && there.reconsume_times() == waiting.reconsume_times()
            && there.born_timestamp() == waiting.born_timestamp()
            && there.body_crc() == waiting.body_crc()
    })
}
