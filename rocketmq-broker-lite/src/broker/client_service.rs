//! Clients come, stay, leave, and ask who else is there.

use std::sync::Arc;

use rocketmq_protocol::body::{ConsumerListByGroup, HeartbeatData, MessageModel, Perm, TopicConfig};
use rocketmq_protocol::name::retry_topic;
use rocketmq_protocol::request::Done;
use rocketmq_protocol::requests::{
    CheckClientConfig, GetConsumerListByGroup, GetConsumerListByGroupReply, Heartbeat, HeartbeatReply,
    UnregisterClient,
};
use rocketmq_protocol::transport::{Call, Connection};
use rocketmq_protocol::{Frame, ResponseCode};
use tracing::error;

use super::refusal::Refusal;
use super::shared::Shared;
use super::subscription::Subscription;

/// Serves clients as such.
pub(super) struct ClientService {
    pub(super) with: Shared,
}

impl ClientService {
    pub(super) fn heartbeat(&self, call: &Call, request: &Heartbeat) -> Result<HeartbeatReply, Refusal> {
        let Frame { language, version, .. } = call.frame();
        self.with.clients.heartbeat(call.connection(), (*language, *version), &request.data);
        self.provide(&request.data);
        // Without a word about fingerprints every heartbeat comes whole.
        Ok(HeartbeatReply { supports_v2: None, subscription_changed: None })
    }

    /// Makes the groups of consumers, and their retry topics, exist.
    fn provide(&self, data: &HeartbeatData) {
        let mut created = false;
        for consumer in &data.consumer_data_set {
            let Some(looked) = self.with.groups.find(&consumer.group_name) else { continue };
            created |= looked.created;
            let retry = retry_topic(&consumer.group_name);
            if consumer.message_model == MessageModel::Broadcasting || self.with.topics.get(&retry).is_some()
            {
                continue;
            }
            let topic = TopicConfig::new(retry, looked.group.retry_queue_nums.max(1), Perm::READ_WRITE);
            let (topics, registration) = (Arc::clone(&self.with.topics), Arc::clone(&self.with.registration));
            self.with.tasks.spawn(async move {
                let name = topic.topic_name.clone();
                match topics.create(topic).await {
                    Ok(_) => registration.announce().await,
                    Err(error) => {
                        error!(
                            topic = name,
                            error = &error as &dyn std::error::Error,
                            "retry topic cannot be created"
                        );
                    }
                }
            });
        }
        if created {
            let groups = Arc::clone(&self.with.groups);
            self.with.tasks.save("subscriptionGroup.json", async move { groups.save().await });
        }
    }

    pub(super) fn unregister(
        &self,
        connection: &Connection,
        request: &UnregisterClient,
    ) -> Result<Done, Refusal> {
        let (producer, consumer) = (request.producer_group.as_deref(), request.consumer_group.as_deref());
        self.with.clients.unregister(connection, producer, consumer);
        Ok(Done {})
    }

    /// Whether a subscription would be served. Java: `ClientManageProcessor.java`, `checkClientConfig`.
    pub(super) fn check_config(&self, request: CheckClientConfig) -> Result<Done, Refusal> {
        let subscription = Subscription::new(request.check.subscription_data);
        if subscription.is_sql() && !self.with.config.property_filter {
            return Err(Refusal::no_sql());
        }
        subscription.check().map_err(Refusal::not_parsed)?;
        Ok(Done {})
    }

    /// Java: `ConsumerManageProcessor.java`, `getConsumerListByGroup`.
    pub(super) fn consumer_list(
        &self,
        request: &GetConsumerListByGroup,
    ) -> Result<GetConsumerListByGroupReply, Refusal> {
        let consumer_id_list = self.with.clients.consumer_ids(&request.consumer_group);
        if consumer_id_list.is_empty() {
            let remark = format!("no consumer of the group {} is connected", request.consumer_group);
            return Err(Refusal::new(ResponseCode::SYSTEM_ERROR, remark));
        }
        Ok(GetConsumerListByGroupReply { consumers: ConsumerListByGroup { consumer_id_list } })
    }
}
