//! [`Members`]: the producers and consumers of a client, as brokers get to know them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rocketmq_protocol::QueueOffset;
use rocketmq_protocol::body::{
    ConsumerData, ConsumerRunningInfo, HeartbeatData, MessageQueue, ProducerData, QueueTable,
};
use rocketmq_protocol::transport::Call;
use tokio::sync::{Notify, mpsc};

use crate::producer::TransactionCheck;
use crate::{Error, ReceivedMessage};

/// What a group is to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Producer,
    Consumer,
}

/// A consumer that joins a client.
pub(crate) struct ConsumerRegistration {
    pub(crate) group: String,
    /// What heartbeats say about it, asked for each time. It must not own a `Client`: that one owns it.
    pub(crate) heartbeat: Box<dyn Fn() -> ConsumerData + Send + Sync>,
    /// Woken when members of the group come or go; wake-ups meanwhile become one.
    pub(crate) rebalance: Arc<Notify>,
}

/// A producer that joins a client.
pub(crate) struct ProducerRegistration {
    pub(crate) group: String,
    /// Where brokers' questions about its transactions go. The receiver ends when the producer leaves.
    pub(crate) checks: Option<mpsc::Sender<TransactionCheck>>,
}

/// What brokers ask of a consumer, mostly for an administrator. It is called on the task of a connection: it must neither
/// block nor take long.
pub(crate) trait ConsumerService: Send + Sync {
    /// The group's offsets have been set anew: go on there.
    fn reset(&self, offsets: BTreeMap<MessageQueue, QueueOffset>);

    /// The next offset of each queue of `topic`.
    fn progress(&self, topic: &str) -> QueueTable<QueueOffset>;

    /// What it is doing.
    fn running_info(&self) -> ConsumerRunningInfo;

    /// Has `message` handled, whatever the offsets say, and then answers `call` with what came of it; refuses it
    /// when there is no handler.
    fn consume_directly(&self, message: ReceivedMessage, call: Call);
}

/// The groups that a client is in.
#[derive(Default)]
pub(crate) struct Members {
    /// Held to look up or change, never while waiting.
    groups: Mutex<Groups>,
}

#[derive(Default)]
struct Groups {
    producers: BTreeMap<String, ProducerRegistration>,
    consumers: BTreeMap<String, ConsumerRegistration>,
    /// What answers for a consumer. The consumer owns it.
    services: BTreeMap<String, Weak<dyn ConsumerService>>,
}

impl Members {
    pub(crate) fn add_producer(&self, client_id: &str, producer: ProducerRegistration) -> Result<(), Error> {
        let mut groups = self.groups();
        let group = producer.group.clone();
        if groups.producers.contains_key(&group) {
            return Err(Error::GroupTaken { role: "producer", group, client_id: client_id.to_owned() });
        }
        groups.producers.insert(group, producer);
        Ok(())
    }

    pub(crate) fn add_consumer(&self, client_id: &str, consumer: ConsumerRegistration) -> Result<(), Error> {
        let mut groups = self.groups();
        let group = consumer.group.clone();
        if groups.consumers.contains_key(&group) {
            return Err(Error::GroupTaken { role: "consumer", group, client_id: client_id.to_owned() });
        }
        groups.consumers.insert(group, consumer);
        Ok(())
    }

    /// Whether the group was there.
    pub(crate) fn remove(&self, role: Role, group: &str) -> bool {
        let mut groups = self.groups();
        match role {
            Role::Producer => groups.producers.remove(group).is_some(),
            Role::Consumer => {
                groups.services.remove(group);
                groups.consumers.remove(group).is_some()
            }
        }
    }

    /// Removes every group.
    pub(crate) fn take_all(&self) -> Vec<(Role, String)> {
        let Groups { producers, consumers, .. } = std::mem::take(&mut *self.groups());
        let consumers = consumers.into_keys().map(|group| (Role::Consumer, group));
        producers.into_keys().map(|group| (Role::Producer, group)).chain(consumers).collect()
    }

    pub(crate) fn has_consumers(&self) -> bool {
        !self.groups().consumers.is_empty()
    }

    /// From now on `service` answers for the consumer of `group`.
    pub(crate) fn serve(&self, group: &str, service: Weak<dyn ConsumerService>) {
        self.groups().services.insert(group.to_owned(), service);
    }

    /// What answers for the consumer of `group`, if there is one.
    pub(crate) fn service(&self, group: &str) -> Option<Arc<dyn ConsumerService>> {
        self.groups().services.get(group).and_then(Weak::upgrade)
    }

    /// Wakes the consumer of `group`, if there is one.
    pub(crate) fn wake(&self, group: &str) {
        if let Some(consumer) = self.groups().consumers.get(group) {
            consumer.rebalance.notify_one();
        }
    }

    /// Where questions about the transactions of `group` go, if a producer of this client answers them.
    pub(crate) fn checks(&self, group: &str) -> Option<mpsc::Sender<TransactionCheck>> {
        self.groups().producers.get(group)?.checks.clone()
    }

    /// The heartbeat of all members; `None` when there are none.
    pub(crate) fn heartbeat(&self, client_id: &str) -> Option<HeartbeatData> {
        let groups = self.groups();
        if groups.producers.is_empty() && groups.consumers.is_empty() {
            return None;
        }
        let producer = |group: &String| ProducerData { group_name: group.clone() };
        Some(HeartbeatData {
            client_id: client_id.to_owned(),
            producer_data_set: groups.producers.keys().map(producer).collect(),
            consumer_data_set: groups.consumers.values().map(|consumer| (consumer.heartbeat)()).collect(),
            ..HeartbeatData::default()
        })
    }

    /// Every topic that a consumer subscribes to.
    pub(crate) fn subscribed_topics(&self) -> BTreeSet<String> {
        let groups = self.groups();
        let data = groups.consumers.values().map(|consumer| (consumer.heartbeat)());
        data.flat_map(|data| data.subscription_data_set).map(|subscription| subscription.topic).collect()
    }

    fn groups(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
