//! Messages, properties, batches and ids against bytes that Apache RocketMQ wrote: `golden/README.md`.
#![allow(clippy::unwrap_used)] // clippy.toml exempts test functions, not what they call

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use bytes::Bytes;
use rocketmq_protocol::message::{
    Compression, CompressionError, MessageError, NewMessage, OffsetMessageId, Properties, PropertiesRef,
    StoredMessage, StoredMessageRef, StoredMessages, SysFlag, UniqueKeyGenerator, batch, java_string_hash,
    stored, tag_hash,
};
use serde_json::Value;

fn cases(file: &str) -> Vec<Value> {
    let mut golden: Value = serde_json::from_str(file).unwrap();
    serde_json::from_value(golden["cases"].take()).unwrap()
}

fn named<'a>(cases: &'a [Value], name: &str) -> impl Iterator<Item = &'a Value> {
    cases.iter().filter(move |case| case["name"] == name)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn int(value: &Value) -> i64 {
    value.as_i64().unwrap()
}

fn unhex(value: &Value) -> Bytes {
    let digits = text(value).as_bytes();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// The record of a case, with the CRC that a broker writes.
fn record_of(case: &Value) -> Bytes {
    let bytes = unhex(&case["hex"]);
    if case["name"] != CRC_OF_PLAIN_BODY {
        return bytes;
    }
    [&bytes[..8], &0x5e22_619c_u32.to_be_bytes(), &bytes[12..]].concat().into()
}

/// Java prints IPv6 addresses without brackets and without `::`.
fn host(value: &Value) -> SocketAddr {
    let (ip, port) = text(value).rsplit_once(':').unwrap();
    SocketAddr::new(ip.parse().unwrap(), port.parse().unwrap())
}

fn pairs(value: &Value) -> BTreeMap<String, String> {
    let pairs: BTreeMap<String, Option<String>> = serde_json::from_value(value.clone()).unwrap();
    pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn read(properties: PropertiesRef<'_>) -> BTreeMap<String, String> {
    let read: BTreeMap<_, _> =
        properties.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    for (name, value) in &read {
        assert_eq!(properties.get(name), Some(value.as_str()));
    }
    read
}

/// Its CRC is that of the body before compression, because its writer is not a broker's.
const CRC_OF_PLAIN_BODY: &str = "v1_compressed_legacy_zlib_no_type_bits";

fn messages() -> Vec<Value> {
    let cases = cases(include_str!("golden/messages.json"));
    cases.into_iter().filter(|case| case["decoded"].is_object()).collect()
}

#[test]
fn every_field_of_a_record_reads_as_java_reads_it() {
    for case in messages() {
        let name = text(&case["name"]);
        let (decoded, bytes) = (&case["decoded"], unhex(&case["hex"]));
        let record = StoredMessageRef::parse(&bytes).unwrap();

        assert_eq!(record.topic(), text(&decoded["topic"]), "{name}");
        assert_eq!(i64::from(record.queue_id().get()), int(&decoded["queueId"]), "{name}");
        assert_eq!(i64::from(record.flag()), int(&decoded["flag"]), "{name}");
        assert_eq!(record.queue_offset().get(), int(&decoded["queueOffset"]), "{name}");
        assert_eq!(record.physical_offset().get(), int(&decoded["physicalOffset"]), "{name}");
        assert_eq!(i64::from(record.sys_flag().get()), int(&case["sysFlagOnWire"]), "{name}");
        assert_eq!(record.born_timestamp(), int(&decoded["bornTimestamp"]), "{name}");
        assert_eq!(record.born_host(), host(&decoded["bornHost"]), "{name}");
        assert_eq!(record.store_timestamp(), int(&decoded["storeTimestamp"]), "{name}");
        assert_eq!(record.store_host(), host(&decoded["storeHost"]), "{name}");
        assert_eq!(i64::from(record.reconsume_times()), int(&decoded["reconsumeTimes"]), "{name}");
        let prepared = record.prepared_transaction_offset().get();
        assert_eq!(prepared, int(&decoded["preparedTransactionOffset"]), "{name}");
        assert_eq!(i64::from(record.body_crc()), int(&decoded["bodyCRC"]), "{name}");
        assert_eq!(record.total_size() as i64, int(&decoded["storeSize"]), "{name}");
        assert_eq!(read(record.properties()), pairs(&decoded["properties"]), "{name}");
        assert_eq!(record.tag_hash(), record.properties().get("TAGS").map_or(0.into(), tag_hash), "{name}");
        assert_eq!(record.crc_matches(), name != CRC_OF_PLAIN_BODY, "{name}");

        let id = record.offset_message_id();
        assert_eq!(id.to_string(), text(&decoded["msgId"]), "{name}");
        assert_eq!(text(&decoded["msgId"]).parse::<OffsetMessageId>().unwrap(), id, "{name}");
    }
}

#[test]
fn a_decoded_record_encodes_to_the_same_bytes() {
    for case in messages() {
        let bytes = record_of(&case);
        let mut left = bytes.clone();
        let message = StoredMessage::decode(&mut left).unwrap().unwrap();
        assert!(left.is_empty());
        let mut again = Vec::new();
        assert_eq!(message.encode(&mut again).unwrap(), bytes.len());
        assert_eq!(again, bytes, "{}", text(&case["name"]));
    }
}

#[test]
fn a_new_message_patched_into_its_place_is_the_record_java_writes() {
    for case in messages() {
        let bytes = record_of(&case);
        let record = StoredMessageRef::parse(&bytes).unwrap();
        let new = NewMessage {
            topic: record.topic(),
            queue_id: record.queue_id(),
            flag: record.flag(),
            sys_flag: record.sys_flag().without(SysFlag::BORN_HOST_V6).without(SysFlag::STORE_HOST_V6),
            born_timestamp: record.born_timestamp(),
            born_host: record.born_host(),
            store_host: record.store_host(),
            reconsume_times: record.reconsume_times(),
            prepared_transaction_offset: record.prepared_transaction_offset(),
            body: record.body(),
            properties: &[record.properties()],
        };
        let mut out = Vec::new();
        new.encode(&mut out).unwrap();
        stored::patch(&mut out, record.queue_offset(), record.physical_offset(), record.store_timestamp());
        assert_eq!(out, bytes, "{}", text(&case["name"]));
    }
}

#[test]
fn bodies_decompress_to_what_java_compressed() {
    for case in messages() {
        let decoded = &case["decoded"];
        let message = StoredMessage::decode(&mut unhex(&case["hex"])).unwrap().unwrap();
        let compression = message.sys_flag.compression().unwrap();
        let opened = message.decompressed(4 << 20);
        if compression == Some(Compression::Zstd) && !cfg!(feature = "zstd") {
            assert!(matches!(opened, Err(CompressionError::NoZstd)));
            continue;
        }
        let opened = opened.unwrap();
        let body = &decoded["bodyHexAfterDecompress"]; // null when empty
        let body = if body.is_null() { Bytes::new() } else { unhex(body) };
        assert_eq!(opened.body, body, "{}", text(&case["name"]));
        assert_eq!(i64::from(opened.sys_flag.get()), int(&decoded["sysFlag"]), "{}", text(&case["name"]));
    }
}

#[test]
fn an_inner_batch_comes_apart_into_messages_with_offsets_of_their_own() {
    let cases = messages();
    let case = named(&cases, "v1_inner_batch").next().unwrap();
    let message = StoredMessage::decode(&mut unhex(&case["hex"])).unwrap().unwrap();
    let singles: Vec<_> = message.clone().unwrapped().map(Result::unwrap).collect();
    assert_eq!(singles.len(), 2);
    for (single, offset) in singles.iter().zip(1234..) {
        assert_eq!(single.queue_offset.get(), offset);
        assert_eq!((&single.topic, single.queue_id), (&message.topic, message.queue_id));
        assert_eq!(single.sys_flag, SysFlag::NONE);
        assert_eq!(single.properties.get("INNER_NUM"), None);
        assert!(single.clone().unwrapped().map(Result::unwrap).eq([single.clone()]));
    }
}

#[test]
fn a_pulled_body_reads_message_by_message() {
    let cases = cases(include_str!("golden/messages.json"));
    let case = named(&cases, "pull_body_three_messages").next().unwrap();
    let messages: Vec<_> = StoredMessages::new(unhex(&case["hex"])).map(Result::unwrap).collect();
    let expected = case["decodedList"].as_array().unwrap();
    assert_eq!(messages.len(), expected.len());
    for (message, expected) in messages.iter().zip(expected) {
        assert_eq!(message.properties.get("UNIQ_KEY"), Some(text(&expected["msgId_clientView"])));
        assert_eq!(message.offset_message_id().to_string(), text(&expected["offsetMsgId"]));
        assert_eq!(message.queue_offset.get(), int(&expected["queueOffset"]));
        assert_eq!(message.body, text(&expected["body"]));
    }
}

#[test]
fn properties_read_as_java_reads_them() {
    let cases = cases(include_str!("golden/properties.json"));
    for case in named(&cases, "decode_tolerance") {
        let bytes = unhex(&case["hex"]);
        assert_eq!(read(PropertiesRef::new(&bytes)), pairs(&case["decoded"]), "{case}");
    }
    for case in named(&cases, "encode") {
        let bytes = unhex(&case["hex"]);
        assert_eq!(read(PropertiesRef::new(&bytes)), pairs(&case["decodedBack"]), "{case}");
        let set = pairs(&case["properties"]);
        let builder =
            set.iter().fold(Properties::builder(), |builder, (name, value)| builder.set(name, value));
        let built = builder.build().unwrap();
        assert_eq!(read(built.as_ref()), pairs(&case["decodedBack"]), "{case}");
        if set.values().all(|value| !value.is_empty()) {
            let sorted = |bytes: &[u8]| {
                let mut pairs: Vec<_> =
                    bytes.split_inclusive(|&byte| byte == 2).map(<[u8]>::to_vec).collect();
                pairs.sort();
                pairs
            };
            assert_eq!(sorted(built.encoded().as_bytes()), sorted(&bytes), "{case}");
        }
    }
}

#[test]
fn tags_hash_as_in_java() {
    let cases = cases(include_str!("golden/properties.json"));
    for case in named(&cases, "tag_hash_code") {
        let tag = text(&case["tag"]);
        assert_eq!(i64::from(java_string_hash(tag)), int(&case["hashCode"]), "{tag}");
        assert_eq!(tag_hash(tag).get(), int(&case["tagsCode"]), "{tag}");
    }
}

#[test]
fn batches_read_and_write_as_in_java() {
    for case in cases(include_str!("golden/batch.json")) {
        let bytes = unhex(&case["hex"]);
        let entries: Vec<_> = batch::entries(&bytes).collect::<Result<_, MessageError>>().unwrap();
        let expected = case["messages"].as_array().unwrap();
        assert_eq!(entries.len(), expected.len());
        let mut again = Vec::new();
        for (entry, expected) in entries.iter().zip(expected) {
            assert_eq!(i64::from(entry.flag), int(&expected["flag"]));
            assert_eq!(entry.body, unhex(&expected["bodyHex"]));
            assert_eq!(read(entry.properties), pairs(&expected["properties"]));
            entry.encode(&mut again).unwrap();
        }
        assert_eq!(again, bytes);
    }
}

#[test]
fn unique_keys_are_laid_out_as_in_java() {
    for case in cases(include_str!("golden/uniqid.json")) {
        let mut fixed = unhex(&case["fixedPartHex"]);
        let address = fixed.split_to(fixed.len() - 6);
        let address = match <[u8; 4]>::try_from(&address[..]) {
            Ok(ip) => IpAddr::from(ip),
            Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(&address[..]).unwrap()).into(),
        };
        let instance = u32::from_be_bytes(fixed[2..].try_into().unwrap());
        let generator = UniqueKeyGenerator::new(address, int(&case["decodedPid"]) as u32, instance);
        let now = int(&case["monthStartMillis"]) + int(&case["millisSinceMonthStart"]);
        for _ in 0..int(&case["counterBefore"]) {
            generator.next(now);
        }
        assert_eq!(generator.next(now), text(&case["uniqId"]));
    }
}
