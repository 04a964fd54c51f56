//! Moving a group from outside: `INVOKE_BROKER_TO_RESET_OFFSET`.

use std::sync::Arc;

use bytes::Bytes;
use rocketmq_protocol::body::{
    MessageQueue, QueueOffsetEntry, QueueTable, ResetOffsetBody, ResetOffsetBodyForC,
};
use rocketmq_protocol::request::Body;
use rocketmq_protocol::requests::{InvokeResetOffset, InvokeResetOffsetReply, ResetClientOffset};
use rocketmq_protocol::{Language, QueueId, QueueOffset, ResponseCode};
use tracing::{info, warn};

use super::held_pulls::HeldPulls;
use super::refusal::Refusal;
use super::shared::Shared;
use crate::store::{StoreError, TimeBoundary};

/// Serves resets.
pub(super) struct OffsetReset {
    pub(super) with: Shared,
    pub(super) held: Arc<HeldPulls>,
}

impl OffsetReset {
    /// Reads all over the queues, so it may wait for the disk. Java: `AdminBrokerProcessor.java`, `resetOffset`.
    pub(super) fn reset(
        &self,
        request: &InvokeResetOffset,
        asker: Language,
    ) -> Result<InvokeResetOffsetReply, Refusal> {
        let InvokeResetOffset { topic, group, .. } = request;
        let queues =
            self.with.topics.get(topic).ok_or_else(|| Refusal::no_topic(topic, "reset"))?.read_queue_nums;
        let offset_table = if self.with.config.server_side_reset_offset {
            if self.with.groups.get(group).is_none() {
                return Err(Refusal::no_group(group));
            }
            self.reset_here(request, queues)?
        } else {
            self.reset_clients(request, queues, asker)?
        };
        info!(topic = %topic, group = %group, queues = offset_table.len(), "consumer offsets reset");
        Ok(InvokeResetOffsetReply { offsets: ResetOffsetBody { offset_table } })
    }

    /// The broker takes the new offsets and tells each consumer at its next pull, for which it need not wait.
    fn reset_here(
        &self,
        request: &InvokeResetOffset,
        queues: i32,
    ) -> Result<QueueTable<QueueOffset>, Refusal> {
        let InvokeResetOffset { topic, group, .. } = request;
        let told = request.offset.filter(|offset| offset.get() >= 0);
        let mut table = QueueTable::default();
        if request.queue_id.get() < 0 {
            for id in (0..queues).map(QueueId::new) {
                table.insert(self.queue(topic, id), self.by_time(topic, id, request.timestamp)?);
            }
        } else if let Some(offset) = told {
            let (min, max) = (
                self.with.store.min_offset(topic, request.queue_id),
                self.with.store.max_offset(topic, request.queue_id),
            );
            if offset < min || offset > max.plus(1) {
                let remark = format!(
                    "offset {offset} is outside queue {} of {topic}, which has {min} to {max}",
                    request.queue_id
                );
                return Err(Refusal::new(ResponseCode::SYSTEM_ERROR, remark));
            }
            table.insert(self.queue(topic, request.queue_id), offset);
        } else {
            let offset = self.by_time(topic, request.queue_id, request.timestamp)?;
            table.insert(self.queue(topic, request.queue_id), offset);
        }
        for (queue, offset) in table.iter() {
            self.with.offsets.reset(group, topic, queue.queue_id, *offset);
            self.held.release(topic, queue.queue_id);
        }
        Ok(table)
    }

    /// The consumers are told the new offsets and see to the rest. Java: `Broker2Client.java`, `resetOffset`.
    fn reset_clients(
        &self,
        request: &InvokeResetOffset,
        queues: i32,
        asker: Language,
    ) -> Result<QueueTable<QueueOffset>, Refusal> {
        let InvokeResetOffset { topic, group, timestamp, force, .. } = request;
        let mut table = QueueTable::default();
        for id in (0..queues).map(QueueId::new) {
            let Some(consumed) = self.with.offsets.get(group, topic, id) else {
                let remark = format!("the group {group} has no offset in queue {id} of {topic}");
                return Err(Refusal::new(ResponseCode::SYSTEM_ERROR, remark));
            };
            let found = self.by_time(topic, id, *timestamp)?;
            table.insert(self.queue(topic, id), if *force { found } else { found.min(consumed) });
        }
        let members = self.with.clients.members(group);
        if members.is_empty() {
            let remark = format!(
                "no consumer of the group {group} is connected, and with useServerSideResetOffset=false only they can be reset"
            );
            return Err(Refusal::new(ResponseCode::CONSUMER_NOT_ONLINE, remark));
        }
        let told = ResetClientOffset {
            topic: topic.clone(),
            group: group.clone(),
            timestamp: *timestamp,
            force: *force,
            queue_id: QueueId::new(-1),
            offset: None,
            offsets: body(&table, asker),
        };
        for member in members {
            if let Err(error) = member.connection.try_send_oneway(&told) {
                warn!(topic = %topic, group = %group, client = member.client_id, %error, "consumer not told of its new offsets");
            }
        }
        Ok(table)
    }

    fn queue(&self, topic: &str, queue_id: QueueId) -> MessageQueue {
        MessageQueue::new(topic, self.with.config.broker_name.clone(), queue_id)
    }

    fn by_time(&self, topic: &str, queue_id: QueueId, timestamp: i64) -> Result<QueueOffset, Refusal> {
        if timestamp < 0 {
            return Ok(self.with.store.max_offset(topic, queue_id));
        }
        self.with
            .store
            .offset_by_time(topic, queue_id, timestamp, TimeBoundary::Lower)
            .map_err(|error: StoreError| Refusal::new(ResponseCode::SYSTEM_ERROR, error.to_string()))
    }
}

/// Java cannot tell who of the group is written in what, and goes by the administrator's language.
fn body(table: &QueueTable<QueueOffset>, asker: Language) -> Bytes {
    if asker != Language::CPP {
        return ResetOffsetBody { offset_table: table.clone() }.to_segments().into_bytes();
    }
    let entry = |(queue, offset): (&MessageQueue, &QueueOffset)| QueueOffsetEntry {
        broker_name: queue.broker_name.to_string(),
        offset: *offset,
        queue_id: queue.queue_id,
        topic: queue.topic.to_string(),
    };
    ResetOffsetBodyForC { offset_table: table.iter().map(entry).collect() }.to_segments().into_bytes()
}
