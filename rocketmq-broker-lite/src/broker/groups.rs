//! [`Groups`]: the consumer groups of a broker, kept in `config/subscriptionGroup.json`.

use std::collections::BTreeMap;
use std::sync::Arc;

use dashmap::DashMap;
use rocketmq_protocol::body::{SubscriptionGroupConfig, SubscriptionGroupWrapper};
use rocketmq_protocol::name::validate_group;
use rocketmq_protocol::transport::Clock;
use rustc_hash::FxBuildHasher;

use super::config_table::ConfigTable;
use super::refusal::Refusal;
use super::tasks::Tasks;
use crate::config::BrokerConfig;
use crate::store::ConfigFileError;

/// Groups that every broker has. Java: `broker/subscription/SubscriptionGroupManager.java`.
const SYSTEM_GROUPS: [&str; 8] = [
    "TOOLS_CONSUMER",
    "FILTERSRV_CONSUMER",
    "SELF_TEST_C_GROUP",
    "CID_ONS-HTTP-PROXY",
    "CID_ONSAPI_PULL",
    "CID_ONSAPI_PERMISSION",
    "CID_ONSAPI_OWNER",
    "CID_RMQ_SYS_TRANS",
];

/// Every group with its settings.
pub(super) struct Groups {
    table: DashMap<String, Arc<SubscriptionGroupConfig>, FxBuildHasher>,
    forbidden: BTreeMap<String, BTreeMap<String, i32>>,
    file: ConfigTable,
    auto_create: bool,
    clock: Clock,
}

/// A group, and whether it came to be just now.
pub(super) struct Looked {
    pub(super) group: Arc<SubscriptionGroupConfig>,
    pub(super) created: bool,
}

impl Groups {
    pub(super) fn open(
        file: ConfigTable,
        config: &BrokerConfig,
        clock: Clock,
    ) -> Result<Self, ConfigFileError> {
        let stored: SubscriptionGroupWrapper = file.load()?;
        let table = DashMap::default();
        for (name, group) in stored.subscription_group_table {
            table.insert(name, Arc::new(group));
        }
        for name in SYSTEM_GROUPS {
            table.entry(name.to_owned()).or_insert_with(|| Arc::new(SubscriptionGroupConfig::new(name)));
        }
        file.set_version(stored.data_version);
        Ok(Self {
            table,
            forbidden: stored.forbidden_table,
            file,
            auto_create: config.auto_create_group,
            clock,
        })
    }

    /// Finds a group, or creates it where that is allowed and the name is one. The caller saves what was created.
    pub(super) fn find(&self, name: &str) -> Option<Looked> {
        if let Some(group) = self.table.get(name) {
            return Some(Looked { group: Arc::clone(group.value()), created: false });
        }
        if !self.auto_create || validate_group(name).is_err() {
            return None;
        }
        self.file.advance(self.clock.now_ms());
        let new = || Arc::new(SubscriptionGroupConfig::new(name));
        let group = Arc::clone(self.table.entry(name.to_owned()).or_insert_with(new).value());
        Some(Looked { group, created: true })
    }

    /// As [`Groups::find`], and has what was created written.
    pub(super) fn obtain(
        self: &Arc<Self>,
        name: &str,
        tasks: &Tasks,
    ) -> Result<Arc<SubscriptionGroupConfig>, Refusal> {
        let looked = self.find(name).ok_or_else(|| Refusal::no_group(name))?;
        if looked.created {
            let groups = Arc::clone(self);
            tasks.save("subscriptionGroup.json", async move { groups.save().await });
        }
        Ok(looked.group)
    }

    /// The group, if it exists.
    pub(super) fn get(&self, name: &str) -> Option<Arc<SubscriptionGroupConfig>> {
        self.table.get(name).map(|group| Arc::clone(group.value()))
    }

    /// Adds or replaces a group, and returns once it is on disk.
    pub(super) async fn put(&self, group: SubscriptionGroupConfig) -> Result<(), ConfigFileError> {
        self.table.insert(group.group_name.clone(), Arc::new(group));
        self.file.advance(self.clock.now_ms());
        self.save().await
    }

    /// Removes a group, and returns once it is gone from disk.
    pub(super) async fn remove(&self, name: &str) -> Result<(), ConfigFileError> {
        self.table.remove(name);
        self.file.advance(self.clock.now_ms());
        self.save().await
    }

    /// Writes the file.
    pub(super) async fn save(&self) -> Result<(), ConfigFileError> {
        self.file.save(|| self.snapshot()).await
    }

    /// All groups and their version.
    pub(super) fn snapshot(&self) -> SubscriptionGroupWrapper {
        SubscriptionGroupWrapper {
            data_version: self.file.version(),
            forbidden_table: self.forbidden.clone(),
            subscription_group_table: self
                .table
                .iter()
                .map(|entry| (entry.key().clone(), SubscriptionGroupConfig::clone(entry.value())))
                .collect(),
        }
    }
}
