//! The broker over its socket, request by request.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rocketmq_broker_lite::{Standalone, StandaloneBuilder};
use rocketmq_protocol::body::{ConsumerData, HeartbeatData, SubscriptionData};
use rocketmq_protocol::message::{Properties, StoredMessage, StoredMessages, batch::BatchEntry, property};
use rocketmq_protocol::requests::*;
use rocketmq_protocol::transport::{Connection, Connector, RequestError, TransportOptions};
use rocketmq_protocol::{ByteString, Encoding, QueueId, QueueOffset, ResponseCode};

use crate::support::{self, LONG, Nothing, Process, connector};

/// A running cluster and a connection to its broker.
struct Fixture {
    cluster: Standalone,
    connector: Connector,
    connection: Connection,
}

async fn start() -> Fixture {
    start_with(Standalone::builder()).await
}

async fn start_with(builder: StandaloneBuilder) -> Fixture {
    let cluster = builder.start().await.unwrap();
    let connector = connector();
    let connection = connector.connect(cluster.broker().advertised_addr()).await.unwrap();
    Fixture { cluster, connector, connection }
}

fn message(topic: &str, body: impl Into<Bytes>) -> SendMessage {
    let properties =
        Properties::builder().set(property::TAGS, "A").set(property::UNIQ_KEY, "key").build().unwrap();
    SendMessage { properties: Some(properties.encoded().clone()), ..support::message(topic, 0, body) }
}

fn pull(topic: &str, offset: i64) -> PullMessage {
    PullMessage {
        consumer_group: "consumers".into(),
        topic: topic.into(),
        queue_id: QueueId::ZERO,
        queue_offset: QueueOffset::new(offset),
        max_messages: 32,
        sys_flag: PullFlag::SUBSCRIPTION.get(),
        commit_offset: QueueOffset::ZERO,
        suspend_timeout_ms: 0,
        subscription: Some("*".into()),
        subscription_version: 0,
        expression_type: None,
        max_bytes: None,
    }
}

fn waiting(pull: PullMessage, wait_ms: i64) -> PullMessage {
    let sys_flag = PullFlag::SUBSCRIPTION.with(PullFlag::SUSPEND).get();
    PullMessage { sys_flag, suspend_timeout_ms: wait_ms, ..pull }
}

fn messages(reply: PullReply) -> Vec<StoredMessage> {
    StoredMessages::new(reply.messages.into_bytes()).collect::<Result<_, _>>().unwrap()
}

impl Fixture {
    async fn send(&self, request: SendMessage) -> Result<SendReply, RequestError> {
        self.connection.call(&request, LONG).await
    }

    async fn pull(&self, request: PullMessage) -> (ResponseCode, PullReply) {
        self.connection.call_coded(&request, LONG).await.unwrap()
    }

    /// The code and remark that a send is refused with; a neighbour goes on as if nothing had happened.
    async fn refused(&self, request: SendMessage) -> (ResponseCode, String) {
        let neighbour = self.connector.connect(self.cluster.broker().advertised_addr()).await.unwrap();
        let Err(RequestError::Refused { code, remark, .. }) = self.send(request).await else {
            panic!("not refused")
        };
        neighbour.call(&message("neighbour", "fine"), LONG).await.unwrap();
        self.send(message("neighbour", "fine, too")).await.unwrap();
        (code, remark.unwrap())
    }
}

#[tokio::test]
async fn a_sent_message_is_pulled_back_as_it_was_stored() {
    let at = start().await;
    let sent = at.send(message("orders", "hello")).await.unwrap();
    assert_eq!((sent.queue_offset.get(), sent.queue_id.get()), (0, 0));
    assert_eq!(sent.transaction_id.as_deref(), Some("key"));
    let (code, reply) = at.pull(pull("orders", 0)).await;
    assert_eq!((code, reply.next_begin_offset.get()), (ResponseCode::SUCCESS, 1));
    let [message] = &messages(reply)[..] else { panic!("one message") };
    assert_eq!((&*message.topic, &*message.body), ("orders", b"hello".as_slice()));
    assert_eq!(message.offset_message_id().to_string(), *sent.message_id);
    assert_eq!(message.store_host.to_string(), at.cluster.broker().advertised_addr());
    assert_eq!(message.born_host, at.connection.local());
    for (name, value) in [
        ("TAGS", "A"),
        ("UNIQ_KEY", "key"),
        ("CLUSTER", "DefaultCluster"),
        ("MSG_REGION", "DefaultRegion"),
        ("TRACE_ON", "true"),
    ] {
        assert_eq!(message.properties.get(name), Some(value), "{name}");
    }
    let viewed = ViewMessage { position: message.physical_offset, topic: None };
    let viewed = at.connection.call(&viewed, LONG).await.unwrap();
    assert_eq!(StoredMessage::decode(&mut viewed.message.clone()).unwrap().unwrap(), *message);
    at.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn both_encodings_and_the_old_field_names_are_understood() {
    let at = start().await;
    at.send(message("orders", "compact")).await.unwrap();
    let mut options = TransportOptions::default();
    options.encoding = Encoding::Json;
    let json = Connector::new(options, Arc::new(Nothing));
    let json = json.connect(at.cluster.broker().advertised_addr()).await.unwrap();
    assert_eq!(json.call(&message("orders", "json"), LONG).await.unwrap().queue_offset.get(), 1);
    at.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_message_without_a_unique_key_gets_one() {
    let at = start().await;
    let sent = at.send(SendMessage { properties: None, ..message("orders", "x") }).await.unwrap();
    let key = sent.transaction_id.unwrap();
    let (_, reply) = at.pull(pull("orders", 0)).await;
    assert_eq!(messages(reply)[0].properties.get("UNIQ_KEY"), Some(&*key));
    assert_eq!(key.len(), 32);
    at.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_batch_becomes_single_messages_with_their_own_properties() {
    let at = start().await;
    let mut body = Vec::new();
    for (text, tag) in [("one", "TAGS\u{1}A\u{2}"), ("two", "TAGS\u{1}B\u{2}"), ("three", "")] {
        let properties = rocketmq_protocol::message::PropertiesRef::from(tag);
        BatchEntry { flag: 7, body: text.as_bytes(), properties }.encode(&mut body).unwrap();
    }
    let batch = SendMessage { batch: true, ..message("orders", body) };
    let sent = at.connection.call(&SendBatchMessage(batch), LONG).await.unwrap();
    assert_eq!((sent.queue_offset.get(), sent.message_id.split(',').count()), (0, 3));
    let stored = messages(at.pull(pull("orders", 0)).await.1);
    let bodies: Vec<_> = stored.iter().map(|message| message.body.clone()).collect();
    assert_eq!(bodies, ["one", "two", "three"]);
    let ids: Vec<_> = stored.iter().map(|message| message.offset_message_id().to_string()).collect();
    assert_eq!(ids.join(","), *sent.message_id);
    assert_eq!(
        (stored[1].properties.get("TAGS"), stored[1].properties.get("CLUSTER"), stored[1].flag),
        (Some("B"), None, 7)
    );
    at.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn tags_are_filtered_by_hash_and_what_is_skipped_moves_the_offset() {
    let at = start().await;
    for tag in ["A", "B", "A", "B"] {
        let properties = Some(ByteString::from(format!("TAGS\u{1}{tag}\u{2}UNIQ_KEY\u{1}k\u{2}")));
        at.send(SendMessage { properties, ..message("orders", tag.to_owned()) }).await.unwrap();
    }
    let (code, reply) =
        at.pull(PullMessage { subscription: Some("B || C".into()), ..pull("orders", 0) }).await;
    assert_eq!((code, reply.next_begin_offset.get()), (ResponseCode::SUCCESS, 4));
    assert_eq!(messages(reply).iter().map(|m| m.queue_offset.get()).collect::<Vec<_>>(), [1, 3]);
    let (code, reply) = at.pull(PullMessage { subscription: Some("C".into()), ..pull("orders", 0) }).await;
    assert_eq!((code, reply.next_begin_offset.get()), (ResponseCode::PULL_RETRY_IMMEDIATELY, 4));
    at.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_pull_that_waits_is_answered_by_the_message_it_waits_for() {
    let at = start().await;
    at.send(message("orders", "first")).await.unwrap();
    let consumer = at.connector.connect(at.cluster.broker().advertised_addr()).await.unwrap();
    let held = tokio::spawn(async move {
        let wanted = PullMessage { subscription: Some("B".into()), ..waiting(pull("orders", 1), 60_000) };
        consumer.call_coded(&wanted, LONG).await.unwrap()
    });
    at.send(message("orders", "of another tag")).await.unwrap();
    let properties = Some(ByteString::from_static("TAGS\u{1}B\u{2}UNIQ_KEY\u{1}k\u{2}"));
    at.send(SendMessage { properties, ..message("orders", "wanted") }).await.unwrap();
    let (code, reply) = held.await.unwrap();
    // Whether the pull was held before or after the message of another tag came, only the wanted one is delivered.
    assert_eq!((code, reply.next_begin_offset.get()), (ResponseCode::SUCCESS, 3));
    assert_eq!(messages(reply)[0].body, "wanted");
    at.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_pull_that_waits_is_answered_in_one_write_with_the_acknowledgement_of_its_message() {
    let store = tempfile::tempdir().unwrap();
    let process = Process::start(store.path(), &[]); // beside us, so that two writes are two reads here
    let connector = connector();
    let connection = connector.connect(&process.broker).await.unwrap();
    let send = message("orders", "first");
    connection.call(&send, LONG).await.unwrap();
    for next in 1..50 {
        let wanted = waiting(pull("orders", next), 60_000);
        let ask = GetMaxOffset { topic: "orders".into(), queue_id: QueueId::ZERO };
        let held = connection.call_coded(&wanted, LONG);
        tokio::pin!(held);
        // It is held by the time that this is answered, on the same connection.
        tokio::select! {
            biased;
            answer = &mut held => panic!("{answer:?}"),
            told = connection.call(&ask, LONG) => drop(told.unwrap()),
        }
        let reads = connection.reads();
        let (acknowledged, pulled) = tokio::join!(connection.call(&send, LONG), held);
        assert_eq!(acknowledged.unwrap().queue_offset.get(), next);
        assert_eq!(messages(pulled.unwrap().1)[0].body, "first");
        assert_eq!(connection.reads() - reads, 1);
    }
}

#[tokio::test]
async fn a_pull_that_waits_in_vain_is_answered_when_its_time_is_up() {
    let at = start().await;
    at.send(message("orders", "first")).await.unwrap();
    let connection = at.connection.clone();
    let held = tokio::spawn(async move {
        connection.call_coded(&waiting(pull("orders", 1), 3_600_000), LONG).await.unwrap()
    });
    while !held.is_finished() {
        at.cluster.clock().advance(Duration::from_secs(60));
        tokio::task::yield_now().await;
    }
    let (code, reply) = held.await.unwrap();
    assert_eq!((code, reply.next_begin_offset.get()), (ResponseCode::PULL_NOT_FOUND, 1));
    at.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn stopping_answers_pulls_that_wait() {
    let at = start().await;
    at.send(message("orders", "first")).await.unwrap();
    let connection = at.connection.clone();
    let request = waiting(pull("orders", 1), 3_600_000);
    let held = tokio::spawn(async move { connection.call_coded(&request, LONG).await });
    // Answered after the pull was taken, since a connection is served in order.
    tokio::task::yield_now().await;
    at.connection
        .call(&GetMaxOffset { topic: "orders".into(), queue_id: QueueId::ZERO }, LONG)
        .await
        .unwrap();
    at.cluster.shutdown().await.unwrap();
    match held.await.unwrap() {
        Ok((code, _)) => assert_eq!(code, ResponseCode::PULL_NOT_FOUND),
        Err(error) => assert!(matches!(error, RequestError::Closed { .. }), "{error}"),
    }
}

#[tokio::test]
async fn offsets_outside_the_queue_are_moved_into_it() {
    let at = start().await;
    at.send(message("orders", "only")).await.unwrap();
    let (code, reply) = at.pull(pull("orders", 100)).await;
    assert_eq!((code, reply.next_begin_offset.get()), (ResponseCode::PULL_OFFSET_MOVED, 1));
    let (code, reply) = at.pull(pull("orders", -5)).await;
    assert_eq!((code, reply.next_begin_offset.get()), (ResponseCode::PULL_OFFSET_MOVED, 0));
    let untouched = PullMessage { queue_id: QueueId::new(1), ..pull("orders", 0) };
    assert_eq!(at.pull(untouched).await.0, ResponseCode::PULL_NOT_FOUND);
    let untouched = PullMessage { queue_id: QueueId::new(1), ..pull("orders", 9) };
    let (code, reply) = at.pull(untouched).await;
    assert_eq!((code, reply.next_begin_offset.get()), (ResponseCode::PULL_OFFSET_MOVED, 0));
    at.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_pull_without_subscription_goes_by_the_heartbeat() {
    let at = start().await;
    at.send(message("orders", "x")).await.unwrap();
    let by_heartbeat =
        |version| PullMessage { sys_flag: 0, subscription_version: version, ..pull("orders", 0) };
    let refused = |error: RequestError| error.response_code().unwrap();
    let error = at.connection.call(&by_heartbeat(0), LONG).await.unwrap_err();
    assert_eq!(refused(error), ResponseCode::SUBSCRIPTION_NOT_EXIST);
    let data = HeartbeatData {
        client_id: "me".to_owned(),
        consumer_data_set: vec![ConsumerData {
            group_name: "consumers".to_owned(),
            subscription_data_set: vec![SubscriptionData::parse("orders", "A", 5)],
            ..ConsumerData::default()
        }],
        ..HeartbeatData::default()
    };
    at.connection.call(&Heartbeat { data }, LONG).await.unwrap();
    let error = at.connection.call(&by_heartbeat(6), LONG).await.unwrap_err();
    assert_eq!(refused(error), ResponseCode::SUBSCRIPTION_NOT_LATEST);
    assert_eq!(at.pull(by_heartbeat(5)).await.0, ResponseCode::SUCCESS);
    let ids = at
        .connection
        .call(&GetConsumerListByGroup { consumer_group: "consumers".into() }, LONG)
        .await
        .unwrap();
    assert_eq!(ids.consumers.consumer_id_list, ["me"]);
    at.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn group_offsets_are_kept_over_a_restart_and_unknown_is_told_from_zero() {
    let dir = tempfile::tempdir().unwrap();
    let at = start_with(Standalone::builder().store(dir.path())).await;
    at.send(message("orders", "x")).await.unwrap();
    let ask = |group: &'static str, zero| QueryConsumerOffset {
        consumer_group: group.into(),
        topic: "orders".into(),
        queue_id: QueueId::ZERO,
        set_zero_if_not_found: zero,
    };
    assert_eq!(at.connection.call(&ask("young", None), LONG).await.unwrap().offset.get(), 0);
    let unknown = at.connection.call(&ask("young", Some(false)), LONG).await.unwrap_err();
    assert_eq!(unknown.response_code(), Some(ResponseCode::QUERY_NOT_FOUND));
    let commit = UpdateConsumerOffset {
        consumer_group: "consumers".into(),
        topic: "orders".into(),
        queue_id: QueueId::ZERO,
        commit_offset: QueueOffset::new(1),
    };
    at.connection.call(&commit, LONG).await.unwrap();
    at.cluster.shutdown().await.unwrap();

    let at = start_with(Standalone::builder().store(dir.path())).await;
    assert_eq!(at.connection.call(&ask("consumers", None), LONG).await.unwrap().offset.get(), 1);
    assert_eq!(messages(at.pull(pull("orders", 0)).await.1)[0].body, "x");
    assert_eq!(at.send(message("orders", "y")).await.unwrap().queue_offset.get(), 1);
    at.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_topic_is_in_the_route_when_its_first_send_is_answered() {
    let at = start().await;
    at.send(message("orders", "x")).await.unwrap();
    let names = at.connector.connect(&at.cluster.name_server_addr()).await.unwrap();
    let route = GetRouteInfo { topic: "orders".into(), accept_standard_json_only: None };
    let route = names.call(&route, LONG).await.unwrap().route.route;
    assert_eq!((route.queue_datas[0].write_queue_nums, route.queue_datas[0].perm.get()), (4, 6));
    assert_eq!(route.broker_datas[0].broker_addrs[&0], at.cluster.broker().advertised_addr());
    at.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_message_waits_for_the_disk_when_told_to() {
    let at = start_with(Standalone::builder().set("flushDiskType", "SYNC_FLUSH").unwrap()).await;
    let sends = (0..50).map(|n| {
        let connection = at.connection.clone();
        tokio::spawn(async move { connection.call(&message("orders", format!("{n}")), LONG).await.unwrap() })
    });
    let mut offsets = Vec::new();
    for send in sends.collect::<Vec<_>>() {
        offsets.push(send.await.unwrap().queue_offset.get());
    }
    offsets.sort_unstable();
    assert_eq!(offsets, (0..50).collect::<Vec<_>>());
    at.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_topic_name_that_breaks_the_rules_is_refused_with_value_and_limit() {
    let at = start().await;
    let long = "t".repeat(128);
    let (code, remark) = at.refused(message(&long, "x")).await;
    assert_eq!(code, ResponseCode::INVALID_PARAMETER);
    assert!(remark.contains(&long) && remark.contains("127"), "{remark}");
    let (code, remark) = at.refused(message("or ders", "x")).await;
    assert_eq!(code, ResponseCode::INVALID_PARAMETER);
    assert!(remark.contains("\"or ders\"") && remark.contains("' '"), "{remark}");
    let (code, remark) = at.refused(message("SCHEDULE_TOPIC_XXXX", "x")).await;
    assert_eq!(code, ResponseCode::NO_PERMISSION);
    assert!(remark.contains("SCHEDULE_TOPIC_XXXX"), "{remark}");
    at.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_body_over_the_limit_or_none_is_refused_with_value_and_limit() {
    let at = start_with(Standalone::builder().set("maxMessageSize", "1000").unwrap()).await;
    at.send(message("orders", vec![0; 1000])).await.unwrap();
    let (code, remark) = at.refused(message("orders", vec![0; 1001])).await;
    assert_eq!(code, ResponseCode::MESSAGE_ILLEGAL);
    assert!(remark.contains("1001") && remark.contains("1000"), "{remark}");
    let (code, remark) = at.refused(message("orders", "")).await;
    assert_eq!(code, ResponseCode::MESSAGE_ILLEGAL);
    assert!(remark.contains("0 bytes"), "{remark}");
    let properties = Some(ByteString::from(format!("a\u{1}{}\u{2}", "x".repeat(32_760))));
    let (code, remark) = at.refused(SendMessage { properties, ..message("orders", "x") }).await;
    assert_eq!(code, ResponseCode::MESSAGE_ILLEGAL);
    assert!(remark.contains("32767"), "{remark}");
    at.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_is_not_supported_is_refused_and_never_done_by_halves() {
    let at = start().await;
    let error = at.connection.call(&GetClusterInfo {}, LONG).await.unwrap_err();
    assert_eq!(error.response_code(), Some(ResponseCode::REQUEST_CODE_NOT_SUPPORTED));
    assert!(error.to_string().contains("106"), "{error}");
    at.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_unknown_topic_is_refused_where_topics_are_not_created_by_sending() {
    let at = start_with(Standalone::builder().set("autoCreateTopicEnable", "false").unwrap()).await;
    let error = at.send(message("orders", "x")).await.unwrap_err();
    assert_eq!(error.response_code(), Some(ResponseCode::TOPIC_NOT_EXIST));
    assert!(
        error.to_string().contains("orders") && error.to_string().contains("autoCreateTopicEnable"),
        "{error}"
    );
    let create = CreateTopic {
        topic: "orders".into(),
        default_topic: "TBW102".into(),
        read_queue_nums: 2,
        write_queue_nums: 2,
        perm: 6,
        topic_filter_type: "SINGLE_TAG".into(),
        topic_sys_flag: None,
        order: false,
        attributes: None,
        force: None,
    };
    at.connection.call(&create, LONG).await.unwrap();
    at.send(message("orders", "x")).await.unwrap();
    let (code, remark) = at.refused_queue(QueueId::new(2)).await;
    assert_eq!(code, ResponseCode::INVALID_PARAMETER);
    assert!(remark.contains("queueId 2") && remark.contains("2 queues"), "{remark}");
    at.cluster.shutdown().await.unwrap();
}

impl Fixture {
    async fn refused_queue(&self, queue_id: QueueId) -> (ResponseCode, String) {
        let error = self.send(SendMessage { queue_id, ..message("orders", "x") }).await.unwrap_err();
        let RequestError::Refused { code, remark, .. } = error else { panic!("{error}") };
        (code, remark.unwrap())
    }
}

#[tokio::test]
async fn a_full_disk_refuses_sends_with_path_and_numbers_and_goes_on_reading() {
    let at = start_with(Standalone::builder().set("mappedFileSizeCommitLog", "65536").unwrap()).await;
    at.send(message("orders", "before")).await.unwrap();
    at.cluster.broker().disk().set_full(true);
    let mut stored = 1;
    let error = loop {
        match at.send(message("orders", vec![b'x'; 4096])).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 1000, "the disk never fills up");
    };
    assert_eq!(error.response_code(), Some(ResponseCode::SERVICE_NOT_AVAILABLE));
    assert!(error.to_string().contains("65536") && error.to_string().contains("commitlog"), "{error}");
    assert_eq!(messages(at.pull(pull("orders", 0)).await.1)[0].body, "before");
    at.cluster.broker().disk().set_full(false);
    assert_eq!(at.send(message("orders", "after")).await.unwrap().queue_offset.get(), stored);
    at.cluster.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_missing_field_is_named() {
    let at = start().await;
    // A heartbeat is no send, but its fields are those of one: none.
    let mut stream = tokio::net::TcpStream::connect(at.cluster.broker().local_addr()).await.unwrap();
    let mut out = Vec::new();
    let frame = rocketmq_protocol::Frame {
        code: 310,
        language: rocketmq_protocol::Language::JAVA,
        version: rocketmq_protocol::Version::CURRENT,
        opaque: rocketmq_protocol::Opaque::new(9),
        flag: 0,
        remark: None,
        fields: [("a", "g"), ("b", "orders"), ("e", "many")].into_iter().collect(),
        body: Bytes::from_static(b"x"),
        encoding: Encoding::Json,
    };
    frame.encode(&mut out, 1 << 20).unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, &out).await.unwrap();
    let mut buffer = bytes::BytesMut::new();
    let mut decoder = rocketmq_protocol::FrameDecoder::new(1 << 20);
    let answer = loop {
        if let Some(answer) = decoder.decode(&mut buffer).unwrap() {
            break answer;
        }
        assert_ne!(tokio::io::AsyncReadExt::read_buf(&mut stream, &mut buffer).await.unwrap(), 0);
    };
    assert_eq!((answer.response_code(), answer.encoding), (ResponseCode::INVALID_PARAMETER, Encoding::Json));
    let remark = answer.remark.unwrap();
    assert!(remark.contains("\"e\"") && remark.contains("\"many\""), "{remark}");
    at.cluster.shutdown().await.unwrap();
}
