//! The frames that the raw ends send, encoded once. All are compact, which puts code and opaque at fixed places.

use bytes::Bytes;
use rocketmq_protocol::body::{BrokerData, MASTER_ID, Perm, QueueData, TopicRouteData};
use rocketmq_protocol::message::{NewMessage, SysFlag};
use rocketmq_protocol::request::{
    Done, Payload, ReplyShape, Request, RequestShape, Segments, encode_reply, encode_request,
};
use rocketmq_protocol::requests::{
    GetRouteInfoReply, PullFlag, PullMessage, PullReply, RouteBody, SendMessage, SendReply,
};
use rocketmq_protocol::{
    Encoding, LogPosition, MAX_FRAME_BYTES, Opaque, QueueId, QueueOffset, RequestCode, ResponseCode,
};

pub(crate) const TOPIC: &str = "orders";
pub(crate) const BROKER: &str = "raw";
pub(crate) const BODY: [u8; 128] = [b'x'; 128];
/// Messages of a pull.
pub(crate) const PULLED: usize = 32;
const PROPERTIES: &str = "UNIQ_KEY\u{1}7F0000010A2B18B4AAC2000000000001\u{2}";

/// So many sends, back to back, all to one queue.
pub(crate) fn sends(count: usize) -> Bytes {
    let send = SendMessage {
        producer_group: "p".into(),
        topic: TOPIC.into(),
        default_topic: "TBW102".into(),
        default_topic_queue_nums: 1,
        queue_id: QueueId::new(0),
        sys_flag: 0,
        born_timestamp: 1_700_000_000_000,
        flag: 0,
        properties: Some(PROPERTIES.into()),
        reconsume_times: 0,
        unit_mode: false,
        max_reconsume_times: None,
        batch: false,
        broker_name: None,
        body: Bytes::from_static(&BODY),
    };
    request(&send).repeat(count).into()
}

/// A pull of [`PULLED`] messages.
pub(crate) fn pull() -> Bytes {
    request(&PullMessage {
        consumer_group: "c".into(),
        topic: TOPIC.into(),
        queue_id: QueueId::new(0),
        queue_offset: QueueOffset::ZERO,
        max_messages: PULLED as i32,
        sys_flag: PullFlag::SUBSCRIPTION.get(),
        commit_offset: QueueOffset::ZERO,
        suspend_timeout_ms: 0,
        subscription: Some("*".into()),
        subscription_version: 1_700_000_000_000,
        expression_type: Some("TAG".into()),
        max_bytes: None,
    })
}

/// What the raw broker at this address, which is a name server too, answers to requests of a code.
pub(crate) fn answers(addr: &str) -> Vec<(RequestCode, Bytes)> {
    let sent = SendReply {
        message_id: "7F00000100002A9F0000000000000000".into(),
        queue_id: QueueId::new(0),
        queue_offset: QueueOffset::ZERO,
        transaction_id: None,
        batch_unique_id: None,
        recall_handle: None,
        region: None,
        trace_on: None,
    };
    let pulled = PullReply {
        suggested_broker_id: MASTER_ID,
        next_begin_offset: QueueOffset::new(PULLED as i64),
        min_offset: QueueOffset::ZERO,
        max_offset: QueueOffset::new(PULLED as i64),
        topic_sys_flag: None,
        group_sys_flag: None,
        forbidden_type: None,
        messages: Segments::One(records()),
    };
    let broker = BrokerData {
        broker_addrs: [(MASTER_ID, addr.to_owned())].into(),
        broker_name: BROKER.into(),
        ..BrokerData::default()
    };
    let queues = QueueData {
        broker_name: BROKER.into(),
        perm: Perm::READ_WRITE,
        read_queue_nums: 1,
        write_queue_nums: 1,
        topic_sys_flag: 0,
    };
    let route =
        TopicRouteData { broker_datas: vec![broker], queue_datas: vec![queues], ..TopicRouteData::default() };
    vec![
        (RequestCode::SEND_MESSAGE_V2, reply(&sent)),
        (RequestCode::PULL_MESSAGE, reply(&pulled)),
        (
            RequestCode::GET_ROUTEINFO_BY_TOPIC,
            reply(&GetRouteInfoReply { route: RouteBody { route, standard_json: true } }),
        ),
    ]
}

/// What it answers to all others.
pub(crate) fn done() -> Bytes {
    reply(&Done {})
}

fn records() -> Bytes {
    let host = ([127, 0, 0, 1], 10_911).into();
    let message = NewMessage {
        topic: TOPIC,
        queue_id: QueueId::new(0),
        flag: 0,
        sys_flag: SysFlag::NONE,
        born_timestamp: 1_700_000_000_000,
        born_host: host,
        store_host: host,
        reconsume_times: 0,
        prepared_transaction_offset: LogPosition::ZERO,
        body: &BODY,
        properties: &[PROPERTIES.into()],
    };
    let mut record = Vec::new();
    message.encode(&mut record).expect("it fits");
    record.repeat(PULLED).into()
}

fn request<R: Request>(request: &R) -> Bytes {
    let shape = RequestShape {
        opaque: Opaque::new(0),
        oneway: false,
        encoding: Encoding::Compact,
        max_frame: MAX_FRAME_BYTES,
    };
    let body = request.body();
    let mut out = Vec::new();
    encode_request(&mut out, request, &shape, body.len()).expect("it fits");
    body.iter().for_each(|segment| out.extend_from_slice(segment));
    out.into()
}

fn reply<P: Payload>(reply: &P) -> Bytes {
    let shape = ReplyShape {
        code: ResponseCode::SUCCESS,
        remark: None,
        opaque: Opaque::new(0),
        encoding: Encoding::Compact,
        max_frame: MAX_FRAME_BYTES,
    };
    let body = reply.body();
    let mut out = Vec::new();
    encode_reply(&mut out, &shape, body.len(), reply).expect("it fits");
    body.iter().for_each(|segment| out.extend_from_slice(segment));
    out.into()
}
