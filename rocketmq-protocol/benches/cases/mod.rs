//! What both benchmarks of the codec measure: messages of 128 bytes, pulls of 32 of them.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use rocketmq_protocol::message::{NewMessage, StoredMessages, SysFlag, stored};
use rocketmq_protocol::request::{
    Payload, ReplyShape, Request, RequestShape, Segments, encode_reply, encode_request,
};
use rocketmq_protocol::requests::{PullFlag, PullMessage, PullReply, SendMessage, SendReply};
use rocketmq_protocol::{
    Encoding, FrameDecoder, LogPosition, MAX_FRAME_BYTES, Opaque, QueueId, QueueOffset, ResponseCode,
};

/// One thing to measure: a name, and what does it once.
pub(crate) type Case = (String, Box<dyn FnMut()>);

const BODY: &[u8] = &[b'x'; 128];
const PROPERTIES: &str =
    "UNIQ_KEY\u{1}7F0000010A2B18B4AAC2000000000001\u{2}WAIT\u{1}true\u{2}TAGS\u{1}paid\u{2}";

/// Everything that is measured.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for (encoding, name) in [(Encoding::Json, "json"), (Encoding::Compact, "compact")] {
        exchange(&mut cases, "send", name, encoding, send(), sent());
        exchange(&mut cases, "pull", name, encoding, pull(), pulled());
    }
    let mut out = Vec::new();
    cases.push((
        "stored/encode".to_owned(),
        Box::new(move || {
            out.clear();
            encode_record(&mut out);
            let (offset, position) = (QueueOffset::new(7), LogPosition::new(4096));
            stored::patch(&mut out, offset, position, 1_700_000_000_000);
            black_box(&out);
        }),
    ));
    let records = records();
    cases.push((
        "stored/decode 32".to_owned(),
        Box::new(move || {
            for message in StoredMessages::new(records.clone()) {
                black_box(message).expect("a record");
            }
        }),
    ));
    cases
}

/// Request and reply, there and back.
fn exchange<R>(cases: &mut Vec<Case>, what: &str, name: &str, encoding: Encoding, request: R, reply: R::Reply)
where
    R: Request,
{
    let mut asked = Vec::new();
    write_request(&mut asked, encoding, &request);
    let mut answered = Vec::new();
    write_reply(&mut answered, encoding, &reply);
    let mut out = Vec::new();
    cases.push((
        format!("{what}/encode request/{name}"),
        Box::new(move || {
            out.clear();
            write_request(&mut out, encoding, &request);
            black_box(&out);
        }),
    ));
    let mut out = Vec::new();
    cases.push((
        format!("{what}/encode reply/{name}"),
        Box::new(move || {
            out.clear();
            write_reply(&mut out, encoding, &reply);
            black_box(&out);
        }),
    ));
    cases.push((format!("{what}/decode request/{name}"), decode::<R>(asked.into())));
    cases.push((format!("{what}/decode reply/{name}"), decode::<R::Reply>(answered.into())));
}

/// A frame as it comes in from a socket: appended to the read buffer, cut off, its fields and body read.
fn decode<P: Payload>(frame: Bytes) -> Box<dyn FnMut()> {
    let mut decoder = FrameDecoder::new(MAX_FRAME_BYTES);
    let mut buffer = BytesMut::with_capacity(64 * 1024);
    Box::new(move || {
        buffer.extend_from_slice(&frame);
        let frame = decoder.decode(&mut buffer).expect("a frame").expect("all of it");
        black_box(P::read(&frame)).expect("as declared");
    })
}

fn write_request<R: Request>(out: &mut Vec<u8>, encoding: Encoding, request: &R) {
    let shape =
        RequestShape { opaque: Opaque::new(4711), oneway: false, encoding, max_frame: MAX_FRAME_BYTES };
    let body = request.body();
    encode_request(out, request, &shape, body.len()).expect("it fits");
    body.iter().for_each(|segment| out.extend_from_slice(segment));
}

fn write_reply<P: Payload>(out: &mut Vec<u8>, encoding: Encoding, reply: &P) {
    let shape = ReplyShape {
        code: ResponseCode::SUCCESS,
        remark: None,
        opaque: Opaque::new(4711),
        encoding,
        max_frame: MAX_FRAME_BYTES,
    };
    let body = reply.body();
    encode_reply(out, &shape, body.len(), reply).expect("it fits");
    body.iter().for_each(|segment| out.extend_from_slice(segment));
}

fn send() -> SendMessage {
    SendMessage {
        producer_group: "order-service".into(),
        topic: "orders".into(),
        default_topic: "TBW102".into(),
        default_topic_queue_nums: 4,
        queue_id: QueueId::new(3),
        sys_flag: 0,
        born_timestamp: 1_700_000_000_000,
        flag: 0,
        properties: Some(PROPERTIES.into()),
        reconsume_times: 0,
        unit_mode: false,
        max_reconsume_times: None,
        batch: false,
        broker_name: Some("broker-a".into()),
        body: Bytes::from_static(BODY),
    }
}

fn sent() -> SendReply {
    SendReply {
        message_id: "7F00000100002A9F00000000000012AB".into(),
        queue_id: QueueId::new(3),
        queue_offset: QueueOffset::new(123_456),
        transaction_id: Some("7F0000010A2B18B4AAC2000000000001".into()),
        batch_unique_id: None,
        recall_handle: None,
        region: Some("DefaultRegion".into()),
        trace_on: Some(true),
    }
}

fn pull() -> PullMessage {
    PullMessage {
        consumer_group: "invoices".into(),
        topic: "orders".into(),
        queue_id: QueueId::new(3),
        queue_offset: QueueOffset::new(123_456),
        max_messages: 32,
        sys_flag: PullFlag::SUSPEND.with(PullFlag::SUBSCRIPTION).get(),
        commit_offset: QueueOffset::ZERO,
        suspend_timeout_ms: 15_000,
        subscription: Some("*".into()),
        subscription_version: 1_700_000_000_000,
        expression_type: Some("TAG".into()),
        max_bytes: None,
    }
}

fn pulled() -> PullReply {
    PullReply {
        suggested_broker_id: 0,
        next_begin_offset: QueueOffset::new(123_488),
        min_offset: QueueOffset::ZERO,
        max_offset: QueueOffset::new(200_000),
        topic_sys_flag: Some(0),
        group_sys_flag: Some(0),
        forbidden_type: None,
        messages: Segments::One(records()),
    }
}

fn records() -> Bytes {
    let mut records = Vec::new();
    (0..32).for_each(|_| encode_record(&mut records));
    records.into()
}

fn encode_record(out: &mut Vec<u8>) {
    let host = ([127, 0, 0, 1], 10_911).into();
    let message = NewMessage {
        topic: "orders",
        queue_id: QueueId::new(3),
        flag: 0,
        sys_flag: SysFlag::NONE,
        born_timestamp: 1_700_000_000_000,
        born_host: host,
        store_host: host,
        reconsume_times: 0,
        prepared_transaction_offset: LogPosition::ZERO,
        body: BODY,
        properties: &[PROPERTIES.into()],
    };
    message.encode(out).expect("it fits");
}
