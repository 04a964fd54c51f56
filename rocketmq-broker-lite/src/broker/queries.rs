//! Looking things up: offsets of queues and groups, messages by position and by key.

use rocketmq_protocol::request::{Done, Segments};
use rocketmq_protocol::requests::{
    GetEarliestStoreTime, GetEarliestStoreTimeReply, GetMaxOffset, GetMaxOffsetReply, GetMinOffset,
    GetMinOffsetReply, QueryConsumerOffset, QueryConsumerOffsetReply, QueryMessage, QueryMessageReply,
    SearchOffset, SearchOffsetReply, UpdateConsumerOffset, ViewMessage, ViewMessageReply,
};
use rocketmq_protocol::{QueueOffset, ResponseCode};

use super::refusal::Refusal;
use super::shared::Shared;
use crate::store::{IndexKey, KeyQuery, TimeBoundary};

/// Serves offset and message queries.
pub(super) struct QueryService {
    pub(super) with: Shared,
}

/// A message this near to the log's end counts as young: a new group of its queue starts with it.
const LIKELY_IN_MEMORY: i64 = 256 * 1024 * 1024;
/// Bytes of messages in one answer: a frame must hold them.
const MAX_ANSWER: usize = 8 * 1024 * 1024;

impl QueryService {
    pub(super) fn max_offset(&self, request: &GetMaxOffset) -> Result<GetMaxOffsetReply, Refusal> {
        Ok(GetMaxOffsetReply { offset: self.with.store.max_offset(&request.topic, request.queue_id) })
    }

    pub(super) fn min_offset(&self, request: &GetMinOffset) -> Result<GetMinOffsetReply, Refusal> {
        Ok(GetMinOffsetReply { offset: self.with.store.min_offset(&request.topic, request.queue_id) })
    }

    /// Reads all over the queue, so it may wait for the disk.
    pub(super) fn search_offset(&self, request: SearchOffset) -> Result<SearchOffsetReply, Refusal> {
        let upper =
            request.boundary.as_deref().is_some_and(|boundary| boundary.eq_ignore_ascii_case("upper"));
        let boundary = if upper { TimeBoundary::Upper } else { TimeBoundary::Lower };
        let found =
            self.with.store.offset_by_time(&request.topic, request.queue_id, request.timestamp, boundary);
        found.map(|offset| SearchOffsetReply { offset }).map_err(Refusal::from)
    }

    /// Reads the oldest record, so it may wait for the disk.
    pub(super) fn earliest_store_time(
        &self,
        request: GetEarliestStoreTime,
    ) -> Result<GetEarliestStoreTimeReply, Refusal> {
        let earliest =
            self.with.store.earliest_store_time(&request.topic, request.queue_id).map_err(Refusal::from)?;
        Ok(GetEarliestStoreTimeReply { timestamp: earliest.unwrap_or(-1) })
    }

    /// Reads any record, so it may wait for the disk.
    pub(super) fn view_message(&self, request: ViewMessage) -> Result<ViewMessageReply, Refusal> {
        let message = self.with.store.message_at(request.position).ok_or_else(|| {
            let remark = format!("no message at position {} of the commit log", request.position);
            Refusal::new(ResponseCode::SYSTEM_ERROR, remark)
        })?;
        Ok(ViewMessageReply { message })
    }

    /// Looks through the index, so it may wait for the disk. Java: `QueryMessageProcessor.java`, `queryMessage`.
    pub(super) fn query_message(&self, request: QueryMessage) -> Result<QueryMessageReply, Refusal> {
        // The count is the asker's: nothing may be sized by it.
        let most = usize::try_from(self.with.config.max_query_count).unwrap_or(usize::MAX);
        let max_messages = match request.unique_key_query {
            Some(true) => usize::try_from(self.with.config.default_query_count).unwrap_or(most).min(most),
            _ => usize::try_from(request.max_messages).unwrap_or(0).min(most),
        };
        let by_tag = request.index_type.as_deref() == Some("T");
        let query = KeyQuery {
            topic: &request.topic,
            key: if by_tag { IndexKey::Tag(&request.key) } else { IndexKey::Key(&request.key) },
            begin_timestamp: request.begin_timestamp,
            end_timestamp: request.end_timestamp,
            max_messages,
            max_bytes: MAX_ANSWER,
        };
        let found = self.with.store.query(query).map_err(Refusal::from)?;
        if found.records.is_empty() {
            let off =
                if self.with.config.index { "" } else { ": the index is off (messageIndexEnable=false)" };
            let QueryMessage { topic, key, begin_timestamp, end_timestamp, .. } = request;
            let remark = format!(
                "{topic} has no message with the key {key} stored from {begin_timestamp} to {end_timestamp}{off}"
            );
            return Err(Refusal::new(ResponseCode::QUERY_NOT_FOUND, remark));
        }
        Ok(QueryMessageReply {
            index_last_timestamp: found.last_timestamp,
            index_last_position: found.last_position,
            messages: Segments::Many(found.records),
        })
    }

    /// A group without an offset starts at 0 where all of the queue is young, and is told "unknown" otherwise.
    /// Java: `ConsumerManageProcessor.java`, `queryConsumerOffset`.
    pub(super) fn consumer_offset(
        &self,
        request: &QueryConsumerOffset,
    ) -> Result<QueryConsumerOffsetReply, Refusal> {
        let QueryConsumerOffset { consumer_group: group, topic, queue_id, .. } = request;
        if let Some(offset) = self.with.offsets.get(group, topic, *queue_id) {
            return Ok(QueryConsumerOffsetReply { offset });
        }
        let from_zero = request.set_zero_if_not_found != Some(false);
        if from_zero && self.with.store.min_offset(topic, *queue_id) <= QueueOffset::ZERO && self.is_young() {
            return Ok(QueryConsumerOffsetReply { offset: QueueOffset::ZERO });
        }
        let remark = format!("the group {group} has no offset in queue {queue_id} of {topic}");
        Err(Refusal::new(ResponseCode::QUERY_NOT_FOUND, remark))
    }

    /// Whether the whole log is likely to be in memory.
    fn is_young(&self) -> bool {
        self.with.store.max_position().get() - self.with.store.min_position().get() <= LIKELY_IN_MEMORY
    }

    pub(super) fn update_consumer_offset(&self, request: &UpdateConsumerOffset) -> Result<Done, Refusal> {
        let UpdateConsumerOffset { consumer_group: group, topic, queue_id, commit_offset } = request;
        self.with.groups.obtain(group, &self.with.tasks)?;
        if self.with.topics.get(topic).is_none() {
            return Err(Refusal::no_topic(topic, "commit an offset of"));
        }
        if commit_offset.get() < 0 || queue_id.get() < 0 {
            let remark = format!("offset {commit_offset} of queue {queue_id}: neither can be negative");
            return Err(Refusal::new(ResponseCode::INVALID_PARAMETER, remark));
        }
        self.with.offsets.set(group, topic, *queue_id, *commit_offset);
        Ok(Done {})
    }
}
