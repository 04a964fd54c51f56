//! Queues, their offsets and those of groups, asked of their brokers. "No offset" is `None`; "could not ask" is an error.

use std::time::{SystemTime, UNIX_EPOCH};

use rocketmq_protocol::body::MessageQueue;
use rocketmq_protocol::requests::{
    GetMaxOffset, GetMinOffset, QueryConsumerOffset, SearchOffset, UpdateConsumerOffset,
};
use rocketmq_protocol::{QueueOffset, ResponseCode};

use crate::deadline::Deadline;
use crate::route_table::BrokerChoice;
use crate::{Client, Error};

impl Client {
    /// The queues of a topic that can be read, sorted, as the name servers know them.
    ///
    /// # Errors
    /// [`Error::TopicNotFound`], [`Error::NoQueue`] for a topic that cannot be read, or no name server that answers.
    pub async fn queues(&self, topic: &str) -> Result<Vec<MessageQueue>, Error> {
        let namespace = &self.core().namespace;
        let queues = self.subscribe_queues(&namespace.wrap(&topic.into()), self.request_deadline()).await?;
        if queues.is_empty() {
            return Err(Error::NoQueue { topic: topic.to_owned(), wanted: "read" });
        }
        Ok(queues.into_iter().map(|queue| namespace.unwrap_queue(queue)).collect())
    }

    /// The offset behind the last message.
    pub(crate) async fn max_offset(
        &self,
        queue: &MessageQueue,
        deadline: Deadline,
    ) -> Result<QueueOffset, Error> {
        let request = GetMaxOffset { topic: queue.topic.clone(), queue_id: queue.queue_id };
        self.call_queue(queue, BrokerChoice::Master, &request, deadline).await.map(|reply| reply.offset)
    }

    /// The offset of the oldest message.
    pub(crate) async fn min_offset(
        &self,
        queue: &MessageQueue,
        deadline: Deadline,
    ) -> Result<QueueOffset, Error> {
        let request = GetMinOffset { topic: queue.topic.clone(), queue_id: queue.queue_id };
        self.call_queue(queue, BrokerChoice::Master, &request, deadline).await.map(|reply| reply.offset)
    }

    /// The offset of the first message stored at `timestamp_ms` (milliseconds since 1970) or later.
    pub(crate) async fn offset_at(
        &self,
        queue: &MessageQueue,
        timestamp_ms: i64,
        deadline: Deadline,
    ) -> Result<QueueOffset, Error> {
        let request = SearchOffset {
            topic: queue.topic.clone(),
            queue_id: queue.queue_id,
            timestamp: timestamp_ms,
            boundary: None,
        };
        self.call_queue(queue, BrokerChoice::Master, &request, deadline).await.map(|reply| reply.offset)
    }

    /// [`Client::offset_at`] for a time of this machine.
    pub(crate) async fn offset_at_time(
        &self,
        queue: &MessageQueue,
        time: SystemTime,
    ) -> Result<QueueOffset, Error> {
        let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let timestamp_ms = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
        self.offset_at(queue, timestamp_ms, self.request_deadline()).await
    }

    /// Where `group` stands; `None` when the broker says that it has not been here.
    pub(crate) async fn stored_offset(
        &self,
        group: &str,
        queue: &MessageQueue,
        deadline: Deadline,
    ) -> Result<Option<QueueOffset>, Error> {
        let request = QueryConsumerOffset {
            consumer_group: group.into(),
            topic: queue.topic.clone(),
            queue_id: queue.queue_id,
            set_zero_if_not_found: None,
        };
        match self.call_queue(queue, BrokerChoice::MasterOrReplica, &request, deadline).await {
            // A negative number is no place in a queue, whoever sends it.
            Ok(reply) => Ok(Some(reply.offset).filter(|offset| *offset >= QueueOffset::ZERO)),
            Err(error) if error.response_code() == Some(ResponseCode::QUERY_NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Stores where `group` stands: the next message to consume. Waits until the broker has it.
    pub(crate) async fn store_offset(
        &self,
        group: &str,
        queue: &MessageQueue,
        offset: QueueOffset,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let request = UpdateConsumerOffset {
            consumer_group: group.into(),
            topic: queue.topic.clone(),
            queue_id: queue.queue_id,
            commit_offset: offset,
        };
        self.call_queue(queue, BrokerChoice::MasterOrReplica, &request, deadline).await.map(drop)
    }

    async fn call_queue<R: rocketmq_protocol::request::Request>(
        &self,
        queue: &MessageQueue,
        choice: BrokerChoice,
        request: &R,
        deadline: Deadline,
    ) -> Result<R::Reply, Error> {
        self.call_broker(&queue.topic, &queue.broker_name, choice, request, deadline).await
    }
}
