//! [`Clients`]: the producers and consumers that are connected, and what their groups subscribe.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use rocketmq_protocol::body::{
    self, ConsumeFromWhere, ConsumeType, ConsumerConnection, ConsumerData, HeartbeatData, MessageModel,
    SubscriptionData,
};
use rocketmq_protocol::requests::NotifyConsumerIdsChanged;
use rocketmq_protocol::transport::{Clock, Connection, ConnectionId};
use rocketmq_protocol::{Language, Version};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::groups::Groups;
use super::subscription::Subscription;

/// Who is connected. Kept in memory only: clients tell again within 30 s.
pub(super) struct Clients {
    /// Read per pull, written when somebody comes, goes or subscribes something else.
    state: RwLock<State>,
    /// Somebody came: the time of the next expiry may have changed.
    came: Notify,
    /// Groups whose members are to be told of a change.
    changed: Mutex<BTreeSet<String>>,
    changes: Notify,
    groups: Arc<Groups>,
    clock: Clock,
    expire_after: Duration,
    notify: bool,
}

/// How long a client that seems gone has to say anything at all, in real time: a round trip and some.
const LAST_CHANCE: Duration = Duration::from_millis(500);
/// How long changes of a group gather after its members were told of one: many that start together are told a few times, not each of each.
const GATHER: Duration = Duration::from_millis(20);

#[derive(Default)]
struct State {
    members: HashMap<ConnectionId, Member>,
    producers: HashMap<String, BTreeSet<ConnectionId>>,
    consumers: HashMap<String, ConsumerGroup>,
}

struct Member {
    client_id: String,
    connection: Connection,
    language: Language,
    version: Version,
    seen_ms: i64,
}

#[derive(Default)]
struct ConsumerGroup {
    /// Each with what it said last that it subscribes: expressions by topic.
    members: BTreeMap<ConnectionId, BTreeMap<String, String>>,
    broadcasting: bool,
    consume_type: ConsumeType,
    consume_from: ConsumeFromWhere,
    subscriptions: HashMap<String, Arc<Subscription>>,
}

/// A client of a consumer group.
pub(super) struct GroupMember {
    pub(super) client_id: String,
    pub(super) connection: Connection,
}

/// Members of one group that subscribe a topic differently. They share its queues, so each misses what only others want.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionConflict {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// Each member's client id and its expression; `None` where it does not subscribe the topic.
    pub members: Vec<(String, Option<String>)>,
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
    pub(super) fn new(groups: Arc<Groups>, clock: Clock, expire_after: Duration, notify: bool) -> Self {
        Self {
            state: RwLock::default(),
            came: Notify::new(),
            changed: Mutex::default(),
            changes: Notify::new(),
            groups,
            clock,
            expire_after,
            notify,
        }
    }

    /// Takes a heartbeat. Groups whose members or subscriptions changed are told.
    pub(super) fn heartbeat(
        &self,
        connection: &Connection,
        (language, version): (Language, Version),
        data: &HeartbeatData,
    ) {
        let mut changed = Vec::new();
        let mut state = self.write();
        let came = state
            .members
            .insert(
                connection.id(),
                Member {
                    client_id: data.client_id.clone(),
                    connection: connection.clone(),
                    language,
                    version,
                    seen_ms: self.clock.now_ms(),
                },
            )
            .is_none();
        for producer in &data.producer_data_set {
            state.producers.entry(producer.group_name.clone()).or_default().insert(connection.id());
        }
        for consumer in &data.consumer_data_set {
            let State { members, consumers, .. } = &mut *state;
            let group = consumers.entry(consumer.group_name.clone()).or_default();
            let joined = !group.members.contains_key(&connection.id());
            let said = group.members.entry(connection.id()).or_default();
            let mut resubscribed = false;
            if !data.without_sub {
                let says = expressions(consumer);
                let news = *said != says;
                *said = says;
                resubscribed = group.subscribe(consumer);
                if news {
                    group.warn_of_conflicts(&consumer.group_name, members);
                }
            }
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

    /// Connections of the members of a producer group.
    pub(super) fn producers(&self, group: &str) -> Vec<Connection> {
        let state = self.read();
        let members = state.producers.get(group).into_iter().flatten();
        members.filter_map(|id| state.members.get(id)).map(|member| member.connection.clone()).collect()
    }

    /// The connection of a client.
    pub(super) fn connection(&self, client_id: &str) -> Option<Connection> {
        let state = self.read();
        let member = state.members.values().find(|member| member.client_id == client_id);
        member.map(|member| member.connection.clone())
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
        let ids: BTreeSet<_> = self.members(group).into_iter().map(|member| member.client_id).collect();
        ids.into_iter().collect()
    }

    /// The clients of a consumer group.
    pub(super) fn members(&self, group: &str) -> Vec<GroupMember> {
        let state = self.read();
        let of_group = state.consumers.get(group).into_iter().flat_map(|group| group.members.keys());
        let members = of_group.filter_map(|id| state.members.get(id));
        let member = |member: &Member| GroupMember {
            client_id: member.client_id.clone(),
            connection: member.connection.clone(),
        };
        members.map(member).collect()
    }

    /// The connection of one client of a consumer group.
    pub(super) fn member(&self, group: &str, client_id: &str) -> Option<Connection> {
        let members = self.members(group);
        members.into_iter().find(|member| member.client_id == client_id).map(|member| member.connection)
    }

    /// Who consumes in a group, and what.
    pub(super) fn connections(&self, group: &str) -> Option<ConsumerConnection> {
        let state = self.read();
        let group = state.consumers.get(group)?;
        let members = group.members.keys().filter_map(|id| state.members.get(id));
        let connection = |member: &Member| body::Connection {
            client_addr: member.connection.peer().to_string(),
            client_id: member.client_id.clone(),
            language: member.language,
            version: member.version,
        };
        let subscriptions = group.subscriptions.iter();
        Some(ConsumerConnection {
            connection_set: members.map(connection).collect(),
            consume_from_where: group.consume_from,
            consume_type: group.consume_type,
            message_model: if group.broadcasting {
                MessageModel::Broadcasting
            } else {
                MessageModel::Clustering
            },
            subscription_table: subscriptions
                .map(|(topic, subscription)| (topic.clone(), subscription.data.clone()))
                .collect(),
        })
    }

    /// The topics that a group subscribes, if anybody of it is connected.
    pub(super) fn subscribed_topics(&self, group: &str) -> Option<BTreeSet<String>> {
        Some(self.read().consumers.get(group)?.subscriptions.keys().cloned().collect())
    }

    /// The connected groups that subscribe a topic.
    pub(super) fn groups_of(&self, topic: &str) -> Vec<String> {
        let state = self.read();
        let groups = state.consumers.iter().filter(|(_, group)| group.subscriptions.contains_key(topic));
        groups.map(|(name, _)| name.clone()).collect()
    }

    /// Members of one group that subscribe differently.
    pub(super) fn conflicts(&self) -> Vec<SubscriptionConflict> {
        let state = self.read();
        let conflicts =
            state.consumers.iter().flat_map(|(name, group)| group.conflicts(name, &state.members));
        conflicts.collect()
    }

    /// Closes the connections of clients that went silent, until `stop`.
    pub(super) async fn expire(&self, stop: CancellationToken) {
        loop {
            let came = self.came.notified();
            let (silent, next) = self.silent();
            if silent.is_empty() {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = came, if next.is_none() => {}
                    () = self.clock.sleep_until(next.unwrap_or(i64::MAX)), if next.is_some() => {}
                }
                continue;
            }
            // A test that puts our clock forward does not put theirs forward: whoever still talks is not gone.
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LAST_CHANCE) => {}
            }
            for (connection, reads) in silent {
                if connection.reads() != reads {
                    self.heard(connection.id());
                    continue;
                }
                warn!(peer = %connection.peer(), after = ?self.expire_after, "client went silent, connection closed");
                self.leave(&connection);
                connection.close();
            }
        }
    }

    /// Those that have sent no heartbeat for too long, with what was read from them so far; and when the next one will be.
    fn silent(&self) -> (Vec<(Connection, u64)>, Option<i64>) {
        let expire_after_ms = i64::try_from(self.expire_after.as_millis()).unwrap_or(i64::MAX);
        let now = self.clock.now_ms();
        let (mut silent, mut next) = (Vec::new(), None);
        for member in self.read().members.values() {
            let due = member.seen_ms.saturating_add(expire_after_ms);
            if due <= now {
                silent.push((member.connection.clone(), member.connection.reads()));
            } else {
                next = Some(next.map_or(due, |next: i64| next.min(due)));
            }
        }
        (silent, next)
    }

    fn heard(&self, id: ConnectionId) {
        let now = self.clock.now_ms();
        if let Some(member) = self.write().members.get_mut(&id) {
            member.seen_ms = now;
        }
    }

    /// Has the members of these groups told to rebalance.
    fn tell(&self, groups: &[String]) {
        if !self.notify || groups.is_empty() {
            return;
        }
        self.changed.lock().unwrap_or_else(PoisonError::into_inner).extend(groups.iter().cloned());
        self.changes.notify_one();
    }

    /// Tells members of clustering groups to rebalance, until `stop`: of the first change at once, of those that follow it together.
    pub(super) async fn tell_changes(&self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.changes.notified() => {}
            }
            let changed = std::mem::take(&mut *self.changed.lock().unwrap_or_else(PoisonError::into_inner));
            for group in &changed {
                self.tell_members(group);
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.clock.sleep(GATHER) => {}
            }
        }
    }

    fn tell_members(&self, name: &str) {
        if self.groups.get(name).is_some_and(|group| !group.notify_consumer_ids_changed_enable) {
            return;
        }
        let state = self.read();
        let Some(group) = state.consumers.get(name).filter(|group| !group.broadcasting) else { return };
        let changed = NotifyConsumerIdsChanged { consumer_group: name.into() };
        for member in group.members.keys().filter_map(|id| state.members.get(id)) {
            // One that cannot be told learns it at its next rebalance.
            if let Err(error) = member.connection.try_send_oneway(&changed) {
                debug!(peer = %member.connection.peer(), group = name, %error, "consumer not told of a change");
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
            .filter(|(_, group)| group.members.contains_key(&id))
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
        let left = group.members.remove(&id).is_some();
        if group.members.is_empty() {
            self.consumers.remove(name);
            return None;
        }
        left.then(|| name.to_owned())
    }
}

impl ConsumerGroup {
    /// Takes the subscriptions of a heartbeat: the last one counts for the whole group. Whether topics came or went.
    fn subscribe(&mut self, consumer: &ConsumerData) -> bool {
        self.broadcasting = consumer.message_model == MessageModel::Broadcasting;
        self.consume_type = consumer.consume_type;
        self.consume_from = consumer.consume_from_where;
        let told: BTreeMap<&str, &SubscriptionData> =
            consumer.subscription_data_set.iter().map(|data| (data.topic.as_str(), data)).collect();
        let before = self.subscriptions.len();
        self.subscriptions.retain(|topic, _| told.contains_key(topic.as_str()));
        let mut changed = self.subscriptions.len() != before;
        for (topic, data) in told {
            let known = self.subscriptions.get(topic);
            if known.is_some_and(|known| known.data.sub_version >= data.sub_version) {
                continue;
            }
            changed |= known.is_none();
            self.subscriptions.insert(topic.to_owned(), compiled(&consumer.group_name, data));
        }
        changed
    }

    /// The topics that members subscribe differently.
    fn conflicts(&self, name: &str, clients: &HashMap<ConnectionId, Member>) -> Vec<SubscriptionConflict> {
        let topics: BTreeSet<&String> = self.members.values().flat_map(BTreeMap::keys).collect();
        let differs = |topic: &&String| {
            let mut said = self.members.values().map(|said| said.get(*topic));
            let first = said.next();
            said.any(|other| Some(other) != first)
        };
        let said_of = |topic: &String| {
            let of_member = |(id, said): (&ConnectionId, &BTreeMap<String, String>)| {
                Some((clients.get(id)?.client_id.clone(), said.get(topic).cloned()))
            };
            self.members.iter().filter_map(of_member).collect()
        };
        let conflict = |topic: &String| SubscriptionConflict {
            group: name.to_owned(),
            topic: topic.clone(),
            members: said_of(topic),
        };
        topics.into_iter().filter(differs).map(conflict).collect()
    }

    fn warn_of_conflicts(&self, name: &str, clients: &HashMap<ConnectionId, Member>) {
        for SubscriptionConflict { group, topic, members } in self.conflicts(name, clients) {
            warn!(
                group,
                topic,
                ?members,
                "members of one group subscribe a topic differently: each misses messages that only others want"
            );
        }
    }
}

/// What a consumer says that it subscribes.
fn expressions(consumer: &ConsumerData) -> BTreeMap<String, String> {
    let data = consumer.subscription_data_set.iter();
    data.map(|data| (data.topic.clone(), data.sub_string.clone())).collect()
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
        assert!(group.subscribe(&consumer(&[("a", "x", 1)])));
        assert!(!group.subscribe(&consumer(&[("a", "y", 2)])));
        assert_eq!(group.subscriptions["a"].data.sub_string, "y");
        assert!(!group.subscribe(&consumer(&[("a", "z", 1)])));
        assert_eq!(group.subscriptions["a"].data.sub_string, "y");
        assert!(group.subscribe(&consumer(&[("b", "*", 3)])));
        assert!(!group.subscriptions.contains_key("a"));
    }
}
