//! A name server over loopback sockets, asked by brokers, clients and operators.
#![allow(clippy::unwrap_used, clippy::panic)] // clippy.toml exempts test functions, not what they call

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rocketmq_namesrv_lite::properties::Properties;
use rocketmq_namesrv_lite::{NameServer, NameServerBuilder};
use rocketmq_protocol::body::{
    DataVersion, KvTable, Perm, QueueData, RegisterBrokerBody, TopicConfig, TopicRouteData,
};
use rocketmq_protocol::request::Request;
use rocketmq_protocol::requests::*;
use rocketmq_protocol::transport::{
    Call, Clock, Connection, Connector, RequestError, Service, TransportOptions,
};
use rocketmq_protocol::{
    Encoding, Frame, FrameDecoder, Language, MAX_FRAME_BYTES, Opaque, QueueId, ResponseCode, Version,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const LONG: Duration = Duration::from_secs(10);

/// A peer that is asked nothing.
struct Silent;

impl Service for Silent {
    fn serve(&self, _: Call) {}
}

struct Fixture {
    server: NameServer,
    connector: Connector,
    connection: Connection,
}

impl Fixture {
    async fn start() -> Self {
        Self::start_with(|builder| builder).await
    }

    async fn start_with(configure: impl FnOnce(NameServerBuilder) -> NameServerBuilder) -> Self {
        let server = configure(NameServer::builder().listen(([127, 0, 0, 1], 0))).start().await.unwrap();
        let connector = Connector::new(TransportOptions::default(), Arc::new(Silent));
        let connection = connector.connect(&server.local_addr().to_string()).await.unwrap();
        Self { server, connector, connection }
    }

    async fn connect(&self) -> Connection {
        self.connector.connect(&self.server.local_addr().to_string()).await.unwrap()
    }

    async fn call<R: Request>(&self, request: R) -> Result<R::Reply, RequestError> {
        self.connection.call(&request, LONG).await
    }

    async fn route(&self, topic: &str) -> Result<TopicRouteData, RequestError> {
        let request = GetRouteInfo { topic: topic.into(), accept_standard_json_only: None };
        self.call(request).await.map(|reply| reply.route.route)
    }

    /// Waits until `topic` has no route any more; nobody tells a client when.
    async fn route_gone(&self, topic: &str) {
        while self.route(topic).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn put(&self, namespace: &str, key: &str, value: &str) {
        let put = PutKvConfig { namespace: namespace.into(), key: key.into(), value: value.into() };
        self.call(put).await.unwrap();
    }
}

fn body(version: i64, topics: &[&str]) -> RegisterBrokerBody {
    let mut body = RegisterBrokerBody::default();
    let wrapper = &mut body.topic_config_serialize_wrapper;
    wrapper.data_version = DataVersion { counter: version, ..DataVersion::default() };
    for topic in topics {
        wrapper.topic_config_table.insert((*topic).into(), TopicConfig::new(*topic, 8, Perm::READ_WRITE));
    }
    body
}

fn registration(id: i64, body: Bytes) -> RegisterBroker {
    RegisterBroker {
        broker_name: "broker-a".into(),
        broker_addr: format!("10.0.0.{id}:10911").into(),
        cluster_name: "c".into(),
        ha_server_addr: format!("10.0.0.{id}:10912").into(),
        broker_id: id,
        heartbeat_timeout_ms: None,
        enable_acting_master: None,
        compressed: false,
        body_crc32: crc32fast::hash(&body) & 0x7fff_ffff,
        body,
    }
}

fn master(topics: &[&str]) -> RegisterBroker {
    registration(0, body(1, topics).encode_plain().unwrap())
}

fn refusal<T: std::fmt::Debug>(result: Result<T, RequestError>) -> (ResponseCode, String) {
    match result.unwrap_err() {
        RequestError::Refused { code, remark, .. } => (code, remark.unwrap_or_default()),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_registered_broker_is_found_by_topic_until_it_leaves() {
    let ns = Fixture::start().await;
    let reply = ns.call(master(&["t", "u"])).await.unwrap();
    assert_eq!((reply.master_addr, reply.order_topics), (None, None));
    let route = ns.route("t").await.unwrap();
    assert_eq!(route.broker_datas[0].master_addr(), Some("10.0.0.0:10911"));
    assert_eq!((route.queue_datas[0].write_queue_nums, route.queue_datas[0].perm), (8, Perm::READ_WRITE));

    let leave = UnregisterBroker {
        broker_name: "broker-a".into(),
        broker_addr: "10.0.0.0:10911".into(),
        cluster_name: "c".into(),
        broker_id: 0,
    };
    ns.call(leave).await.unwrap();
    assert_eq!(refusal(ns.route("t").await).0, ResponseCode::TOPIC_NOT_EXIST);
    ns.server.shutdown().await;
    ns.connection.closed().await;
}

#[tokio::test]
async fn a_replica_is_told_its_master() {
    let ns = Fixture::start().await;
    ns.call(master(&["t", "u"])).await.unwrap();
    let reply = ns.call(registration(1, body(1, &["t", "u"]).encode_plain().unwrap())).await.unwrap();
    assert_eq!(reply.master_addr.unwrap(), "10.0.0.0:10911");
    assert_eq!(reply.ha_server_addr.unwrap(), "10.0.0.0:10912");
    let group = GetBrokerMemberGroup { cluster_name: "c".into(), broker_name: "broker-a".into() };
    let group = ns.call(group).await.unwrap().group.broker_member_group.unwrap();
    assert_eq!(group.broker_addrs.keys().copied().collect::<Vec<_>>(), [0, 1]);
}

#[tokio::test]
async fn a_registration_may_be_deflated_or_too_long_for_the_connections_task() {
    let ns = Fixture::start().await;
    let deflated = body(1, &["t", "u"]).encode_compressed().unwrap();
    ns.call(registration(0, deflated)).await.unwrap();
    ns.route("t").await.unwrap();

    let names: Vec<_> = (0..1000).map(|number| format!("topic-{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let long = registration(0, body(2, &names).encode_plain().unwrap());
    assert!(long.body.len() > 64 * 1024);
    ns.call(long).await.unwrap();
    ns.route("topic-999").await.unwrap();
}

#[tokio::test]
async fn a_registration_that_cannot_be_taken_is_refused_with_the_reason() {
    let ns = Fixture::start().await;
    let damaged = RegisterBroker { body_crc32: 7, ..master(&["t", "u"]) };
    let (code, remark) = refusal(ns.call(damaged).await);
    assert_eq!(code, ResponseCode::SYSTEM_ERROR);
    assert!(remark.starts_with("crc32 not match: bodyCrc32 is 7"), "{remark}");

    let (code, remark) = refusal(ns.call(registration(0, Bytes::from_static(b"{\"topic"))).await);
    assert_eq!(code, ResponseCode::SYSTEM_ERROR);
    assert!(remark.starts_with("register broker failed: cannot read the JSON form"), "{remark}");

    let nameless = RegisterBroker { broker_name: " ".into(), ..master(&["t", "u"]) };
    let (code, remark) = refusal(ns.call(nameless).await);
    assert_eq!(code, ResponseCode::INVALID_PARAMETER);
    assert!(remark.contains("brokerName"), "{remark}");

    let (_, remark) = refusal(ns.call(master(&["t"])).await);
    assert!(remark.contains("just one topic"), "{remark}");
}

#[tokio::test]
async fn a_missing_route_is_explained() {
    let ns = Fixture::start().await;
    let (code, remark) = refusal(ns.route("t").await);
    assert_eq!(code, ResponseCode::TOPIC_NOT_EXIST);
    assert!(remark.contains("topic: t: no broker is registered here"), "{remark}");

    ns.call(master(&["u", "v"])).await.unwrap();
    let (_, remark) = refusal(ns.route("t").await);
    assert!(remark.contains("none of the registered brokers (broker-a) has it"), "{remark}");
    assert!(remark.contains("no broker here has that"), "{remark}");

    ns.call(registration(0, body(2, &["u", "TBW102"]).encode_plain().unwrap())).await.unwrap();
    let (_, remark) = refusal(ns.route("t").await);
    assert!(remark.contains("the first message sent to it creates it"), "{remark}");
}

/// What the name server answers to a client of this version that asks for a route with these fields.
async fn exchange(ns: &Fixture, version: i32, fields: &[(&str, &str)]) -> Frame {
    let request = Frame {
        code: GetRouteInfo::CODE.get(),
        language: Language::GO,
        version: Version::new(version),
        opaque: Opaque::new(1),
        flag: 0,
        remark: None,
        fields: fields.iter().copied().collect(),
        body: Bytes::new(),
        encoding: Encoding::Json,
    };
    let mut stream = TcpStream::connect(ns.server.local_addr()).await.unwrap();
    let mut out = Vec::new();
    request.encode(&mut out, MAX_FRAME_BYTES).unwrap();
    stream.write_all(&out).await.unwrap();
    let mut buffer = BytesMut::new();
    let mut decoder = FrameDecoder::new(MAX_FRAME_BYTES);
    loop {
        if let Some(answer) = decoder.decode(&mut buffer).unwrap() {
            return answer;
        }
        assert_ne!(stream.read_buf(&mut buffer).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn routes_are_standard_json_for_those_who_read_it() {
    let ns = Fixture::start().await;
    ns.call(master(&["t", "u"])).await.unwrap();
    let bare = r#""brokerAddrs":{0:"10.0.0.0:10911"}"#;
    let quoted = r#""brokerAddrs":{"0":"10.0.0.0:10911"}"#;
    for (version, standard_only, expected) in [
        (317, "false", bare),
        (399, "", bare),
        (401, "false", quoted),
        (493, "", quoted),
        (317, "true", quoted),
    ] {
        let fields = [("topic", "t"), ("acceptStandardJsonOnly", standard_only)];
        let body = exchange(&ns, version, &fields).await.body;
        let text = std::str::from_utf8(&body).unwrap();
        assert!(text.contains(expected), "{version}: {text}");
    }
}

#[tokio::test]
async fn a_closed_connection_removes_its_broker_at_once() {
    let ns = Fixture::start().await;
    let broker = ns.connect().await;
    broker.call(&master(&["t", "u"]), LONG).await.unwrap();
    ns.route("t").await.unwrap();
    broker.close();
    ns.route_gone("t").await;
}

#[tokio::test]
async fn a_silent_broker_expires_and_one_that_beats_does_not() {
    let clock = Clock::system();
    let ns = Fixture::start_with(|builder| builder.clock(clock.clone())).await;
    let [silent, beating, later] = [ns.connect().await, ns.connect().await, ns.connect().await];
    for (connection, name, timeout_ms, topics) in [
        (&silent, "silent", None, ["t", "u"]),
        (&beating, "beating", Some(200_000), ["v", "w"]),
        (&later, "later", Some(250_000), ["x", "y"]),
    ] {
        let request =
            RegisterBroker { broker_name: name.into(), heartbeat_timeout_ms: timeout_ms, ..master(&topics) };
        connection.call(&request, LONG).await.unwrap();
    }
    clock.advance(Duration::from_secs(121));
    ns.route_gone("t").await;
    silent.closed().await;

    let heartbeat = BrokerHeartbeat {
        cluster_name: "c".into(),
        broker_addr: "10.0.0.0:10911".into(),
        broker_name: "beating".into(),
        heartbeat_timeout_ms: None,
    };
    ns.call(heartbeat).await.unwrap();
    clock.advance(Duration::from_secs(130)); // past 250 s in all; the heartbeat was at 121 s
    ns.route_gone("x").await;
    ns.route("v").await.unwrap();
}

#[tokio::test]
async fn a_broker_learns_whether_its_topics_are_known() {
    let ns = Fixture::start().await;
    let query = |counter| QueryDataVersion {
        broker_name: "broker-a".into(),
        broker_addr: "10.0.0.0:10911".into(),
        cluster_name: "c".into(),
        broker_id: 0,
        version: DataVersion { counter, ..DataVersion::default() },
    };
    let reply = ns.call(query(1)).await.unwrap();
    assert_eq!((reply.changed, reply.version), (true, None));
    ns.call(master(&["t", "u"])).await.unwrap();
    assert!(!ns.call(query(1)).await.unwrap().changed);
    let reply = ns.call(query(2)).await.unwrap();
    assert_eq!((reply.changed, reply.version.unwrap().counter), (true, 1));
}

#[tokio::test]
async fn a_single_topic_is_announced_by_a_known_broker() {
    let ns = Fixture::start().await;
    let queue = QueueData { broker_name: "broker-a".into(), ..QueueData::default() };
    let route = TopicRouteData { queue_datas: vec![queue], ..TopicRouteData::default() };
    let topic = RegisterTopic { topic: "w".into(), route: RouteBody { route, standard_json: false } };
    let (_, remark) = refusal(ns.call(topic.clone()).await);
    assert!(remark.contains("no broker broker-a is known here"), "{remark}");
    ns.call(master(&["t", "u"])).await.unwrap();
    ns.call(topic).await.unwrap();
    ns.route("w").await.unwrap();
}

#[tokio::test]
async fn operators_list_delete_and_write_protect_topics() {
    let ns = Fixture::start().await;
    ns.call(master(&["t", "u"])).await.unwrap();
    let clusters = ns.call(GetClusterInfo {}).await.unwrap().clusters;
    assert_eq!(clusters.cluster_addr_table["c"], ["broker-a"]);
    assert_eq!(ns.call(GetAllTopicList {}).await.unwrap().topics.topic_list, ["t", "u"]);
    let of_cluster = GetTopicsByCluster { cluster: "d".into() };
    assert!(ns.call(of_cluster).await.unwrap().topics.topic_list.is_empty());
    let system = ns.call(GetSystemTopicList {}).await.unwrap().topics;
    assert_eq!(system.topic_list, ["c", "broker-a"]);
    assert_eq!(system.broker_addr.as_deref(), Some("10.0.0.0:10911"));
    assert!(ns.call(GetUnitTopicList {}).await.unwrap().topics.topic_list.is_empty());
    assert!(ns.call(GetHasUnitSubTopicList {}).await.unwrap().topics.topic_list.is_empty());
    assert!(ns.call(GetHasUnitSubUnunitTopicList {}).await.unwrap().topics.topic_list.is_empty());

    assert_eq!(ns.call(WipeWritePermission { broker_name: "broker-a".into() }).await.unwrap().topics, 2);
    assert_eq!(ns.route("t").await.unwrap().queue_datas[0].perm, Perm::READ);
    assert_eq!(ns.call(AddWritePermission { broker_name: "broker-a".into() }).await.unwrap().topics, 2);
    assert_eq!(ns.route("t").await.unwrap().queue_datas[0].perm, Perm::READ_WRITE);

    ns.call(DeleteTopicInNameServer { topic: "t".into(), cluster: None }).await.unwrap();
    assert_eq!(ns.call(GetAllTopicList {}).await.unwrap().topics.topic_list, ["u"]);
}

#[tokio::test]
async fn key_values_outlive_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/kvConfig.json");
    let ns = Fixture::start_with(|builder| builder.kv_config_path(&path)).await;
    let get = |key: &str| GetKvConfig { namespace: "n".into(), key: key.into() };
    let (code, remark) = refusal(ns.call(get("k")).await);
    assert_eq!(
        (code, remark.as_str()),
        (ResponseCode::QUERY_NOT_FOUND, "No config item, Namespace: n Key: k")
    );
    ns.put("n", "k", "v").await;
    ns.put("n", "l", "w").await;
    ns.call(DeleteKvConfig { namespace: "n".into(), key: "l".into() }).await.unwrap();
    ns.server.shutdown().await;

    let ns = Fixture::start_with(|builder| builder.kv_config_path(&path)).await;
    assert_eq!(ns.call(get("k")).await.unwrap().value.unwrap(), "v");
    let list = GetKvListByNamespace { namespace: "n".into() };
    let table = KvTable { table: [("k".to_owned(), "v".to_owned())].into() };
    assert_eq!(ns.call(list).await.unwrap().table, table);
    let none = GetKvListByNamespace { namespace: "m".into() };
    assert_eq!(refusal(ns.call(none).await).0, ResponseCode::QUERY_NOT_FOUND);
}

#[tokio::test]
async fn a_change_that_cannot_be_written_is_refused_and_not_seen() {
    let folder = tempfile::tempdir().unwrap();
    let ns = Fixture::start_with(|builder| builder.kv_config_path(folder.path().join("kv.json"))).await;
    std::fs::create_dir(folder.path().join("kv.json.tmp")).unwrap();
    let put = PutKvConfig { namespace: "n".into(), key: "k".into(), value: "v".into() };
    let (code, remark) = refusal(ns.call(put).await);
    assert_eq!(code, ResponseCode::SYSTEM_ERROR);
    assert!(remark.contains("kv.json.tmp"), "{remark}");
    let get = GetKvConfig { namespace: "n".into(), key: "k".into() };
    assert_eq!(refusal(ns.call(get).await).0, ResponseCode::QUERY_NOT_FOUND);
}

#[tokio::test]
async fn settings_are_read_and_changed_while_it_runs() {
    let ns = Fixture::start().await;
    ns.put("ORDER_TOPIC_CONFIG", "t", "broker-a:8").await;
    let reply = ns.call(master(&["t", "u"])).await.unwrap();
    assert_eq!(reply.order_topics.unwrap().table["t"], "broker-a:8");
    assert_eq!(ns.route("t").await.unwrap().order_topic_conf, None);

    let update =
        |text: &'static str| UpdateNameServerConfig { properties: Bytes::from_static(text.as_bytes()) };
    ns.call(update("orderMessageEnable=true\nreturnOrderTopicConfigToBroker=false\nenableTopicList=false"))
        .await
        .unwrap();
    assert_eq!(ns.route("t").await.unwrap().order_topic_conf.as_deref(), Some("broker-a:8"));
    assert_eq!(ns.call(master(&["t", "u"])).await.unwrap().order_topics, None);
    let (code, remark) = refusal(ns.call(GetTopicsByCluster { cluster: "c".into() }).await);
    assert_eq!((code, remark.starts_with("disable")), (ResponseCode::SYSTEM_ERROR, true));

    let text = ns.call(GetNameServerConfig {}).await.unwrap().properties;
    let text = String::from_utf8(text.to_vec()).unwrap();
    assert!(text.contains("orderMessageEnable=true\n"), "{text}");
    assert!(text.contains(&format!("listenPort={}\n", ns.server.local_addr().port())), "{text}");

    let all_or_nothing = update("orderMessageEnable=false\nkvConfigPath=/elsewhere");
    assert_eq!(refusal(ns.call(all_or_nothing).await).0, ResponseCode::NO_PERMISSION);
    for malformed in ["orderMessageEnable=maybe", "listenPort=1", "unheardOf=1"] {
        assert_eq!(refusal(ns.call(update(malformed)).await).0, ResponseCode::INVALID_PARAMETER);
    }
    assert!(ns.route("t").await.unwrap().order_topic_conf.is_some());
}

#[tokio::test]
async fn routes_are_withheld_while_it_waits_for_brokers() {
    let clock = Clock::system();
    let properties = Properties::parse("needWaitForService=true\nwaitSecondsForService=60").unwrap();
    let ns =
        Fixture::start_with(|builder| builder.clock(clock.clone()).properties(&properties).unwrap()).await;
    ns.call(RegisterBroker { heartbeat_timeout_ms: Some(600_000), ..master(&["t", "u"]) }).await.unwrap();
    let (code, remark) = refusal(ns.route("t").await);
    assert_eq!(code, ResponseCode::SYSTEM_ERROR);
    assert!(remark.starts_with("name server not ready"), "{remark}");
    clock.advance(Duration::from_secs(60));
    ns.route("t").await.unwrap();
}

#[tokio::test]
async fn a_request_it_does_not_serve_is_refused_by_name() {
    let ns = Fixture::start().await;
    let (code, remark) = refusal(ns.call(GetMaxOffset { topic: "t".into(), queue_id: QueueId::ZERO }).await);
    assert_eq!(code, ResponseCode::REQUEST_CODE_NOT_SUPPORTED);
    assert!(remark.contains("GET_MAX_OFFSET (30)"), "{remark}");
}

#[tokio::test]
async fn a_missing_field_is_named() {
    let ns = Fixture::start().await;
    let answer = exchange(&ns, 493, &[]).await;
    assert_eq!(answer.response_code(), ResponseCode::INVALID_PARAMETER);
    assert_eq!(answer.remark.unwrap(), "header field \"topic\" is missing");
}

#[tokio::test]
async fn a_port_in_use_is_an_error_with_the_address() {
    let ns = Fixture::start().await;
    let addr = ns.server.local_addr();
    let error = NameServer::builder().listen(addr).start().await.err().unwrap();
    assert_eq!(error.to_string(), format!("cannot listen on {addr}"));
}
