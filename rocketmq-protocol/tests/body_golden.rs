//! Bodies printed by the Java classes: read, compared, and printed again as the same text.
#![allow(clippy::unwrap_used)] // clippy.toml exempts test functions, not what they call

use std::collections::BTreeMap;

use rocketmq_protocol::QueueOffset;
use rocketmq_protocol::body::*;
use rocketmq_protocol::json::{self, JsonStyle};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn cases() -> Vec<Value> {
    let golden: Value = serde_json::from_str(include_str!("golden/bodies.json")).unwrap();
    golden["cases"].as_array().unwrap().clone()
}

fn case(name: &str) -> Value {
    cases().into_iter().find(|case| case["name"] == name).unwrap()
}

fn read<T: DeserializeOwned>(name: &str) -> T {
    json::from_slice(case(name)["json"].as_str().unwrap().as_bytes()).unwrap()
}

/// Reads and prints; the text must come out the same.
fn unchanged<T: DeserializeOwned + Serialize>(text: &str) -> Result<(), String> {
    let body: T = json::from_slice(text.as_bytes()).map_err(|error| format!("{error:?}"))?;
    let printed = json::to_string(&body, JsonStyle::Fastjson).unwrap();
    if printed == text || (printed.len() == text.len() && value(&printed) == value(text)) {
        Ok(()) // members of Java's hash maps come in no particular order
    } else {
        Err(format!("printed {printed}\ninstead of {text}"))
    }
}

fn value(text: &str) -> Value {
    json::from_slice(text.as_bytes()).unwrap()
}

#[test]
fn every_body_is_printed_as_java_prints_it() {
    let mut checked = 0;
    for case in cases() {
        let name = case["name"].as_str().unwrap();
        let (Some(text), Some(class)) = (case["json"].as_str(), case["class"].as_str()) else { continue };
        let check = match class {
            "HeartbeatData" => unchanged::<HeartbeatData>,
            "SubscriptionData" => unchanged::<SubscriptionData>,
            "TopicRouteData" if name == "topic_route_order_conf_and_mapping" => continue, // has a test of its own
            "TopicRouteData" => unchanged::<TopicRouteData>,
            "ClusterInfo" => unchanged::<ClusterInfo>,
            "DataVersion" => unchanged::<DataVersion>,
            "TopicConfig" => unchanged::<TopicConfig>,
            "TopicConfigSerializeWrapper" => unchanged::<TopicConfigSerializeWrapper>,
            "TopicConfigAndMappingSerializeWrapper" => unchanged::<TopicConfigAndMappingSerializeWrapper>,
            "RegisterBrokerBody" => unchanged::<RegisterBrokerBody>,
            "SubscriptionGroupConfig" => unchanged::<SubscriptionGroupConfig>,
            "SubscriptionGroupWrapper" => unchanged::<SubscriptionGroupWrapper>,
            "LockBatchRequestBody" | "UnlockBatchRequestBody" => unchanged::<LockBatchRequest>,
            "LockBatchResponseBody" => unchanged::<LockBatchResponse>,
            "GetConsumerListByGroupResponseBody" => unchanged::<ConsumerListByGroup>,
            "ConsumerOffsetSerializeWrapper" => unchanged::<ConsumerOffsetWrapper>,
            "ConsumeStats" => unchanged::<ConsumeStats>,
            "TopicStatsTable" => unchanged::<TopicStats>,
            "ResetOffsetBody" => unchanged::<ResetOffsetBody>,
            "ResetOffsetBodyForC" => unchanged::<ResetOffsetBodyForC>,
            "GetConsumerStatusBody" => unchanged::<ConsumerStatus>,
            "TopicList" => unchanged::<TopicList>,
            "GroupList" => unchanged::<GroupList>,
            "KVTable" => unchanged::<KvTable>,
            "ConsumerConnection" => unchanged::<ConsumerConnection>,
            "ProducerConnection" => unchanged::<ProducerConnection>,
            "ConsumerRunningInfo" => unchanged::<ConsumerRunningInfo>,
            "ConsumeMessageDirectlyResult" => unchanged::<ConsumeMessageDirectlyResult>,
            "GetBrokerMemberGroupResponseBody" => unchanged::<BrokerMemberGroupBody>,
            "CheckClientRequestBody" => unchanged::<CheckClientRequest>,
            "MessageQueue" => unchanged::<MessageQueue>,
            // Bodies without a struct: the reader must manage their text all the same.
            _ => |text: &str| json::from_slice::<Value>(text.as_bytes()).map(drop).map_err(|e| e.to_string()),
        };
        if let Err(difference) = check(text) {
            panic!("{name}: {difference}");
        }
        checked += 1;
    }
    assert!(checked > 50, "{checked}");
}

#[test]
fn text_of_older_releases_reads_as_the_same_value() {
    let mut compared = 0;
    for case in cases() {
        if let (Some(new), Some(old)) = (case["json"].as_str(), case["jsonFastjson1"].as_str()) {
            assert_eq!(value(old), value(new), "{}", case["name"]);
            compared += 1;
        }
    }
    assert!(compared > 0);
}

#[test]
fn a_route_is_printed_in_the_style_the_client_reads() {
    let route: TopicRouteData = read("topic_route_default_encoding");
    for (name, style) in [
        ("topic_route_default_encoding", JsonStyle::Fastjson),
        ("topic_route_standard_json", JsonStyle::Standard),
        ("topic_route_standard_json_fastjson1", JsonStyle::Standard),
    ] {
        assert_eq!(read::<TopicRouteData>(name), route);
        assert_eq!(json::to_string(&route, style).unwrap(), case(name)["json"].as_str().unwrap());
    }
    assert_eq!(route.broker_datas[0].master_addr(), Some("10.0.0.1:10911"));
}

#[test]
fn a_route_keeps_its_order_configuration_and_skips_static_topics() {
    let route: TopicRouteData = read("topic_route_order_conf_and_mapping");
    assert_eq!(route.order_topic_conf.as_deref(), Some("broker-a:8"));
    let plain = TopicRouteData { order_topic_conf: None, ..route };
    assert_eq!(plain, read("topic_route_default_encoding"));
}

#[test]
fn a_heartbeat_of_go_or_4_9_reads_with_defaults() {
    let text = r#"{"clientID":"c","consumerDataSet":[{"groupName":"g","subscriptionDataSet":[{"topic":"T"}]}],
        "producerDataSet":null, "unknown":{0:1}}"#;
    let heartbeat: HeartbeatData = json::from_slice(text.as_bytes()).unwrap();
    assert_eq!(heartbeat.client_id, "c");
    assert_eq!(heartbeat.consumer_data_set[0].subscription_data_set[0].topic, "T");
    assert!(heartbeat.producer_data_set.is_empty() && !heartbeat.without_sub);
}

/// As `src/protocol/heartbeat/ConsumerData.hpp` and `src/protocol/ConsumerRunningInfo.cpp` of the C++ client print.
#[test]
fn bodies_of_the_cpp_client_are_read() {
    let text = r#"{"clientID":"c","consumerDataSet":[{"consumeFromWhere":4,"consumeType":0,"groupName":"g","messageModel":0,
        "subscriptionDataSet":[{"codeSet":[42],"subString":"*","subVersion":"1700000000000","topic":"T"}]}]}
"#;
    let heartbeat: HeartbeatData = json::from_slice(text.as_bytes()).unwrap();
    let group = &heartbeat.consumer_data_set[0];
    assert_eq!(group.consume_from_where, ConsumeFromWhere::FirstOffset);
    assert_eq!(group.consume_type, ConsumeType::Actively);
    assert_eq!(group.message_model, MessageModel::Broadcasting);
    assert_eq!(group.subscription_data_set[0].sub_version, 1_700_000_000_000);

    let text = "{\"mqTable\":{{\n\t\"brokerName\" : \"b\",\n\t\"queueId\" : 0,\r\n\t\"topic\" : \"T\"\n}:{\n\t\"commitOffset\" : \"5\"\n}},\"jstack\":\"\"}";
    let info: ConsumerRunningInfo = json::from_slice(text.as_bytes()).unwrap();
    assert_eq!(info.mq_table[&MessageQueue::new("T", "b", 0)].commit_offset, QueueOffset::new(5));
}

#[test]
fn the_fingerprint_is_javas_and_ignores_client_and_versions() {
    let golden = case("heartbeat_fingerprint");
    let mut heartbeat: HeartbeatData = read("heartbeat_fingerprint");
    assert_eq!(Value::from(heartbeat.fingerprint().unwrap()), golden["fingerprint"]);
    heartbeat.client_id = "another".to_owned();
    heartbeat.consumer_data_set[0].subscription_data_set[0].sub_version += 1;
    heartbeat.heartbeat_fingerprint = 1;
    assert_eq!(Value::from(heartbeat.fingerprint().unwrap()), golden["fingerprint"]);
}

#[test]
fn a_deflated_registration_of_java_reads_and_is_written_alike() {
    let golden = case("register_broker_body_compressed");
    let body = RegisterBrokerBody::decode(&unhex(golden["hex"].as_str().unwrap())).unwrap();
    let plain: RegisterBrokerBody = read("register_broker_body_plain");
    let wrapper = &body.topic_config_serialize_wrapper;
    assert_eq!(wrapper.data_version, plain.topic_config_serialize_wrapper.data_version);
    assert_eq!(wrapper.topic_config_table, plain.topic_config_serialize_wrapper.topic_config_table);

    let mut inflated = Vec::new();
    let written = body.encode_compressed().unwrap();
    std::io::Read::read_to_end(&mut flate2::read::ZlibDecoder::new(&written[..]), &mut inflated).unwrap();
    assert_eq!(inflated, unhex(golden["inflatedHex"].as_str().unwrap()));
}

#[test]
fn a_body_keyed_by_queue_is_found_by_queue() {
    let body: ResetOffsetBody = read("reset_offset_body");
    let queue = MessageQueue::new("TopicTest", "broker-a", 0);
    assert_eq!(body.offset_table.get(&queue), Some(&QueueOffset::new(123)));
    let offsets: ConsumerOffsetWrapper = read("consumer_offset_wrapper");
    let by_queue = BTreeMap::from([(0.into(), 100.into()), (1.into(), 200.into())]);
    assert_eq!(offsets.offset_table["TopicTest@cg"], by_queue);
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().map(|c| c.to_digit(16).unwrap()).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}
