//! Which groups have consumed a message.
//!
//! Java: `tools/admin/DefaultMQAdminExtImpl.java`, `messageTrackDetail`.

use rocketmq_protocol::ResponseCode;
use rocketmq_protocol::body::{ConsumeType, ExpressionType, MessageModel};
use rocketmq_protocol::name::validate_group;
use rocketmq_protocol::requests::{GetConsumerConnections, QueryTopicConsumers};

use crate::consumer::selects;
use crate::deadline::Deadline;
use crate::route_table::BrokerChoice;
use crate::{Client, Error, ReceivedMessage};

/// What a group has made of a message.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MessageTrack {
    /// The group.
    pub group: String,
    /// What it has made of the message.
    pub status: TrackStatus,
}

/// What a group has made of a message. Java: `tools/admin/api/TrackType.java`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TrackStatus {
    /// Its offset has passed the message.
    Consumed,
    /// Its offset has passed the message, whose tag it does not want.
    Filtered,
    /// Its offset has not come to the message.
    NotYet,
    /// It pulls by itself: only it knows.
    Pull,
    /// Every member consumes it, and keeps its own offset.
    Broadcast,
    /// No member is connected.
    NotOnline,
    /// It could not be asked.
    Unknown(Error),
}

impl Client {
    /// Which groups have consumed a message: one entry for each that has ever consumed from its topic.
    ///
    /// # Errors
    /// The broker that holds the message could not be asked for the groups. What goes wrong with one group is told in
    /// its entry.
    pub async fn message_track(&self, message: &ReceivedMessage) -> Result<Vec<MessageTrack>, Error> {
        let deadline = self.request_deadline();
        let topic = message.queue().topic;
        let request = QueryTopicConsumers { topic: topic.as_str().into() };
        let master = BrokerChoice::MasterOrReplica;
        let groups =
            self.call_broker(&topic, message.broker_name(), master, &request, deadline).await?.groups;
        let mut tracks = Vec::with_capacity(groups.group_list.len());
        for group in groups.group_list {
            let status = match self.track(&group, message, deadline).await {
                Ok(status) => status,
                Err(error) => TrackStatus::Unknown(error),
            };
            tracks.push(MessageTrack { group, status });
        }
        Ok(tracks)
    }

    async fn track(
        &self,
        group: &str,
        message: &ReceivedMessage,
        deadline: Deadline,
    ) -> Result<TrackStatus, Error> {
        validate_group(group)?;
        let queue = message.queue();
        let request = GetConsumerConnections { consumer_group: group.into() };
        let any = BrokerChoice::MasterOrReplica;
        let members = match self.call_broker(&queue.topic, &queue.broker_name, any, &request, deadline).await
        {
            Ok(reply) => reply.connections,
            Err(error) if error.response_code() == Some(ResponseCode::CONSUMER_NOT_ONLINE) => {
                return Ok(TrackStatus::NotOnline);
            }
            Err(error) => return Err(error),
        };
        if members.consume_type == ConsumeType::Actively {
            return Ok(TrackStatus::Pull);
        }
        if members.message_model == MessageModel::Broadcasting {
            return Ok(TrackStatus::Broadcast);
        }
        let next = self.stored_offset(group, &queue, deadline).await?;
        if next.is_none_or(|next| next <= message.queue_offset()) {
            return Ok(TrackStatus::NotYet);
        }
        let subscription = members.subscription_table.get(&*queue.topic);
        let is_wanted = subscription.is_none_or(|subscription| {
            subscription.expression_type != ExpressionType::Tag || selects(subscription, || message.tag())
        });
        Ok(if is_wanted { TrackStatus::Consumed } else { TrackStatus::Filtered })
    }
}
