//! Frames written by the Java classes, and requests that Java programs sent. See `golden/README.md`.

#![allow(clippy::unwrap_used, clippy::panic)] // clippy.toml exempts test functions, not what they call

use std::collections::BTreeMap;

use bytes::BytesMut;
use rocketmq_protocol::request::{Payload, Request};
use rocketmq_protocol::requests::*;
use rocketmq_protocol::{
    ByteString, Encoding, Frame, FrameDecoder, Language, MAX_FRAME_BYTES, Opaque, Version,
};
use serde_json::Value;

fn cases(file: &str) -> Vec<Value> {
    let text = std::fs::read(format!("{}/tests/golden/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let file: Value = serde_json::from_slice(&text).unwrap();
    file["cases"].as_array().unwrap().clone()
}

fn unhex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap().as_bytes();
    text.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn decode(bytes: &[u8]) -> Frame {
    let mut buffer = BytesMut::from(bytes);
    let frame = FrameDecoder::new(MAX_FRAME_BYTES).decode(&mut buffer).unwrap().unwrap();
    assert!(buffer.is_empty());
    frame
}

/// The fields, in any order. Java reads an empty value of the compact encoding as absent.
fn fields(frame: &Frame) -> BTreeMap<String, String> {
    let pairs =
        frame.fields.iter().map(|(name, value)| (name.to_owned(), value.as_str().unwrap().to_owned()));
    pairs.filter(|(_, value)| frame.encoding == Encoding::Json || !value.is_empty()).collect()
}

fn told_fields(value: &Value) -> BTreeMap<String, String> {
    let told = value.as_object().into_iter().flatten();
    told.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

#[test]
fn frames_of_java_decode_to_its_values_and_encode_to_its_bytes() {
    let cases = cases("frames.json");
    assert_eq!(cases.len(), 46);
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let forms = [Some(&case["hex"]), case.get("hexSlowPath")];
        for bytes in forms.into_iter().flatten().map(unhex) {
            let frame = decode(&bytes);
            let told = &case["decoded"];
            assert_eq!(i64::from(frame.code), told["code"].as_i64().unwrap(), "{name}");
            assert_eq!(frame.language.name(), told["language"].as_str(), "{name}");
            assert_eq!(i64::from(frame.version.get()), told["version"].as_i64().unwrap(), "{name}");
            assert_eq!(i64::from(frame.opaque.get()), told["opaque"].as_i64().unwrap(), "{name}");
            assert_eq!(i64::from(frame.flag), told["flag"].as_i64().unwrap(), "{name}");
            assert_eq!(frame.is_response(), told["isResponse"].as_bool().unwrap(), "{name}");
            assert_eq!(frame.is_oneway(), told["isOneway"].as_bool().unwrap(), "{name}");
            assert_eq!(frame.remark.as_deref(), told["remark"].as_str(), "{name}");
            assert_eq!(fields(&frame), told_fields(&told["extFields"]), "{name}");
            let body = told["bodyHex"].as_str().map(|_| unhex(&told["bodyHex"])).unwrap_or_default();
            assert_eq!(frame.body, body, "{name}");

            let mut out = Vec::new();
            frame.encode(&mut out, MAX_FRAME_BYTES).unwrap();
            if name == "request_extfields_present_but_empty_map/JSON" {
                // An empty object of fields is not kept apart from none.
                assert_eq!(decode(&out), frame);
            } else {
                assert_eq!(out, bytes, "{name}");
            }
        }
    }
}

/// Reads a request, writes it again from its declaration, and compares the fields.
fn rewritten<R: Request + PartialEq>(frame: &Frame) -> R {
    let request = R::read(frame).unwrap_or_else(|error| panic!("{}: {error}", frame.request_code()));
    let shape = rocketmq_protocol::request::RequestShape {
        opaque: frame.opaque,
        oneway: frame.is_oneway(),
        encoding: frame.encoding,
        max_frame: MAX_FRAME_BYTES,
    };
    let mut out = Vec::new();
    let body = request.body();
    rocketmq_protocol::request::encode_request(&mut out, &request, &shape, body.len()).unwrap();
    body.iter().for_each(|segment| out.extend_from_slice(segment));
    let again = decode(&out);
    assert_eq!(R::read(&again).unwrap(), request);
    for (name, value) in fields(&again) {
        let read = frame.fields.get(&name).map(|value| value.as_str().unwrap().to_owned());
        assert_eq!(read, Some(value), "{} {name}", frame.request_code());
    }
    request
}

#[test]
fn requests_of_java_are_read_by_their_declarations() {
    let mut read = 0;
    for case in cases("frames.json") {
        let name = case["name"].as_str().unwrap().split('/').next().unwrap();
        let frame = decode(&unhex(&case["hex"]));
        match name {
            "request_route_by_topic" => {
                assert_eq!(rewritten::<GetRouteInfo>(&frame).topic, "TopicTest");
            }
            "request_send_v1" => {
                let request = SendMessage::read(&frame).unwrap();
                assert_eq!((&*request.topic, request.born_timestamp), ("TopicTest", 1_700_000_000_123));
                assert!(request.properties.unwrap().starts_with("KEYS\u{1}k1 k2\u{2}"));
            }
            "request_send_v2_with_body" | "request_send_v2_with_broker_name" => {
                let request = rewritten::<SendMessage>(&frame);
                assert_eq!((request.queue_id.get(), request.max_reconsume_times), (2, Some(16)));
            }
            "request_oneway_update_offset" => {
                assert_eq!(rewritten::<UpdateConsumerOffset>(&frame).commit_offset.get(), 12_345_678_901);
            }
            "request_pull" => {
                assert_eq!(rewritten::<PullMessage>(&frame).subscription.as_deref(), Some("TagA || TagB"));
            }
            "request_lite_pull_no_subscription" => {
                assert_eq!(rewritten::<LitePullMessage>(&frame).0.sys_flag, 18);
            }
            "request_search_offset_boundary" => {
                assert_eq!(rewritten::<SearchOffset>(&frame).boundary.as_deref(), Some("UPPER"));
            }
            "request_register_broker" => {
                assert_eq!(rewritten::<RegisterBroker>(&frame).body_crc32, 598_130_499);
            }
            "response_success_send" => {
                let reply = SendReply::read(&frame).unwrap();
                assert_eq!((reply.queue_id.get(), reply.queue_offset.get()), (2, 99));
            }
            "response_pull_found" => {
                assert_eq!(PullReply::read(&frame).unwrap().next_begin_offset.get(), 43);
            }
            _ => continue,
        }
        read += 1;
    }
    assert_eq!(read, 22);
}

#[test]
fn requests_that_java_programs_sent_are_read_by_their_declarations() {
    let mut read = 0;
    for case in cases("client_traffic.json") {
        let told = told_fields(&case["extFields"]);
        let body = case["bodyText"].as_str().map(|text| text.as_bytes().to_vec());
        let frame = Frame {
            code: i32::try_from(case["code"].as_i64().unwrap()).unwrap(),
            language: Language::JAVA,
            version: Version::CURRENT,
            opaque: Opaque::new(1),
            flag: i32::try_from(case["flag"].as_i64().unwrap()).unwrap(),
            remark: None,
            fields: told.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
            body: body.unwrap_or_else(|| unhex(&case["bodyHex"])).into(),
            encoding: Encoding::Json,
        };
        match frame.request_code() {
            GetRouteInfo::CODE => drop(rewritten::<GetRouteInfo>(&frame)),
            Heartbeat::CODE => {
                assert!(rewritten::<Heartbeat>(&frame).data.client_id.starts_with("192.0.2.2@"))
            }
            SendMessage::CODE => assert_eq!(rewritten::<SendMessage>(&frame).body, "hi"),
            SendBatchMessage::CODE => assert!(rewritten::<SendBatchMessage>(&frame).0.batch),
            GetConsumerListByGroup::CODE => drop(rewritten::<GetConsumerListByGroup>(&frame)),
            QueryConsumerOffset::CODE => drop(rewritten::<QueryConsumerOffset>(&frame)),
            GetMaxOffset::CODE => drop(rewritten::<GetMaxOffset>(&frame)),
            PullMessage::CODE => assert_eq!(rewritten::<PullMessage>(&frame).commit_offset.get(), -1),
            UpdateConsumerOffset::CODE => drop(rewritten::<UpdateConsumerOffset>(&frame)),
            UnregisterClient::CODE => {
                assert_eq!(
                    rewritten::<UnregisterClient>(&frame).producer_group,
                    Some(ByteString::from("pgm"))
                );
            }
            GetClusterInfo::CODE => drop(rewritten::<GetClusterInfo>(&frame)),
            GetTopicConfig::CODE => drop(rewritten::<GetTopicConfig>(&frame)),
            CreateTopic::CODE => {
                assert_eq!(
                    rewritten::<CreateTopic>(&frame).attributes.as_deref(),
                    Some("+message.type=FIFO")
                );
            }
            DeleteTopic::CODE => drop(rewritten::<DeleteTopic>(&frame)),
            DeleteTopicInNameServer::CODE => drop(rewritten::<DeleteTopicInNameServer>(&frame)),
            WipeWritePermission::CODE => drop(rewritten::<WipeWritePermission>(&frame)),
            PutKvConfig::CODE => drop(rewritten::<PutKvConfig>(&frame)),
            GetAllTopicList::CODE => drop(rewritten::<GetAllTopicList>(&frame)),
            LockBatch::CODE => assert!(!rewritten::<LockBatch>(&frame).queues.client_id.is_empty()),
            UnlockBatch::CODE => assert!(!rewritten::<UnlockBatch>(&frame).queues.mq_set.is_empty()),
            UpdateGroup::CODE => {
                assert_eq!(rewritten::<UpdateGroup>(&frame).config.retry_queue_nums, 1);
            }
            DeleteGroup::CODE => drop(rewritten::<DeleteGroup>(&frame)),
            GetConsumerConnections::CODE => drop(rewritten::<GetConsumerConnections>(&frame)),
            GetConsumeStats::CODE => drop(rewritten::<GetConsumeStats>(&frame)),
            InvokeResetOffset::CODE => drop(rewritten::<InvokeResetOffset>(&frame)),
            // Declared when the feature that needs them comes.
            _ => continue,
        }
        read += 1;
    }
    assert_eq!(read, 27);
}
