//! `rmq bench null-server`: a name server and a broker in one that takes every frame apart, answers, and stores nothing. Who
//! pulls gets the same message over and over, or of one topic what is sent to it.

use std::io::{Write, stdout};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use rocketmq_protocol::body::{
    BrokerData, ClusterInfo, ConsumerListByGroup, MASTER_ID, Perm, QueueData, TopicRouteData,
};
use rocketmq_protocol::message::{MessageError, NewMessage, SysFlag, stored};
use rocketmq_protocol::name::RETRY_PREFIX;
use rocketmq_protocol::request::Segments;
use rocketmq_protocol::requests::{
    GetClusterInfoReply, GetConsumerListByGroupReply, GetRouteInfo, GetRouteInfoReply, Heartbeat,
    HeartbeatReply, PullMessage, QueryConsumerOffsetReply, RouteBody, SendMessage, SendReply,
};
use rocketmq_protocol::transport::{Call, Server, ServerOptions, Service};
use rocketmq_protocol::{ByteString, LogPosition, QueueId, QueueOffset, RequestCode, ResponseCode};
use tokio::net::TcpListener;

use super::relay::{Relay, pulled};
use crate::{Failure, Outcome};

const NAME: &str = "null";
/// Of the message that is pulled, as `rmq bench produce` sends it by default.
const BODY: [u8; 128] = [b'x'; 128];
const PROPERTIES: &str = "UNIQ_KEY\u{1}7F0000010A2B18B4AAC2000000000001\u{2}";

/// Options of `rmq bench null-server`.
#[derive(Args)]
pub(crate) struct Options {
    /// Where to listen, as name server and as broker
    #[arg(long, short, value_name = "HOST:PORT", default_value = "127.0.0.1:9876")]
    listen: SocketAddr,
    /// Queues of every topic
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    queues: u16,
    /// A topic whose messages are handed on to who waits for them, for `rmq bench latency`
    #[arg(long, value_name = "TOPIC")]
    relay: Option<String>,
}

struct Null {
    addr: SocketAddr,
    queues: i32,
    message_id: ByteString,
    next_offset: AtomicI64,
    relay: Option<Relay>,
    /// The client that sent the last heartbeat: the only member of every group.
    member: Mutex<String>,
}

pub(crate) async fn run(options: Options) -> Result<Outcome, Failure> {
    let failed = |source| Failure::Listen { addr: options.listen, source };
    let listener = TcpListener::bind(options.listen).await.map_err(failed)?;
    let addr = listener.local_addr().map_err(failed)?;
    let service = Null {
        addr,
        queues: options.queues.into(),
        message_id: ByteString::from_static("7F00000100002A9F0000000000000000"),
        next_offset: AtomicI64::new(0),
        relay: options.relay.map(|topic| Relay::new(topic, addr)),
        member: Mutex::default(),
    };
    let server =
        Server::serve(listener, Arc::new(service), ServerOptions::new("null server")).map_err(failed)?;
    let ready = format!("name server and broker at {addr}; nothing is stored\n");
    stdout().write_all(ready.as_bytes()).map_err(|source| Failure::System { doing: "say so", source })?;
    tokio::signal::ctrl_c()
        .await
        .map_err(|source| Failure::System { doing: "listen for signals", source })?;
    server.shutdown(Duration::from_secs(1)).await;
    Ok(Outcome::AsAsked)
}

impl Service for Null {
    fn serve(&self, call: Call) {
        match call.frame().request_code() {
            RequestCode::SEND_MESSAGE_V2 | RequestCode::SEND_MESSAGE | RequestCode::SEND_BATCH_MESSAGE => {
                call.reply(&self.stored());
                self.hand_on(&call);
            }
            RequestCode::PULL_MESSAGE => self.pull(call),
            RequestCode::GET_ROUTEINFO_BY_TOPIC => match call.read::<GetRouteInfo>() {
                Ok(asked) if asked.topic.starts_with(RETRY_PREFIX) => {
                    call.refuse(ResponseCode::TOPIC_NOT_EXIST, "nothing is ever tried again");
                }
                _ => call.reply(&GetRouteInfoReply { route: self.route() }),
            },
            RequestCode::GET_BROKER_CLUSTER_INFO => {
                call.reply(&GetClusterInfoReply { clusters: self.clusters() });
            }
            RequestCode::HEART_BEAT => {
                if let Ok(heartbeat) = call.read::<Heartbeat>() {
                    *self.member.lock().unwrap_or_else(PoisonError::into_inner) = heartbeat.data.client_id;
                }
                call.reply(&HeartbeatReply { supports_v2: Some(false), subscription_changed: None });
            }
            RequestCode::GET_CONSUMER_LIST_BY_GROUP => {
                let member = self.member.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let consumers = ConsumerListByGroup { consumer_id_list: vec![member] };
                call.reply(&GetConsumerListByGroupReply { consumers });
            }
            RequestCode::QUERY_CONSUMER_OFFSET => {
                call.reply(&QueryConsumerOffsetReply { offset: QueueOffset::ZERO });
            }
            RequestCode::UNREGISTER_CLIENT
            | RequestCode::UPDATE_AND_CREATE_TOPIC
            | RequestCode::UPDATE_CONSUMER_OFFSET
            | RequestCode::CHECK_CLIENT_CONFIG => call.done(),
            code => {
                let remark = format!("{code}: the null server only takes and gives messages");
                call.refuse(ResponseCode::REQUEST_CODE_NOT_SUPPORTED, remark);
            }
        }
    }
}

impl Null {
    fn stored(&self) -> SendReply {
        SendReply {
            message_id: self.message_id.clone(),
            queue_id: QueueId::new(0),
            queue_offset: QueueOffset::new(self.next_offset.fetch_add(1, Ordering::Relaxed)),
            transaction_id: None,
            batch_unique_id: None,
            recall_handle: None,
            region: None,
            trace_on: None,
        }
    }

    /// Hands a message on that is of the topic for it.
    fn hand_on(&self, call: &Call) {
        let Some(relay) = &self.relay else { return };
        if let Ok(message) = call.read::<SendMessage>() {
            if relay.is_of(&message.topic) {
                relay.sent(&message).ok(); // one that cannot be stored is lost, and the latency run says so
            }
        }
    }

    fn pull(&self, call: Call) {
        let asked = call.read::<PullMessage>();
        if let (Some(relay), Ok(asked)) = (&self.relay, &asked) {
            if relay.is_of(&asked.topic) {
                return relay.pull(call, asked);
            }
        }
        let answer = asked.map_err(|error| error.to_string()).and_then(|asked| {
            let next = asked.queue_offset.plus(asked.max_messages.into());
            let messages = self.records(&asked).map_err(|error| error.to_string())?;
            Ok(pulled(next, Segments::One(messages.into())))
        });
        match answer {
            Ok(reply) => call.reply(&reply),
            Err(reason) => call.refuse(ResponseCode::SYSTEM_ERROR, reason),
        }
    }

    /// As many messages as are asked for, from the offset on that is asked for.
    fn records(&self, asked: &PullMessage) -> Result<Vec<u8>, MessageError> {
        let message = NewMessage {
            topic: &asked.topic,
            queue_id: asked.queue_id,
            flag: 0,
            sys_flag: SysFlag::NONE,
            born_timestamp: 1_700_000_000_000,
            born_host: self.addr,
            store_host: self.addr,
            reconsume_times: 0,
            prepared_transaction_offset: LogPosition::ZERO,
            body: &BODY,
            properties: &[PROPERTIES.into()],
        };
        let mut records = Vec::new();
        message.encode(&mut records)?;
        let record = records.clone();
        for number in 1..asked.max_messages {
            let begin = records.len();
            records.extend_from_slice(&record);
            if let Some(copy) = records.get_mut(begin..) {
                stored::patch(copy, asked.queue_offset.plus(number.into()), LogPosition::ZERO, 0);
            }
        }
        stored::patch(&mut records, asked.queue_offset, LogPosition::ZERO, 0);
        Ok(records)
    }

    fn broker(&self) -> BrokerData {
        BrokerData {
            broker_addrs: [(MASTER_ID, self.addr.to_string())].into(),
            broker_name: NAME.into(),
            cluster: NAME.into(),
            ..BrokerData::default()
        }
    }

    fn route(&self) -> RouteBody {
        let queues = QueueData {
            broker_name: NAME.into(),
            perm: Perm::READ_WRITE,
            read_queue_nums: self.queues,
            write_queue_nums: self.queues,
            topic_sys_flag: 0,
        };
        let route = TopicRouteData {
            broker_datas: vec![self.broker()],
            queue_datas: vec![queues],
            ..TopicRouteData::default()
        };
        RouteBody { route, standard_json: true }
    }

    fn clusters(&self) -> ClusterInfo {
        ClusterInfo {
            broker_addr_table: [(NAME.into(), self.broker())].into(),
            cluster_addr_table: [(NAME.into(), vec![NAME.into()])].into(),
        }
    }
}
