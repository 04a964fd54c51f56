//! [`RouteTable`]: which brokers are there and which topics they hold. Pure state: it does no I/O and reads no clock.
//!
//! Java: `namesrv/routeinfo/RouteInfoManager.java`. Brokers are known by their name; the members of a name are a master
//! (id 0) and its replicas. A topic's queues are those that the master of each name registered. What is not renewed
//! in time, or whose connection closes, is gone.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rocketmq_protocol::body::{
    BrokerData, BrokerMemberGroup, ClusterInfo, DataVersion, MASTER_ID, Perm, QueueData, RegisterBrokerBody,
    TopicConfig, TopicRouteData,
};
use rocketmq_protocol::requests::RegisterBroker;

/// Silence after which a broker counts as gone when it does not say itself. Java: `DEFAULT_BROKER_CHANNEL_EXPIRED_TIME`.
const DEFAULT_TIMEOUT_MS: i64 = 120_000;

/// Bits of a topic's system flags. Java: `common/sysflag/TopicSysFlag.java`.
pub(crate) const UNIT: i32 = 1;
pub(crate) const UNIT_SUBSCRIPTION: i32 = 2;

/// Brokers and topics. `C` tells connections apart.
#[derive(Debug)]
pub(crate) struct RouteTable<C> {
    /// Queues by topic and broker name. No topic is without queues.
    topics: HashMap<String, BTreeMap<String, QueueData>>,
    /// Brokers by name. No name is without members.
    groups: BTreeMap<String, Group<C>>,
}

/// The brokers that share a name.
#[derive(Debug)]
struct Group<C> {
    cluster: String,
    /// Whether the replica with the smallest id takes over when the master is gone.
    acting_master: bool,
    zone: Option<String>,
    members: BTreeMap<i64, Member<C>>,
}

#[derive(Debug)]
struct Member<C> {
    addr: String,
    ha_addr: String,
    filter_servers: Vec<String>,
    version: DataVersion,
    seen_ms: i64,
    timeout_ms: i64,
    /// Where it registered.
    connection: C,
}

impl<C> Member<C> {
    fn expires_ms(&self) -> i64 {
        self.seen_ms.saturating_add(self.timeout_ms)
    }
}

/// What a broker is told when it has registered.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Registered {
    /// It was not there before.
    pub(crate) new: bool,
    /// To a replica: address and replication address of its master.
    pub(crate) master: Option<(String, String)>,
}

/// Why a broker may not register.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error(
        "register broker failed: {holder} is registered as {broker} with id {id} and the newer state version {held}, {addr} has {offered}"
    )]
    Outdated { broker: String, id: i64, holder: String, held: i64, addr: String, offered: i64 },
    /// A single topic is what brokers send when one changes. Taken from a broker that is not known, its version would
    /// pass for that of all its topics.
    #[error(
        "register broker failed: {broker} with id {id} is not registered yet and sent just one topic; all its topics come first"
    )]
    OneTopic { broker: String, id: i64 },
}

/// A broker that is gone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Departed<C> {
    pub(crate) broker: String,
    pub(crate) id: i64,
    pub(crate) addr: String,
    pub(crate) connection: C,
}

impl<C> Default for RouteTable<C> {
    fn default() -> Self {
        Self { topics: HashMap::new(), groups: BTreeMap::new() }
    }
}

impl<C: PartialEq> RouteTable<C> {
    /// Takes a registration. Only the master, or the replica that stands in for it, defines topics. With
    /// `drop_stale_topics`, those it no longer has go.
    pub(crate) fn register(
        &mut self,
        request: &RegisterBroker,
        zone: Option<&str>,
        body: RegisterBrokerBody,
        connection: C,
        drop_stale_topics: bool,
        now_ms: i64,
    ) -> Result<Registered, Refused> {
        let (name, addr, id) =
            (request.broker_name.as_str(), request.broker_addr.as_str(), request.broker_id);
        let topics = body.topic_config_serialize_wrapper;
        let version = topics.data_version;

        // A broker whose id has changed (a replica that became the master) leaves its old one.
        if let Some(group) = self.groups.get_mut(name) {
            group.members.retain(|&other, member| other == id || member.addr != addr);
        }
        let holder = self.groups.get(name).and_then(|group| group.members.get(&id));
        let refused = match holder {
            Some(holder) if holder.addr != addr && holder.version.state_version > version.state_version => {
                Some(Refused::Outdated {
                    broker: name.to_owned(),
                    id,
                    holder: holder.addr.clone(),
                    held: holder.version.state_version,
                    addr: addr.to_owned(),
                    offered: version.state_version,
                })
            }
            None if topics.topic_config_table.len() == 1 => {
                Some(Refused::OneTopic { broker: name.to_owned(), id })
            }
            _ => None,
        };
        if let Some(refused) = refused {
            self.tidy(name);
            return Err(refused);
        }
        let known = holder.filter(|holder| holder.addr == addr).map(|holder| holder.version);

        let group = self.groups.entry(name.to_owned()).or_insert_with(|| Group {
            cluster: request.cluster_name.to_string(),
            acting_master: false,
            zone: None,
            members: BTreeMap::new(),
        });
        group.acting_master = request.enable_acting_master.unwrap_or(false);
        group.zone = zone.map(str::to_owned);
        group.members.insert(
            id,
            Member {
                addr: addr.to_owned(),
                ha_addr: request.ha_server_addr.to_string(),
                filter_servers: body.filter_server_list,
                version,
                seen_ms: now_ms,
                timeout_ms: timeout(request.heartbeat_timeout_ms),
                connection,
            },
        );
        let smallest = group.members.keys().next() == Some(&id);
        let stands_in = id != MASTER_ID && smallest && request.enable_acting_master.is_some();
        let read_only = stands_in && group.acting_master;
        let master = group.members.get(&MASTER_ID).filter(|_| id != MASTER_ID);
        let registered = Registered {
            new: known.is_none(),
            master: master.map(|master| (master.addr.clone(), master.ha_addr.clone())),
        };
        if id == MASTER_ID || stands_in {
            if drop_stale_topics {
                self.retain_queues(|topic, broker, _| {
                    broker != name || topics.topic_config_table.contains_key(topic)
                });
            }
            let changed = known != Some(version);
            for (topic, config) in topics.topic_config_table {
                self.define(topic, name, &config, read_only, changed);
            }
        }
        Ok(registered)
    }

    fn define(&mut self, topic: String, broker: &str, config: &TopicConfig, read_only: bool, changed: bool) {
        let queues = self.topics.entry(topic).or_default();
        if !changed && queues.contains_key(broker) {
            return; // an operator may have changed what is there
        }
        let perm = if read_only { config.perm.without(Perm::WRITE) } else { config.perm };
        queues.insert(
            broker.to_owned(),
            QueueData {
                broker_name: broker.to_owned(),
                perm,
                read_queue_nums: config.read_queue_nums,
                topic_sys_flag: config.topic_sys_flag,
                write_queue_nums: config.write_queue_nums,
            },
        );
    }

    /// Takes the queues of one topic; the name of a broker that is not known, if there is one, and then nothing changes.
    pub(crate) fn register_topic(&mut self, topic: &str, queues: Vec<QueueData>) -> Result<(), String> {
        if let Some(unknown) = queues.iter().find(|queue| !self.groups.contains_key(&queue.broker_name)) {
            return Err(unknown.broker_name.clone());
        }
        if !queues.is_empty() {
            let by_broker = queues.into_iter().map(|queue| (queue.broker_name.clone(), queue));
            self.topics.entry(topic.to_owned()).or_default().extend(by_broker);
        }
        Ok(())
    }

    /// Notes a sign of life. `timeout_ms` replaces what the broker registered with.
    pub(crate) fn seen(&mut self, broker: &str, addr: &str, timeout_ms: Option<i64>, now_ms: i64) {
        let members = self.groups.get_mut(broker).map(|group| group.members.values_mut());
        if let Some(member) = members.into_iter().flatten().find(|member| member.addr == addr) {
            member.seen_ms = now_ms;
            if let Some(timeout_ms) = timeout_ms {
                member.timeout_ms = timeout(Some(timeout_ms));
            }
        }
    }

    /// The version of its topics that a broker registered with.
    pub(crate) fn version(&self, broker: &str, addr: &str) -> Option<DataVersion> {
        let members = self.groups.get(broker)?.members.values();
        members.into_iter().find(|member| member.addr == addr).map(|member| member.version)
    }

    /// A broker leaves; `None` when it is not known.
    pub(crate) fn unregister(&mut self, broker: &str, addr: &str) -> Option<Departed<C>> {
        self.remove(|name, member| name == broker && member.addr == addr).pop()
    }

    /// A connection is gone, and with it who registered there.
    pub(crate) fn disconnected(&mut self, connection: &C) -> Vec<Departed<C>> {
        self.remove(|_, member| member.connection == *connection)
    }

    /// Removes who was silent for too long.
    pub(crate) fn expire(&mut self, now_ms: i64) -> Vec<Departed<C>> {
        self.remove(|_, member| member.expires_ms() < now_ms)
    }

    /// When [`RouteTable::expire`] has something to do at the earliest.
    pub(crate) fn next_expiry_ms(&self) -> Option<i64> {
        self.members().map(|member| member.expires_ms().saturating_add(1)).min()
    }

    fn members(&self) -> impl Iterator<Item = &Member<C>> {
        self.groups.values().flat_map(|group| group.members.values())
    }

    fn remove(&mut self, mut leaves: impl FnMut(&str, &Member<C>) -> bool) -> Vec<Departed<C>> {
        let mut departed = Vec::new();
        for (name, group) in &mut self.groups {
            while let Some((&id, _)) = group.members.iter().find(|(_, member)| leaves(name, member)) {
                let Some(member) = group.members.remove(&id) else { break };
                let Member { addr, connection, .. } = member;
                departed.push(Departed { broker: name.clone(), id, addr, connection });
            }
        }
        let names: BTreeSet<&str> = departed.iter().map(|departed| departed.broker.as_str()).collect();
        for name in names {
            self.tidy(name);
        }
        departed
    }

    /// After members of `name` left: without any, the queues go too; without a master, they are not written to.
    fn tidy(&mut self, name: &str) {
        let Some(group) = self.groups.get(name) else { return };
        if group.members.is_empty() {
            self.groups.remove(name);
            self.retain_queues(|_, broker, _| broker != name);
        } else if group.acting_master && !group.members.contains_key(&MASTER_ID) {
            self.change_perm(name, |perm| perm.without(Perm::WRITE));
        }
    }

    fn retain_queues(&mut self, mut keep: impl FnMut(&str, &str, &QueueData) -> bool) {
        self.topics.retain(|topic, queues| {
            queues.retain(|broker, queue| keep(topic, broker, queue));
            !queues.is_empty()
        });
    }

    /// Changes what may be done with every topic on a broker; how many there are.
    pub(crate) fn change_perm(&mut self, broker: &str, change: impl Fn(Perm) -> Perm) -> usize {
        let queues = self.topics.values_mut().filter_map(|queues| queues.get_mut(broker));
        queues.map(|queue| queue.perm = change(queue.perm)).count()
    }

    /// Forgets a topic, on the brokers of one cluster or everywhere.
    pub(crate) fn delete_topic(&mut self, topic: &str, cluster: Option<&str>) {
        let groups = &self.groups;
        if let Some(queues) = self.topics.get_mut(topic) {
            queues.retain(|broker, _| {
                cluster.is_some_and(|cluster| groups.get(broker).is_none_or(|group| group.cluster != cluster))
            });
            if queues.is_empty() {
                self.topics.remove(topic);
            }
        }
    }

    /// Where a topic is; `None` where it is not. With `acting_master`, a replica that stands in for its master is shown
    /// as one.
    pub(crate) fn route(&self, topic: &str, acting_master: bool) -> Option<TopicRouteData> {
        let queues = self.topics.get(topic)?;
        let mut route = TopicRouteData::default();
        for (name, queue) in queues {
            let Some(group) = self.groups.get(name) else { continue };
            let mut broker = group.describe(name);
            if acting_master && group.acting_master && !queue.perm.contains(Perm::WRITE) {
                promote_smallest(&mut broker.broker_addrs);
            }
            let serving = group.members.values().filter(|member| !member.filter_servers.is_empty());
            route
                .filter_server_table
                .extend(serving.map(|member| (member.addr.clone(), member.filter_servers.clone())));
            route.broker_datas.push(broker);
            route.queue_datas.push(queue.clone());
        }
        (!route.broker_datas.is_empty()).then_some(route)
    }

    /// Whether some broker has this topic.
    pub(crate) fn has_topic(&self, topic: &str) -> bool {
        self.topics.contains_key(topic)
    }

    /// Names of all brokers.
    pub(crate) fn broker_names(&self) -> impl Iterator<Item = &str> {
        self.groups.keys().map(String::as_str)
    }

    /// All brokers and clusters.
    pub(crate) fn clusters(&self) -> ClusterInfo {
        let mut clusters = ClusterInfo::default();
        for (name, group) in &self.groups {
            clusters.broker_addr_table.insert(name.clone(), group.describe(name));
            clusters.cluster_addr_table.entry(group.cluster.clone()).or_default().push(name.clone());
        }
        clusters
    }

    /// The members of one name; none when nobody has it.
    pub(crate) fn member_group(&self, cluster: &str, broker: &str) -> BrokerMemberGroup {
        let group = self.groups.get(broker).filter(|group| group.cluster == cluster);
        BrokerMemberGroup {
            broker_addrs: group.map(|group| group.describe(broker).broker_addrs).unwrap_or_default(),
            broker_name: broker.to_owned(),
            cluster: cluster.to_owned(),
        }
    }

    /// All topics, in order.
    pub(crate) fn topics(&self) -> Vec<String> {
        self.topics_where(|_| true)
    }

    /// The topics of one cluster, in order.
    pub(crate) fn topics_of_cluster(&self, cluster: &str) -> Vec<String> {
        let inside = |name: &String| self.groups.get(name).is_some_and(|group| group.cluster == cluster);
        self.topics_where(|queues| queues.keys().any(inside))
    }

    /// The topics whose system flags satisfy `wanted`, in order.
    pub(crate) fn topics_by_flags(&self, wanted: impl Fn(i32) -> bool) -> Vec<String> {
        self.topics_where(|queues| queues.values().next().is_some_and(|queue| wanted(queue.topic_sys_flag)))
    }

    fn topics_where(&self, wanted: impl Fn(&BTreeMap<String, QueueData>) -> bool) -> Vec<String> {
        let chosen = self.topics.iter().filter(|(_, queues)| wanted(queues));
        let mut names: Vec<_> = chosen.map(|(topic, _)| topic.clone()).collect();
        names.sort_unstable();
        names
    }
}

impl<C> Group<C> {
    fn describe(&self, name: &str) -> BrokerData {
        BrokerData {
            broker_addrs: self.members.iter().map(|(&id, member)| (id, member.addr.clone())).collect(),
            broker_name: name.to_owned(),
            cluster: self.cluster.clone(),
            enable_acting_master: self.acting_master,
            zone_name: self.zone.clone(),
        }
    }
}

fn timeout(timeout_ms: Option<i64>) -> i64 {
    timeout_ms.filter(|&ms| ms > 0).unwrap_or(DEFAULT_TIMEOUT_MS)
}

fn promote_smallest(addrs: &mut BTreeMap<i64, String>) {
    if !addrs.contains_key(&MASTER_ID) {
        if let Some((_, addr)) = addrs.pop_first() {
            addrs.insert(MASTER_ID, addr);
        }
    }
}

#[cfg(test)]
mod tests;
