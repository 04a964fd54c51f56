//! A name server and brokers that answer as a test tells them, over real sockets.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rocketmq_protocol::body::{
    BrokerData, ClusterInfo, ConsumerListByGroup, Perm, QueueData, TopicRouteData,
};
use rocketmq_protocol::message::{Properties, RecallHandle, StoredMessage, SysFlag};
use rocketmq_protocol::request::{Request, Segments};
use rocketmq_protocol::requests::*;
use rocketmq_protocol::transport::{
    Call, Connection, ConnectionId, RequestError, Server, ServerOptions, Service,
};
use rocketmq_protocol::{ByteString, LogPosition, QueueId, QueueOffset, RequestCode, ResponseCode};
use tokio::sync::Notify;

use crate::{Client, ClientBuilder, Producer, ProducerBuilder};

/// How a peer answers the next request of some kind.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    Refuse(ResponseCode),
    /// Never.
    Silence,
    /// The connection goes.
    HangUp,
    /// As usual, but with this code.
    Accept(ResponseCode),
    /// As usual, but not before [`FakeBroker::answer_late_heartbeats`].
    Later,
}

/// What a peer has been asked, and how it will answer.
#[derive(Default)]
pub(crate) struct Script {
    seen: Mutex<Vec<RequestCode>>,
    asked: Notify,
    next: Mutex<Vec<(RequestCode, VecDeque<Answer>)>>,
    kept: Mutex<Vec<Call>>,
    later: Mutex<Vec<Call>>,
    connections: Mutex<BTreeMap<ConnectionId, Connection>>,
}

impl Script {
    /// The next requests with this code are answered so, then as usual again.
    pub(crate) fn answer(&self, code: RequestCode, answers: impl IntoIterator<Item = Answer>) {
        self.next.lock().unwrap().push((code, answers.into_iter().collect()));
    }

    /// Every request is answered as usual from now on.
    pub(crate) fn clear(&self) {
        self.next.lock().unwrap().clear();
    }

    pub(crate) fn count(&self, code: RequestCode) -> usize {
        self.seen.lock().unwrap().iter().filter(|seen| **seen == code).count()
    }

    /// Waits until `count` requests with this code have come.
    pub(crate) async fn await_count(&self, code: RequestCode, count: usize) {
        let enough = async {
            loop {
                let asked = self.asked.notified();
                tokio::pin!(asked);
                asked.as_mut().enable();
                if self.count(code) >= count {
                    return;
                }
                asked.await;
            }
        };
        let limit = Duration::from_secs(10);
        tokio::time::timeout(limit, enough).await.unwrap_or_else(|_| panic!("no {count} requests {code}"));
    }

    fn take(&self, code: RequestCode) -> Option<Answer> {
        let mut next = self.next.lock().unwrap();
        next.iter_mut().filter(|(of, _)| *of == code).find_map(|(_, answers)| answers.pop_front())
    }

    /// Answers as scripted; gives the call back, and the code to use, when it is to be answered as usual.
    fn serve(&self, call: Call) -> Option<(Call, ResponseCode)> {
        let code = call.frame().request_code();
        self.seen.lock().unwrap().push(code);
        let connection = call.connection();
        self.connections.lock().unwrap().insert(connection.id(), connection.clone());
        let answer = self.take(code);
        self.asked.notify_waiters();
        match answer {
            None => Some((call, ResponseCode::SUCCESS)),
            Some(Answer::Accept(code)) => Some((call, code)),
            Some(Answer::Refuse(code)) => {
                call.refuse(code, "as the test says");
                None
            }
            Some(Answer::Silence) => {
                self.kept.lock().unwrap().push(call);
                None
            }
            Some(Answer::HangUp) => {
                call.connection().close();
                None
            }
            Some(Answer::Later) => {
                self.later.lock().unwrap().push(call);
                None
            }
        }
    }
}

/// A name server.
pub(crate) struct FakeNameServer {
    pub(crate) addr: String,
    pub(crate) script: Arc<Script>,
    pub(crate) routes: Arc<Routes>,
    server: Server,
}

/// Routes by topic, shared by name servers of one cluster.
#[derive(Default)]
pub(crate) struct Routes {
    routes: Mutex<BTreeMap<String, TopicRouteData>>,
}

impl Routes {
    /// The topic has two queues on each of these brokers: name and address of the master.
    pub(crate) fn set(&self, topic: &str, brokers: &[(&str, &str)]) {
        let mut data = TopicRouteData::default();
        for &(name, addr) in brokers {
            data.broker_datas.push(BrokerData {
                broker_name: name.into(),
                broker_addrs: [(0, addr.into())].into(),
                cluster: "c".into(),
                ..BrokerData::default()
            });
            data.queue_datas.push(QueueData {
                broker_name: name.into(),
                read_queue_nums: 2,
                write_queue_nums: 2,
                perm: Perm::READ_WRITE,
                ..QueueData::default()
            });
        }
        self.routes.lock().unwrap().insert(topic.into(), data);
    }

    /// The topic has queues on this broker, but its master is gone.
    pub(crate) fn set_replica_only(&self, topic: &str, (name, addr): (&str, &str)) {
        self.set(topic, &[(name, addr)]);
        let mut routes = self.routes.lock().unwrap();
        routes.get_mut(topic).unwrap().broker_datas[0].broker_addrs = [(1, addr.to_owned())].into();
    }

    /// The topic answers with an empty route.
    pub(crate) fn clear(&self, topic: &str) {
        self.routes.lock().unwrap().insert(topic.into(), TopicRouteData::default());
    }

    fn clusters(&self) -> ClusterInfo {
        let mut clusters = ClusterInfo::default();
        for broker in self.routes.lock().unwrap().values().flat_map(|route| &route.broker_datas) {
            clusters.broker_addr_table.insert(broker.broker_name.clone(), broker.clone());
        }
        let names = clusters.broker_addr_table.keys().cloned().collect();
        clusters.cluster_addr_table.insert("c".into(), names);
        clusters
    }
}

struct NameService {
    script: Arc<Script>,
    routes: Arc<Routes>,
}

impl Service for NameService {
    fn serve(&self, call: Call) {
        let Some((call, _)) = self.script.serve(call) else { return };
        match call.frame().request_code() {
            GetRouteInfo::CODE => {
                let topic = call.read::<GetRouteInfo>().unwrap().topic;
                match self.routes.routes.lock().unwrap().get(&*topic) {
                    Some(route) => {
                        let route = RouteBody { route: route.clone(), standard_json: true };
                        call.reply(&GetRouteInfoReply { route });
                    }
                    None => call.refuse(ResponseCode::TOPIC_NOT_EXIST, "No topic route info"),
                }
            }
            GetClusterInfo::CODE => call.reply(&GetClusterInfoReply { clusters: self.routes.clusters() }),
            code => call.refuse(ResponseCode::REQUEST_CODE_NOT_SUPPORTED, format!("{code}")),
        }
    }
}

impl FakeNameServer {
    pub(crate) async fn start() -> Self {
        Self::start_with(Arc::default()).await
    }

    pub(crate) async fn start_with(routes: Arc<Routes>) -> Self {
        let script = Arc::new(Script::default());
        let service = NameService { script: Arc::clone(&script), routes: Arc::clone(&routes) };
        let server = bind(Arc::new(service)).await;
        Self { addr: server.local_addr().to_string(), script, routes, server }
    }

    pub(crate) async fn stop(self) {
        self.server.shutdown(Duration::ZERO).await;
    }
}

/// A broker that stores nothing but the headers of what is sent to it.
pub(crate) struct FakeBroker {
    pub(crate) name: &'static str,
    pub(crate) addr: String,
    pub(crate) script: Arc<Script>,
    pub(crate) sent: Arc<Mutex<Vec<SendMessage>>>,
    pub(crate) heartbeats: Arc<Mutex<Vec<Heartbeat>>>,
    pub(crate) ends: Arc<Mutex<Vec<EndTransaction>>>,
    pub(crate) offsets: Arc<Mutex<BTreeMap<i32, i64>>>,
    /// Body of the next pull.
    pub(crate) records: Arc<Mutex<Bytes>>,
    server: Server,
}

struct BrokerService {
    script: Arc<Script>,
    sent: Arc<Mutex<Vec<SendMessage>>>,
    heartbeats: Arc<Mutex<Vec<Heartbeat>>>,
    ends: Arc<Mutex<Vec<EndTransaction>>>,
    offsets: Arc<Mutex<BTreeMap<i32, i64>>>,
    records: Arc<Mutex<Bytes>>,
}

impl Service for BrokerService {
    fn serve(&self, call: Call) {
        let Some((call, code)) = self.script.serve(call) else { return };
        match call.frame().request_code() {
            SendMessage::CODE | SendBatchMessage::CODE | SendReplyMessage::CODE => {
                let request = call.read::<SendMessage>().unwrap();
                let queue_id = request.queue_id;
                let mut sent = self.sent.lock().unwrap();
                sent.push(request);
                call.answer(
                    code,
                    None,
                    &SendReply {
                        message_id: "7F00000100002A9F0000000000000000".into(),
                        queue_id,
                        queue_offset: QueueOffset::new(sent.len() as i64 - 1),
                        transaction_id: None,
                        batch_unique_id: None,
                        recall_handle: None,
                        region: None,
                        trace_on: None,
                    },
                );
            }
            EndTransaction::CODE => {
                self.ends.lock().unwrap().push(call.read().unwrap());
                call.done();
            }
            RecallMessage::CODE => {
                let request = call.read::<RecallMessage>().unwrap();
                let handle: RecallHandle = request.recall_handle.parse().unwrap();
                call.reply(&RecallMessageReply { message_id: handle.unique_key.into() });
            }
            Heartbeat::CODE => {
                self.heartbeats.lock().unwrap().push(call.read().unwrap());
                call.reply(&HeartbeatReply { supports_v2: None, subscription_changed: None });
            }
            PullMessage::CODE => {
                let request = call.read::<PullMessage>().unwrap();
                let messages = Segments::from(self.records.lock().unwrap().clone());
                let code = match code {
                    ResponseCode::SUCCESS if messages.is_empty() => ResponseCode::PULL_NOT_FOUND,
                    code => code,
                };
                call.answer(
                    code,
                    None,
                    &PullReply {
                        suggested_broker_id: 0,
                        next_begin_offset: request.queue_offset.plus(32),
                        min_offset: QueueOffset::ZERO,
                        max_offset: QueueOffset::new(32),
                        topic_sys_flag: None,
                        group_sys_flag: None,
                        forbidden_type: None,
                        messages,
                    },
                );
            }
            QueryConsumerOffset::CODE => {
                let queue_id = call.read::<QueryConsumerOffset>().unwrap().queue_id.get();
                match self.offsets.lock().unwrap().get(&queue_id) {
                    Some(offset) => {
                        call.reply(&QueryConsumerOffsetReply { offset: QueueOffset::new(*offset) });
                    }
                    None => call.refuse(
                        ResponseCode::QUERY_NOT_FOUND,
                        "Not found, maybe this group consumer boot first",
                    ),
                }
            }
            UpdateConsumerOffset::CODE => {
                let update = call.read::<UpdateConsumerOffset>().unwrap();
                self.offsets.lock().unwrap().insert(update.queue_id.get(), update.commit_offset.get());
                call.done();
            }
            GetConsumerListByGroup::CODE => call.reply(&GetConsumerListByGroupReply {
                consumers: ConsumerListByGroup { consumer_id_list: vec!["somebody".into()] },
            }),
            CreateTopic::CODE | UnregisterClient::CODE => call.done(),
            other => call.refuse(ResponseCode::REQUEST_CODE_NOT_SUPPORTED, format!("{other}")),
        }
    }
}

impl FakeBroker {
    /// Answers the heartbeats that were told to wait.
    pub(crate) fn answer_late_heartbeats(&self) {
        let late = std::mem::take(&mut *self.script.later.lock().unwrap());
        for call in late {
            self.heartbeats.lock().unwrap().push(call.read().unwrap());
            call.reply(&HeartbeatReply { supports_v2: None, subscription_changed: None });
        }
    }

    pub(crate) async fn start(name: &'static str) -> Self {
        let service = BrokerService {
            script: Arc::default(),
            sent: Arc::default(),
            heartbeats: Arc::default(),
            ends: Arc::default(),
            offsets: Arc::default(),
            records: Arc::default(),
        };
        let (script, sent) = (Arc::clone(&service.script), Arc::clone(&service.sent));
        let (heartbeats, offsets) = (Arc::clone(&service.heartbeats), Arc::clone(&service.offsets));
        let (records, ends) = (Arc::clone(&service.records), Arc::clone(&service.ends));
        let server = bind(Arc::new(service)).await;
        let addr = server.local_addr().to_string();
        Self { name, addr, script, sent, heartbeats, ends, offsets, records, server }
    }

    /// For [`Routes::set`].
    pub(crate) fn place(&self) -> (&str, &str) {
        (self.name, &self.addr)
    }

    /// How many connections have had a heartbeat or a message.
    pub(crate) fn connections(&self) -> usize {
        self.script.connections.lock().unwrap().len()
    }

    /// Closes every connection.
    pub(crate) fn hang_up(&self) {
        let connections = std::mem::take(&mut *self.script.connections.lock().unwrap());
        for (_, connection) in connections {
            connection.close();
        }
    }

    /// Tells every client, one-way.
    pub(crate) async fn tell_clients<R: Request>(&self, request: &R) {
        let connections: Vec<_> = self.script.connections.lock().unwrap().values().cloned().collect();
        for connection in connections {
            connection.send_oneway(request, Duration::from_secs(5)).await.unwrap();
        }
    }

    /// Asks some client.
    pub(crate) async fn ask_client<R: Request>(&self, request: &R) -> Result<R::Reply, RequestError> {
        let connection = self.script.connections.lock().unwrap().values().next().unwrap().clone();
        connection.call(request, Duration::from_secs(5)).await
    }

    pub(crate) fn sent(&self) -> usize {
        self.sent.lock().unwrap().len()
    }

    pub(crate) async fn stop(self) {
        self.server.shutdown(Duration::ZERO).await;
    }
}

async fn bind(service: Arc<dyn Service>) -> Server {
    let addr = SocketAddr::from(([127, 0, 0, 1], 0));
    Server::bind(addr, service, ServerOptions::new("fake")).await.unwrap()
}

/// A name server and one broker, which has the topic `orders`.
pub(crate) async fn one_broker() -> (FakeNameServer, FakeBroker) {
    let (name_server, broker) = (FakeNameServer::start().await, FakeBroker::start("broker-a").await);
    name_server.routes.set("orders", &[broker.place()]);
    (name_server, broker)
}

/// A name server and two brokers, which both have the topic `orders`.
pub(crate) async fn two_brokers() -> (FakeNameServer, FakeBroker, FakeBroker) {
    let (name_server, a) = one_broker().await;
    let b = FakeBroker::start("broker-b").await;
    name_server.routes.set("orders", &[a.place(), b.place()]);
    (name_server, a, b)
}

pub(crate) fn client(name_server: &FakeNameServer) -> ClientBuilder {
    Client::builder().name_servers([&name_server.addr])
}

pub(crate) fn producer(name_server: &FakeNameServer) -> ProducerBuilder {
    Producer::builder("producers").name_servers([&name_server.addr])
}

/// An address where nobody listens.
pub(crate) async fn dead_address() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

/// A record as brokers store it.
pub(crate) fn record(queue_offset: i64, sys_flag: SysFlag, tag: &str, body: &[u8]) -> Bytes {
    let mut out = Vec::new();
    let host = "127.0.0.1:10911".parse().unwrap();
    StoredMessage {
        topic: ByteString::from("orders"),
        queue_id: QueueId::ZERO,
        queue_offset: QueueOffset::new(queue_offset),
        physical_offset: LogPosition::new(queue_offset * 1000),
        flag: 0,
        sys_flag,
        born_timestamp: 1,
        born_host: host,
        store_timestamp: 2,
        store_host: host,
        reconsume_times: 0,
        prepared_transaction_offset: LogPosition::ZERO,
        body: Bytes::copy_from_slice(body),
        properties: Properties::EMPTY.with("TAGS", tag).unwrap(),
    }
    .encode(&mut out)
    .unwrap();
    out.into()
}
