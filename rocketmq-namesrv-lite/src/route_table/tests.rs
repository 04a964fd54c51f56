use rocketmq_protocol::body::TopicConfigAndMappingSerializeWrapper;

use super::*;

const MASTER: &str = "10.0.0.1:10911";
const SLAVE: &str = "10.0.0.2:10911";

/// A broker about to register. Its connection has the number of its id unless told otherwise.
#[derive(Clone)]
struct Broker {
    request: RegisterBroker,
    version: DataVersion,
    topics: Vec<(&'static str, Perm)>,
    connection: i64,
}

fn broker(name: &str, id: i64, addr: &str) -> Broker {
    Broker {
        request: RegisterBroker {
            broker_name: name.into(),
            broker_addr: addr.into(),
            cluster_name: "c".into(),
            ha_server_addr: format!("{addr}-ha").into(),
            broker_id: id,
            heartbeat_timeout_ms: None,
            enable_acting_master: None,
            compressed: false,
            body_crc32: 0,
            body: bytes::Bytes::new(),
        },
        version: DataVersion { counter: 1, ..DataVersion::default() },
        topics: vec![("t", Perm::READ_WRITE), ("u", Perm::READ_WRITE)],
        connection: id,
    }
}

impl Broker {
    fn topics(mut self, topics: &[&'static str]) -> Self {
        self.topics = topics.iter().map(|topic| (*topic, Perm::READ_WRITE)).collect();
        self
    }

    fn version(mut self, counter: i64) -> Self {
        self.version.counter = counter;
        self
    }

    fn state_version(mut self, state_version: i64) -> Self {
        self.version.state_version = state_version;
        self
    }

    fn acting(mut self) -> Self {
        self.request.enable_acting_master = Some(true);
        self
    }

    fn timeout(mut self, ms: i64) -> Self {
        self.request.heartbeat_timeout_ms = Some(ms);
        self
    }

    fn cluster(mut self, cluster: &str) -> Self {
        self.request.cluster_name = cluster.into();
        self
    }

    fn on(mut self, connection: i64) -> Self {
        self.connection = connection;
        self
    }

    fn body(&self) -> RegisterBrokerBody {
        let configs =
            self.topics.iter().map(|&(topic, perm)| (topic.into(), TopicConfig::new(topic, 8, perm)));
        RegisterBrokerBody {
            filter_server_list: Vec::new(),
            topic_config_serialize_wrapper: TopicConfigAndMappingSerializeWrapper {
                data_version: self.version,
                topic_config_table: configs.collect(),
                ..Default::default()
            },
        }
    }
}

impl RouteTable<i64> {
    fn add_at(&mut self, broker: &Broker, now_ms: i64) -> Result<Registered, Refused> {
        self.register(&broker.request, None, broker.body(), broker.connection, false, now_ms)
    }

    fn add(&mut self, broker: &Broker) -> Registered {
        self.add_at(broker, 0).unwrap()
    }

    /// `brokerName` and permission of each broker that has the topic.
    fn perms(&self, topic: &str) -> Vec<(String, Perm)> {
        let queues = self.route(topic, false).map(|route| route.queue_datas).unwrap_or_default();
        queues.into_iter().map(|queue| (queue.broker_name, queue.perm)).collect()
    }

    fn addrs(&self, broker: &str) -> Vec<(i64, String)> {
        self.member_group("c", broker).broker_addrs.into_iter().collect()
    }
}

fn at(id: i64, addr: &str) -> (i64, String) {
    (id, addr.to_owned())
}

#[test]
fn a_route_lists_each_broker_of_the_topic_with_its_queues() {
    let mut table = RouteTable::default();
    assert!(table.add(&broker("b", 0, SLAVE)).new);
    table.add(&broker("a", 0, MASTER).topics(&["t", "v"]));
    let route = table.route("t", false).unwrap();
    let names: Vec<_> = route.broker_datas.iter().map(|broker| broker.broker_name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(route.broker_datas[0].master_addr(), Some(MASTER));
    assert_eq!((route.queue_datas[1].read_queue_nums, route.queue_datas[1].write_queue_nums), (8, 8));
    assert_eq!(table.route("v", false).unwrap().broker_datas.len(), 1);
    assert_eq!(table.route("w", false), None);
}

#[test]
fn a_replica_is_told_its_master_and_defines_no_topics() {
    let mut table = RouteTable::default();
    assert_eq!(table.add(&broker("a", 1, SLAVE)), Registered { new: true, master: None });
    assert_eq!(table.route("t", false), None);
    table.add(&broker("a", 0, MASTER).topics(&["t", "u"]));
    let told = table.add(&broker("a", 1, SLAVE).topics(&["x", "y"]));
    assert_eq!(told.master, Some((MASTER.to_owned(), format!("{MASTER}-ha"))));
    assert!(!told.new);
    assert_eq!(table.topics(), ["t", "u"]);
    assert_eq!(table.add(&broker("a", 0, MASTER)).master, None);
}

#[test]
fn topics_change_only_with_the_version_or_where_they_are_missing() {
    let mut table = RouteTable::default();
    let first = broker("a", 0, MASTER);
    table.add(&first);
    table.change_perm("a", |perm| perm.without(Perm::WRITE));
    table.delete_topic("u", None);

    table.add(&first);
    assert_eq!(table.perms("t"), [("a".to_owned(), Perm::READ)], "the operator's change stays");
    assert_eq!(table.perms("u"), [("a".to_owned(), Perm::READ_WRITE)], "what was missing is back");

    table.add(&first.version(2));
    assert_eq!(table.perms("t"), [("a".to_owned(), Perm::READ_WRITE)]);
}

#[test]
fn a_topic_that_is_no_longer_registered_stays_unless_told_to_go() {
    let mut table = RouteTable::default();
    table.add(&broker("a", 0, MASTER));
    table.add(&broker("b", 0, SLAVE));
    let less = broker("a", 0, MASTER).topics(&["t"]).version(2);
    table.add(&less);
    assert_eq!(table.perms("u").len(), 2);
    table.register(&less.request, None, less.body(), 0, true, 0).unwrap();
    assert_eq!(table.perms("u"), [("b".to_owned(), Perm::READ_WRITE)]);
}

#[test]
fn a_broker_that_changes_its_id_leaves_the_old_one() {
    let mut table = RouteTable::default();
    table.add(&broker("a", 0, MASTER));
    table.add(&broker("a", 1, SLAVE));
    table.add(&broker("a", 0, SLAVE));
    assert_eq!(table.addrs("a"), [at(0, SLAVE)]);
}

#[test]
fn an_id_is_taken_over_unless_its_holder_has_the_newer_state() {
    let mut table = RouteTable::default();
    table.add(&broker("a", 0, MASTER).state_version(2));
    let error = table.add_at(&broker("a", 0, SLAVE).state_version(1), 0).unwrap_err();
    assert!(
        error.to_string().contains(MASTER) && error.to_string().contains("newer state version 2"),
        "{error}"
    );
    assert_eq!(table.addrs("a"), [at(0, MASTER)]);
    table.add(&broker("a", 0, SLAVE).state_version(2));
    assert_eq!(table.addrs("a"), [at(0, SLAVE)]);
}

/// It was an old master, say, that wants its place back: refused, it holds no place at all.
#[test]
fn who_is_refused_loses_its_other_id() {
    let mut table = RouteTable::default();
    table.add(&broker("a", 0, MASTER).state_version(2));
    table.add(&broker("a", 1, SLAVE));
    table.add_at(&broker("a", 0, SLAVE), 0).unwrap_err();
    assert_eq!(table.addrs("a"), [at(0, MASTER)]);
}

#[test]
fn one_topic_is_taken_only_from_a_broker_that_registered_all() {
    let mut table = RouteTable::default();
    let one = broker("a", 0, MASTER).topics(&["v"]).version(2);
    assert!(matches!(table.add_at(&one, 0), Err(Refused::OneTopic { .. })));
    assert_eq!(table.broker_names().count(), 0);
    table.add(&broker("a", 0, MASTER));
    table.add(&one);
    assert_eq!(table.topics(), ["t", "u", "v"]);
}

#[test]
fn the_smallest_replica_stands_in_for_a_lost_master_but_takes_no_messages() {
    let mut table = RouteTable::default();
    table.add(&broker("a", 0, MASTER).acting());
    table.add(&broker("a", 1, SLAVE).acting());
    assert_eq!(table.perms("t"), [("a".to_owned(), Perm::READ_WRITE)]);

    table.unregister("a", MASTER).unwrap();
    assert_eq!(table.perms("t"), [("a".to_owned(), Perm::READ)]);
    let shown = |acting| table.route("t", acting).unwrap().broker_datas[0].master_addr().map(str::to_owned);
    assert_eq!((shown(false), shown(true)), (None, Some(SLAVE.to_owned())));

    table.add(&broker("a", 1, SLAVE).acting().topics(&["t", "w"]).version(2));
    assert_eq!(table.perms("w"), [("a".to_owned(), Perm::READ)]);

    table.add(&broker("a", 0, MASTER).acting());
    assert_eq!(table.perms("t"), [("a".to_owned(), Perm::READ_WRITE)]);
}

#[test]
fn without_acting_master_a_lost_master_leaves_its_topics_as_they_are() {
    let mut table = RouteTable::default();
    table.add(&broker("a", 0, MASTER));
    table.add(&broker("a", 1, SLAVE));
    table.unregister("a", MASTER).unwrap();
    assert_eq!(table.perms("t"), [("a".to_owned(), Perm::READ_WRITE)]);
    assert_eq!(table.route("t", true).unwrap().broker_datas[0].master_addr(), None);
}

#[test]
fn the_last_member_takes_the_name_and_its_queues_along() {
    let mut table = RouteTable::default();
    table.add(&broker("a", 0, MASTER));
    table.add(&broker("b", 0, SLAVE).topics(&["t", "w"]));
    let departed = table.unregister("a", MASTER).unwrap();
    assert_eq!((departed.broker.as_str(), departed.id, departed.addr.as_str()), ("a", 0, MASTER));
    assert_eq!(table.topics(), ["t", "w"]);
    assert_eq!(table.perms("t"), [("b".to_owned(), Perm::READ_WRITE)]);
    assert_eq!(table.unregister("a", MASTER), None);
    assert_eq!(table.unregister("b", MASTER), None, "an address belongs to a name");
}

#[test]
fn a_closed_connection_takes_along_who_registered_on_it_last() {
    let mut table = RouteTable::default();
    table.add(&broker("a", 0, MASTER).on(7));
    table.add(&broker("a", 1, SLAVE).on(8));
    table.add(&broker("a", 0, MASTER).on(9));
    assert_eq!(table.disconnected(&7), []);
    assert_eq!(table.disconnected(&9).len(), 1);
    assert_eq!(table.addrs("a"), [at(1, SLAVE)]);
}

#[test]
fn silence_counts_from_the_last_sign_of_life() {
    let mut table = RouteTable::default();
    assert_eq!(table.next_expiry_ms(), None);
    table.add_at(&broker("a", 0, MASTER), 1_000).unwrap();
    table.add_at(&broker("b", 0, SLAVE).timeout(10_000), 1_000).unwrap();
    assert_eq!(table.next_expiry_ms(), Some(11_001));
    table.seen("b", SLAVE, None, 5_000);
    table.seen("b", MASTER, None, 50_000);
    table.seen("x", SLAVE, None, 50_000);
    assert_eq!(table.next_expiry_ms(), Some(15_001));
    assert_eq!(table.expire(15_000), []);
    let expired = table.expire(15_001);
    assert_eq!((expired.len(), expired[0].broker.as_str()), (1, "b"));
    assert_eq!(table.next_expiry_ms(), Some(121_001));
    table.seen("a", MASTER, Some(1_000), 20_000);
    assert_eq!(table.next_expiry_ms(), Some(21_001));
    table.seen("a", MASTER, Some(0), 20_000);
    assert_eq!(table.next_expiry_ms(), Some(140_001), "no timeout is the default");
    table.seen("a", MASTER, Some(i64::MAX), 20_000);
    assert_eq!(table.expire(i64::MAX), []);
}

#[test]
fn a_single_topic_is_added_to_known_brokers_only() {
    let mut table = RouteTable::default();
    table.add(&broker("a", 0, MASTER));
    let queue = |name: &str| QueueData { broker_name: name.into(), ..QueueData::default() };
    assert_eq!(table.register_topic("w", vec![queue("a"), queue("z")]), Err("z".to_owned()));
    assert!(!table.has_topic("w"));
    table.register_topic("w", vec![queue("a")]).unwrap();
    table.register_topic("x", Vec::new()).unwrap();
    assert_eq!(table.topics(), ["t", "u", "w"]);
}

#[test]
fn the_version_of_a_broker_is_known_by_name_and_address() {
    let mut table = RouteTable::default();
    table.add(&broker("a", 0, MASTER).version(5));
    assert_eq!(table.version("a", MASTER).map(|version| version.counter), Some(5));
    assert_eq!(table.version("a", SLAVE), None);
}

#[test]
fn a_topic_is_deleted_in_one_cluster_or_in_all() {
    let mut table = RouteTable::default();
    table.add(&broker("a", 0, MASTER));
    table.add(&broker("b", 0, SLAVE).cluster("d"));
    table.delete_topic("t", Some("d"));
    assert_eq!(table.perms("t"), [("a".to_owned(), Perm::READ_WRITE)]);
    table.delete_topic("t", Some("none"));
    assert!(table.has_topic("t"));
    table.delete_topic("t", None);
    table.delete_topic("u", None);
    assert_eq!(table.topics(), [""; 0]);
}

#[test]
fn permissions_change_on_all_topics_of_one_broker() {
    let mut table = RouteTable::default();
    table.add(&broker("a", 0, MASTER));
    table.add(&broker("b", 0, SLAVE));
    assert_eq!(table.change_perm("a", |perm| perm.without(Perm::WRITE)), 2);
    assert_eq!(table.change_perm("x", |perm| perm), 0);
    assert_eq!(table.perms("t"), [("a".to_owned(), Perm::READ), ("b".to_owned(), Perm::READ_WRITE)]);
}

#[test]
fn clusters_list_their_brokers_and_topics() {
    let mut table = RouteTable::default();
    table.add(&broker("a", 0, MASTER));
    table.add(&broker("b", 0, SLAVE).cluster("d").topics(&["t", "w"]));
    let clusters = table.clusters();
    assert_eq!(clusters.cluster_addr_table["c"], ["a"]);
    assert_eq!(clusters.cluster_addr_table["d"], ["b"]);
    assert_eq!(clusters.broker_addr_table["b"].broker_addrs[&0], SLAVE);
    assert_eq!(table.topics_of_cluster("d"), ["t", "w"]);
    assert_eq!(table.topics_of_cluster("e"), [""; 0]);
    assert!(table.member_group("d", "a").broker_addrs.is_empty());
}

#[test]
fn unit_topics_are_told_by_their_flags() {
    let mut table = RouteTable::default();
    let plain = broker("a", 0, MASTER).topics(&["none", "unit", "both", "sub"]);
    let mut body = plain.body();
    for (topic, flags) in [("unit", UNIT), ("both", UNIT | UNIT_SUBSCRIPTION), ("sub", UNIT_SUBSCRIPTION)] {
        body.topic_config_serialize_wrapper.topic_config_table.get_mut(topic).unwrap().topic_sys_flag = flags;
    }
    table.register(&plain.request, None, body, 0, false, 0).unwrap();
    assert_eq!(table.topics_by_flags(|flags| flags & UNIT != 0), ["both", "unit"]);
}

#[test]
fn zone_and_filter_servers_are_shown_in_the_route() {
    let mut table = RouteTable::default();
    let broker = broker("a", 0, MASTER);
    let body = RegisterBrokerBody { filter_server_list: vec!["f:1".into()], ..broker.body() };
    table.register(&broker.request, Some("z"), body, 0, false, 0).unwrap();
    let route = table.route("t", false).unwrap();
    assert_eq!(route.broker_datas[0].zone_name.as_deref(), Some("z"));
    assert_eq!(route.filter_server_table[MASTER], ["f:1"]);
}
