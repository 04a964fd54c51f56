//! Creating, changing, deleting and listing topics.

use std::collections::BTreeMap;
use std::sync::Arc;

use rocketmq_protocol::ResponseCode;
use rocketmq_protocol::body::{Perm, TopicConfig, TopicFilterType};
use rocketmq_protocol::name::{is_system_topic, validate_topic};
use rocketmq_protocol::request::Done;
use rocketmq_protocol::requests::{
    CreateTopic, DeleteTopic, GetAllTopicConfigReply, GetTopicConfig, GetTopicConfigReply,
};
use tracing::info;

use super::refusal::Refusal;
use super::shared::Shared;
use crate::store::ConfigFileError;

/// More queues than any machine needs; each costs memory here and in every route.
const MAX_QUEUES: i32 = 65_536;

/// Serves the administration of topics.
pub(super) struct TopicAdmin {
    pub(super) with: Shared,
}

impl TopicAdmin {
    pub(super) async fn create(&self, request: CreateTopic) -> Result<Done, Refusal> {
        let known = self.with.topics.get(&request.topic);
        let topic = self.checked(&request, known.as_deref())?;
        self.with.topics.put(topic).await.map_err(|error| not_saved(&request.topic, &error))?;
        info!(topic = %request.topic, "topic created or changed");
        self.with.registration.announce().await;
        Ok(Done {})
    }

    fn checked(&self, request: &CreateTopic, known: Option<&TopicConfig>) -> Result<TopicConfig, Refusal> {
        let topic: &str = &request.topic;
        let invalid = |remark: String| Refusal::new(ResponseCode::INVALID_PARAMETER, remark);
        validate_topic(topic).map_err(|error| invalid(error.to_string()))?;
        self.refuse_system(topic)?;
        for (field, queues) in
            [("readQueueNums", request.read_queue_nums), ("writeQueueNums", request.write_queue_nums)]
        {
            if !(1..=MAX_QUEUES).contains(&queues) {
                return Err(invalid(format!(
                    "{field}={queues} for topic {topic}: 1 to {MAX_QUEUES} are allowed"
                )));
            }
        }
        let perm = Perm::new(request.perm);
        if !(0..=7).contains(&request.perm) {
            return Err(invalid(format!("perm={} for topic {topic}: 0 to 7 are allowed", request.perm)));
        }
        let topic_filter_type = TopicFilterType::from_name(&request.topic_filter_type).ok_or_else(|| {
            invalid(format!(
                "topicFilterType={} for topic {topic}: SINGLE_TAG or MULTI_TAG",
                request.topic_filter_type
            ))
        })?;
        let mut attributes = known.map(|topic| topic.attributes.clone()).unwrap_or_default();
        change_attributes(&mut attributes, request.attributes.as_deref().unwrap_or_default())
            .map_err(invalid)?;
        Ok(TopicConfig {
            attributes,
            order: request.order,
            perm,
            read_queue_nums: request.read_queue_nums,
            write_queue_nums: request.write_queue_nums,
            topic_filter_type,
            topic_name: topic.to_owned(),
            topic_sys_flag: request.topic_sys_flag.unwrap_or(0),
        })
    }

    /// Deletes a topic with its messages, and where groups stand in it. One that does not exist is deleted already.
    /// Java: `AdminBrokerProcessor.java`, `deleteTopic`.
    pub(super) async fn delete(&self, request: DeleteTopic) -> Result<Done, Refusal> {
        let topic: &str = &request.topic;
        if topic.is_empty() {
            return Err(Refusal::new(ResponseCode::INVALID_PARAMETER, "topic is empty".to_owned()));
        }
        self.refuse_system(topic)?;
        let not_deleted = |error: &dyn std::error::Error| {
            let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
            let remark = format!("the topic {topic} cannot be deleted: {error}{source}");
            Refusal::new(ResponseCode::SYSTEM_ERROR, remark)
        };
        // The topic first, so that no more is sent to it; a failure on the way is cured by asking again.
        self.with.topics.remove(topic).await.map_err(|error| not_deleted(&error))?;
        let deleting = tokio::task::spawn_blocking({
            let (store, topic) = (Arc::clone(&self.with.store), request.topic.clone());
            move || store.delete_topic(&topic)
        });
        let deleted =
            deleting.await.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()));
        deleted.map_err(|error| not_deleted(&error))?;
        self.with.offsets.forget(topic);
        self.with.offsets.save().await.map_err(|error| not_deleted(&error))?;
        info!(topic, "topic deleted");
        self.with.registration.announce().await;
        Ok(Done {})
    }

    fn refuse_system(&self, topic: &str) -> Result<(), Refusal> {
        if is_system_topic(topic, &self.with.config.cluster_name, &self.with.config.broker_name) {
            let remark = format!("the topic {topic} is the system's own");
            return Err(Refusal::new(ResponseCode::INVALID_PARAMETER, remark));
        }
        Ok(())
    }

    pub(super) fn get(&self, request: &GetTopicConfig) -> Result<GetTopicConfigReply, Refusal> {
        let config =
            self.with.topics.get(&request.topic).ok_or_else(|| Refusal::no_topic(&request.topic, "show"))?;
        Ok(GetTopicConfigReply { config: TopicConfig::clone(&config) })
    }

    pub(super) fn list(&self) -> Result<GetAllTopicConfigReply, Refusal> {
        Ok(GetAllTopicConfigReply { topics: self.with.topics.snapshot() })
    }
}

fn not_saved(topic: &str, error: &ConfigFileError) -> Refusal {
    Refusal::new(ResponseCode::SYSTEM_ERROR, format!("the topic {topic} cannot be saved: {error}"))
}

/// Applies `+key=value,-key`. Java: `common/attribute/AttributeUtil.java`.
fn change_attributes(attributes: &mut BTreeMap<String, String>, changes: &str) -> Result<(), String> {
    for change in changes.split(',').map(str::trim).filter(|change| !change.is_empty()) {
        match (change.split_at_checked(1), change.split_once('=')) {
            (Some(("+", _)), Some((key, value))) if key.len() > 1 => {
                let key = key.strip_prefix('+').unwrap_or(key);
                if key == "queue.type" && value != "SimpleCQ" {
                    return Err(format!("attribute queue.type={value} is not supported, only SimpleCQ"));
                }
                if key == "cleanup.policy" && value != "DELETE" {
                    return Err(format!("attribute cleanup.policy={value} is not supported, only DELETE"));
                }
                attributes.insert(key.to_owned(), value.to_owned());
            }
            (Some(("-", key)), None) if !key.is_empty() => {
                attributes.remove(key);
            }
            _ => return Err(format!("attribute {change:?} is neither +key=value nor -key")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_added_and_taken_away() {
        let mut attributes = BTreeMap::from([("message.type".to_owned(), "FIFO".to_owned())]);
        change_attributes(&mut attributes, "+reserve.time=10, -message.type").unwrap();
        assert_eq!(attributes, BTreeMap::from([("reserve.time".to_owned(), "10".to_owned())]));
        for wrong in ["key=value", "+key", "-", "+queue.type=BatchCQ", "+=x"] {
            assert!(change_attributes(&mut attributes, wrong).is_err(), "{wrong}");
        }
    }
}
