//! [`Clients`]: the producers and consumers that are connected, and what their groups subscribe.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use rocketmq_protocol::body::{ConsumerData, HeartbeatData, MessageModel, SubscriptionData};
use rocketmq_protocol::requests::NotifyConsumerIdsChanged;
use rocketmq_protocol::transport::{Clock, Connection, ConnectionId};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::subscription::Subscription;

/// Who is connected. Kept in memory only: clients tell again within 30 s.
pub(super) struct Clients {
    /// Read per pull, written when somebody comes, goes or subscribes something else.
    state: RwLock<State>,
    /// Somebody came: the time of the next expiry may have changed.
    came: Notify,
    clock: Clock,
    expire_after: Duration,
    notify: bool,
}

#[derive(Default)]
struct State {
    members: HashMap<ConnectionId, Member>,
    producers: HashMap<String, BTreeSet<ConnectionId>>,
    consumers: HashMap<String, ConsumerGroup>,
}

struct Member {
    client_id: String,
    connection: Connection,
    seen_ms: i64,
}

#[derive(Default)]
struct ConsumerGroup {
    members: BTreeSet<ConnectionId>,
    broadcasting: bool,
    subscriptions: HashMap<String, Arc<Subscription>>,
}

/// What a group subscribes of a topic.
pub(super) enum Subscribed {
    Yes {
        subscription: Arc<Subscription>,
        broadcasting: bool,
    },
    /// The group is there, but not for this topic.
    OtherTopics,
    /// Nobody of the group is connected.
    NoGroup,
}

impl Clients {
    pub(super) fn new(clock: Clock, expire_after: Duration, notify: bool) -> Self {
        Self { state: RwLock::default(), came: Notify::new(), clock, expire_after, notify }
    }

    /// Takes a heartbeat. Groups whose members or subscriptions changed are told.
    pub(super) fn heartbeat(&self, connection: &Connection, data: &HeartbeatData) {
        let mut changed = Vec::new();
        let mut state = self.write();
        let came = state
            .members
            .insert(
                connection.id(),
                Member {
                    client_id: data.client_id.clone(),
                    connection: connection.clone(),
                    seen_ms: self.clock.now_ms(),
                },
            )
            .is_none();
        for producer in &data.producer_data_set {
            state.producers.entry(producer.group_name.clone()).or_default().insert(connection.id());
        }
        for consumer in &data.consumer_data_set {
            let group = state.consumers.entry(consumer.group_name.clone()).or_default();
            let joined = group.members.insert(connection.id());
            let resubscribed = !data.without_sub && group.subscribe(consumer, &data.client_id);
            if joined || resubscribed {
                debug!(
                    group = consumer.group_name,
                    client = data.client_id,
                    joined,
                    "consumer group changed"
                );
                changed.push(consumer.group_name.clone());
            }
        }
        drop(state);
        if came {
            // Told from here on even when its connection closed before it was entered.
            if connection.is_closed() {
                self.leave(connection);
                return;
            }
            self.came.notify_one();
        }
        self.tell(&changed);
    }

    /// Takes a client out of its groups: the named ones, or all.
    pub(super) fn unregister(
        &self,
        connection: &Connection,
        producer_group: Option<&str>,
        consumer_group: Option<&str>,
    ) {
        let mut state = self.write();
        let mut changed = Vec::new();
        if let Some(group) = producer_group {
            state.leave_producers(group, connection.id());
        }
        if let Some(group) = consumer_group {
            changed.extend(state.leave_consumers(group, connection.id()));
        }
        drop(state);
        self.tell(&changed);
    }

    /// Takes a lost connection out of all groups.
    pub(super) fn leave(&self, connection: &Connection) {
        let mut state = self.write();
        let changed = state.remove(connection.id());
        drop(state);
        self.tell(&changed);
    }

    pub(super) fn subscription(&self, group: &str, topic: &str) -> Subscribed {
        let state = self.read();
        let Some(group) = state.consumers.get(group) else { return Subscribed::NoGroup };
        match group.subscriptions.get(topic) {
            Some(subscription) => {
                Subscribed::Yes { subscription: Arc::clone(subscription), broadcasting: group.broadcasting }
            }
            None => Subscribed::OtherTopics,
        }
    }

    /// Every group's subscriptions by SQL92 expression that are in order.
    pub(super) fn sql_subscriptions(&self) -> Vec<(String, Arc<Subscription>)> {
        let state = self.read();
        let groups = state.consumers.iter();
        let all = groups.flat_map(|(name, group)| group.subscriptions.values().map(move |one| (name, one)));
        let sql = all.filter(|(_, one)| one.is_sql() && one.check().is_ok());
        sql.map(|(name, one)| (name.clone(), Arc::clone(one))).collect()
    }

    /// Client ids of a group, sorted.
    pub(super) fn consumer_ids(&self, group: &str) -> Vec<String> {
        let state = self.read();
        let members = state.consumers.get(group).map(|group| &group.members);
        let ids = members.into_iter().flatten().filter_map(|id| state.members.get(id));
        let ids: BTreeSet<_> = ids.map(|member| member.client_id.clone()).collect();
        ids.into_iter().collect()
    }

    /// Closes the connections of clients that went silent, until `stop`.
    pub(super) async fn expire(&self, stop: CancellationToken) {
        let expire_after_ms = i64::try_from(self.expire_after.as_millis()).unwrap_or(i64::MAX);
        loop {
            let came = self.came.notified();
            let now = self.clock.now_ms();
            let mut next = None;
            let mut silent = Vec::new();
            for member in self.read().members.values() {
                let due = member.seen_ms.saturating_add(expire_after_ms);
                if due <= now {
                    silent.push(member.connection.clone());
                } else {
                    next = Some(next.map_or(due, |next: i64| next.min(due)));
                }
            }
            for connection in silent {
                warn!(peer = %connection.peer(), after = ?self.expire_after, "client went silent, connection closed");
                self.leave(&connection);
                connection.close();
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = came, if next.is_none() => {}
                () = self.clock.sleep_until(next.unwrap_or(i64::MAX)), if next.is_some() => {}
            }
        }
    }

    /// Tells the members of clustering groups to rebalance.
    fn tell(&self, groups: &[String]) {
        if !self.notify {
            return;
        }
        let state = self.read();
        for name in groups {
            let Some(group) = state.consumers.get(name).filter(|group| !group.broadcasting) else { continue };
            let changed = NotifyConsumerIdsChanged { consumer_group: name.as_str().into() };
            for member in group.members.iter().filter_map(|id| state.members.get(id)) {
                // One that cannot be told learns it at its next rebalance.
                if let Err(error) = member.connection.try_send_oneway(&changed) {
                    debug!(peer = %member.connection.peer(), group = name, %error, "consumer not told of a change");
                }
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remove(&mut self, id: ConnectionId) -> Vec<String> {
        if self.members.remove(&id).is_none() {
            return Vec::new();
        }
        self.producers.retain(|_, members| {
            members.remove(&id);
            !members.is_empty()
        });
        let of: Vec<_> = self
            .consumers
            .iter()
            .filter(|(_, group)| group.members.contains(&id))
            .map(|(name, _)| name.clone())
            .collect();
        of.iter().filter_map(|group| self.leave_consumers(group, id)).collect()
    }

    fn leave_producers(&mut self, group: &str, id: ConnectionId) {
        if let Some(members) = self.producers.get_mut(group) {
            members.remove(&id);
            if members.is_empty() {
                self.producers.remove(group);
            }
        }
    }

    /// The group, if somebody is left in it to be told.
    fn leave_consumers(&mut self, name: &str, id: ConnectionId) -> Option<String> {
        let group = self.consumers.get_mut(name)?;
        let left = group.members.remove(&id);
        if group.members.is_empty() {
            self.consumers.remove(name);
            return None;
        }
        left.then(|| name.to_owned())
    }
}

impl ConsumerGroup {
    /// Takes the subscriptions of a heartbeat: the last one counts for the whole group. Whether topics came or went.
    fn subscribe(&mut self, consumer: &ConsumerData, client_id: &str) -> bool {
        self.broadcasting = consumer.message_model == MessageModel::Broadcasting;
        let told: BTreeMap<&str, &SubscriptionData> =
            consumer.subscription_data_set.iter().map(|data| (data.topic.as_str(), data)).collect();
        let shared = self.members.len() > 1;
        let group = consumer.group_name.as_str();
        let before = self.subscriptions.len();
        self.subscriptions.retain(|topic, _| {
            let kept = told.contains_key(topic.as_str());
            if !kept && shared {
                warn!(
                    group,
                    topic,
                    client = client_id,
                    "members of one group subscribe different topics: messages of this one will be missed"
                );
            }
            kept
        });
        let mut changed = self.subscriptions.len() != before;
        for (topic, data) in told {
            match self.subscriptions.get(topic) {
                Some(known) if known.data.sub_version >= data.sub_version => {}
                Some(known) => {
                    let known = &known.data;
                    if shared
                        && (known.sub_string != data.sub_string
                            || known.expression_type != data.expression_type)
                    {
                        warn!(
                            group,
                            topic,
                            client = client_id,
                            was = known.sub_string,
                            is = data.sub_string,
                            "members of one group subscribe differently: messages will be missed"
                        );
                    }
                    self.subscriptions.insert(topic.to_owned(), compiled(group, data));
                }
                None => {
                    self.subscriptions.insert(topic.to_owned(), compiled(group, data));
                    changed = true;
                }
            }
        }
        changed
    }
}

/// A refused expression is told in the log, too: the heartbeat that brings it cannot be answered with an error.
fn compiled(group: &str, data: &SubscriptionData) -> Arc<Subscription> {
    let subscription = Subscription::new(data.clone());
    if let Err(error) = subscription.check() {
        warn!(group, topic = data.topic, expression = data.sub_string, %error, "subscription refused, its pulls will be");
    }
    Arc::new(subscription)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consumer(topics: &[(&str, &str, i64)]) -> ConsumerData {
        ConsumerData {
            group_name: "g".to_owned(),
            subscription_data_set: topics
                .iter()
                .map(|(topic, tags, version)| SubscriptionData::parse(*topic, tags, *version))
                .collect(),
            ..ConsumerData::default()
        }
    }

    #[test]
    fn a_newer_subscription_replaces_an_older_one_and_only_topics_count_as_a_change() {
        let mut group = ConsumerGroup::default();
        assert!(group.subscribe(&consumer(&[("a", "x", 1)]), "c"));
        assert!(!group.subscribe(&consumer(&[("a", "y", 2)]), "c"));
        assert_eq!(group.subscriptions["a"].data.sub_string, "y");
        assert!(!group.subscribe(&consumer(&[("a", "z", 1)]), "c"));
        assert_eq!(group.subscriptions["a"].data.sub_string, "y");
        assert!(group.subscribe(&consumer(&[("b", "*", 3)]), "c"));
        assert!(!group.subscriptions.contains_key("a"));
    }
}
