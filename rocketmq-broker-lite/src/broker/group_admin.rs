//! Consumer groups, shown and changed from outside.

use std::collections::BTreeSet;

use rocketmq_protocol::body::{
    ConsumeOffsets, ConsumeStats, GroupList, MessageQueue, SubscriptionGroupConfig,
};
use rocketmq_protocol::name::validate_group;
use rocketmq_protocol::request::Done;
use rocketmq_protocol::requests::{
    DeleteGroup, GetAllGroupConfigReply, GetConsumeStats, GetConsumeStatsReply, GetConsumerConnections,
    GetConsumerConnectionsReply, GetGroupConfig, GetGroupConfigReply, QueryTopicConsumers,
    QueryTopicConsumersReply, UpdateGroup,
};
use rocketmq_protocol::{QueueId, QueueOffset, ResponseCode};
use tracing::info;

use super::refusal::Refusal;
use super::shared::Shared;
use crate::store::ConfigFileError;

/// Serves the administration of groups.
pub(super) struct GroupAdmin {
    pub(super) with: Shared,
}

impl GroupAdmin {
    /// Java: `SubscriptionGroupManager.java`, `updateSubscriptionGroupConfig`.
    pub(super) async fn update(&self, request: UpdateGroup) -> Result<Done, Refusal> {
        let mut config = request.config;
        validate_group(&config.group_name)
            .map_err(|error| Refusal::new(ResponseCode::INVALID_PARAMETER, error.to_string()))?;
        let known = self.with.groups.get(&config.group_name);
        let mut attributes = known.map(|group| group.attributes.clone()).unwrap_or_default();
        for (change, value) in std::mem::take(&mut config.attributes) {
            match change.split_at_checked(1) {
                Some(("+", name)) => drop(attributes.insert(name.to_owned(), value)),
                Some(("-", name)) => drop(attributes.remove(name)),
                _ => {
                    let remark = format!("attribute {change:?} is neither +name nor -name");
                    return Err(Refusal::new(ResponseCode::INVALID_PARAMETER, remark));
                }
            }
        }
        let name = config.group_name.clone();
        self.with
            .groups
            .put(SubscriptionGroupConfig { attributes, ..config })
            .await
            .map_err(|error| not_saved(&error))?;
        info!(group = name, "consumer group created or changed");
        Ok(Done {})
    }

    pub(super) async fn delete(&self, request: DeleteGroup) -> Result<Done, Refusal> {
        self.with.groups.remove(&request.group_name).await.map_err(|error| not_saved(&error))?;
        if request.clean_offset {
            self.with.offsets.forget_group(&request.group_name);
            self.with.offsets.save().await.map_err(|error| not_saved(&error))?;
        }
        info!(group = %request.group_name, "consumer group deleted");
        Ok(Done {})
    }

    pub(super) fn get(&self, request: &GetGroupConfig) -> Result<GetGroupConfigReply, Refusal> {
        let config = self.with.groups.get(&request.group).ok_or_else(|| Refusal::no_group(&request.group))?;
        Ok(GetGroupConfigReply { config: SubscriptionGroupConfig::clone(&config) })
    }

    pub(super) fn list(&self) -> Result<GetAllGroupConfigReply, Refusal> {
        Ok(GetAllGroupConfigReply { groups: self.with.groups.snapshot() })
    }

    pub(super) fn connections(
        &self,
        request: &GetConsumerConnections,
    ) -> Result<GetConsumerConnectionsReply, Refusal> {
        let connections = self.with.clients.connections(&request.consumer_group).ok_or_else(|| {
            let remark = format!("no consumer of the group {} is connected", request.consumer_group);
            Refusal::new(ResponseCode::CONSUMER_NOT_ONLINE, remark)
        })?;
        Ok(GetConsumerConnectionsReply { connections })
    }

    /// Reads the last consumed message of each queue, so it may wait for the disk. Java: `AdminBrokerProcessor.java`, `getConsumeStats`.
    pub(super) fn consume_stats(&self, request: &GetConsumeStats) -> Result<GetConsumeStatsReply, Refusal> {
        let group: &str = &request.consumer_group;
        let listed =
            request.topic_list.as_deref().unwrap_or_default().split(';').filter(|topic| !topic.is_empty());
        let named = request.topic.as_deref().filter(|topic| !topic.is_empty());
        let mut topics: BTreeSet<String> = named.into_iter().chain(listed).map(str::to_owned).collect();
        if topics.is_empty() {
            topics = self.with.offsets.topics(group).into_iter().collect();
        }
        let online = self.with.clients.subscribed_topics(group);
        let mut stats = ConsumeStats::default();
        for topic in topics {
            let Some(config) = self.with.topics.get(&topic) else { continue };
            // An online group that has given a topic up is not behind in it.
            if online.as_ref().is_some_and(|subscribed| !subscribed.contains(&topic)) {
                continue;
            }
            for id in (0..config.read_queue_nums).map(QueueId::new) {
                let consumer_offset = self.with.offsets.get(group, &topic, id).unwrap_or(QueueOffset::ZERO);
                let last = match consumer_offset.get() {
                    consumed if consumed > 0 => {
                        self.with.store.store_time(&topic, id, QueueOffset::new(consumed - 1))
                    }
                    _ => Ok(None),
                };
                let last =
                    last.map_err(|error| Refusal::new(ResponseCode::SYSTEM_ERROR, error.to_string()))?;
                let queue = MessageQueue::new(topic.clone(), self.with.config.broker_name.clone(), id);
                let progress = ConsumeOffsets {
                    broker_offset: self.with.store.max_offset(&topic, id),
                    consumer_offset,
                    last_timestamp: last.unwrap_or(0),
                    pull_offset: consumer_offset,
                };
                stats.offset_table.insert(queue, progress);
            }
        }
        Ok(GetConsumeStatsReply { stats })
    }

    /// Those that are connected, and those that have been there. Java: `AdminBrokerProcessor.java`, `queryTopicConsumeByWho`.
    pub(super) fn consumers_of(
        &self,
        request: &QueryTopicConsumers,
    ) -> Result<QueryTopicConsumersReply, Refusal> {
        let mut groups: BTreeSet<String> = self.with.clients.groups_of(&request.topic).into_iter().collect();
        groups.extend(self.with.offsets.groups_of(&request.topic));
        Ok(QueryTopicConsumersReply { groups: GroupList { group_list: groups.into_iter().collect() } })
    }
}

fn not_saved(error: &ConfigFileError) -> Refusal {
    Refusal::new(ResponseCode::SYSTEM_ERROR, format!("the change cannot be saved: {error}"))
}
