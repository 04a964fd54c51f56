//! [`Dispatch`]: takes each request to what answers it, by its code.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use rocketmq_protocol::body::{
    BrokerMemberGroupBody, KvTable, Perm, RegisterBrokerBody, TopicList, TopicRouteData,
};
use rocketmq_protocol::name::AUTO_CREATE_TOPIC;
use rocketmq_protocol::request::{Done, PayloadError, Request};
use rocketmq_protocol::requests::*;
use rocketmq_protocol::transport::{Call, Clock, Connection, Service};
use rocketmq_protocol::{ResponseCode, Version};
use tokio::sync::Notify;
use tracing::{debug, info};

use crate::kv_config::{Change, KvConfig};
use crate::properties::Properties;
use crate::route_table::{Departed, RouteTable, UNIT, UNIT_SUBSCRIPTION};
use crate::settings::{Settings, UpdateError};

/// Namespace of the key-value configuration that holds `broker:queues;…` by strictly ordered topic.
/// Java: `NamesrvUtil.NAMESPACE_ORDER_TOPIC_CONFIG`.
const ORDER_TOPICS: &str = "ORDER_TOPIC_CONFIG";

/// Header field of a registration, from brokers that were told their zone. Java: `MixAll.ZONE_NAME`.
const ZONE_NAME: &str = "__ZONE_NAME";

/// A registration longer than this is read on a thread of its own: a megabyte of JSON takes some 10 ms.
const LONG_REGISTRATION: usize = 64 * 1024;

/// The brokers and topics that all connections share.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    /// Held for one lookup or change, never while waiting.
    table: RwLock<RouteTable<Connection>>,
    /// A deadline may be earlier than before.
    pub(crate) deadline_moved: Notify,
}

impl Routes {
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, RouteTable<Connection>> {
        // A change is complete or, after a panic, lacks a broker that will register again.
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, RouteTable<Connection>> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The service behind every connection.
pub(crate) struct Dispatch {
    inner: Arc<Inner>,
}

struct Inner {
    routes: Arc<Routes>,
    kv: KvConfig,
    /// Replaced as a whole when an operator changes one.
    settings: RwLock<Settings>,
    clock: Clock,
    started_ms: i64,
}

/// Why a request is refused.
struct Refusal(ResponseCode, String);

impl From<PayloadError> for Refusal {
    fn from(error: PayloadError) -> Self {
        Self(ResponseCode::INVALID_PARAMETER, with_sources(&error))
    }
}

impl Dispatch {
    pub(crate) fn new(routes: Arc<Routes>, kv: KvConfig, settings: Settings, clock: Clock) -> Self {
        let started_ms = clock.now_ms();
        Self { inner: Arc::new(Inner { routes, kv, settings: RwLock::new(settings), clock, started_ms }) }
    }
}

impl Service for Dispatch {
    fn serve(&self, call: Call) {
        let inner = &*self.inner;
        match call.frame().request_code() {
            RegisterBroker::CODE if call.frame().body.len() > LONG_REGISTRATION => {
                let inner = Arc::clone(&self.inner);
                // The server waits for its calls when it shuts down, and so for this.
                drop(tokio::task::spawn_blocking(move || inner.answer(&call, Inner::register_broker)));
            }
            RegisterBroker::CODE => inner.answer(&call, Inner::register_broker),
            UnregisterBroker::CODE => inner.answer(&call, Inner::unregister_broker),
            BrokerHeartbeat::CODE => inner.answer(&call, Inner::heartbeat),
            QueryDataVersion::CODE => inner.answer(&call, Inner::query_data_version),
            RegisterTopic::CODE => inner.answer(&call, Inner::register_topic),
            GetRouteInfo::CODE => inner.answer(&call, Inner::route),
            GetClusterInfo::CODE => inner.answer(&call, Inner::clusters),
            GetBrokerMemberGroup::CODE => inner.answer(&call, Inner::member_group),
            GetAllTopicList::CODE => inner.answer(&call, Inner::all_topics),
            GetTopicsByCluster::CODE => inner.answer(&call, Inner::topics_of_cluster),
            GetSystemTopicList::CODE => inner.answer(&call, Inner::system_topics),
            GetUnitTopicList::CODE => inner.answer(&call, Inner::unit_topics),
            GetHasUnitSubTopicList::CODE => inner.answer(&call, Inner::unit_subscription_topics),
            GetHasUnitSubUnunitTopicList::CODE => inner.answer(&call, Inner::unit_subscription_only_topics),
            DeleteTopicInNameServer::CODE => inner.answer(&call, Inner::delete_topic),
            WipeWritePermission::CODE => inner.answer(&call, Inner::wipe_write_permission),
            AddWritePermission::CODE => inner.answer(&call, Inner::add_write_permission),
            GetKvConfig::CODE => inner.answer(&call, Inner::kv_value),
            GetKvListByNamespace::CODE => inner.answer(&call, Inner::kv_namespace),
            PutKvConfig::CODE => inner.change_kv(call, |put: PutKvConfig| Change {
                namespace: put.namespace.to_string(),
                key: put.key.to_string(),
                value: Some(put.value.to_string()),
            }),
            DeleteKvConfig::CODE => inner.change_kv(call, |delete: DeleteKvConfig| Change {
                namespace: delete.namespace.to_string(),
                key: delete.key.to_string(),
                value: None,
            }),
            UpdateNameServerConfig::CODE => inner.answer(&call, Inner::update_settings),
            GetNameServerConfig::CODE => inner.answer(&call, Inner::settings_text),
            code => {
                let remark = format!("a name server does not serve requests of type {code}");
                call.refuse(ResponseCode::REQUEST_CODE_NOT_SUPPORTED, remark);
            }
        }
    }

    fn disconnected(&self, connection: &Connection) {
        let departed = self.inner.routes.write().disconnected(connection);
        for Departed { broker, id, addr, .. } in departed {
            info!(%broker, id, %addr, "broker gone: connection closed");
        }
    }
}

impl Inner {
    fn answer<R: Request>(
        &self,
        call: &Call,
        handle: impl FnOnce(&Self, &Call, R) -> Result<R::Reply, Refusal>,
    ) {
        debug!(code = %call.frame().request_code(), peer = %call.connection().peer(), "request");
        match call.read::<R>().map_err(Refusal::from).and_then(|request| handle(self, call, request)) {
            Ok(reply) => call.reply(&reply),
            Err(Refusal(code, remark)) => call.refuse(code, remark),
        }
    }

    fn settings(&self) -> Settings {
        *self.settings.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What brokers ask.
impl Inner {
    fn register_broker(&self, call: &Call, request: RegisterBroker) -> Result<RegisterBrokerReply, Refusal> {
        let named = [
            ("brokerName", &request.broker_name),
            ("brokerAddr", &request.broker_addr),
            ("clusterName", &request.cluster_name),
        ];
        if let Some((field, _)) = named.iter().find(|(_, value)| value.trim().is_empty()) {
            let remark = format!("register broker failed: header field {field:?} is empty");
            return Err(Refusal(ResponseCode::INVALID_PARAMETER, remark));
        }
        let failed = |remark| Refusal(ResponseCode::SYSTEM_ERROR, remark);
        if request.body_crc32 != 0 {
            let actual = crc32fast::hash(&request.body) & 0x7fff_ffff;
            if actual != request.body_crc32 {
                let remark = format!(
                    "crc32 not match: bodyCrc32 is {}, that of the body {actual}",
                    request.body_crc32
                );
                return Err(failed(remark));
            }
        }
        let body = if request.body.is_empty() {
            RegisterBrokerBody::default()
        } else {
            RegisterBrokerBody::decode(&request.body)
                .map_err(|error| failed(format!("register broker failed: {}", with_sources(&error))))?
        };
        let zone =
            call.frame().fields.get(ZONE_NAME).and_then(|zone| zone.as_str()).filter(|zone| !zone.is_empty());
        let settings = self.settings();
        let connection = call.connection().clone();
        let mut table = self.routes.write();
        if connection.is_closed() {
            // The broker is gone, and whoever removes it may have been here already.
            return Err(failed("register broker failed: connection closed".to_owned()));
        }
        let registered = table
            .register(&request, zone, body, connection, settings.drop_stale_topics, self.clock.now_ms())
            .map_err(|refused| failed(refused.to_string()))?;
        drop(table);
        self.routes.deadline_moved.notify_one();
        if registered.new {
            let (broker, id, addr) = (request.broker_name, request.broker_id, request.broker_addr);
            info!(%broker, id, %addr, cluster = %request.cluster_name, "broker registered");
        }
        let (master_addr, ha_server_addr) = registered.master.unzip();
        let order_topics = if settings.return_order_topics {
            self.kv.snapshot().get(ORDER_TOPICS).map(|table| KvTable { table: table.clone() })
        } else {
            None
        };
        Ok(RegisterBrokerReply {
            ha_server_addr: ha_server_addr.map(Into::into),
            master_addr: master_addr.map(Into::into),
            order_topics,
        })
    }

    fn unregister_broker(&self, _: &Call, request: UnregisterBroker) -> Result<Done, Refusal> {
        let departed = self.routes.write().unregister(&request.broker_name, &request.broker_addr);
        if let Some(Departed { broker, id, addr, .. }) = departed {
            info!(%broker, id, %addr, "broker gone: unregistered");
        }
        Ok(Done {})
    }

    fn heartbeat(&self, _: &Call, request: BrokerHeartbeat) -> Result<Done, Refusal> {
        let now_ms = self.clock.now_ms();
        let BrokerHeartbeat { broker_name, broker_addr, heartbeat_timeout_ms, .. } = request;
        self.routes.write().seen(&broker_name, &broker_addr, heartbeat_timeout_ms, now_ms);
        if heartbeat_timeout_ms.is_some() {
            self.routes.deadline_moved.notify_one();
        }
        Ok(Done {})
    }

    fn query_data_version(
        &self,
        _: &Call,
        request: QueryDataVersion,
    ) -> Result<QueryDataVersionReply, Refusal> {
        let now_ms = self.clock.now_ms();
        let mut table = self.routes.write();
        table.seen(&request.broker_name, &request.broker_addr, None, now_ms);
        let version = table.version(&request.broker_name, &request.broker_addr);
        Ok(QueryDataVersionReply { changed: version != Some(request.version), version })
    }

    fn register_topic(&self, _: &Call, request: RegisterTopic) -> Result<Done, Refusal> {
        let registered = self.routes.write().register_topic(&request.topic, request.route.route.queue_datas);
        registered.map(|()| Done {}).map_err(|unknown| {
            let remark =
                format!("topic {} is not registered: no broker {unknown} is known here", request.topic);
            Refusal(ResponseCode::SYSTEM_ERROR, remark)
        })
    }
}

/// What clients ask.
impl Inner {
    fn route(&self, call: &Call, request: GetRouteInfo) -> Result<GetRouteInfoReply, Refusal> {
        let settings = self.settings();
        if settings.withholds_routes(self.clock.now_ms().saturating_sub(self.started_ms)) {
            let seconds = settings.wait_seconds;
            let remark =
                format!("name server not ready: it collects brokers for {seconds} s after its start");
            return Err(Refusal(ResponseCode::SYSTEM_ERROR, remark));
        }
        // A group asks for its members in this way; it is not to be shown a master it does not have.
        let acting_master = settings.acting_master && !request.topic.starts_with(SYNC_MEMBERS_PREFIX);
        let table = self.routes.read();
        let Some(route) = table.route(&request.topic, acting_master) else {
            return Err(Refusal(ResponseCode::TOPIC_NOT_EXIST, no_route(&request.topic, &table)));
        };
        drop(table);
        let order_topic_conf = if settings.order_messages {
            self.kv
                .snapshot()
                .get(ORDER_TOPICS)
                .and_then(|topics| topics.get(request.topic.as_str()).cloned())
        } else {
            None
        };
        let standard_json =
            call.frame().version >= Version::V4_9_4 || request.accept_standard_json_only.unwrap_or(false);
        let route = TopicRouteData { order_topic_conf, ..route };
        Ok(GetRouteInfoReply { route: RouteBody { route, standard_json } })
    }

    fn clusters(&self, _: &Call, _: GetClusterInfo) -> Result<GetClusterInfoReply, Refusal> {
        Ok(GetClusterInfoReply { clusters: self.routes.read().clusters() })
    }

    fn member_group(
        &self,
        _: &Call,
        request: GetBrokerMemberGroup,
    ) -> Result<GetBrokerMemberGroupReply, Refusal> {
        let group = self.routes.read().member_group(&request.cluster_name, &request.broker_name);
        Ok(GetBrokerMemberGroupReply { group: BrokerMemberGroupBody { broker_member_group: Some(group) } })
    }
}

/// What operators ask.
impl Inner {
    fn all_topics(&self, _: &Call, _: GetAllTopicList) -> Result<TopicListReply, Refusal> {
        self.require(self.settings().all_topic_list, "enableAllTopicList")?;
        Ok(topics(self.routes.read().topics()))
    }

    fn topics_of_cluster(&self, _: &Call, request: GetTopicsByCluster) -> Result<TopicListReply, Refusal> {
        self.require(self.settings().topic_list, "enableTopicList")?;
        Ok(topics(self.routes.read().topics_of_cluster(&request.cluster)))
    }

    fn system_topics(&self, _: &Call, _: GetSystemTopicList) -> Result<TopicListReply, Refusal> {
        let clusters = self.routes.read().clusters();
        let mut list = TopicList::default();
        for (cluster, brokers) in clusters.cluster_addr_table {
            list.topic_list.push(cluster);
            list.topic_list.extend(brokers);
        }
        let addrs = clusters.broker_addr_table.into_values();
        list.broker_addr = addrs.flat_map(|broker| broker.broker_addrs.into_values()).next();
        Ok(TopicListReply { topics: list })
    }

    fn unit_topics(&self, _: &Call, _: GetUnitTopicList) -> Result<TopicListReply, Refusal> {
        self.topics_by_flags(|flags| flags & UNIT != 0)
    }

    fn unit_subscription_topics(
        &self,
        _: &Call,
        _: GetHasUnitSubTopicList,
    ) -> Result<TopicListReply, Refusal> {
        self.topics_by_flags(|flags| flags & UNIT_SUBSCRIPTION != 0)
    }

    fn unit_subscription_only_topics(
        &self,
        _: &Call,
        _: GetHasUnitSubUnunitTopicList,
    ) -> Result<TopicListReply, Refusal> {
        self.topics_by_flags(|flags| flags & UNIT_SUBSCRIPTION != 0 && flags & UNIT == 0)
    }

    fn topics_by_flags(&self, wanted: impl Fn(i32) -> bool) -> Result<TopicListReply, Refusal> {
        self.require(self.settings().topic_list, "enableTopicList")?;
        Ok(topics(self.routes.read().topics_by_flags(wanted)))
    }

    fn require(&self, enabled: bool, key: &str) -> Result<(), Refusal> {
        if enabled {
            return Ok(());
        }
        Err(Refusal(ResponseCode::SYSTEM_ERROR, format!("disable: {key} is false on this name server")))
    }

    fn delete_topic(&self, _: &Call, request: DeleteTopicInNameServer) -> Result<Done, Refusal> {
        let cluster = request.cluster.as_deref().filter(|cluster| !cluster.is_empty());
        self.routes.write().delete_topic(&request.topic, cluster);
        info!(topic = %request.topic, cluster, "topic deleted");
        Ok(Done {})
    }

    fn wipe_write_permission(
        &self,
        _: &Call,
        request: WipeWritePermission,
    ) -> Result<WipeWritePermissionReply, Refusal> {
        let topics = self.change_perm(&request.broker_name, |perm| perm.without(Perm::WRITE));
        Ok(WipeWritePermissionReply { topics })
    }

    fn add_write_permission(
        &self,
        _: &Call,
        request: AddWritePermission,
    ) -> Result<AddWritePermissionReply, Refusal> {
        let topics = self.change_perm(&request.broker_name, |_| Perm::READ_WRITE);
        Ok(AddWritePermissionReply { topics })
    }

    fn change_perm(&self, broker: &str, change: impl Fn(Perm) -> Perm) -> i32 {
        let topics = self.routes.write().change_perm(broker, change);
        info!(broker, topics, "write permission changed");
        i32::try_from(topics).unwrap_or(i32::MAX)
    }

    fn kv_value(&self, _: &Call, request: GetKvConfig) -> Result<GetKvConfigReply, Refusal> {
        let GetKvConfig { namespace, key } = request;
        let snapshot = self.kv.snapshot();
        match snapshot.get(namespace.as_str()).and_then(|table| table.get(key.as_str())) {
            Some(value) => Ok(GetKvConfigReply { value: Some(value.into()) }),
            None => {
                let remark = format!("No config item, Namespace: {namespace} Key: {key}");
                Err(Refusal(ResponseCode::QUERY_NOT_FOUND, remark))
            }
        }
    }

    fn kv_namespace(
        &self,
        _: &Call,
        request: GetKvListByNamespace,
    ) -> Result<GetKvListByNamespaceReply, Refusal> {
        match self.kv.snapshot().get(request.namespace.as_str()) {
            Some(table) => Ok(GetKvListByNamespaceReply { table: KvTable { table: table.clone() } }),
            None => {
                let remark = format!("No config item, Namespace: {}", request.namespace);
                Err(Refusal(ResponseCode::QUERY_NOT_FOUND, remark))
            }
        }
    }

    /// Answers once the change is on disk.
    fn change_kv<R: Request>(&self, call: Call, to_change: impl FnOnce(R) -> Change) {
        let change = match call.read::<R>() {
            Ok(request) => to_change(request),
            Err(error) => {
                let Refusal(code, remark) = error.into();
                return call.refuse(code, remark);
            }
        };
        self.kv.change(change, move |written| match written {
            Ok(()) => call.done(),
            Err(error) => {
                call.refuse(ResponseCode::SYSTEM_ERROR, with_sources(&error));
            }
        });
    }

    fn update_settings(&self, call: &Call, request: UpdateNameServerConfig) -> Result<Done, Refusal> {
        let refused = |remark| Refusal(ResponseCode::INVALID_PARAMETER, remark);
        let text = std::str::from_utf8(&request.properties).map_err(|error| refused(error.to_string()))?;
        let properties = Properties::parse(text).map_err(|error| refused(error.to_string()))?;
        let mut settings = self.settings.write().unwrap_or_else(PoisonError::into_inner);
        let changed = settings.updated(&properties).map_err(|error| {
            let code = match error {
                UpdateError::Protected { .. } => ResponseCode::NO_PERMISSION,
                _ => ResponseCode::INVALID_PARAMETER,
            };
            Refusal(code, with_sources(&error))
        })?;
        *settings = changed;
        info!(peer = %call.connection().peer(), changes = ?text.trim(), "settings changed until the next start");
        Ok(Done {})
    }

    fn settings_text(
        &self,
        call: &Call,
        _: GetNameServerConfig,
    ) -> Result<GetNameServerConfigReply, Refusal> {
        let mut text = self.settings().to_string();
        text += &format!("listenPort={}\n", call.connection().local().port());
        if let Some(path) = self.kv.path() {
            text += &format!("kvConfigPath={}\n", path.display());
        }
        Ok(GetNameServerConfigReply { properties: Bytes::from(text) })
    }
}

/// Begins the topic whose route a broker group asks for to learn its members. Java:
/// `TopicValidator.SYNC_BROKER_MEMBER_GROUP_PREFIX`.
const SYNC_MEMBERS_PREFIX: &str = "rmq_sys_SYNC_BROKER_MEMBER_";

fn topics(topic_list: Vec<String>) -> TopicListReply {
    TopicListReply { topics: TopicList { broker_addr: None, topic_list } }
}

/// What is missing for a topic to have a route, as far as a name server can tell.
fn no_route<C: PartialEq>(topic: &str, table: &RouteTable<C>) -> String {
    const SHOWN: usize = 5;
    let topic: String = topic.chars().take(256).collect();
    let brokers: Vec<_> = table.broker_names().take(SHOWN + 1).collect();
    let why = if brokers.is_empty() {
        "no broker is registered here; see that the brokers run and that their namesrvAddr names this server"
            .to_owned()
    } else {
        let more = if brokers.len() > SHOWN { ", …" } else { "" };
        let known = brokers.get(..SHOWN).unwrap_or(&brokers).join(", ");
        // Brokers register the template of automatic topics only while they create such topics.
        let hint = if table.has_topic(AUTO_CREATE_TOPIC) {
            "the first message sent to it creates it, or create it with mqadmin updateTopic"
        } else {
            "create it with mqadmin updateTopic; sending creates it only on brokers with autoCreateTopicEnable=true, and no broker here has that"
        };
        format!("none of the registered brokers ({known}{more}) has it; {hint}")
    };
    format!("No topic route info in name server for the topic: {topic}: {why}")
}

/// An error and what caused it, in one line.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}
