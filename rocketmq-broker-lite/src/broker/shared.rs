//! [`Shared`]: what the services of a broker work with.

use std::net::SocketAddr;
use std::sync::Arc;

use rocketmq_protocol::transport::Clock;

use super::clients::Clients;
use super::consumer_offsets::ConsumerOffsets;
use super::deferral::Deferral;
use super::groups::Groups;
use super::registration::Registration;
use super::tasks::Tasks;
use super::topics::Topics;
use crate::config::BrokerConfig;
use crate::store::Store;

/// The settings, the store, the registries and the clock of one broker. Each service holds them as `with`.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) config: Arc<BrokerConfig>,
    pub(super) store: Arc<Store>,
    pub(super) topics: Arc<Topics>,
    pub(super) groups: Arc<Groups>,
    pub(super) clients: Arc<Clients>,
    pub(super) offsets: Arc<ConsumerOffsets>,
    pub(super) registration: Arc<Registration>,
    pub(super) deferral: Arc<Deferral>,
    pub(super) tasks: Tasks,
    pub(super) clock: Clock,
    /// Advertised address, which records and message ids carry.
    pub(super) store_host: SocketAddr,
}
