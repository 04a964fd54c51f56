//! Storing messages: `SEND_MESSAGE`, `SEND_MESSAGE_V2` and `SEND_BATCH_MESSAGE`.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::BytesMut;
use rocketmq_protocol::body::{Perm, TopicConfig};
use rocketmq_protocol::message::{
    MessageError, NewMessage, OffsetMessageIds, Properties, PropertiesRef, RecallHandle, SysFlag,
    UniqueKeyGenerator,
    batch::{self, BatchEntry},
    property,
};
use rocketmq_protocol::name::{
    DLQ_PREFIX, HALF_TOPIC, NOT_SENDABLE, RETRY_PREFIX, dlq_topic, validate_topic,
};
use rocketmq_protocol::request::Request;
use rocketmq_protocol::requests::{SendBatchMessage, SendMessage, SendReply};
use rocketmq_protocol::transport::Call;
use rocketmq_protocol::{ByteString, LogPosition, QueueId, ResponseCode};
use tracing::{error, info};

use super::deferral::TIMER_PROPERTIES;
use super::queue_locks::QueueLocks;
use super::refusal::Refusal;
use super::shared::Shared;
use super::transactions::Transactions;
use crate::config::FlushDisk;
use crate::store::{AppendError, Appended, FlushError};

/// Properties have at most this many bytes; their length is 16 bits wide on disk.
const MAX_PROPERTIES: usize = 32_767;

/// Serves sends.
pub(super) struct SendService {
    pub(super) with: Shared,
    locks: Arc<QueueLocks>,
    transactions: Arc<Transactions>,
    /// Properties that the broker adds to each message.
    added: String,
    region: ByteString,
    unique_keys: UniqueKeyGenerator,
    message_ids: OffsetMessageIds,
}

thread_local! {
    /// Where records are encoded before they are appended. Kept between messages, so that a send allocates nothing
    /// for it.
    static RECORDS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// Where message ids are written, many to one allocation; replies take slices of it along.
    static IDS: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// Room that [`IDS`] takes at once.
const IDS_ROOM: usize = 16 * 1024;

/// Longest offset message id, that of an IPv6 address, and a comma.
const MAX_ID: usize = 56 + 1;

/// Room that [`RECORDS`] keeps; what a huge message needed is given back.
const KEPT_ROOM: usize = 256 * 1024;

impl SendService {
    pub(super) fn new(with: Shared, locks: Arc<QueueLocks>, transactions: Arc<Transactions>) -> Self {
        let (config, store_host) = (&with.config, with.store_host);
        let added = Properties::builder()
            .set(property::CLUSTER, &config.cluster_name)
            .set(property::MSG_REGION, &config.region_id)
            .set(property::TRACE_ON, if config.trace_on { "true" } else { "false" })
            .build()
            .map(|properties| properties.encoded().to_string())
            .unwrap_or_default();
        let region = ByteString::from(&config.region_id);
        let unique_keys = UniqueKeyGenerator::new(store_host.ip(), std::process::id(), rand::random());
        let message_ids = OffsetMessageIds::of(store_host);
        Self { with, locks, transactions, added, region, unique_keys, message_ids }
    }

    pub(super) fn serve(self: &Arc<Self>, call: Call) {
        let mut request = match call.read::<SendMessage>() {
            Ok(request) => request,
            Err(error) => return Refusal::from(error).answer(&call),
        };
        let given_up = match self.check(&call, &request).and_then(|()| self.give_up(&mut request)) {
            Ok(given_up) => given_up,
            Err(refusal) => return refusal.answer(&call),
        };
        self.store(call, request, given_up);
    }

    /// Stores what was checked, if need be in a topic that it creates: for what was `given_up`, else where that is allowed.
    pub(super) fn store(self: &Arc<Self>, call: Call, request: SendMessage, given_up: bool) {
        if let Some(topic) = self.with.topics.get(&request.topic) {
            return self.store_in(&topic, call, &request);
        }
        let SendMessage { topic, default_topic, default_topic_queue_nums, .. } = &request;
        let settings = if given_up {
            Some(TopicConfig::new(topic.to_string(), 1, Perm::READ_WRITE))
        } else {
            self.with.topics.derived(topic, default_topic, *default_topic_queue_nums)
        };
        match settings {
            Some(settings) => self.create_and_store(settings, call, request),
            None => Refusal::no_topic(topic, "send to").answer(&call),
        }
    }

    /// What can be said without looking at the topic. Java: `SendMessageProcessor.java`, `AbstractSendMessageProcessor.java`.
    pub(super) fn check(&self, call: &Call, request: &SendMessage) -> Result<(), Refusal> {
        let topic: &str = &request.topic;
        if self.with.config.broker_permission & 2 == 0 {
            let remark =
                format!("the broker {} is not writable (brokerPermission)", self.with.config.broker_name);
            return Err(Refusal::forbidden(remark));
        }
        validate_topic(topic)
            .map_err(|error| Refusal::new(ResponseCode::INVALID_PARAMETER, error.to_string()))?;
        if NOT_SENDABLE.contains(&topic) {
            return Err(Refusal::forbidden(format!("the topic {topic} is the system's own")));
        }
        let limit = usize::try_from(self.with.config.max_message_size).unwrap_or(usize::MAX);
        if request.body.len() > limit {
            let remark = format!("body of {} bytes, maxMessageSize is {limit} bytes", request.body.len());
            return Err(Refusal::illegal(remark));
        }
        if request.body.is_empty() {
            return Err(Refusal::illegal("a message needs a body, this one has 0 bytes".to_owned()));
        }
        let properties = request.properties.as_deref().unwrap_or_default();
        if properties.len() + self.added.len() + 1 > MAX_PROPERTIES {
            let remark = format!(
                "properties of {} bytes, with what the broker adds {}; the limit is {MAX_PROPERTIES} bytes",
                properties.len(),
                properties.len() + self.added.len() + 1
            );
            return Err(Refusal::illegal(remark));
        }
        if is_batch(call, request) && (topic.starts_with(RETRY_PREFIX) || topic.starts_with(DLQ_PREFIX)) {
            return Err(Refusal::illegal(format!("a batch cannot go to {topic}")));
        }
        if self.with.store.is_busy() {
            let remark = format!(
                "[PC_SYNCHRONIZED]broker busy: an append has taken more than {:?}, the disk cannot keep up",
                self.with.config.page_cache_busy_timeout
            );
            return Err(Refusal::new(ResponseCode::SYSTEM_BUSY, remark));
        }
        Ok(())
    }

    /// A client that cannot send a message back sends it to the retry topic itself. One that failed too often goes to the dead letters,
    /// and so does any while the group holds queue locks: ordered consumers retry in place and send only what they give up. Whether it
    /// was readdressed.
    ///
    /// Java: `SendMessageProcessor.java`, `handleRetryAndDLQ`.
    fn give_up(&self, request: &mut SendMessage) -> Result<bool, Refusal> {
        let Some(group) = request.topic.strip_prefix(RETRY_PREFIX) else { return Ok(false) };
        let looked = self.with.groups.obtain(group, &self.with.tasks)?;
        let most = request.max_reconsume_times.unwrap_or(looked.retry_max_times);
        if request.reconsume_times <= most && !self.locks.any_held(group) {
            return Ok(false);
        }
        let told = request.properties.clone().unwrap_or_default();
        let properties = Properties::new(told).with(property::DELAY, "0").map_err(malformed)?;
        request.properties = Some(properties.encoded().clone());
        request.topic = dlq_topic(group).into();
        request.queue_id = QueueId::ZERO;
        Ok(true)
    }

    /// Creates the topic, tells the name servers, and stores.
    fn create_and_store(self: &Arc<Self>, topic: TopicConfig, call: Call, request: SendMessage) {
        let service = Arc::clone(self);
        self.with.tasks.spawn(async move {
            match service.with.topics.create(topic).await {
                Ok(topic) => {
                    info!(topic = topic.topic_name, queues = topic.write_queue_nums, producer = %call.connection().peer(), "topic created by a send");
                    // Told before the sender is answered: it may well look for the route next.
                    service.with.registration.announce().await;
                    service.store_in(&topic, call, &request);
                }
                Err(error) => {
                    error!(topic = %request.topic, error = &error as &dyn std::error::Error, "topic cannot be created");
                    let remark = format!("the topic {} cannot be created: {error}", request.topic);
                    Refusal::new(ResponseCode::SYSTEM_ERROR, remark).answer(&call);
                }
            }
        });
    }

    fn store_in(self: &Arc<Self>, topic: &TopicConfig, call: Call, request: &SendMessage) {
        let queues = topic.write_queue_nums.max(topic.read_queue_nums);
        let queue_id = match request.queue_id.get() {
            id if id < 0 => QueueId::new(rand::random_range(0..topic.write_queue_nums.max(1))),
            id if id < queues => request.queue_id,
            id => {
                let remark = format!("queueId {id} of topic {}: it has {queues} queues", topic.topic_name);
                return Refusal::new(ResponseCode::INVALID_PARAMETER, remark).answer(&call);
            }
        };
        let stored = RECORDS.with_borrow_mut(|records| {
            records.clear();
            let stored = self.encode_and_append(&call, request, queue_id, records);
            if records.capacity() > KEPT_ROOM {
                *records = Vec::new();
            }
            stored
        });
        match stored {
            Ok(stored) if stored.wait && self.with.config.flush_disk == FlushDisk::Sync => {
                self.answer_when_flushed(call, stored)
            }
            Ok(stored) => call.reply(&stored.reply),
            Err(refusal) => refusal.answer(&call),
        }
    }

    fn encode_and_append(
        &self,
        call: &Call,
        request: &SendMessage,
        queue_id: QueueId,
        records: &mut Vec<u8>,
    ) -> Result<Stored, Refusal> {
        let message = NewMessage {
            topic: &request.topic,
            queue_id,
            flag: request.flag,
            sys_flag: SysFlag::new(request.sys_flag),
            born_timestamp: request.born_timestamp,
            born_host: call.connection().peer(),
            store_host: self.with.store_host,
            reconsume_times: request.reconsume_times,
            prepared_transaction_offset: LogPosition::ZERO,
            body: &request.body,
            properties: &[],
        };
        let told = request.properties.clone().unwrap_or_default();
        let told_properties = PropertiesRef::from(&*told);
        let mut place = (&*request.topic, queue_id);
        let (deferred, mut recall_ms);
        recall_ms = None;
        let traits = Traits::of(told_properties)?;
        let half = traits.half && !request.topic.starts_with(RETRY_PREFIX);
        if message.sys_flag.transaction() != SysFlag::TRANSACTION_NONE && !half {
            let flag = request.sys_flag;
            let remark =
                format!("sysFlag={flag}: a message with transaction bits needs the property TRAN_MSG=true");
            return Err(Refusal::illegal(remark));
        }
        if half && self.with.config.reject_transactions {
            let name = &self.with.config.broker_name;
            let remark = format!("the broker {name} takes no transactions (rejectTransactionMessage)");
            return Err(Refusal::forbidden(remark));
        }
        let mut appended = None;
        let unique_key = if is_batch(call, request) {
            for entry in batch::entries(&request.body) {
                let BatchEntry { flag, body, properties } = entry.map_err(malformed)?;
                let of_entry = Traits::of(properties)?;
                if of_entry.delayed || of_entry.timed || of_entry.half {
                    return Err(Refusal::illegal(
                        "messages of a batch can neither be delayed nor be in a transaction".to_owned(),
                    ));
                }
                NewMessage { flag, body, properties: &[properties], ..message }
                    .encode(records)
                    .map_err(malformed)?;
            }
            None
        } else if half {
            let (properties, key) = self.complete(&told, told_properties, &traits)?;
            let told = PropertiesRef::from(properties.as_deref().unwrap_or(&told));
            if traits.timed {
                // A time that would be refused at the commit is refused here.
                self.with.deferral.of(&request.topic, queue_id, told, self.with.clock.now_ms())?;
            }
            let properties =
                self.transactions.half_properties(told, &request.topic, queue_id, &request.producer_group)?;
            NewMessage {
                topic: HALF_TOPIC,
                queue_id: QueueId::ZERO,
                sys_flag: message.sys_flag.without(SysFlag::TRANSACTION_MASK),
                properties: &[properties.as_ref(), self.added.as_str().into()],
                ..message
            }
            .encode(records)
            .map_err(malformed)?;
            appended = Some(self.transactions.prepare(records, properties.as_ref())?);
            Some(key)
        } else {
            let (properties, key) = self.complete(&told, told_properties, &traits)?;
            let mut properties = properties.as_deref().unwrap_or(&told);
            if traits.delayed || traits.timed {
                let own = PropertiesRef::from(properties);
                deferred = self.with.deferral.of(&request.topic, queue_id, own, self.with.clock.now_ms())?;
                if let Some(deferred) = &deferred {
                    place = (deferred.topic, deferred.queue_id);
                    properties = deferred.properties.encoded();
                    recall_ms = deferred.recall_ms;
                }
            }
            let (topic, queue_id) = place;
            let properties = [properties.into(), self.added.as_str().into()];
            NewMessage { topic, queue_id, properties: &properties, ..message }
                .encode(records)
                .map_err(malformed)?;
            Some(key)
        };
        let handle = |deliver_ms| RecallHandle {
            topic: request.topic.to_string(),
            broker_name: self.with.config.broker_name.clone(),
            deliver_ms,
            unique_key: unique_key.as_deref().unwrap_or_default().to_owned(),
        };
        let recall_handle = recall_ms.map(|deliver_ms| handle(deliver_ms).to_string().into());
        let appended = match appended {
            Some(appended) => appended,
            None => self.with.store.append(place.0, place.1, records).map_err(not_appended)?,
        };
        let reply = SendReply {
            message_id: self.message_ids(records, &appended),
            queue_id,
            queue_offset: appended.queue_offset,
            transaction_id: unique_key,
            batch_unique_id: None,
            recall_handle,
            region: Some(self.region.clone()),
            trace_on: Some(self.with.config.trace_on),
        };
        Ok(Stored { reply, end: appended.end, wait: traits.wait })
    }

    /// The client's properties as they are to be stored, where they differ from what it sent; and the unique key.
    fn complete(
        &self,
        told: &ByteString,
        properties: PropertiesRef<'_>,
        traits: &Traits<'_>,
    ) -> Result<(Option<String>, ByteString), Refusal> {
        let key = match traits.unique_key {
            Some(key) => told.part(key).unwrap_or_default(), // between two marks: it is text
            None => self.unique_keys.next(self.with.clock.now_ms()).into(),
        };
        if traits.unique_key.is_some() && !traits.reserved {
            return Ok((None, key));
        }
        // What the broker adds must stand there once, and POP receipts do not live on.
        let mut builder = Properties::builder();
        for (name, value) in properties.iter().filter(|(name, _)| !RESERVED.contains(name)) {
            builder = builder.set(name, value);
        }
        let completed = builder.set(property::UNIQ_KEY, &key).build().map_err(malformed)?;
        Ok((Some(completed.encoded().to_string()), key))
    }

    /// One id for each record, comma-joined.
    fn message_ids(&self, records: &[u8], appended: &Appended) -> ByteString {
        let ids = IDS.with_borrow_mut(|ids| {
            if ids.capacity() < MAX_ID * appended.count {
                ids.reserve(IDS_ROOM.max(MAX_ID * appended.count));
            }
            let mut position = appended.position;
            self.message_ids.write(position, ids);
            let mut rest = records;
            for _ in 1..appended.count {
                let size = rest.first_chunk().map_or(0, |size| u32::from_be_bytes(*size));
                position = position.plus(size.into());
                rest = usize::try_from(size).ok().and_then(|size| rest.get(size..)).unwrap_or_default();
                ids.extend_from_slice(b",");
                self.message_ids.write(position, ids);
            }
            ids.split().freeze()
        });
        ByteString::from_utf8(ids).unwrap_or_default()
    }

    fn answer_when_flushed(&self, call: Call, stored: Stored) {
        let store = Arc::clone(&self.with.store);
        self.with.tasks.spawn(async move {
            match store.flushed(stored.end).await {
                Ok(()) => call.reply(&stored.reply),
                Err(error @ FlushError::Timeout { .. }) => {
                    call.answer(
                        ResponseCode::FLUSH_DISK_TIMEOUT,
                        Some(error.to_string().into()),
                        &stored.reply,
                    );
                }
                Err(error) => call.refuse(ResponseCode::SERVICE_NOT_AVAILABLE, error.to_string()),
            }
        });
    }
}

/// A send that is in the log.
struct Stored {
    reply: SendReply,
    end: LogPosition,
    /// Whether the sender wants it on disk before it is answered.
    wait: bool,
}

/// What the properties of a message say about its way through the broker.
struct Traits<'a> {
    unique_key: Option<&'a [u8]>,
    wait: bool,
    /// Has properties that only the broker may set.
    reserved: bool,
    /// Asks for a delay level.
    delayed: bool,
    /// Asks for a time.
    timed: bool,
    /// Waits for the end of a transaction.
    half: bool,
}

const RESERVED: [&str; 5] =
    [property::CLUSTER, property::MSG_REGION, property::TRACE_ON, property::POP_CK, property::UNIQ_KEY];

/// Names as bytes, to be compared with those of a message before these are known to be text.
mod name {
    use super::property;

    pub(super) const UNIQ_KEY: &[u8] = property::UNIQ_KEY.as_bytes();
    pub(super) const WAIT: &[u8] = property::WAIT.as_bytes();
    pub(super) const CLUSTER: &[u8] = property::CLUSTER.as_bytes();
    pub(super) const MSG_REGION: &[u8] = property::MSG_REGION.as_bytes();
    pub(super) const TRACE_ON: &[u8] = property::TRACE_ON.as_bytes();
    pub(super) const POP_CK: &[u8] = property::POP_CK.as_bytes();
    pub(super) const DELAY: &[u8] = property::DELAY.as_bytes();
    pub(super) const TRAN_MSG: &[u8] = property::TRAN_MSG.as_bytes();
    pub(super) const INNER_NUM: &[u8] = property::INNER_NUM.as_bytes();
    pub(super) const INNER_MULTI_DISPATCH: &[u8] = property::INNER_MULTI_DISPATCH.as_bytes();
}

impl<'a> Traits<'a> {
    fn of(properties: PropertiesRef<'a>) -> Result<Self, Refusal> {
        let mut traits =
            Self { unique_key: None, wait: true, reserved: false, delayed: false, timed: false, half: false };
        for (name, value) in properties.raw_iter() {
            match name {
                name::UNIQ_KEY => traits.unique_key = Some(value),
                name::WAIT => traits.wait = value != b"false",
                name::CLUSTER | name::MSG_REGION | name::TRACE_ON | name::POP_CK => traits.reserved = true,
                name::DELAY => {
                    let level = std::str::from_utf8(value).ok().and_then(|level| level.parse().ok());
                    traits.delayed = level.is_some_and(|level: i32| level > 0);
                }
                name::TRAN_MSG => traits.half = value.eq_ignore_ascii_case(b"true"),
                name::INNER_NUM | name::INNER_MULTI_DISPATCH => {
                    let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
                    return Err(unsupported(&name, &value, "inner batches and multi-dispatch"));
                }
                name if TIMER_PROPERTIES.iter().any(|timer| timer.as_bytes() == name) => traits.timed = true,
                _ => {}
            }
        }
        Ok(traits)
    }
}

fn unsupported(name: &str, value: &str, what: &str) -> Refusal {
    Refusal::illegal(format!("property {name}={value}: {what} are not supported by this broker"))
}

pub(super) fn malformed(error: MessageError) -> Refusal {
    Refusal::illegal(error.to_string())
}

pub(super) fn not_appended(error: AppendError) -> Refusal {
    let code = match error {
        AppendError::TooLarge { .. } | AppendError::Malformed { .. } => ResponseCode::MESSAGE_ILLEGAL,
        AppendError::Topic { .. } | AppendError::QueueId { .. } | AppendError::BatchQueue { .. } => {
            ResponseCode::INVALID_PARAMETER
        }
        AppendError::DiskFull { .. }
        | AppendError::DiskUsage { .. }
        | AppendError::NotWritable { .. }
        | AppendError::Closed => ResponseCode::SERVICE_NOT_AVAILABLE,
        AppendError::NextFile(_) => ResponseCode::SYSTEM_ERROR,
    };
    let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
    Refusal::new(code, format!("{error}{source}"))
}

fn is_batch(call: &Call, request: &SendMessage) -> bool {
    call.frame().request_code() == SendBatchMessage::CODE || request.batch
}
