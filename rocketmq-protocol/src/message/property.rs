//! The property names that RocketMQ reserves. Java: `common/message/MessageConst.java`.

/// Between a name and its value.
pub(super) const NAME_END: u8 = 1;
/// After a value.
pub(super) const VALUE_END: u8 = 2;

/// Keys for the index, separated by blanks.
pub const KEYS: &str = "KEYS";
/// The tag.
pub const TAGS: &str = "TAGS";
/// `true` or `false`: whether the sender waits for flush and replication.
pub const WAIT: &str = "WAIT";
/// Delay level, from 1.
pub const DELAY: &str = "DELAY";
/// Original topic of a message in a retry topic.
pub const RETRY_TOPIC: &str = "RETRY_TOPIC";
/// Original topic of a message that waits in a schedule, timer or half topic.
pub const REAL_TOPIC: &str = "REAL_TOPIC";
/// Original queue of a message that waits in a schedule, timer or half topic.
pub const REAL_QID: &str = "REAL_QID";
/// `true` marks a half message.
pub const TRAN_MSG: &str = "TRAN_MSG";
/// Producer group, asked about a transaction's state.
pub const PGROUP: &str = "PGROUP";
/// Smallest offset of the queue; the consumer adds it after a pull.
pub const MIN_OFFSET: &str = "MIN_OFFSET";
/// Largest offset of the queue; the consumer adds it after a pull.
pub const MAX_OFFSET: &str = "MAX_OFFSET";
/// Legacy.
pub const BUYER_ID: &str = "BUYER_ID";
/// Message id at the first delivery of a retried message.
pub const ORIGIN_MESSAGE_ID: &str = "ORIGIN_MESSAGE_ID";
/// Legacy.
pub const TRANSFER_FLAG: &str = "TRANSFER_FLAG";
/// Legacy.
pub const CORRECTION_FLAG: &str = "CORRECTION_FLAG";
/// Legacy.
pub const MQ2_FLAG: &str = "MQ2_FLAG";
/// Deliveries so far; moves into the request header.
pub const RECONSUME_TIME: &str = "RECONSUME_TIME";
/// Most deliveries; moves into the request header.
pub const MAX_RECONSUME_TIMES: &str = "MAX_RECONSUME_TIMES";
/// Region, set by the broker.
pub const MSG_REGION: &str = "MSG_REGION";
/// Whether the region traces, set by the broker.
pub const TRACE_ON: &str = "TRACE_ON";
/// The client's unique key: [`UniqueKeyGenerator`](super::UniqueKeyGenerator).
pub const UNIQ_KEY: &str = "UNIQ_KEY";
/// Internal.
pub const EXTEND_UNIQ_INFO: &str = "EXTEND_UNIQ_INFO";
/// When handling began, in milliseconds; set on the consumer.
pub const CONSUME_START_TIME: &str = "CONSUME_START_TIME";
/// Messages in an inner batch.
pub const INNER_NUM: &str = "INNER_NUM";
/// Queue offset of the first message of an inner batch.
pub const INNER_BASE: &str = "INNER_BASE";
/// Internal.
pub const DUP_INFO: &str = "DUP_INFO";
/// Seconds before the first transaction check.
pub const CHECK_IMMUNITY_TIME_IN_SECONDS: &str = "CHECK_IMMUNITY_TIME_IN_SECONDS";
/// Queue offset of the half message.
pub const TRAN_PREPARED_QUEUE_OFFSET: &str = "TRAN_PREPARED_QUEUE_OFFSET";
/// Transaction id.
pub const TRANSACTION_ID: &str = "__transactionId__";
/// Transaction checks so far.
pub const TRANSACTION_CHECK_TIMES: &str = "TRANSACTION_CHECK_TIMES";
/// Transaction bookkeeping.
pub const TRANS_OFFSET: &str = "TRANS_OFFSET";
/// Namespace.
pub const INSTANCE_ID: &str = "INSTANCE_ID";
/// Pairs a reply with its request.
pub const CORRELATION_ID: &str = "CORRELATION_ID";
/// Client id that a reply goes to.
pub const REPLY_TO_CLIENT: &str = "REPLY_TO_CLIENT";
/// Milliseconds that a requester waits.
pub const TTL: &str = "TTL";
/// When a reply reached the broker, in milliseconds.
pub const ARRIVE_TIME: &str = "ARRIVE_TIME";
/// When the broker pushed a reply, in milliseconds.
pub const PUSH_REPLY_TIME: &str = "PUSH_REPLY_TIME";
/// Cluster that stored the message, set by the broker.
pub const CLUSTER: &str = "CLUSTER";
/// `reply` marks the answer to a request.
pub const MSG_TYPE: &str = "MSG_TYPE";
/// Receipt of a popped message.
pub const POP_CK: &str = "POP_CK";
/// Queue offset that a pop receipt stands for.
pub const POP_CK_OFFSET: &str = "POP_CK_OFFSET";
/// When the message was first popped, in milliseconds.
pub const FIRST_POP_TIME: &str = "1ST_POP_TIME";
/// Ordering key.
pub const SHARDING_KEY: &str = "__SHARDINGKEY";
/// Internal.
pub const PROPERTY_FORWARD_QUEUE_ID: &str = "PROPERTY_FORWARD_QUEUE_ID";
/// Internal.
pub const REDIRECT: &str = "REDIRECT";
/// Light queues that the message is in, separated by commas.
pub const INNER_MULTI_DISPATCH: &str = "INNER_MULTI_DISPATCH";
/// Offsets in those queues, separated by commas.
pub const INNER_MULTI_QUEUE_OFFSET: &str = "INNER_MULTI_QUEUE_OFFSET";
/// Opaque context of a tracer.
pub const TRACE_CONTEXT: &str = "TRACE_CONTEXT";
/// Deliver after so many seconds.
pub const TIMER_DELAY_SEC: &str = "TIMER_DELAY_SEC";
/// Deliver after so many milliseconds.
pub const TIMER_DELAY_MS: &str = "TIMER_DELAY_MS";
/// Deliver at this time, in milliseconds since the epoch.
pub const TIMER_DELIVER_MS: &str = "TIMER_DELIVER_MS";
/// Timer: due time.
pub const TIMER_OUT_MS: &str = "TIMER_OUT_MS";
/// Timer: when it was taken in.
pub const TIMER_ENQUEUE_MS: &str = "TIMER_ENQUEUE_MS";
/// Timer: when it was let out.
pub const TIMER_DEQUEUE_MS: &str = "TIMER_DEQUEUE_MS";
/// Timer: rolls so far.
pub const TIMER_ROLL_TIMES: &str = "TIMER_ROLL_TIMES";
/// Timer: unique key of the message to delete.
pub const TIMER_DEL_UNIQKEY: &str = "TIMER_DEL_UNIQKEY";
/// Timer: level that it stands for.
pub const TIMER_DELAY_LEVEL: &str = "TIMER_DELAY_LEVEL";
/// Timer: marks a roll.
pub const TIMER_ROLL_LABEL: &str = "TIMER_ROLL_LABEL";
/// Timer: failures so far.
pub const EXCEPTION_TIMES: &str = "E_T";
/// Born host as a proxy saw it.
pub const BORN_HOST: &str = "__BORNHOST";
/// Born time as a proxy saw it, in milliseconds.
pub const BORN_TIMESTAMP: &str = "BORN_TIMESTAMP";
/// Topic that a dead letter came from.
pub const DLQ_ORIGIN_TOPIC: &str = "DLQ_ORIGIN_TOPIC";
/// Message id that a dead letter came from.
pub const DLQ_ORIGIN_MESSAGE_ID: &str = "DLQ_ORIGIN_MESSAGE_ID";
/// CRC-32 of the record before it; the last property when there.
pub const CRC32: &str = "__CRC32#";
/// Priority (5.4).
pub const PRIORITY: &str = "_SYS_MSG_PRIORITY_";
/// Group that a retried message comes from (5.4).
pub const ORIGIN_GROUP: &str = "ORIGIN_GROUP";
/// Prefix of names that are never stored.
pub const TRANSIENT_PREFIX: &str = "__RMQ.TRANSIENT.";
/// System flag of the topic, set on the consumer.
pub const TRANSIENT_TOPIC_SYS_FLAG: &str = "__RMQ.TRANSIENT.TOPIC_SYS_FLAG";
/// System flag of the group, set on the consumer.
pub const TRANSIENT_GROUP_SYS_FLAG: &str = "__RMQ.TRANSIENT.GROUP_SYS_FLAG";
