//! [`Transactions`]: half messages, what becomes of them, and the questions to producers that have not said.
//!
//! A half message lies in a queue of its own until its producer commits it, which stores it again where it belongs, or rolls it back.
//! Both are noted at once in a queue of op messages, so that a broker which is killed and started again knows which half messages are
//! done. About the others producers of the group are asked: first after `transactionTimeOut`, or the message's own
//! `CHECK_IMMUNITY_TIME_IN_SECONDS`, then every `transactionCheckInterval`. With each question, and every `transactionCheckInterval` while
//! nobody may be asked yet, the half message is stored again at the end of its queue: so little has to be read to know what is open,
//! the number of questions is in the store, and a Java broker can take over.
//!
//! Nothing is polled: the task waits for the first time at which something is due. Java: `broker/transaction/queue/*.java`.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rocketmq_protocol::body::{Perm, TopicConfig};
use rocketmq_protocol::message::{
    MessageError, NewMessage, OffsetMessageId, Properties, PropertiesRef, StoredMessageRef, SysFlag,
    property, stored,
};
use rocketmq_protocol::name::{HALF_OP_TOPIC, HALF_TOPIC, SCHEDULE_TOPIC, TRANS_CHECK_MAX_TIME_TOPIC};
use rocketmq_protocol::request::Done;
use rocketmq_protocol::requests::{CheckTransactionState, EndTransaction, transaction_outcome};
use rocketmq_protocol::transport::Call;
use rocketmq_protocol::{ByteString, LogPosition, QueueId, QueueOffset, ResponseCode};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::open_transactions::{Open, OpenTransactions};
use super::refusal::Refusal;
use super::schedule::{moved, real_queue};
use super::send::{malformed, not_appended};
use super::shared::Shared;
use crate::config::FlushDisk;
use crate::store::{AppendError, Appended, IndexKey, KeyQuery, ReadLimits, ReadStatus, Store, StoreError};

/// Under this group Java keeps how far half messages and op messages are done.
const GROUP: &str = "CID_RMQ_SYS_TRANS";
/// The tag of an op message: the half messages it names are done.
const DONE_TAG: &str = "d";
/// The properties of an op message.
const OP_PROPERTIES: &str = "WAIT\x01true\x02TAGS\x01d\x02";
/// Bytes that the body of an op message may have. Java: `transactionOpMsgMaxSize`.
const MAX_OP_BODY: usize = 4096;
/// Transactions that may be open at a time; each takes some 200 bytes of memory.
const MAX_OPEN: usize = 1_000_000;
/// Half messages looked at in one go.
const ROUND: usize = 500;
/// Messages that are read in one go at the start.
const READ: ReadLimits = ReadLimits { max_messages: 1000, max_bytes: 4 << 20 };
/// How much earlier than its half message, by the producer's clock, a commit may seem to be stored.
const CLOCK_SKEW_MS: i64 = 24 * 3600 * 1000;

/// The transactions of a broker.
pub(super) struct Transactions {
    with: Shared,
    /// Held while a transaction changes, the append of the records that say so included: two that end it come one after the other.
    state: Mutex<State>,
    /// Something is due before the time that the task waits for.
    earlier: Notify,
    /// Whose turn it is to be asked.
    turn: AtomicUsize,
}

struct State {
    open: OpenTransactions,
    /// Half messages that were there at the start, by unique key.
    inherited: HashMap<String, QueueOffset>,
    /// What the task waits for.
    armed_ms: i64,
    /// From where half messages and op messages are to be read, as it was noted last.
    noted: (QueueOffset, QueueOffset),
}

impl Transactions {
    /// Reads what is open. Blocks.
    ///
    /// # Errors
    /// When a consume queue file cannot be read.
    pub(super) fn open(with: Shared) -> Result<Self, StoreError> {
        let state = Mutex::new(read_open(&with)?);
        Ok(Self { with, state, earlier: Notify::new(), turn: AtomicUsize::new(0) })
    }

    /// How many transactions are open.
    pub(super) fn count(&self) -> usize {
        self.state().open.len()
    }

    /// The properties that make a half message of one for `topic`.
    pub(super) fn half_properties(
        &self,
        told: PropertiesRef<'_>,
        topic: &str,
        queue_id: QueueId,
        producer_group: &str,
    ) -> Result<Properties, Refusal> {
        let mut half = Properties::new(ByteString::from(told.to_text().as_ref())).to_builder();
        if told.get(property::PGROUP).is_none() {
            half = half.set(property::PGROUP, producer_group);
        }
        if let Some(key) = told.get(property::UNIQ_KEY) {
            half = half.set(property::TRANSACTION_ID, key);
        }
        half.set(property::REAL_TOPIC, topic)
            .set(property::REAL_QID, &queue_id.to_string())
            .build()
            .map_err(malformed)
    }

    /// Stores a half message. `record` is of queue 0 of [`HALF_TOPIC`].
    pub(super) fn prepare(
        &self,
        record: &mut [u8],
        properties: PropertiesRef<'_>,
    ) -> Result<Appended, Refusal> {
        let mut state = self.state();
        if state.open.len() >= MAX_OPEN {
            let remark = format!("{MAX_OPEN} transactions are open already; commit them or roll them back");
            return Err(Refusal::new(ResponseCode::SYSTEM_BUSY, remark));
        }
        let appended = self.with.store.append(HALF_TOPIC, QueueId::ZERO, record).map_err(not_appended)?;
        let half = self.with.new_half(
            appended.position,
            appended.store_timestamp,
            appended.store_timestamp,
            properties,
        );
        self.arm(&mut state, half.due_ms);
        state.open.open(appended.queue_offset, half);
        Ok(appended)
    }

    /// Serves `END_TRANSACTION`. Java: `EndTransactionProcessor.java`.
    pub(super) fn serve(self: &Arc<Self>, call: Call) {
        let request = match call.read::<EndTransaction>() {
            Ok(request) => request,
            Err(error) => return Refusal::from(error).answer(&call),
        };
        match self.end(&request) {
            Ok(Some(end)) if self.with.config.flush_disk == FlushDisk::Sync => {
                let service = Arc::clone(self);
                self.with.tasks.spawn(async move {
                    match service.with.store.flushed(end).await {
                        Ok(()) => call.reply(&Done {}),
                        Err(error) => call.refuse(ResponseCode::FLUSH_DISK_TIMEOUT, error.to_string()),
                    }
                });
            }
            Ok(_) => call.reply(&Done {}),
            Err(refusal) => {
                debug!(peer = %call.connection().peer(), queue_offset = %request.queue_offset, ?refusal, "transaction not ended");
                refusal.answer(&call);
            }
        }
    }

    /// Where the records end that say so; `None` where the producer does not know yet.
    fn end(&self, request: &EndTransaction) -> Result<Option<LogPosition>, Refusal> {
        let commit = match request.outcome {
            transaction_outcome::COMMIT => true,
            transaction_outcome::ROLLBACK => false,
            transaction_outcome::UNKNOWN => return Ok(None),
            other => {
                let remark = format!("commitOrRollback={other}: expected 0, 8 (commit) or 12 (rollback)");
                return Err(Refusal::new(ResponseCode::INVALID_PARAMETER, remark));
            }
        };
        let wrong = |what: String| Refusal::new(ResponseCode::SYSTEM_ERROR, what);
        let bytes = self.with.store.message_at(request.position);
        let bytes =
            bytes.ok_or_else(|| wrong(format!("no message at commitLogOffset {}", request.position)))?;
        let half = StoredMessageRef::parse(&bytes).map_err(|error| wrong(error.to_string()))?;
        check_half(&half, request).map_err(wrong)?;
        let key = half.properties().get(property::UNIQ_KEY);

        let find = |state: &State| {
            let at = half.queue_offset();
            let inherited = || key.and_then(|key| state.inherited.get(key)).copied();
            let found = state.open.find(at).or_else(|| state.open.find(inherited()?));
            found.map(|(at, open)| (at, open.clone())).ok_or_else(|| {
                wrong(format!("the transaction of the half message at {at} has ended, or was given up"))
            })
        };
        let (_, open) = find(&self.state())?;
        let immune = immunity(half.properties()).is_some();
        if !request.from_check && immune && self.with.clock.now_ms() > open.immune_until_ms {
            let remark = "after CHECK_IMMUNITY_TIME_IN_SECONDS only an answer to a check is accepted";
            return Err(Refusal::new(ResponseCode::ILLEGAL_OPERATION, remark.to_owned()));
        }
        let committed = open.inherited && self.was_committed(&half);

        let mut record = Vec::new();
        let (mut topic, mut queue_id) =
            real_queue(&half).ok_or_else(|| wrong("it does not say its topic".to_owned()))?;
        if commit && !committed {
            let mut properties = without_place(half.properties())?;
            let now = self.with.clock.now_ms();
            if let Some(deferred) = self.with.deferral.of(topic, queue_id, properties.as_ref(), now)? {
                (topic, queue_id, properties) = (deferred.topic, deferred.queue_id, deferred.properties);
            }
            NewMessage {
                sys_flag: half.sys_flag().with(SysFlag::TRANSACTION_COMMIT),
                prepared_transaction_offset: request.position,
                properties: &[properties.as_ref()],
                ..moved(&half, topic, queue_id)
            }
            .encode(&mut record)
            .map_err(malformed)?;
        }
        let mut state = self.state();
        let (at, _) = find(&state)?;
        let mut end = None;
        if !record.is_empty() {
            let appended = self.with.store.append(topic, queue_id, &mut record).map_err(not_appended)?;
            end = Some(appended.end);
        }
        // Nobody is asked again even if it cannot be noted: after a kill the committed message itself tells.
        state.forget(at, key);
        match self.write_op(&mut state, &[at]) {
            Ok(noted) => end = Some(noted),
            Err(error) if commit => {
                warn!(queue_offset = %at, %error, "transaction committed, but not noted as done");
            }
            Err(error) => return Err(error.into()),
        }
        Ok(end)
    }

    /// Asks about what is due, and moves what gets old, until `stop`.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let next = {
                let mut state = self.state();
                state.armed_ms = state.open.next_due().unwrap_or(i64::MAX);
                state.armed_ms
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.earlier.notified() => continue,
                () = self.with.clock.sleep_until(next), if next < i64::MAX => {}
            }
            let due = self.state().open.due(self.with.clock.now_ms(), ROUND);
            if due.iter().any(|(_, half)| self.with.is_given_up(half)) {
                self.provide_topic().await;
            }
            let round = tokio::task::spawn_blocking({
                let service = Arc::clone(&self);
                move || service.round(due)
            });
            round.await.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()));
        }
    }

    /// The topic for what is given up.
    async fn provide_topic(&self) {
        let topic = TRANS_CHECK_MAX_TIME_TOPIC;
        if self.with.topics.get(topic).is_some() {
            return;
        }
        match self.with.topics.create(TopicConfig::new(topic, 1, Perm::READ_WRITE)).await {
            Ok(_) => self.with.registration.announce().await,
            Err(error) => error!(topic, error = &error as &dyn std::error::Error, "topic cannot be created"),
        }
    }

    fn round(&self, due: Vec<(QueueOffset, Open)>) {
        let (mut done, mut nobody, mut refused) = (Vec::new(), BTreeSet::new(), None);
        for (at, half) in due {
            match self.attend(at, half, &mut nobody) {
                Ok(finished) => done.extend(finished),
                Err(error) => {
                    self.state().open.postpone(at, self.with.after_interval());
                    refused = Some(error);
                }
            }
        }
        let mut state = self.state();
        if let Err(error) = self.write_op(&mut state, &done) {
            refused = Some(error);
        }
        drop(state);
        for group in nobody {
            warn!(group, "nobody of the producer group is connected to be asked about its transactions");
        }
        if let Some(error) = refused {
            error!(%error, "transactions cannot be attended to, trying again");
        }
    }

    /// Moves a half message to the end of its queue and asks about it, or gives it up. Its place, when that is done with.
    fn attend(
        &self,
        at: QueueOffset,
        open: Open,
        nobody: &mut BTreeSet<String>,
    ) -> Result<Option<QueueOffset>, NotStored> {
        let bytes = self.with.store.message_at(open.position);
        let Some(half) = bytes.as_deref().and_then(|bytes| StoredMessageRef::parse(bytes).ok()) else {
            warn!(queue_offset = %at, position = %open.position, "half message is gone, its transaction cannot end");
            self.state().forget(at, None);
            return Ok(Some(at));
        };
        let key = half.properties().get(property::UNIQ_KEY);
        if open.inherited && self.was_committed(&half) {
            self.state().forget(at, key);
            return Ok(Some(at));
        }
        let given_up = self.with.is_given_up(&open);
        let immune = !given_up && self.with.clock.now_ms() < open.immune_until_ms;
        let mut properties =
            Properties::new(ByteString::from(half.properties().to_text().as_ref())).to_builder();
        if immune {
            // Java's broker finds by it that the producer has ended the transaction at its first place.
            if half.properties().get(property::TRAN_PREPARED_QUEUE_OFFSET).is_none() {
                properties = properties.set(property::TRAN_PREPARED_QUEUE_OFFSET, &at.to_string());
            }
        } else if !given_up {
            properties = properties.set(property::TRANSACTION_CHECK_TIMES, &(open.checks + 1).to_string());
        }
        let topic = if given_up { TRANS_CHECK_MAX_TIME_TOPIC } else { HALF_TOPIC };
        let mut record = Vec::new();
        let encoded = properties.build().and_then(|properties| {
            NewMessage { properties: &[properties.as_ref()], ..moved(&half, topic, QueueId::ZERO) }
                .encode(&mut record)
                .map(|_| properties)
        });
        let properties = encoded?;

        let mut state = self.state();
        if state.open.find(at).is_none_or(|(now_at, _)| now_at != at) {
            return Ok(None); // it has ended meanwhile
        }
        let appended = self.with.store.append(topic, QueueId::ZERO, &mut record)?;
        if given_up {
            state.forget(at, key);
            drop(state);
            let group = half.properties().get(property::PGROUP).unwrap_or_default();
            warn!(group, key, checks = open.checks, topic, "transaction given up");
            return Ok(Some(at));
        }
        let first = half.properties().get(property::TRAN_PREPARED_QUEUE_OFFSET).is_none();
        let mut renewed = Open { position: appended.position, due_ms: self.with.after_interval(), ..open };
        renewed.earlier.push(at);
        if immune {
            renewed.due_ms = renewed.due_ms.min(renewed.immune_until_ms);
        } else {
            renewed.checks += 1;
        }
        state.open.close(at);
        state.open.open(appended.queue_offset, renewed);
        if let Some(place) = key.and_then(|key| state.inherited.get_mut(key)) {
            *place = appended.queue_offset;
        }
        drop(state);
        if immune {
            // To Java a note about the first place says that the transaction has ended.
            return Ok((!first).then_some(at));
        }
        self.ask(&half, &properties, appended, nobody);
        Ok(Some(at))
    }

    /// Asks one producer of the group. Java: `AbstractTransactionalMessageCheckListener.java`, `sendCheckMessage`.
    fn ask(
        &self,
        half: &StoredMessageRef<'_>,
        properties: &Properties,
        appended: Appended,
        nobody: &mut BTreeSet<String>,
    ) {
        let Some(group) = properties.get(property::PGROUP) else { return };
        let Some((topic, queue_id)) = real_queue(half) else { return };
        let mut message = Vec::new();
        let encoded = NewMessage { properties: &[properties.as_ref()], ..moved(half, topic, queue_id) };
        if let Err(error) = encoded.encode(&mut message) {
            warn!(group, %error, "half message cannot be shown to its producers");
            return;
        }
        stored::patch(&mut message, appended.queue_offset, appended.position, appended.store_timestamp);
        let key = properties.get(property::UNIQ_KEY).map(ByteString::from);
        let id = OffsetMessageId { host: self.with.store_host, position: appended.position };
        let question = CheckTransactionState {
            topic: Some(HALF_TOPIC.into()),
            queue_offset: appended.queue_offset,
            position: appended.position,
            message_id: key.clone(),
            transaction_id: key,
            offset_message_id: Some(id.to_string().into()),
            broker_name: Some(self.with.config.broker_name.as_str().into()),
            message: message.into(),
        };
        let producers = self.with.clients.producers(group);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % producers.len().max(1);
        let (later, first) = producers.split_at(turn);
        for producer in first.iter().chain(later) {
            match producer.try_send_oneway(&question) {
                Ok(()) => return,
                Err(error) => debug!(peer = %producer.peer(), group, %error, "producer not asked"),
            }
        }
        nobody.insert(group.to_owned());
    }

    /// Whether a broker that was killed had committed this half message before it could note that.
    fn was_committed(&self, half: &StoredMessageRef<'_>) -> bool {
        let Some(key) = half.properties().get(property::UNIQ_KEY) else { return false };
        let Some((topic, _)) = real_queue(half) else { return false };
        [topic, SCHEDULE_TOPIC].into_iter().any(|topic| {
            let query = KeyQuery {
                topic,
                key: IndexKey::Key(key),
                begin_timestamp: half.born_timestamp().min(half.store_timestamp()) - CLOCK_SKEW_MS,
                end_timestamp: i64::MAX,
                max_messages: 16,
                max_bytes: usize::MAX,
            };
            let found = self.with.store.query(query).map(|matches| matches.records);
            found.unwrap_or_default().iter().any(|record| {
                StoredMessageRef::parse(record)
                    .is_ok_and(|message| message.sys_flag().transaction() == SysFlag::TRANSACTION_COMMIT)
            })
        })
    }

    /// Notes that half messages are done, and tells where the last note ends.
    fn write_op(&self, state: &mut State, done: &[QueueOffset]) -> Result<LogPosition, NotStored> {
        let mut end = LogPosition::ZERO;
        let mut left = done.iter().copied().peekable();
        while let Some(first) = left.next() {
            let (mut body, mut last) = (format!("{first},"), first);
            while let Some(next) = left.next_if(|_| body.len() + 20 <= MAX_OP_BODY) {
                body.push_str(&format!("{next},"));
                last = last.max(next);
            }
            let mut record = Vec::new();
            NewMessage {
                topic: HALF_OP_TOPIC,
                queue_id: QueueId::ZERO,
                flag: 0,
                sys_flag: SysFlag::NONE,
                born_timestamp: self.with.clock.now_ms(),
                born_host: self.with.store_host,
                store_host: self.with.store_host,
                reconsume_times: 0,
                prepared_transaction_offset: LogPosition::ZERO,
                body: body.as_bytes(),
                properties: &[OP_PROPERTIES.into()],
            }
            .encode(&mut record)?;
            let appended = self.with.store.append(HALF_OP_TOPIC, QueueId::ZERO, &mut record)?;
            state.open.note_op(appended.queue_offset, last);
            end = appended.end;
        }
        Ok(end)
    }

    /// Notes, for the next start, from where it has to read.
    pub(super) fn note_progress(&self) {
        let mut state = self.state();
        let (half, op) = state.open.resume_at();
        if (half, op) == state.noted {
            return;
        }
        state.noted = (half, op);
        drop(state);
        self.with.offsets.set(GROUP, HALF_TOPIC, QueueId::ZERO, half);
        self.with.offsets.set(GROUP, HALF_OP_TOPIC, QueueId::ZERO, op);
    }

    /// Wakes the task if it waits for a later time.
    fn arm(&self, state: &mut State, due_ms: i64) {
        if due_ms < state.armed_ms {
            state.armed_ms = due_ms;
            self.earlier.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a message of the broker's own is not stored.
#[derive(Debug, thiserror::Error)]
enum NotStored {
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Encode(#[from] MessageError),
}

impl From<NotStored> for Refusal {
    fn from(error: NotStored) -> Self {
        match error {
            NotStored::Append(error) => not_appended(error),
            NotStored::Encode(error) => malformed(error),
        }
    }
}

impl State {
    fn forget(&mut self, at: QueueOffset, key: Option<&str>) {
        self.open.close(at);
        if let Some(key) = key {
            self.inherited.remove(key);
        }
    }
}

impl Shared {
    /// A half message that was stored first at `since_ms`, and where it is now at `stored_ms`.
    fn new_half(
        &self,
        position: LogPosition,
        since_ms: i64,
        stored_ms: i64,
        properties: PropertiesRef<'_>,
    ) -> Open {
        let immunity = immunity(properties).unwrap_or(self.config.transaction_timeout);
        let immune_until_ms = since_ms.saturating_add(millis(immunity));
        let due_ms =
            immune_until_ms.min(stored_ms.saturating_add(millis(self.config.transaction_check_interval)));
        let checks = properties.get(property::TRANSACTION_CHECK_TIMES).and_then(|times| times.parse().ok());
        let checks = checks.unwrap_or_default();
        Open { position, checks, since_ms, immune_until_ms, due_ms, inherited: false, earlier: Vec::new() }
    }

    /// Whether producers were asked often enough, or the log does not keep it any longer.
    fn is_given_up(&self, half: &Open) -> bool {
        let kept_ms = i64::from(self.config.file_reserved_time) * 3600 * 1000;
        half.checks >= self.config.transaction_check_max || self.clock.now_ms() - half.since_ms > kept_ms
    }

    fn after_interval(&self) -> i64 {
        self.clock.now_ms().saturating_add(millis(self.config.transaction_check_interval))
    }
}

/// Reads half messages and op messages from where the last run noted that the first open one is.
fn read_open(with: &Shared) -> Result<State, StoreError> {
    let start = |topic: &str| {
        let (min, max) =
            (with.store.min_offset(topic, QueueId::ZERO), with.store.max_offset(topic, QueueId::ZERO));
        with.offsets.get(GROUP, topic, QueueId::ZERO).unwrap_or(min).max(min).min(max)
    };
    let (half_from, op_from) = (start(HALF_TOPIC), start(HALF_OP_TOPIC));
    let mut open = OpenTransactions::starting_at(half_from, op_from);
    let mut ended = HashSet::new();
    each(&with.store, HALF_OP_TOPIC, op_from, |op| {
        if op.properties().get(property::TAGS) != Some(DONE_TAG) {
            return;
        }
        let body = String::from_utf8_lossy(op.body());
        let halves = body.split(',').filter_map(|text| text.trim().parse().ok()).map(QueueOffset::new);
        let halves: Vec<_> = halves.collect();
        open.note_op(op.queue_offset(), halves.iter().copied().max().unwrap_or_default());
        ended.extend(halves);
    })?;
    let mut inherited: HashMap<String, QueueOffset> = HashMap::new();
    let soonest = with.clock.now_ms().saturating_add(millis(with.config.transaction_timeout));
    each(&with.store, HALF_TOPIC, half_from, |half| {
        let (at, properties) = (half.queue_offset(), half.properties());
        let first = properties.get(property::TRAN_PREPARED_QUEUE_OFFSET).and_then(|first| first.parse().ok());
        let is_first = first.is_none() && properties.get(property::TRANSACTION_CHECK_TIMES).is_none();
        let since_ms = if is_first { half.store_timestamp() } else { half.born_timestamp() };
        let mut found = with.new_half(half.physical_offset(), since_ms, half.store_timestamp(), properties);
        // Producers need a moment to come back.
        (found.due_ms, found.inherited) = (found.due_ms.max(soonest), true);
        // Of one that was stored again only the last counts, noted or not.
        let earlier = properties.get(property::UNIQ_KEY).and_then(|key| inherited.insert(key.to_owned(), at));
        if let Some(before) = earlier.and_then(|earlier| open.close(earlier)) {
            found.since_ms = before.since_ms;
        }
        open.open(at, found);
        if ended.contains(&at) || first.is_some_and(|first| ended.contains(&QueueOffset::new(first))) {
            open.close(at);
        }
    })?;
    inherited.retain(|_, at| open.find(*at).is_some());
    Ok(State { open, inherited, armed_ms: i64::MAX, noted: (half_from, op_from) })
}

/// Calls `each` for the messages of a topic's first queue from `at` on.
fn each(
    store: &Store,
    topic: &str,
    mut at: QueueOffset,
    mut each: impl FnMut(&StoredMessageRef<'_>),
) -> Result<(), StoreError> {
    loop {
        let read = store.read(topic, QueueId::ZERO, at, READ, |_| true)?;
        for mut rest in read.records.iter().map(|records| &**records) {
            while let Ok(message) = StoredMessageRef::parse(rest) {
                each(&message);
                rest = rest.get(message.total_size()..).unwrap_or_default();
            }
        }
        let ends = matches!(
            read.status,
            ReadStatus::OffsetOverflowOne | ReadStatus::NoMatchedLogicQueue | ReadStatus::NoMessageInQueue
        );
        if ends || read.next_offset == at {
            return Ok(());
        }
        at = read.next_offset;
    }
}

/// Why a half message is not the one that a request is about. Java: `checkPrepareMessage`.
fn check_half(half: &StoredMessageRef<'_>, request: &EndTransaction) -> Result<(), String> {
    if half.topic() != HALF_TOPIC {
        return Err(format!("the message at commitLogOffset {} is no half message", request.position));
    }
    let group = half.properties().get(property::PGROUP).unwrap_or_default();
    if *group != *request.producer_group {
        return Err(format!("producerGroup={}: the half message is of {group:?}", request.producer_group));
    }
    if half.queue_offset() != request.queue_offset {
        let (asked, is) = (request.queue_offset, half.queue_offset());
        return Err(format!("tranStateTableOffset={asked}: the half message is at {is}"));
    }
    Ok(())
}

/// How long nobody is to be asked, if the message says so. Java takes what is no number, and -1, as if it said nothing.
fn immunity(properties: PropertiesRef<'_>) -> Option<Duration> {
    let seconds = properties.get(property::CHECK_IMMUNITY_TIME_IN_SECONDS)?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn without_place(properties: PropertiesRef<'_>) -> Result<Properties, Refusal> {
    Properties::new(ByteString::from(properties.to_text().as_ref()))
        .to_builder()
        .remove(property::REAL_TOPIC)
        .remove(property::REAL_QID)
        .build()
        .map_err(malformed)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
