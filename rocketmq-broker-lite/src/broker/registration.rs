//! [`Registration`]: tells every name server what this broker is and holds, every 30 s, at each change, and when one comes back.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, select_all};
use rocketmq_protocol::body::{Perm, RegisterBrokerBody};
use rocketmq_protocol::request::Request;
use rocketmq_protocol::requests::{RegisterBroker, UnregisterBroker};
use rocketmq_protocol::transport::{
    Call, Clock, Connection, Connector, RequestError, Service, TransportOptions,
};
use rocketmq_protocol::{ByteString, ResponseCode};
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::topics::Topics;
use crate::config::BrokerConfig;

/// Time that leaving may take: a name server that is gone must not hold up the stop.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// Time to the next attempt at a name server that is gone or was not told: one that comes back knows nobody. Java waits for
/// the next round.
const AGAIN: Duration = Duration::from_secs(2);

/// How long a change waits to be told before whoever made it goes on.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(1);

/// The broker's side of the name servers.
pub(super) struct Registration {
    config: Arc<BrokerConfig>,
    topics: Arc<Topics>,
    clock: Clock,
    connector: Connector,
    servers: Vec<NameServer>,
    /// Rounds asked for, and rounds ended.
    asked: watch::Sender<u64>,
    ended: watch::Sender<u64>,
    /// `host:port` that clients are told.
    advertised: String,
}

struct NameServer {
    addr: String,
    /// Held while connecting or looking at the connection; registrations of one server come one after the other.
    connection: Mutex<Option<Connection>>,
    /// Whether the last registration went well; a change of this is worth a line in the log.
    well: watch::Sender<Option<bool>>,
}

/// Name servers ask brokers nothing that this one serves.
struct NoService;

impl Service for NoService {
    fn serve(&self, call: Call) {
        let code = call.frame().request_code();
        call.refuse(
            ResponseCode::REQUEST_CODE_NOT_SUPPORTED,
            format!(" request type {} not supported", code.get()),
        );
    }
}

impl Registration {
    pub(super) fn new(
        config: Arc<BrokerConfig>,
        topics: Arc<Topics>,
        clock: Clock,
        name_servers: &[String],
        advertised: String,
    ) -> Self {
        let servers = name_servers
            .iter()
            .map(|addr| NameServer {
                addr: addr.clone(),
                connection: Mutex::default(),
                well: watch::Sender::new(None),
            })
            .collect();
        Self {
            config,
            topics,
            clock,
            connector: Connector::new(TransportOptions::default(), Arc::new(NoService)),
            servers,
            asked: watch::Sender::new(0),
            ended: watch::Sender::new(0),
            advertised,
        }
    }

    /// Registers now, and returns once every name server has answered or a second has passed.
    pub(super) async fn announce(&self) {
        if self.servers.is_empty() {
            return;
        }
        let mut ended = self.ended.subscribe();
        let mut round = 0;
        self.asked.send_modify(|asked| {
            *asked += 1;
            round = *asked;
        });
        // A slow name server is no reason to refuse what led here: it will be told again.
        tokio::time::timeout(ANNOUNCE_TIMEOUT, ended.wait_for(|ended| *ended >= round)).await.ok();
    }

    /// Registers in rounds until `stop`, then leaves.
    pub(super) async fn run(&self, stop: CancellationToken) {
        let period = self.config.register_period.clamp(Duration::from_secs(10), Duration::from_secs(60));
        let mut asked = self.asked.subscribe();
        if !self.servers.is_empty() {
            loop {
                let round = *asked.borrow_and_update();
                self.round().await;
                self.ended.send_replace(round);
                tokio::select! {
                    () = stop.cancelled() => break,
                    _ = asked.changed() => {}
                    () = self.clock.sleep(period) => {}
                    () = self.any_lost() => {
                        if stop.run_until_cancelled(self.clock.sleep(AGAIN)).await.is_none() {
                            break;
                        }
                    }
                }
            }
            self.leave().await;
        }
        self.connector.shutdown().await;
    }

    /// Waits until a name server is not there, or does not know what it was told last.
    async fn any_lost(&self) {
        let lost = self.servers.iter().map(|server| {
            Box::pin(async {
                let connection = server.connection.lock().await.clone();
                if let Some(connection) = connection.filter(|_| *server.well.borrow() == Some(true)) {
                    connection.closed().await;
                }
            })
        });
        select_all(lost).await;
    }

    /// One registration with every name server, all at once.
    async fn round(&self) {
        let request = match self.request() {
            Ok(request) => request,
            Err(error) => {
                warn!(%error, "registration cannot be encoded");
                return;
            }
        };
        let registrations = self.servers.iter().map(|server| self.register(server, &request));
        join_all(registrations).await;
    }

    fn request(&self) -> Result<RegisterBroker, rocketmq_protocol::json::JsonError> {
        let mut topics = self.topics.snapshot();
        if self.config.broker_permission & 6 != 6 {
            let mask = Perm::new(i32::try_from(self.config.broker_permission & 6).unwrap_or(0));
            for topic in topics.topic_config_table.values_mut() {
                topic.perm = Perm::new(topic.perm.get() & mask.get());
            }
        }
        let body = RegisterBrokerBody {
            filter_server_list: Vec::new(),
            topic_config_serialize_wrapper: topics.into(),
        };
        let body = body.encode_plain()?;
        Ok(RegisterBroker {
            broker_name: text(&self.config.broker_name),
            broker_addr: text(&self.advertised),
            cluster_name: text(&self.config.cluster_name),
            // Replicas are not served; the address is where they would be.
            ha_server_addr: text(&self.advertised),
            broker_id: self.config.broker_id,
            heartbeat_timeout_ms: None,
            enable_acting_master: Some(false),
            compressed: false,
            body_crc32: crc32fast::hash(&body) & 0x7fff_ffff,
            body,
        })
    }

    async fn register(&self, server: &NameServer, request: &RegisterBroker) {
        let result = self.call(server, request, self.config.register_timeout).await;
        let well = result.is_ok();
        let changed = server.well.send_replace(Some(well)) != Some(well);
        match result {
            Ok(_) if changed => info!(
                name_server = server.addr,
                broker = self.config.broker_name,
                addr = self.advertised,
                "registered"
            ),
            Ok(_) => {}
            Err(error) if changed => {
                warn!(
                    name_server = server.addr,
                    error = &error as &dyn std::error::Error,
                    "not registered, trying again"
                );
            }
            Err(_) => {}
        }
    }

    async fn leave(&self) {
        let request = UnregisterBroker {
            broker_name: text(&self.config.broker_name),
            broker_addr: text(&self.advertised),
            cluster_name: text(&self.config.cluster_name),
            broker_id: self.config.broker_id,
        };
        let leaving = self.servers.iter().map(|server| async {
            if let Err(error) = self.call(server, &request, LEAVE_TIMEOUT).await {
                warn!(
                    name_server = server.addr,
                    error = &error as &dyn std::error::Error,
                    "not unregistered"
                );
            }
        });
        // Connecting may take longer than answering.
        tokio::time::timeout(LEAVE_TIMEOUT, join_all(leaving)).await.ok();
    }

    async fn call<R: Request>(
        &self,
        server: &NameServer,
        request: &R,
        timeout: Duration,
    ) -> Result<R::Reply, RequestError> {
        let mut slot = server.connection.lock().await;
        let connection = match slot.take().filter(|connection| !connection.is_closed()) {
            Some(connection) => connection,
            None => self.connector.connect(&server.addr).await?,
        };
        *slot = Some(connection.clone());
        let result = connection.call(request, timeout).await;
        if matches!(result, Err(RequestError::Timeout { .. })) {
            connection.close(); // the next attempt finds out whether anybody is there
        }
        result
    }
}

fn text(text: &str) -> ByteString {
    text.into()
}
