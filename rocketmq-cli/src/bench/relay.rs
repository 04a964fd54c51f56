//! [`Relay`]: hands the messages of one topic from who sends them to who waits for them, so that `rmq bench latency` has
//! something to be compared with.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use rocketmq_protocol::body::MASTER_ID;
use rocketmq_protocol::message::{MessageError, NewMessage, SysFlag, stored};
use rocketmq_protocol::request::Segments;
use rocketmq_protocol::requests::{PullMessage, PullReply, SendMessage};
use rocketmq_protocol::transport::Call;
use rocketmq_protocol::{LogPosition, QueueId, QueueOffset};

/// The topic, and what is under way in it.
pub(super) struct Relay {
    topic: String,
    addr: SocketAddr,
    queues: Mutex<HashMap<QueueId, Queue>>,
}

/// Messages that nobody has asked for yet, or who has asked before there were any.
#[derive(Default)]
struct Queue {
    records: Vec<Vec<u8>>,
    waiting: Option<(Call, QueueOffset)>,
}

impl Relay {
    pub(super) fn new(topic: String, addr: SocketAddr) -> Self {
        Self { topic, addr, queues: Mutex::default() }
    }

    pub(super) fn is_of(&self, topic: &str) -> bool {
        self.topic == topic
    }

    pub(super) fn sent(&self, request: &SendMessage) -> Result<(), MessageError> {
        let message = NewMessage {
            topic: &request.topic,
            queue_id: request.queue_id,
            flag: request.flag,
            sys_flag: SysFlag::new(request.sys_flag),
            born_timestamp: request.born_timestamp,
            born_host: self.addr,
            store_host: self.addr,
            reconsume_times: 0,
            prepared_transaction_offset: LogPosition::ZERO,
            body: &request.body,
            properties: &[request.properties.as_deref().unwrap_or_default().into()],
        };
        let mut record = Vec::new();
        message.encode(&mut record)?;
        self.change(request.queue_id, |queue| queue.records.push(record));
        Ok(())
    }

    pub(super) fn pull(&self, call: Call, asked: &PullMessage) {
        self.change(asked.queue_id, |queue| queue.waiting = Some((call, asked.queue_offset)));
    }

    /// Changes a queue; who waits for what is in it then gets that.
    fn change(&self, queue_id: QueueId, change: impl FnOnce(&mut Queue)) {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = queues.entry(queue_id).or_default();
        change(queue);
        if let Some((call, offset)) = queue.waiting.take_if(|_| !queue.records.is_empty()) {
            call.reply(&queue.give(offset));
        }
    }
}

impl Queue {
    /// Everything there is, from `offset` on.
    fn give(&mut self, offset: QueueOffset) -> PullReply {
        let mut next = offset;
        let mut records = Vec::with_capacity(self.records.len());
        for mut record in self.records.drain(..) {
            stored::patch(&mut record, next, LogPosition::ZERO, 0);
            records.push(record.into());
            next = next.plus(1);
        }
        pulled(next, Segments::Many(records))
    }
}

/// What a pull gets of a queue that ends at `next`.
pub(super) fn pulled(next: QueueOffset, messages: Segments) -> PullReply {
    PullReply {
        suggested_broker_id: MASTER_ID,
        next_begin_offset: next,
        min_offset: QueueOffset::ZERO,
        max_offset: next,
        topic_sys_flag: None,
        group_sys_flag: None,
        forbidden_type: None,
        messages,
    }
}
