//! A name server and a broker in one, for tests: as much of both as a consumer needs, and everything it asked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use rocketmq_protocol::body::{
    BrokerData, ConsumerListByGroup, HeartbeatData, LockBatchResponse, MASTER_ID, Perm, QueueData,
    TopicRouteData,
};
use rocketmq_protocol::message::{Properties, PropertiesBuilder, StoredMessage, SysFlag};
use rocketmq_protocol::request::{Request, Segments};
use rocketmq_protocol::requests::*;
use rocketmq_protocol::transport::{Call, Connection, RequestError, Server, ServerOptions, Service};
use rocketmq_protocol::{LogPosition, QueueId, QueueOffset, RequestCode, ResponseCode};
use tokio::sync::Notify;

pub(super) const BROKER: &str = "broker-a";

/// A running one.
pub(super) struct FakeCluster {
    _server: Server,
    state: Arc<State>,
}

struct State {
    addr: Mutex<String>,
    seen: Mutex<Seen>,
    changed: Notify,
}

/// What it holds and what it was told.
#[derive(Default)]
pub(super) struct Seen {
    /// Every request, in order.
    pub(super) requests: Vec<RequestCode>,
    pub(super) heartbeats: Vec<HeartbeatData>,
    /// Ids of the group's members. Heartbeats add to it.
    pub(super) members: BTreeSet<String>,
    /// Where the group stands, by topic and queue.
    pub(super) offsets: BTreeMap<(String, i32), i64>,
    pub(super) sent_back: Vec<SendMessageBack>,
    /// What was sent as a message.
    pub(super) sent: Vec<SendMessage>,
    /// Who holds the lock of a queue.
    pub(super) locks: BTreeMap<(String, i32), String>,
    /// Highest offset asked for, by topic and queue.
    pub(super) pulled: BTreeMap<(String, i32), i64>,
    /// Every pull, in order.
    pub(super) pulls: Vec<PullMessage>,
    queues: BTreeMap<String, Vec<Queue>>,
    refusals: VecDeque<(RequestCode, ResponseCode)>,
    connection: Option<Connection>,
    held: Vec<(PullMessage, Call)>,
}

#[derive(Default)]
struct Queue {
    first: i64,
    records: Vec<Bytes>,
}

impl FakeCluster {
    pub(super) async fn start() -> Self {
        let seen = Mutex::default();
        let state = Arc::new(State { addr: Mutex::default(), seen, changed: Notify::new() });
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = Server::bind(any_port, state.clone(), ServerOptions::new("fake")).await.unwrap();
        *state.addr.lock().unwrap() = server.local_addr().to_string();
        Self { _server: server, state }
    }

    pub(super) fn addr(&self) -> String {
        self.state.addr.lock().unwrap().clone()
    }

    pub(super) fn create_topic(&self, topic: &str, queues: usize) {
        self.see().queues.insert(topic.to_owned(), (0..queues).map(|_| Queue::default()).collect());
    }

    /// Loses the messages of a queue; the next one will have the offset `first`.
    pub(super) fn cut(&self, topic: &str, queue: usize, first: i64) {
        self.see().queues.get_mut(topic).unwrap()[queue] = Queue { first, records: Vec::new() };
    }

    pub(super) fn put(&self, topic: &str, queue: usize, body: &str) {
        self.put_with(topic, queue, body, SysFlag::NONE, Properties::builder());
    }

    pub(super) fn put_with(
        &self,
        topic: &str,
        queue: usize,
        body: &str,
        sys_flag: SysFlag,
        properties: PropertiesBuilder,
    ) {
        let mut seen = self.see();
        let log = &mut seen.queues.get_mut(topic).unwrap()[queue];
        let offset = log.first + i64::try_from(log.records.len()).unwrap();
        let message = StoredMessage {
            topic: topic.into(),
            queue_id: QueueId::new(i32::try_from(queue).unwrap()),
            queue_offset: QueueOffset::new(offset),
            physical_offset: LogPosition::new(offset * 1000),
            flag: 0,
            sys_flag,
            born_timestamp: 0,
            born_host: SocketAddr::from(([127, 0, 0, 1], 1)),
            store_timestamp: 0,
            store_host: SocketAddr::from(([127, 0, 0, 1], 2)),
            reconsume_times: 0,
            prepared_transaction_offset: LogPosition::ZERO,
            body: Bytes::copy_from_slice(body.as_bytes()),
            properties: properties.build().unwrap(),
        };
        let mut record = Vec::new();
        message.encode(&mut record).unwrap();
        log.records.push(record.into());
        for (request, call) in std::mem::take(&mut seen.held) {
            seen.pull(request, call);
        }
    }

    /// Gives somebody the lock of a queue, whoever has it.
    pub(super) fn lock(&self, topic: &str, queue: i32, owner: &str) {
        self.see().locks.insert((topic.to_owned(), queue), owner.to_owned());
    }

    /// Where a request of this kind comes in the order of all requests, first or last.
    pub(super) fn place(&self, code: RequestCode) -> Option<(usize, usize)> {
        let seen = self.see();
        let is_it = |seen: &RequestCode| *seen == code;
        Some((seen.requests.iter().position(is_it)?, seen.requests.iter().rposition(is_it)?))
    }

    /// Refuses the next request of this kind.
    pub(super) fn refuse(&self, request: RequestCode, code: ResponseCode) {
        self.see().refusals.push_back((request, code));
    }

    /// Tells the consumer that members came or went.
    pub(super) async fn notify(&self, group: &str) {
        let connection = self.see().connection.clone().unwrap();
        let request = NotifyConsumerIdsChanged { consumer_group: group.into() };
        connection.send_oneway(&request, Duration::from_secs(10)).await.unwrap();
    }

    /// Asks the client whose heartbeat came last.
    pub(super) async fn ask<R: Request>(&self, request: &R) -> Result<R::Reply, RequestError> {
        let connection = self.see().connection.clone().unwrap();
        connection.call(request, Duration::from_secs(10)).await
    }

    pub(super) fn see(&self) -> MutexGuard<'_, Seen> {
        self.state.seen.lock().unwrap()
    }

    /// Waits until what was seen is as `wanted`.
    pub(super) async fn until(&self, what: &str, wanted: impl Fn(&Seen) -> bool) {
        let waiting = async {
            loop {
                let changed = self.state.changed.notified();
                if wanted(&self.see()) {
                    return;
                }
                changed.await;
            }
        };
        let done = tokio::time::timeout(Duration::from_secs(10), waiting).await;
        done.unwrap_or_else(|_| panic!("not seen in 10 s: {what}; requests: {:?}", self.see().requests));
    }
}

impl Seen {
    pub(super) fn count(&self, code: RequestCode) -> usize {
        self.requests.iter().filter(|&&seen| seen == code).count()
    }

    /// Whether nobody waits for messages.
    pub(super) fn is_quiet(&self) -> bool {
        self.held.is_empty()
    }

    pub(super) fn offset(&self, topic: &str, queue: i32) -> Option<i64> {
        self.offsets.get(&(topic.to_owned(), queue)).copied()
    }

    fn bounds(&self, topic: &str, queue: QueueId) -> (i64, i64) {
        let queue = &self.queues[topic][usize::try_from(queue.get()).unwrap()];
        (queue.first, queue.first + i64::try_from(queue.records.len()).unwrap())
    }

    fn pull(&mut self, request: PullMessage, call: Call) {
        let (min, max) = self.bounds(&request.topic, request.queue_id);
        let offset = request.queue_offset.get();
        let queue = &self.queues[&*request.topic][usize::try_from(request.queue_id.get()).unwrap()];
        let skip = usize::try_from((offset - min).max(0)).unwrap();
        let limit = usize::try_from(request.max_messages).unwrap();
        let records: Vec<Bytes> = queue.records.iter().skip(skip).take(limit).cloned().collect();
        let (code, next) = match offset {
            offset if offset < min => (ResponseCode::PULL_OFFSET_MOVED, min),
            offset if offset > max => (ResponseCode::PULL_OFFSET_MOVED, max),
            offset if offset == max => return self.held.push((request, call)),
            _ => (ResponseCode::SUCCESS, offset + i64::try_from(records.len()).unwrap()),
        };
        let found = code == ResponseCode::SUCCESS;
        let reply = PullReply {
            suggested_broker_id: MASTER_ID,
            next_begin_offset: QueueOffset::new(next),
            min_offset: QueueOffset::new(min),
            max_offset: QueueOffset::new(max),
            topic_sys_flag: None,
            group_sys_flag: None,
            forbidden_type: None,
            messages: if found { Segments::Many(records) } else { Segments::Empty },
        };
        call.answer(code, None, &reply);
    }
}

impl State {
    fn route(&self, queues: usize) -> TopicRouteData {
        let broker = BrokerData {
            broker_name: BROKER.to_owned(),
            broker_addrs: [(MASTER_ID, self.addr.lock().unwrap().clone())].into(),
            ..BrokerData::default()
        };
        let count = i32::try_from(queues).unwrap();
        let queues = QueueData {
            broker_name: BROKER.to_owned(),
            perm: Perm::READ_WRITE,
            read_queue_nums: count,
            write_queue_nums: count,
            ..QueueData::default()
        };
        TopicRouteData { broker_datas: vec![broker], queue_datas: vec![queues], ..TopicRouteData::default() }
    }

    fn answer(&self, seen: &mut Seen, call: Call) {
        let code = call.frame().request_code();
        match code {
            GetRouteInfo::CODE => {
                let topic = call.read::<GetRouteInfo>().unwrap().topic;
                match seen.queues.get(&*topic) {
                    Some(queues) => {
                        let route = RouteBody { route: self.route(queues.len()), standard_json: true };
                        call.reply(&GetRouteInfoReply { route });
                    }
                    None => call.refuse(ResponseCode::TOPIC_NOT_EXIST, "no such topic"),
                }
            }
            Heartbeat::CODE => {
                let data = call.read::<Heartbeat>().unwrap().data;
                seen.members.insert(data.client_id.clone());
                seen.heartbeats.push(data);
                seen.connection = Some(call.connection().clone());
                call.reply(&HeartbeatReply { supports_v2: None, subscription_changed: None });
            }
            UnregisterClient::CODE => {
                seen.members.remove(&*call.read::<UnregisterClient>().unwrap().client_id);
                call.done();
            }
            GetConsumerListByGroup::CODE => {
                let consumer_id_list = seen.members.iter().cloned().collect();
                let consumers = ConsumerListByGroup { consumer_id_list };
                call.reply(&GetConsumerListByGroupReply { consumers });
            }
            QueryConsumerOffset::CODE => {
                let request = call.read::<QueryConsumerOffset>().unwrap();
                match seen.offset(&request.topic, request.queue_id.get()) {
                    Some(offset) => {
                        call.reply(&QueryConsumerOffsetReply { offset: QueueOffset::new(offset) })
                    }
                    None => call.refuse(ResponseCode::QUERY_NOT_FOUND, "no offset"),
                }
            }
            UpdateConsumerOffset::CODE => {
                let request = call.read::<UpdateConsumerOffset>().unwrap();
                let key = (request.topic.to_string(), request.queue_id.get());
                seen.offsets.insert(key, request.commit_offset.get());
                call.done();
            }
            GetMinOffset::CODE => {
                let request = call.read::<GetMinOffset>().unwrap();
                let offset = QueueOffset::new(seen.bounds(&request.topic, request.queue_id).0);
                call.reply(&GetMinOffsetReply { offset });
            }
            GetMaxOffset::CODE => {
                let request = call.read::<GetMaxOffset>().unwrap();
                let offset = QueueOffset::new(seen.bounds(&request.topic, request.queue_id).1);
                call.reply(&GetMaxOffsetReply { offset });
            }
            PullMessage::CODE | LitePullMessage::CODE => {
                let request = call.read::<PullMessage>().unwrap(); // both have the same fields
                seen.pulls.push(request.clone());
                let key = (request.topic.to_string(), request.queue_id.get());
                if PullFlag::new(request.sys_flag).contains(PullFlag::COMMIT_OFFSET) {
                    seen.offsets.insert(key.clone(), request.commit_offset.get());
                }
                let highest = seen.pulled.entry(key).or_default();
                *highest = request.queue_offset.get().max(*highest);
                seen.pull(request, call);
            }
            SendMessageBack::CODE => {
                seen.sent_back.push(call.read().unwrap());
                call.done();
            }
            LockBatch::CODE => {
                let wanted = call.read::<LockBatch>().unwrap().queues;
                let mut locked = Vec::new();
                for queue in wanted.mq_set {
                    let key = (queue.topic.to_string(), queue.queue_id.get());
                    if *seen.locks.entry(key).or_insert_with(|| wanted.client_id.clone()) == wanted.client_id
                    {
                        locked.push(queue);
                    }
                }
                let locked = LockBatchResponse { lock_ok_mq_set: locked };
                call.reply(&LockBatchReply { locked });
            }
            UnlockBatch::CODE => {
                let given_back = call.read::<UnlockBatch>().unwrap().queues;
                for queue in given_back.mq_set {
                    let key = (queue.topic.to_string(), queue.queue_id.get());
                    if seen.locks.get(&key) == Some(&given_back.client_id) {
                        seen.locks.remove(&key);
                    }
                }
                call.done();
            }
            SendMessage::CODE => {
                let request = call.read::<SendMessage>().unwrap();
                let queue_id = request.queue_id;
                seen.sent.push(request);
                call.reply(&SendReply {
                    message_id: "7F00000100002A9F0000000000000000".into(),
                    queue_id,
                    queue_offset: QueueOffset::ZERO,
                    transaction_id: None,
                    batch_unique_id: None,
                    recall_handle: None,
                    region: None,
                    trace_on: None,
                });
            }
            CheckClientConfig::CODE => {
                call.refuse(ResponseCode::SUBSCRIPTION_PARSE_FAILED, "no such operator")
            }
            _ => call.refuse(ResponseCode::REQUEST_CODE_NOT_SUPPORTED, format!("{code}")),
        }
    }
}

impl Service for State {
    fn serve(&self, call: Call) {
        let mut seen = self.seen.lock().unwrap();
        let code = call.frame().request_code();
        seen.requests.push(code);
        match seen.refusals.iter().position(|(refused, _)| *refused == code) {
            Some(at) => {
                let (_, response) = seen.refusals.remove(at).unwrap();
                call.refuse(response, "refused by the test");
            }
            None => self.answer(&mut seen, call),
        }
        drop(seen);
        self.changed.notify_waiters();
    }

    fn disconnected(&self, connection: &Connection) {
        let mut seen = self.seen.lock().unwrap();
        seen.held.retain(|(_, call)| call.connection().id() != connection.id());
        drop(seen);
        self.changed.notify_waiters();
    }
}
