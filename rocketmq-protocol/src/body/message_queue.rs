//! [`MessageQueue`], and [`QueueTable`], the map that the protocol keys by it.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use serde::de::{self, MapAccess, Visitor};
use serde::ser::{self, SerializeMap};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{ByteString, QueueId};

/// One queue of a topic on one broker. Ordered by topic, then broker name, then id: the members of a group each divide
/// the sorted list among themselves and must agree. Java: `common/message/MessageQueue.java`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MessageQueue {
    /// The broker's name.
    pub broker_name: ByteString,
    /// Number within the topic on that broker.
    pub queue_id: QueueId,
    /// The topic.
    pub topic: ByteString,
}

impl MessageQueue {
    /// The queue `queue_id` of `topic` on the broker `broker_name`.
    pub fn new(
        topic: impl Into<ByteString>,
        broker_name: impl Into<ByteString>,
        queue_id: impl Into<QueueId>,
    ) -> Self {
        Self { broker_name: broker_name.into(), queue_id: queue_id.into(), topic: topic.into() }
    }
}

impl Ord for MessageQueue {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.topic.as_str(), self.broker_name.as_str(), self.queue_id).cmp(&(
            other.topic.as_str(),
            other.broker_name.as_str(),
            other.queue_id,
        ))
    }
}

impl PartialOrd for MessageQueue {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for MessageQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "MessageQueue [topic={}, brokerName={}, queueId={}]",
            self.topic, self.broker_name, self.queue_id
        )
    }
}

/// A map keyed by queue. Its keys are JSON objects on the wire: `{{"brokerName":"b","queueId":0,"topic":"T"}:1}`
/// (with [`JsonStyle::Standard`](crate::json::JsonStyle), the same text as a string).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueTable<V>(BTreeMap<MessageQueue, V>);

impl<V> Default for QueueTable<V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<V> Deref for QueueTable<V> {
    type Target = BTreeMap<MessageQueue, V>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<V> DerefMut for QueueTable<V> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl<V> FromIterator<(MessageQueue, V)> for QueueTable<V> {
    fn from_iter<I: IntoIterator<Item = (MessageQueue, V)>>(entries: I) -> Self {
        Self(entries.into_iter().collect())
    }
}

impl<V> IntoIterator for QueueTable<V> {
    type Item = (MessageQueue, V);
    type IntoIter = std::collections::btree_map::IntoIter<MessageQueue, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<V: Serialize> Serialize for QueueTable<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (queue, value) in &self.0 {
            let key = serde_json::to_string(queue).map_err(ser::Error::custom)?;
            map.serialize_entry(&key, value)?;
        }
        map.end()
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for QueueTable<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TableVisitor(PhantomData))
    }
}

/// A queue that stands as a key. All members are required here: without them (a key that is a back reference, say)
/// different entries would fall together.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct QueueKey {
    broker_name: String,
    queue_id: QueueId,
    topic: String,
}

struct TableVisitor<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for TableVisitor<V> {
    type Value = QueueTable<V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map keyed by message queue")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut table = QueueTable::default();
        while let Some(text) = map.next_key::<String>()? {
            let key: QueueKey = serde_json::from_str(&text).map_err(|error| {
                de::Error::custom(format_args!("key {text:?} is not a message queue: {error}"))
            })?;
            table.insert(MessageQueue::new(key.topic, key.broker_name, key.queue_id), map.next_value()?);
        }
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::json::{self, JsonStyle};

    #[test]
    fn queues_sort_by_topic_then_broker_then_number() {
        let mut queues = [
            MessageQueue::new("b", "a", 0),
            MessageQueue::new("a", "b", 0),
            MessageQueue::new("a", "a", 10),
            MessageQueue::new("a", "a", 9),
        ];
        queues.sort();
        let told: Vec<String> =
            queues.iter().map(|q| format!("{}/{}/{}", q.topic, q.broker_name, q.queue_id)).collect();
        assert_eq!(told, ["a/a/9", "a/a/10", "a/b/0", "b/a/0"]);
        assert_eq!(queues[0].to_string(), "MessageQueue [topic=a, brokerName=a, queueId=9]");
    }

    #[test]
    fn a_table_reads_both_of_its_printed_forms() {
        let table: QueueTable<i64> =
            [(MessageQueue::new("T", "b", 1), 7), (MessageQueue::new("T", "b", 0), 5)].into_iter().collect();
        for style in [JsonStyle::Fastjson, JsonStyle::Standard] {
            let text = json::to_bytes(&table, style).unwrap();
            assert_eq!(json::from_slice::<QueueTable<i64>>(&text).unwrap(), table);
        }
    }

    #[test]
    fn a_key_lists_its_members_in_any_order_but_must_have_them_all() {
        let table: QueueTable<i64> =
            json::from_slice(br#"{ {"topic":"T", "queueId":3, "brokerName":"b", "x":null} : 1 }"#).unwrap();
        assert_eq!(table.get(&MessageQueue::new("T", "b", 3)), Some(&1));
        let error = json::from_slice::<QueueTable<i64>>(br#"{{"$ref":"$.a"}:1}"#).unwrap_err();
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("is not a message queue"));
    }

    proptest! {
        #[test]
        fn any_table_survives_both_styles(
            entries in prop::collection::btree_map((any::<String>(), any::<String>(), any::<i32>()), any::<i64>(), 0..4),
        ) {
            let table: QueueTable<i64> = entries
                .into_iter()
                .map(|((topic, broker, id), value)| (MessageQueue::new(topic, broker, id), value))
                .collect();
            for style in [JsonStyle::Fastjson, JsonStyle::Standard] {
                let text = json::to_bytes(&table, style).unwrap();
                prop_assert_eq!(&json::from_slice::<QueueTable<i64>>(&text).unwrap(), &table);
            }
        }
    }
}
