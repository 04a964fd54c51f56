//! [`Topics`]: the topics of a broker, kept in `config/topics.json`.

use std::collections::BTreeMap;
use std::sync::Arc;

use dashmap::DashMap;
use rocketmq_protocol::body::{DataVersion, Perm, TopicConfig, TopicConfigSerializeWrapper};
use rocketmq_protocol::name::{
    AUTO_CREATE_TOPIC, BENCHMARK_TOPIC, HALF_OP_TOPIC, HALF_TOPIC, OFFSET_MOVED_EVENT, RETRY_PREFIX,
    SCHEDULE_TOPIC, SELF_TEST_TOPIC, reply_topic,
};
use rocketmq_protocol::transport::Clock;
use rustc_hash::FxBuildHasher;

use super::config_table::ConfigTable;
use super::deferral::TIMER_TOPIC;
use crate::config::BrokerConfig;
use crate::store::ConfigFileError;

/// Every topic with its settings. Read for each message, written when a topic is created, changed or deleted.
pub(super) struct Topics {
    table: DashMap<String, Arc<TopicConfig>, FxBuildHasher>,
    file: ConfigTable,
    /// One change at a time: each is on disk before the next one begins.
    changing: tokio::sync::Mutex<()>,
    auto_create: bool,
    clock: Clock,
}

impl Topics {
    /// Reads the file and adds the topics that every broker has.
    pub(super) fn open(
        file: ConfigTable,
        config: &BrokerConfig,
        clock: Clock,
    ) -> Result<Self, ConfigFileError> {
        let stored: TopicConfigSerializeWrapper = file.load()?;
        let table = DashMap::default();
        for (name, topic) in stored.topic_config_table {
            table.insert(name, Arc::new(topic));
        }
        let system = |name: &str, queues: u32, perm: Perm| {
            let queues = i32::try_from(queues).unwrap_or(i32::MAX);
            table.entry(name.to_owned()).or_insert_with(|| Arc::new(TopicConfig::new(name, queues, perm)));
        };
        let inherited = Perm::READ_WRITE.with(Perm::INHERIT);
        system(SELF_TEST_TOPIC, 1, Perm::READ_WRITE);
        if config.auto_create_topic {
            system(AUTO_CREATE_TOPIC, config.default_topic_queue_nums, inherited);
        }
        system(BENCHMARK_TOPIC, 1024, Perm::READ_WRITE);
        system(&config.cluster_name, 16, inherited);
        system(&config.broker_name, 1, inherited);
        system(OFFSET_MOVED_EVENT, 1, Perm::READ_WRITE);
        system(SCHEDULE_TOPIC, 18, Perm::READ_WRITE);
        system(HALF_TOPIC, 1, Perm::READ_WRITE);
        system(HALF_OP_TOPIC, 1, Perm::READ_WRITE);
        system(TIMER_TOPIC, 1, Perm::READ_WRITE);
        system(&reply_topic(&config.cluster_name), 1, Perm::READ_WRITE);
        file.set_version(stored.data_version);
        Ok(Self {
            table,
            file,
            changing: tokio::sync::Mutex::default(),
            auto_create: config.auto_create_topic,
            clock,
        })
    }

    pub(super) fn get(&self, topic: &str) -> Option<Arc<TopicConfig>> {
        self.table.get(topic).map(|entry| Arc::clone(entry.value()))
    }

    /// All topics and their version.
    pub(super) fn snapshot(&self) -> TopicConfigSerializeWrapper {
        // The version first: a change in between makes the copy newer than it says, and is announced by itself.
        let data_version = self.version();
        let topic_config_table: BTreeMap<_, _> =
            self.table.iter().map(|entry| (entry.key().clone(), TopicConfig::clone(entry.value()))).collect();
        TopicConfigSerializeWrapper { data_version, topic_config_table }
    }

    /// Topics whose queues have batches. Java: `common/utils/QueueTypeUtils.java`.
    pub(super) fn of_batches(&self) -> Vec<String> {
        let topics = self.table.iter().filter(|topic| {
            topic.attributes.get("queue.type").is_some_and(|kind| kind.eq_ignore_ascii_case("BatchCQ"))
        });
        topics.map(|topic| topic.key().clone()).collect()
    }

    pub(super) fn version(&self) -> DataVersion {
        self.file.version()
    }

    /// The settings that a topic would get which a send creates from `template`; `None` where it may not.
    ///
    /// Java: `broker/topic/TopicConfigManager.java`, `createTopicInSendMessageMethod`.
    pub(super) fn derived(&self, topic: &str, template: &str, queues: i32) -> Option<TopicConfig> {
        if topic.starts_with(RETRY_PREFIX) {
            return Some(TopicConfig::new(topic, 1, Perm::READ_WRITE));
        }
        let template = self.get(template).filter(|template| {
            // With automatic creation off, TBW102 may still lie in the file of an earlier run.
            template.perm.contains(Perm::INHERIT)
                && (self.auto_create || template.topic_name != AUTO_CREATE_TOPIC)
        })?;
        let queues = queues.min(template.write_queue_nums).max(0);
        let perm = template.perm.without(Perm::INHERIT);
        Some(TopicConfig {
            topic_filter_type: template.topic_filter_type,
            ..TopicConfig::new(topic, queues, perm)
        })
    }

    /// Adds `topic` unless it exists, and returns once it is on disk. Nobody sees it before: what a killed broker had
    /// stored in a topic that it forgot would be lost.
    pub(super) async fn create(&self, topic: TopicConfig) -> Result<Arc<TopicConfig>, ConfigFileError> {
        let _turn = self.changing.lock().await;
        if let Some(topic) = self.get(&topic.topic_name) {
            return Ok(topic); // somebody was faster
        }
        let topic = Arc::new(topic);
        self.persist(Some(&topic)).await?;
        self.table.insert(topic.topic_name.clone(), Arc::clone(&topic));
        Ok(topic)
    }

    /// Adds or replaces `topic`, and returns once it is on disk.
    pub(super) async fn put(&self, topic: TopicConfig) -> Result<(), ConfigFileError> {
        let _turn = self.changing.lock().await;
        self.table.insert(topic.topic_name.clone(), Arc::new(topic));
        self.persist(None).await
    }

    /// Removes `topic`, and returns once it is gone from disk.
    pub(super) async fn remove(&self, topic: &str) -> Result<(), ConfigFileError> {
        let _turn = self.changing.lock().await;
        if self.table.remove(topic).is_none() {
            return Ok(());
        }
        self.persist(None).await
    }

    /// Writes the table, with a topic that is not in it yet.
    async fn persist(&self, added: Option<&TopicConfig>) -> Result<(), ConfigFileError> {
        self.file.advance(self.clock.now_ms());
        let all = || {
            let mut all = self.snapshot();
            if let Some(topic) = added {
                all.topic_config_table.insert(topic.topic_name.clone(), topic.clone());
            }
            all
        };
        self.file.save(all).await
    }
}
