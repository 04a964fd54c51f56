//! [`Broker`]: the store and the services on top of it, behind one listening socket.

mod client_service;
mod clients;
mod config_table;
mod consumer_filters;
mod consumer_offsets;
mod deferral;
mod delay_offsets;
mod delivered;
mod dispatch;
mod faults;
mod group_admin;
mod groups;
mod held_pulls;
mod member_relay;
mod offset_reset;
mod open_transactions;
mod pull;
mod queries;
mod queue_locks;
mod recall;
mod refusal;
mod registration;
mod reply;
mod schedule;
mod send;
mod send_back;
mod shared;
mod subscription;
mod tasks;
mod timers;
mod topic_admin;
mod topics;
mod transactions;
mod unknown_fields;

pub use self::clients::SubscriptionConflict;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use rocketmq_protocol::name::SCHEDULE_TOPIC;
use rocketmq_protocol::transport::{Clock, Server, ServerOptions};
use rocketmq_protocol::{RequestCode, ResponseCode};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{error, info};

use self::client_service::ClientService;
use self::clients::Clients;
use self::config_table::ConfigTable;
use self::consumer_filters::ConsumerFilters;
use self::consumer_offsets::ConsumerOffsets;
use self::deferral::{Deferral, TIMER_TOPIC};
use self::delay_offsets::DelayOffsets;
use self::dispatch::Dispatch;
use self::faults::{Faults, Faulty};
use self::group_admin::GroupAdmin;
use self::groups::Groups;
use self::held_pulls::HeldPulls;
use self::member_relay::MemberRelay;
use self::offset_reset::OffsetReset;
use self::pull::PullService;
use self::queries::QueryService;
use self::queue_locks::QueueLocks;
use self::recall::RecallService;
use self::registration::Registration;
use self::reply::ReplyService;
use self::schedule::Schedule;
use self::send::SendService;
use self::send_back::SendBackService;
use self::shared::Shared;
use self::tasks::Tasks;
use self::timers::Timers;
use self::topic_admin::TopicAdmin;
use self::topics::Topics;
use self::transactions::Transactions;
use crate::config::{BrokerConfig, ConfigError, FlushDisk};
use crate::store::{ConfigFileError, Disk, FlushMode, Store, StoreError, StoreOptions};

/// Why a broker does not start, or did not stop well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// A setting is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store does not open or close.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file of `config/` cannot be read or written.
    #[error(transparent)]
    ConfigFile(#[from] ConfigFileError),
    /// The listening address cannot be had.
    #[error("cannot listen on {addr}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The advertised host has no address.
    #[error("brokerIP1={host} cannot be resolved to an address; give one, or a name that resolves here")]
    AdvertisedHost {
        /// The host.
        host: String,
        /// Why, if the resolver said.
        #[source]
        source: Option<io::Error>,
    },
}

/// Builds a [`Broker`].
#[derive(Debug, Default)]
#[must_use = "a builder does nothing until it is started"]
pub struct BrokerBuilder {
    config: BrokerConfig,
    listen: Option<SocketAddr>,
    name_servers: Vec<String>,
    clock: Clock,
}

impl BrokerBuilder {
    /// Takes all settings at once.
    pub fn config(mut self, config: BrokerConfig) -> Self {
        self.config = config;
        self
    }

    /// Listens on this address instead of every interface and `listenPort`. Port 0 takes a free one.
    pub fn listen(mut self, addr: SocketAddr) -> Self {
        self.listen = Some(addr);
        self
    }

    /// Registers with these name servers, `host:port`, beside those of `namesrvAddr`.
    pub fn name_servers(mut self, addrs: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.name_servers.extend(addrs.into_iter().map(Into::into));
        self
    }

    /// Goes by this clock.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Opens the store, recovering it where needed, listens, and registers.
    ///
    /// # Errors
    /// See [`BrokerError`].
    pub async fn start(self) -> Result<Broker, BrokerError> {
        self.boxed().await
    }

    /// Compiled here, once: an `async fn` is compiled wherever it is awaited, and this one has the whole broker in it.
    fn boxed(self) -> BoxFuture<'static, Result<Broker, BrokerError>> {
        Box::pin(self.launch())
    }

    async fn launch(self) -> Result<Broker, BrokerError> {
        let Self { config, listen, mut name_servers, clock } = self;
        config.check()?;
        name_servers.extend(config.name_server_list());
        let config = Arc::new(config);
        let options = store_options(&config, &clock)?;
        let opening = tokio::task::spawn_blocking({
            let (config, clock) = (Arc::clone(&config), clock.clone());
            move || Opened::open(&config, options, &clock)
        });
        let opened =
            opening.await.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))?;
        opened.serve(config, listen, &name_servers, clock).await
    }
}

fn store_options(config: &BrokerConfig, clock: &Clock) -> Result<StoreOptions, BrokerError> {
    let mut options = StoreOptions::new(&config.store_root);
    if let Some(dir) = &config.commit_log_dir {
        options.commit_log_dir = dir.clone();
    }
    options.commit_log_file_size = config.commit_log_file_size;
    options.consume_queue_file_size = config.consume_queue_file_size;
    options.batch_queue_file_size = config.batch_queue_file_size;
    options.index = config.index;
    options.index_slots = config.index_slots;
    options.index_items = config.index_items;
    options.flush_mode = match config.flush_disk {
        FlushDisk::Async => FlushMode::Async,
        FlushDisk::Sync => FlushMode::Sync,
    };
    options.flush_interval = config.flush_interval_commit_log;
    options.queue_flush_interval = config.flush_interval_consume_queue;
    options.thorough_queue_flush_interval = config.flush_consume_queue_thorough_interval;
    options.sync_flush_timeout = config.sync_flush_timeout;
    options.busy_after = config.page_cache_busy_timeout;
    options.check_crc_on_recover = config.check_crc_on_recover;
    options.delay_levels = config.delay_levels()?;
    options.cleaning = config.cleaning_rules()?;
    let clock = clock.clone();
    options.clock = Arc::new(move || clock.now_ms());
    Ok(options)
}

/// What is read from disk before anything is served.
struct Opened {
    store: Store,
    disk: Disk,
    topics: Topics,
    groups: Groups,
    offsets: ConsumerOffsets,
    filters: ConsumerFilters,
    delay_offsets: DelayOffsets,
}

impl Opened {
    /// Blocks.
    fn open(config: &BrokerConfig, mut options: StoreOptions, clock: &Clock) -> Result<Self, BrokerError> {
        let disk = options.disk.clone();
        let table = |name| ConfigTable::new(&config.store_root, name);
        let topics = Topics::open(table("topics.json"), config, clock.clone())?;
        options.batch_topics = topics.of_batches();
        let store = Store::open(options)?;
        Ok(Self {
            topics,
            groups: Groups::open(table("subscriptionGroup.json"), config, clock.clone())?,
            offsets: ConsumerOffsets::open(table("consumerOffset.json"), clock.clone())?,
            filters: ConsumerFilters::open(table("consumerFilter.json"), clock.now_ms())?,
            delay_offsets: DelayOffsets::open(table("delayOffset.json"), clock.clone())?,
            store,
            disk,
        })
    }

    async fn serve(
        self,
        config: Arc<BrokerConfig>,
        listen: Option<SocketAddr>,
        name_servers: &[String],
        clock: Clock,
    ) -> Result<Broker, BrokerError> {
        let listen = listen.unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, config.listen_port)));
        let failed = |source| BrokerError::Listen { addr: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let local = listener.local_addr().map_err(failed)?;
        let host = config.advertised_host.clone().unwrap_or_else(|| own_address(local).to_string());
        let store_host = resolve(&host, local.port()).await?;
        let advertised = match host.parse::<IpAddr>() {
            Ok(ip) => SocketAddr::new(ip, local.port()).to_string(),
            Err(_) => format!("{host}:{}", local.port()),
        };

        let (store, topics, groups) = (Arc::new(self.store), Arc::new(self.topics), Arc::new(self.groups));
        let stop = CancellationToken::new();
        let delays = config.delay_levels()?;
        let max_timer = config.timer_wheel.then(|| Duration::from_secs(config.timer_max_delay));
        let deferral = Arc::new(Deferral::new(delays.len(), max_timer));
        let timers = Arc::new(Timers::new(
            Arc::clone(&store),
            clock.clone(),
            config.store_root.clone(),
            config.timer_log_file_size,
            i64::try_from(config.timer_roll_window).unwrap_or(i64::MAX),
            config.flush_disk == FlushDisk::Sync,
        ));
        let schedule = Arc::new(Schedule::new(
            Arc::clone(&store),
            self.delay_offsets,
            &delays,
            clock.clone(),
            config.flush_disk == FlushDisk::Sync,
            config.flush_delay_offset_interval,
        ));
        let clients = Arc::new(Clients::new(
            Arc::clone(&groups),
            clock.clone(),
            config.channel_expired_timeout,
            config.notify_consumer_ids_changed,
        ));
        let registration = Arc::new(Registration::new(
            Arc::clone(&config),
            Arc::clone(&topics),
            clock.clone(),
            name_servers,
            advertised.clone(),
        ));
        let with = Shared {
            config,
            store,
            topics,
            groups,
            clients,
            offsets: Arc::new(self.offsets),
            registration,
            deferral,
            tasks: Tasks::default(),
            clock,
            store_host,
        };
        let opening = tokio::task::spawn_blocking({
            let with = with.clone();
            move || Transactions::open(with)
        });
        let transactions =
            opening.await.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))?;
        let transactions = Arc::new(transactions);
        let held = Arc::new(HeldPulls::default());
        let pull = Arc::new(PullService { with: with.clone(), held: Arc::clone(&held) });
        with.store.on_arrival({
            // Weak: these have the store, and would keep each other, and the folder, when the broker is dropped.
            let (held, schedule, timers) =
                (Arc::clone(&held), Arc::downgrade(&schedule), Arc::downgrade(&timers));
            move |arrival| {
                held.arrived(arrival);
                if arrival.topic == SCHEDULE_TOPIC {
                    if let Some(schedule) = schedule.upgrade() {
                        schedule.arrived(arrival);
                    }
                }
                if arrival.topic == TIMER_TOPIC {
                    if let Some(timers) = timers.upgrade() {
                        timers.arrived();
                    }
                }
            }
        });
        let locks = Arc::new(QueueLocks::new(with.clock.clone()));
        let send = Arc::new(SendService::new(with.clone(), Arc::clone(&locks), Arc::clone(&transactions)));
        let dispatch = Dispatch {
            send: Arc::clone(&send),
            transactions: Arc::clone(&transactions),
            reply: Arc::new(ReplyService { with: with.clone(), send }),
            send_back: Arc::new(SendBackService { with: with.clone() }),
            recall: RecallService { with: with.clone() },
            locks,
            group_admin: Arc::new(GroupAdmin { with: with.clone() }),
            offset_reset: Arc::new(OffsetReset { with: with.clone(), held }),
            member_relay: Arc::new(MemberRelay { with: with.clone(), stop: stop.child_token() }),
            pull: Arc::clone(&pull),
            queries: Arc::new(QueryService { with: with.clone() }),
            client_service: ClientService { with: with.clone() },
            clients: Arc::clone(&with.clients),
            topic_admin: Arc::new(TopicAdmin { with: with.clone() }),
            tasks: with.tasks.clone(),
        };
        let faults = Arc::new(Faults::default());
        let service = Faulty {
            service: Arc::new(dispatch),
            faults: Arc::clone(&faults),
            clock: with.clock.clone(),
            tasks: with.tasks.clone(),
            stop: stop.child_token(),
        };
        let server =
            Server::serve(listener, Arc::new(service), ServerOptions::new("broker")).map_err(failed)?;

        let tasks = &with.tasks;
        tasks.spawn({
            let stop = stop.child_token();
            async move { pull.answer_held(stop).await }
        });
        tasks.spawn({
            let (registration, stop) = (Arc::clone(&with.registration), stop.child_token());
            async move { registration.run(stop).await }
        });
        tasks.spawn({
            let (with, filters, stop) = (with.clone(), self.filters, stop.child_token());
            async move { filters.keep(&with.clients, &with.clock, stop).await }
        });
        tasks.spawn({
            let (clients, stop) = (Arc::clone(&with.clients), stop.child_token());
            async move { clients.expire(stop).await }
        });
        tasks.spawn({
            let (clients, stop) = (Arc::clone(&with.clients), stop.child_token());
            async move { clients.tell_changes(stop).await }
        });
        tasks.spawn(Arc::clone(&schedule).run(stop.child_token()));
        if with.config.timer_wheel {
            tasks.spawn(timers.run(stop.child_token()));
        }
        tasks.spawn({
            let (schedule, stop) = (Arc::clone(&schedule), stop.child_token());
            async move { schedule.save_progress(stop).await }
        });
        tasks.spawn({
            let (transactions, stop) = (Arc::clone(&transactions), stop.child_token());
            async move { transactions.run(stop).await }
        });
        tasks.spawn(save_offsets(with.clone(), Arc::clone(&transactions), stop.child_token()));
        tasks.spawn(clean(with.clone(), stop.child_token()));
        with.registration.announce().await;
        info!(broker = with.config.broker_name, listen = %local, advertised, "broker started");
        Ok(Broker {
            with,
            disk: self.disk,
            schedule,
            faults,
            transactions,
            server,
            advertised,
            stop: stop.clone(),
            _end: stop.drop_guard(),
        })
    }
}

/// Writes changed offsets now and then, until `stop`.
async fn save_offsets(with: Shared, transactions: Arc<Transactions>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = with.clock.sleep(with.config.flush_consumer_offset_interval) => {}
        }
        transactions.note_progress();
        if let Err(error) = with.offsets.save().await {
            error!(error = &error as &dyn std::error::Error, "consumer offsets not saved, trying again");
        }
    }
}

/// Cleans the store now and then, until `stop`.
async fn clean(with: Shared, stop: CancellationToken) {
    let mut well = true;
    loop {
        let cleaning = tokio::task::spawn_blocking({
            let store = Arc::clone(&with.store);
            move || store.clean()
        });
        let cleaned =
            cleaning.await.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()));
        match cleaned {
            Err(error) if well => {
                error!(error = &error as &dyn std::error::Error, "store not cleaned, trying again");
                well = false;
            }
            cleaned => well = cleaned.is_ok(),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = with.clock.sleep(with.config.clean_resource_interval) => {}
        }
    }
}

/// A running broker. Dropping it is like killing its process: nothing acknowledged is lost, the next start recovers.
pub struct Broker {
    with: Shared,
    disk: Disk,
    schedule: Arc<Schedule>,
    faults: Arc<Faults>,
    transactions: Arc<Transactions>,
    server: Server,
    advertised: String,
    stop: CancellationToken,
    _end: DropGuard,
}

/// How long requests in progress may take when the broker stops.
const STOP_GRACE: Duration = Duration::from_secs(5);

impl Broker {
    /// A builder with the defaults of Java's broker.
    pub fn builder() -> BrokerBuilder {
        BrokerBuilder::default()
    }

    /// The address it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// `host:port` that clients are told.
    pub fn advertised_addr(&self) -> &str {
        &self.advertised
    }

    /// The settings in force.
    pub fn config(&self) -> &BrokerConfig {
        &self.with.config
    }

    /// The clock it goes by.
    pub fn clock(&self) -> &Clock {
        &self.with.clock
    }

    /// The message store, to look into without a consumer.
    pub fn store(&self) -> &Store {
        &self.with.store
    }

    /// The disk below the store: a test can make it full.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Refuses the next `times` requests of this kind with `code`, so that a test sees what its service makes of it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use rocketmq_broker_lite::{RequestCode, ResponseCode, Standalone};
    ///
    /// let cluster = Standalone::builder().start().await?;
    /// cluster.broker().fail_next(RequestCode::SEND_MESSAGE_V2, ResponseCode::SYSTEM_BUSY, 2);
    /// # cluster.shutdown().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn fail_next(&self, request: RequestCode, code: ResponseCode, times: usize) {
        self.faults.fail_next(request, code, times);
    }

    /// Serves every request of this kind only after `by`, by the broker's clock; zero ends that.
    pub fn delay(&self, request: RequestCode, by: Duration) {
        self.faults.delay(request, by);
    }

    /// The connected members of consumer groups that subscribe differently from others of their group: they share the queues, so each
    /// misses messages that only others want. The log has a warning for each.
    pub fn subscription_conflicts(&self) -> Vec<SubscriptionConflict> {
        self.with.clients.conflicts()
    }

    /// Half messages that are neither committed nor rolled back yet.
    pub fn open_transactions(&self) -> usize {
        self.transactions.count()
    }

    /// Leaves the name servers, answers what is in progress, flushes everything, and notes that the stop was clean.
    ///
    /// # Errors
    /// Something could not be written. The next start recovers then.
    pub async fn shutdown(self) -> Result<(), BrokerError> {
        self.stop.cancel();
        self.server.shutdown(STOP_GRACE).await;
        self.with.tasks.end().await;
        self.transactions.note_progress();
        self.with.offsets.save().await?;
        self.schedule.save().await?;
        let store = Arc::clone(&self.with.store);
        let closing = tokio::task::spawn_blocking(move || store.close());
        closing.await.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))?;
        info!(broker = self.with.config.broker_name, "broker stopped");
        Ok(())
    }
}

/// The address that others most likely reach `local` under.
fn own_address(local: SocketAddr) -> IpAddr {
    if !local.ip().is_unspecified() {
        return local.ip();
    }
    // Nothing is sent: connecting a datagram socket only asks the routing table.
    let outside = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    });
    outside.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |addr| addr.ip())
}

/// The address that records carry for the advertised host.
async fn resolve(host: &str, port: u16) -> Result<SocketAddr, BrokerError> {
    let failed = |source| BrokerError::AdvertisedHost { host: host.to_owned(), source };
    let mut found = tokio::net::lookup_host((host, port)).await.map_err(|source| failed(Some(source)))?;
    found.next().ok_or_else(|| failed(None))
}
