//! Heartbeats: what keeps a client in the brokers' lists. Every broker gets one as soon as there is a connection to it,
//! after each change of the members, and every 30 seconds. Without consumers only masters are told.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rocketmq_protocol::ByteString;
use rocketmq_protocol::requests::{Heartbeat, UnregisterClient};
use rocketmq_protocol::transport::{Connection, ConnectionId};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tracing::debug;

use crate::Error;
use crate::client::Core;
use crate::deadline::Deadline;
use crate::members::Role;

/// Who has heard of the members as they are now.
#[derive(Default)]
pub(crate) struct Heartbeats {
    /// Held for a lookup or a change, never while sending.
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    /// Counts the changes of the members: what was gathered before one is no news after it, however late it arrives.
    changes: u64,
    /// The connection of the last heartbeat, by address.
    on: HashMap<Arc<str>, ConnectionId>,
}

impl Heartbeats {
    /// The members have changed: nobody knows yet.
    pub(crate) fn outdated(&self) {
        let mut told = self.told();
        told.changes += 1;
        told.on.clear();
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Core {
    /// Sends heartbeats until it is dropped.
    pub(crate) async fn keep_heartbeats(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(self.options.heartbeat_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    self.routes.forget_offline();
                    self.heartbeats.outdated();
                }
                () = self.connections.opened.notified() => {}
                () = self.brokers_changed.notified() => {}
            }
            self.heartbeat().await;
        }
    }

    /// Tells every broker that has not heard of the members as they are. Returns how many know them now.
    pub(crate) async fn heartbeat(self: &Arc<Self>) -> usize {
        let changes = self.heartbeats.told().changes; // before the members are looked at
        let Some(data) = self.members.heartbeat(&self.id) else { return 0 };
        let heartbeat = Arc::new(Heartbeat { data });
        let targets = self.routes.all_addresses(self.members.has_consumers());
        self.heartbeats.told().on.retain(|addr, _| targets.contains(addr));
        let (heard, waiting): (Vec<_>, Vec<_>) = targets.iter().partition(|addr| self.has_heard(addr));
        let mut sends = JoinSet::new();
        for addr in waiting {
            let (core, addr, heartbeat) = (Arc::clone(self), Arc::clone(addr), Arc::clone(&heartbeat));
            sends.spawn(async move {
                let sent = core.heartbeat_to(&addr, &heartbeat, changes).await;
                sent.inspect_err(|error| debug!(peer = %addr, %error, "heartbeat failed")).is_ok()
            });
        }
        let mut known = heard.len();
        while let Some(sent) = sends.join_next().await {
            known += usize::from(sent.unwrap_or_default());
        }
        known
    }

    fn has_heard(&self, addr: &str) -> bool {
        let current = self.connections.get(addr).map(|connection| connection.id());
        current.is_some() && self.heartbeats.told().on.get(addr).copied() == current
    }

    async fn heartbeat_to(&self, addr: &Arc<str>, heartbeat: &Heartbeat, changes: u64) -> Result<(), Error> {
        let deadline = Deadline::after(self.options.request_timeout);
        let connection = self.connections.connect(addr, deadline).await?;
        connection.call(heartbeat, deadline.left()).await?;
        let mut told = self.heartbeats.told();
        if told.changes == changes {
            told.on.insert(Arc::clone(addr), connection.id());
        }
        Ok(())
    }

    /// Tells every connected broker that the client leaves a group, and waits for their answers.
    pub(crate) async fn unregister(&self, role: Role, group: &str) {
        let request = Arc::new(self.farewell(role, group));
        let deadline = Deadline::after(self.options.request_timeout);
        let mut sends = JoinSet::new();
        for connection in self.connected_brokers() {
            let request = Arc::clone(&request);
            sends.spawn(async move {
                if let Err(error) = connection.call(&*request, deadline.left()).await {
                    debug!(%error, "group not unregistered");
                }
            });
        }
        while sends.join_next().await.is_some() {}
    }

    /// As [`Core::unregister`], without waiting: from where there is nobody left to wait.
    pub(crate) fn unregister_oneway(&self, role: Role, group: &str) {
        let request = self.farewell(role, group);
        for connection in self.connected_brokers() {
            if let Err(error) = connection.try_send_oneway(&request) {
                debug!(%error, "group not unregistered");
            }
        }
    }

    fn farewell(&self, role: Role, group: &str) -> UnregisterClient {
        let group = Some(ByteString::from(group));
        let (producer_group, consumer_group) = match role {
            Role::Producer => (group, None),
            Role::Consumer => (None, group),
        };
        UnregisterClient { client_id: self.id.clone(), producer_group, consumer_group }
    }

    fn connected_brokers(&self) -> Vec<Connection> {
        let known: BTreeSet<_> = self.routes.all_addresses(true);
        known.iter().filter_map(|addr| self.connections.get(addr)).collect()
    }
}
