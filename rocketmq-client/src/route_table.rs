//! [`RouteTable`]: the routes a client has learned. They outlive the name servers: nothing but a newer route
//! replaces a route.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dashmap::DashMap;
use rocketmq_protocol::ByteString;
use rocketmq_protocol::body::{BrokerData, MASTER_ID, TopicRouteData};
use rustc_hash::FxBuildHasher;

use crate::Error;
use crate::route::TopicRoute;
use crate::single_flight::SingleFlight;

/// Which member of a broker group is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BrokerChoice {
    /// The master and nobody else: to send, and to ask for offsets.
    Master,
    /// The master, or a replica where there is no master.
    MasterOrReplica,
    /// The member that a pull reply suggested, or another one where it is gone.
    Id(i64),
}

impl BrokerChoice {
    /// For errors.
    pub(crate) const fn wanted(self) -> &'static str {
        match self {
            Self::Master => "the master",
            Self::MasterOrReplica | Self::Id(_) => "any member",
        }
    }
}

/// The members of a broker group by id.
type Addresses = BTreeMap<i64, Arc<str>>;

/// Routes by topic.
type Routes = DashMap<ByteString, Arc<TopicRoute>, FxBuildHasher>;

/// Routes by topic, addresses by broker, looked up for every message. No guard is held while waiting.
pub(crate) struct RouteTable {
    routes: Routes,
    /// Routes that topics will have once they are created by sending to them.
    templates: Routes,
    brokers: DashMap<ByteString, Addresses, FxBuildHasher>,
    pub(crate) fetching: SingleFlight<ByteString, Result<Arc<TopicRoute>, Error>>,
}

impl RouteTable {
    pub(crate) fn new() -> Self {
        Self {
            routes: Routes::default(),
            templates: Routes::default(),
            brokers: DashMap::default(),
            fetching: SingleFlight::new(),
        }
    }

    /// The route of a topic that exists.
    pub(crate) fn get(&self, topic: &str) -> Option<Arc<TopicRoute>> {
        self.routes.get(topic).map(|route| Arc::clone(&route))
    }

    /// The route to send by: that of the topic, or of the template it will be created from.
    pub(crate) fn to_send(&self, topic: &str) -> Option<Arc<TopicRoute>> {
        self.get(topic).or_else(|| self.templates.get(topic).map(|route| Arc::clone(&route)))
    }

    pub(crate) fn has_template(&self, topic: &str) -> bool {
        self.templates.contains_key(topic)
    }

    /// Takes a route that a name server gave. The flag says whether a broker address in it is new.
    pub(crate) fn store(&self, topic: &ByteString, data: TopicRouteData) -> (Arc<TopicRoute>, bool) {
        let route = self.keep_or_replace(&self.routes, topic, TopicRoute::new(topic, data));
        self.templates.remove(topic);
        let has_news = self.learn(&route.data.broker_datas);
        (route, has_news)
    }

    /// Takes the route of the template topic for a topic that does not exist yet.
    pub(crate) fn store_template(
        &self,
        topic: &ByteString,
        template: &TopicRoute,
        default_queues: i32,
    ) -> Arc<TopicRoute> {
        let route = TopicRoute::from_template(topic, template.data.clone(), default_queues);
        self.keep_or_replace(&self.templates, topic, route)
    }

    /// An unchanged route is kept, with its turn count.
    fn keep_or_replace(&self, table: &Routes, topic: &ByteString, new: TopicRoute) -> Arc<TopicRoute> {
        let same = |old: &Arc<TopicRoute>| old.data == new.data;
        if let Some(old) = table.get::<str>(topic).filter(|old| same(old)) {
            return Arc::clone(&old);
        }
        let new = Arc::new(new);
        table.insert(topic.detach(), Arc::clone(&new));
        new
    }

    fn learn(&self, brokers: &[BrokerData]) -> bool {
        let mut has_news = false;
        for broker in brokers.iter().filter(|broker| !broker.broker_addrs.is_empty()) {
            let mut known = self.brokers.entry(broker.broker_name.as_str().into()).or_default();
            let is_known = |(id, addr): (&i64, &String)| known.get(id).is_some_and(|known| **known == **addr);
            let has_new = !broker.broker_addrs.iter().all(is_known);
            if has_new || known.len() != broker.broker_addrs.len() {
                let addrs = broker.broker_addrs.iter().map(|(id, addr)| (*id, addr.as_str().into()));
                *known = addrs.collect();
            }
            has_news |= has_new;
        }
        has_news
    }

    /// The address of one member of a broker group. Java: `MQClientInstance.findBrokerAddressInSubscribe`.
    pub(crate) fn address(&self, broker: &str, choice: BrokerChoice) -> Option<Arc<str>> {
        let addrs = self.brokers.get(broker)?;
        let any = || addrs.values().next();
        match choice {
            BrokerChoice::Master => addrs.get(&MASTER_ID),
            BrokerChoice::MasterOrReplica => any(), // the master has the smallest id
            BrokerChoice::Id(id) => addrs
                .get(&id)
                .or_else(|| if id == MASTER_ID { None } else { addrs.get(&id.saturating_add(1)) })
                .or_else(any),
        }
        .cloned()
    }

    /// Every address known: of masters only, or of replicas too.
    pub(crate) fn all_addresses(&self, with_replicas: bool) -> BTreeSet<Arc<str>> {
        let mut all = BTreeSet::new();
        for addrs in &self.brokers {
            let wanted = addrs.iter().filter(|(id, _)| with_replicas || **id == MASTER_ID);
            all.extend(wanted.map(|(_, addr)| Arc::clone(addr)));
        }
        all
    }

    /// Every topic whose route is kept fresh.
    pub(crate) fn topics(&self) -> BTreeSet<ByteString> {
        self.routes.iter().chain(self.templates.iter()).map(|entry| entry.key().clone()).collect()
    }

    /// Forgets addresses that no route names any more.
    pub(crate) fn forget_offline(&self) {
        let mut named = BTreeSet::new();
        for route in self.routes.iter().chain(self.templates.iter()) {
            named.extend(route.data.broker_datas.iter().flat_map(|data| data.broker_addrs.values().cloned()));
        }
        self.brokers.retain(|broker, addrs| {
            if addrs.values().all(|addr| named.contains(&**addr)) {
                return true;
            }
            let online = addrs.iter().filter(|(_, addr)| named.contains(&***addr));
            let online: Addresses = online.map(|(id, addr)| (*id, Arc::clone(addr))).collect();
            tracing::debug!(%broker, left = online.len(), "broker addresses forgotten: in no route");
            let stays = !online.is_empty();
            *addrs = online;
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use rocketmq_protocol::body::{Perm, QueueData};

    use super::*;

    fn data(members: &[(&str, i64, &str)]) -> TopicRouteData {
        let mut data = TopicRouteData::default();
        for &(name, id, addr) in members {
            match data.broker_datas.iter_mut().find(|broker| broker.broker_name == name) {
                Some(broker) => drop(broker.broker_addrs.insert(id, addr.into())),
                None => {
                    data.broker_datas.push(BrokerData {
                        broker_name: name.into(),
                        broker_addrs: [(id, addr.into())].into(),
                        ..BrokerData::default()
                    });
                    data.queue_datas.push(QueueData {
                        broker_name: name.into(),
                        read_queue_nums: 1,
                        write_queue_nums: 1,
                        perm: Perm::READ_WRITE,
                        ..QueueData::default()
                    });
                }
            }
        }
        data
    }

    #[test]
    fn an_unchanged_route_is_kept_and_a_moved_broker_is_news() {
        let table = RouteTable::new();
        let topic = ByteString::from("t");
        let (first, has_news) = table.store(&topic, data(&[("a", 0, "h:1"), ("a", 1, "h:2")]));
        assert!(has_news);
        let (second, has_news) = table.store(&topic, data(&[("a", 0, "h:1"), ("a", 1, "h:2")]));
        assert!(Arc::ptr_eq(&first, &second) && !has_news);
        let (third, has_news) = table.store(&topic, data(&[("a", 0, "h:3"), ("a", 1, "h:2")]));
        assert!(!Arc::ptr_eq(&first, &third) && has_news);
        assert_eq!(table.address("a", BrokerChoice::Master).as_deref(), Some("h:3"));
    }

    #[test]
    fn a_replica_answers_where_the_member_asked_for_is_gone() {
        let table = RouteTable::new();
        table.store(&"t".into(), data(&[("a", 2, "h:2"), ("a", 5, "h:5")]));
        let address = |choice| table.address("a", choice).map(|addr| addr.to_string());
        assert_eq!(address(BrokerChoice::Master), None);
        assert_eq!(address(BrokerChoice::MasterOrReplica).as_deref(), Some("h:2"));
        assert_eq!(address(BrokerChoice::Id(4)).as_deref(), Some("h:5"));
        assert_eq!(address(BrokerChoice::Id(0)).as_deref(), Some("h:2"));
        assert_eq!(address(BrokerChoice::Id(i64::MAX)).as_deref(), Some("h:2"));
        assert!(table.all_addresses(false).is_empty());
        assert_eq!(table.all_addresses(true).len(), 2);
    }

    #[test]
    fn addresses_that_no_route_names_are_forgotten() {
        let table = RouteTable::new();
        table.store(&"t".into(), data(&[("a", 0, "h:1"), ("b", 0, "h:2"), ("b", 1, "h:3")]));
        table.store(&"t".into(), data(&[("b", 0, "h:2")]));
        table.forget_offline();
        assert_eq!(table.address("a", BrokerChoice::MasterOrReplica), None);
        assert_eq!(table.all_addresses(true).iter().map(|addr| &**addr).collect::<Vec<_>>(), ["h:2"]);
    }

    #[test]
    fn a_template_serves_until_the_topic_exists() {
        let table = RouteTable::new();
        let (template, _) = table.store(&"TBW102".into(), data(&[("a", 0, "h:1")]));
        table.store_template(&"t".into(), &template, 4);
        assert!(table.to_send("t").is_some() && table.get("t").is_none() && table.has_template("t"));
        table.store(&"t".into(), data(&[("a", 0, "h:1")]));
        assert!(table.get("t").is_some() && !table.has_template("t"));
    }
}
