//! [`Client`]: what producers and consumers share: name servers, routes, connections, heartbeats, background tasks.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use futures_core::future::BoxFuture;
use rocketmq_protocol::body::MessageQueue;
use rocketmq_protocol::message::UniqueKeyGenerator;
use rocketmq_protocol::name::AUTO_CREATE_TOPIC;
use rocketmq_protocol::request::Request;
use rocketmq_protocol::requests::{GetConsumerListByGroup, GetRouteInfo};
use rocketmq_protocol::transport::{Connection, TransportOptions};
use rocketmq_protocol::{ByteString, ResponseCode};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info};

use crate::broker_requests::BrokerRequests;
use crate::client_builder::{ClientBuilder, Options};
use crate::connections::Connections;
use crate::deadline::Deadline;
use crate::heartbeat::Heartbeats;
use crate::members::{ConsumerRegistration, Members, ProducerRegistration, Role};
use crate::membership::Membership;
use crate::name_server::{NameServers, parse_list};
use crate::namespace::Namespace;
use crate::producer::AwaitedReplies;
use crate::route::TopicRoute;
use crate::route_table::{BrokerChoice, RouteTable};
use crate::{Error, discovery};

/// How often the list of name servers is fetched anew. Java: `MQClientInstance.java`, 2 min.
const DISCOVERY_INTERVAL: Duration = Duration::from_secs(120);
/// Routes refreshed at the same time by the timer.
const PARALLEL_REFRESHES: usize = 16;

/// What producers and consumers of one application share. Cheap to clone; nothing is shared between clients.
///
/// When the last clone goes, and with it everything built from it, the background tasks stop and the connections close
/// at once. [`Client::shutdown`] does it in good order.
///
/// ```no_run
/// # async fn example() -> Result<(), rocketmq_client::Error> {
/// use rocketmq_client::{Client, Message, Producer};
///
/// let client = Client::builder().name_servers(["127.0.0.1:9876"]).start().await?;
/// let producer = Producer::builder("order-service").client(&client).start().await?;
/// producer.send(Message::new("orders", "hello")).await?;
/// producer.shutdown().await;
/// client.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

/// What all clones of a client hold, and its tasks do not.
struct Handle {
    core: Arc<Core>,
}

/// The state of a client. Its tasks own it; they end when the last [`Handle`] goes.
pub(crate) struct Core {
    pub(crate) id: ByteString,
    /// An id that is the same after a restart: the one that was chosen, or Java's for clients without a name.
    pub(crate) lasting_id: String,
    pub(crate) options: Options,
    pub(crate) name_servers: NameServers,
    pub(crate) connections: Connections,
    pub(crate) routes: RouteTable,
    pub(crate) members: Arc<Members>,
    pub(crate) replies: Arc<AwaitedReplies>,
    pub(crate) heartbeats: Heartbeats,
    /// Routes name a broker that has had no heartbeat.
    pub(crate) brokers_changed: Notify,
    pub(crate) unique_keys: UniqueKeyGenerator,
    pub(crate) namespace: Namespace,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Client {
    /// Sets up a client.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::new()
    }

    /// Starts the tasks of a new client. `url` is where the name servers came from, if they are to be asked for again.
    pub(crate) fn launch(
        id: Option<String>,
        options: Options,
        transport: TransportOptions,
        name_servers: Vec<Arc<str>>,
        url: Option<String>,
    ) -> Self {
        let address = local_address();
        let process = std::process::id();
        let lasting_id = id.clone().unwrap_or_else(|| format!("{address}@DEFAULT"));
        let suffix = if options.streaming { "@STREAM" } else { "" };
        let id = id.unwrap_or_else(|| format!("{address}@{process}#{:016x}{suffix}", rand::random::<u64>()));
        let members = Arc::new(Members::default());
        let replies = Arc::new(AwaitedReplies::default());
        let service =
            Arc::new(BrokerRequests { members: Arc::clone(&members), replies: Arc::clone(&replies) });
        let stop = CancellationToken::new();
        let core = Arc::new(Core {
            id: id.into(),
            lasting_id,
            name_servers: NameServers::new(name_servers),
            connections: Connections::new(transport, service, stop.clone()),
            routes: RouteTable::new(),
            members,
            replies,
            heartbeats: Heartbeats::default(),
            brokers_changed: Notify::new(),
            unique_keys: UniqueKeyGenerator::new(address, process, rand::random()),
            namespace: options.namespace.clone(),
            options,
            tasks: TaskTracker::new(),
            stop,
        });
        debug!(client_id = %core.id, "client started");
        core.spawn(Arc::clone(&core).keep_routes());
        core.spawn(Arc::clone(&core).keep_heartbeats());
        if let Some(url) = url {
            core.spawn(Arc::clone(&core).keep_name_servers(url));
        }
        Self { handle: Arc::new(Handle { core }) }
    }

    /// What brokers know the client by.
    pub fn id(&self) -> &str {
        &self.core().id
    }

    /// The name servers as they are known now, `host:port` each; one that has not answered keeps its place.
    pub fn name_servers(&self) -> Arc<[Arc<str>]> {
        self.core().name_servers.addresses()
    }

    /// Replaces the name servers.
    ///
    /// # Errors
    /// [`Error::NoNameServer`] for an empty list; the old one stays.
    pub fn set_name_servers<S: AsRef<str>>(&self, addrs: impl IntoIterator<Item = S>) -> Result<(), Error> {
        let list: Vec<_> =
            addrs.into_iter().flat_map(|text| parse_list(text.as_ref()).collect::<Vec<_>>()).collect();
        if list.is_empty() {
            return Err(Error::NoNameServer);
        }
        self.core().name_servers.replace(list);
        Ok(())
    }

    /// Unregisters every group, stops the background tasks and closes the connections after what is queued was written.
    /// Calls under way fail. Producers and consumers built from it are better shut down first. May be called again.
    pub async fn shutdown(&self) {
        self.core().shutdown().await;
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.handle.core
    }
}

/// What producers and consumers are built on.
impl Client {
    /// Joins a producer group.
    pub(crate) fn register_producer(&self, producer: ProducerRegistration) -> Result<Membership, Error> {
        let group = producer.group.clone();
        self.core().members.add_producer(self.id(), producer)?;
        Ok(self.joined(Role::Producer, &group))
    }

    /// Joins a consumer group. Brokers hear of it at once; [`Client::heartbeat`] waits until they have.
    pub(crate) fn register_consumer(&self, consumer: ConsumerRegistration) -> Result<Membership, Error> {
        let group = consumer.group.clone();
        self.core().members.add_consumer(self.id(), consumer)?;
        Ok(self.joined(Role::Consumer, &group))
    }

    fn joined(&self, role: Role, group: &str) -> Membership {
        self.members_changed();
        Membership::new(Arc::clone(self.core()), role, group)
    }

    /// Makes brokers hear what the members say now: a subscription has changed.
    pub(crate) fn members_changed(&self) {
        self.core().heartbeats.outdated();
        self.core().brokers_changed.notify_one();
    }

    /// Tells every broker that has not heard of the members as they are. Returns how many know them now.
    pub(crate) async fn heartbeat(&self) -> usize {
        self.core().heartbeat().await
    }

    /// Cancelled when the client stops.
    pub(crate) fn stop_token(&self) -> CancellationToken {
        self.core().stop.child_token()
    }

    /// A deadline for a small request.
    pub(crate) fn request_deadline(&self) -> Deadline {
        Deadline::after(self.core().options.request_timeout)
    }

    /// The route of a topic: as cached, or asked for now.
    pub(crate) async fn route(&self, topic: &str, deadline: Deadline) -> Result<Arc<TopicRoute>, Error> {
        match self.core().routes.get(topic) {
            Some(route) => Ok(route),
            None => self.core().fetch_route(&topic.into(), deadline).await,
        }
    }

    /// Asks for a route again that is in doubt. A failure leaves it as it is.
    pub(crate) async fn refresh_route(&self, topic: &str, deadline: Deadline) {
        self.core().refresh_route(&topic.into(), deadline).await;
    }

    /// The queues of a topic that may be pulled from, sorted. Never an empty list for a failure.
    pub(crate) async fn subscribe_queues(
        &self,
        topic: &str,
        deadline: Deadline,
    ) -> Result<Vec<MessageQueue>, Error> {
        self.route(topic, deadline).await.map(|route| route.subscribe.clone())
    }

    /// A connection to one member of a broker group. When it cannot be reached where it was, the route of `topic`
    /// is asked for again.
    pub(crate) async fn broker(
        &self,
        topic: &str,
        broker: &str,
        choice: BrokerChoice,
        deadline: Deadline,
    ) -> Result<Connection, Error> {
        self.core().broker(topic, broker, choice, deadline).await
    }

    /// Calls one member of a broker group.
    pub(crate) async fn call_broker<R: Request>(
        &self,
        topic: &str,
        broker: &str,
        choice: BrokerChoice,
        request: &R,
        deadline: Deadline,
    ) -> Result<R::Reply, Error> {
        let connection = self.broker(topic, broker, choice, deadline).await?;
        Ok(connection.call(request, deadline.left()).await?)
    }

    /// The ids of all clients in a consumer group, as one broker of the topic knows them.
    ///
    /// A broker that knows no member refuses: that is an error too, never an empty list.
    pub(crate) async fn consumer_ids(
        &self,
        group: &str,
        topic: &str,
        deadline: Deadline,
    ) -> Result<Vec<String>, Error> {
        let route = self.route(topic, deadline).await?;
        let broker =
            route.any_broker().ok_or_else(|| Error::NoQueue { topic: topic.to_owned(), wanted: "read" })?;
        let request = GetConsumerListByGroup { consumer_group: group.into() };
        let choice = BrokerChoice::MasterOrReplica;
        let reply = self.call_broker(topic, &broker.broker_name, choice, &request, deadline).await?;
        Ok(reply.consumers.consumer_id_list)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.core.stop.cancel();
    }
}

/// Runs `work` until it is done or `stop` is cancelled; then it is dropped where it waits. In a box: tokio's code for a
/// task is compiled for each type of one.
pub(crate) fn spawn_until(
    tasks: &TaskTracker,
    stop: &CancellationToken,
    work: impl Future<Output = ()> + Send + 'static,
) {
    let stop = stop.clone();
    let work: BoxFuture<'static, ()> = Box::pin(work);
    tasks.spawn(async move { stop.run_until_cancelled(work).await.unwrap_or_default() });
}

impl Core {
    /// Runs `work` until it is done or the client stops; then it is dropped where it waits.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        spawn_until(&self.tasks, &self.stop, work);
    }

    async fn shutdown(&self) {
        let groups = self.members.take_all();
        for (role, group) in groups {
            self.unregister(role, &group).await;
        }
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.connections.shutdown().await;
        debug!(client_id = %self.id, "client stopped");
    }

    /// Refreshes every route now and then until it is dropped.
    async fn keep_routes(self: Arc<Self>) {
        let mut known_before = BTreeSet::new();
        loop {
            // Not at once: what has just been asked for would be asked for again.
            tokio::time::sleep(self.options.route_interval).await;
            let mut topics = self.routes.topics();
            topics.extend(self.members.subscribed_topics().into_iter().map(ByteString::from));
            let mut refreshing = JoinSet::new();
            for topic in topics {
                if refreshing.len() >= PARALLEL_REFRESHES {
                    refreshing.join_next().await;
                }
                let core = Arc::clone(&self);
                refreshing.spawn(async move {
                    let deadline = Deadline::after(core.options.request_timeout);
                    core.refresh_route(&topic, deadline).await;
                });
            }
            while refreshing.join_next().await.is_some() {}
            let mut known = self.routes.all_addresses(true);
            known.extend(self.name_servers.addresses().iter().cloned());
            self.connections.close(known_before.difference(&known));
            known_before = known;
        }
    }

    async fn keep_name_servers(self: Arc<Self>, url: String) {
        loop {
            tokio::time::sleep(DISCOVERY_INTERVAL).await;
            match discovery::fetch(&url).await {
                Ok(list) => self.name_servers.replace(list),
                Err(error) => info!(%error, "name servers kept as they were"),
            }
        }
    }

    /// Asks the name servers for the route of a topic. Whatever they answer, a cached route stays or gets newer.
    ///
    /// In a box: what is rare need not be part of every future that may come to it.
    pub(crate) fn fetch_route<'a>(
        &'a self,
        topic: &'a ByteString,
        deadline: Deadline,
    ) -> BoxFuture<'a, Result<Arc<TopicRoute>, Error>> {
        let asking = self.routes.fetching.run(topic, || self.ask_for_route(topic));
        Box::pin(async move { deadline.run("asking for the route", asking).await? })
    }

    async fn ask_for_route(&self, topic: &ByteString) -> Result<Arc<TopicRoute>, Error> {
        let request = GetRouteInfo { topic: topic.clone(), accept_standard_json_only: Some(true) };
        // Less than the callers have, as a rule, so that they learn who did not answer.
        let deadline = Deadline::after(self.options.request_timeout * 3 / 4);
        let (server, answer) = self.name_servers.call(&self.connections, &request, deadline).await?;
        let missing = || Error::TopicNotFound {
            topic: topic.to_string(),
            name_server: server.to_string(),
            auto_create_tried: false,
        };
        let route = match answer {
            Ok(reply) => reply.route.route,
            Err(error) if error.response_code() == Some(ResponseCode::TOPIC_NOT_EXIST) => {
                return Err(missing());
            }
            Err(error) => return Err(error),
        };
        if route.queue_datas.is_empty() || route.broker_datas.is_empty() {
            return Err(missing());
        }
        let (route, has_news) = self.routes.store(topic, route);
        if has_news {
            self.brokers_changed.notify_one();
        }
        Ok(route)
    }

    /// The route to send to a topic by. One that does not exist yet gets the queues it will be created with, where
    /// brokers create topics on their own.
    pub(crate) async fn route_to_send(
        &self,
        topic: &ByteString,
        default_queues: i32,
        deadline: Deadline,
    ) -> Result<Arc<TopicRoute>, Error> {
        match self.routes.to_send(topic) {
            Some(route) => Ok(route),
            None => Box::pin(self.fetch_route_to_send(topic, default_queues, deadline)).await,
        }
    }

    async fn fetch_route_to_send(
        &self,
        topic: &ByteString,
        default_queues: i32,
        deadline: Deadline,
    ) -> Result<Arc<TopicRoute>, Error> {
        match self.fetch_route(topic, deadline).await {
            Err(Error::TopicNotFound { topic: name, name_server, .. }) => {
                match self.fetch_route(&ByteString::from_static(AUTO_CREATE_TOPIC), deadline).await {
                    Ok(template) => Ok(self.routes.store_template(topic, &template, default_queues)),
                    Err(Error::TopicNotFound { .. }) => {
                        Err(Error::TopicNotFound { topic: name, name_server, auto_create_tried: true })
                    }
                    Err(error) => Err(error),
                }
            }
            route => route,
        }
    }

    /// Asks for a route again, because it is time or because it is in doubt. A failure leaves it as it is.
    pub(crate) async fn refresh_route(&self, topic: &ByteString, deadline: Deadline) {
        match self.fetch_route(topic, deadline).await {
            Ok(_) => {}
            Err(Error::TopicNotFound { .. }) if self.routes.has_template(topic) => {
                self.refresh_template(topic, deadline).await;
            }
            Err(error) => debug!(%topic, %error, "route not refreshed"),
        }
    }

    async fn refresh_template(&self, topic: &ByteString, deadline: Deadline) {
        let Some(old) = self.routes.to_send(topic) else { return };
        let queues =
            old.data.queue_datas.iter().map(|queues| queues.write_queue_nums).max().unwrap_or_default();
        match self.fetch_route(&ByteString::from_static(AUTO_CREATE_TOPIC), deadline).await {
            Ok(template) => drop(self.routes.store_template(topic, &template, queues)),
            Err(error) => debug!(%topic, %error, "route not refreshed"),
        }
    }

    pub(crate) async fn broker(
        &self,
        topic: &str,
        broker: &str,
        choice: BrokerChoice,
        deadline: Deadline,
    ) -> Result<Connection, Error> {
        match self.connected(broker, choice) {
            Some(connection) => Ok(connection),
            None => Box::pin(self.connect_broker(topic, broker, choice, deadline)).await,
        }
    }

    /// The open connection to one member of a broker group, if there is one.
    pub(crate) fn connected(&self, broker: &str, choice: BrokerChoice) -> Option<Connection> {
        self.connections.get(&self.routes.address(broker, choice)?)
    }

    async fn connect_broker(
        &self,
        topic: &str,
        broker: &str,
        choice: BrokerChoice,
        deadline: Deadline,
    ) -> Result<Connection, Error> {
        let tried = self.routes.address(broker, choice);
        let failure = match &tried {
            // An address that swallows packets must leave time for the one it has moved to.
            Some(addr) => match self.connections.connect(addr, deadline.share(2)).await {
                Err(error) if error.doubts_route() => error,
                connected => return connected,
            },
            None => Error::BrokerNotFound { broker: broker.to_owned(), wanted: choice.wanted() },
        };
        self.refresh_route(&topic.into(), deadline.share(2)).await;
        match self.routes.address(broker, choice) {
            Some(addr) if Some(&addr) != tried.as_ref() => self.connections.connect(&addr, deadline).await,
            _ => Err(failure),
        }
    }
}

/// The address of this machine by which it reaches others. Nothing is sent: connecting a UDP socket only looks up the
/// way.
fn local_address() -> IpAddr {
    let probe = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?; // TEST-NET-1: anywhere outside
        socket.local_addr()
    };
    probe().map_or(Ipv4Addr::LOCALHOST.into(), |local: std::net::SocketAddr| local.ip())
}
