//! Transactions: half messages are sent like others, with the property `TRAN_MSG`; here is what ends them.

use bytes::Bytes;

use crate::request::{Done, requests};
use crate::{ByteString, LogPosition, QueueOffset};

/// Values of [`EndTransaction::outcome`]: the transaction bits of a message's system flags.
/// Java: `common/sysflag/MessageSysFlag.java`.
pub mod transaction_outcome {
    /// Nobody knows yet: the broker asks again later.
    pub const UNKNOWN: i32 = 0;
    /// The message becomes visible.
    pub const COMMIT: i32 = 8;
    /// The message goes.
    pub const ROLLBACK: i32 = 12;
}

requests! {
    /// Ends a transaction. Goes to the master that holds the half message; clients send it one-way.
    /// Java: `protocol/header/EndTransactionRequestHeader.java`.
    EndTransaction = END_TRANSACTION {
        /// Since 5.0.
        topic: Option<ByteString> => "topic",
        producer_group: ByteString => "producerGroup",
        /// Place of the half message in its queue.
        queue_offset: QueueOffset => "tranStateTableOffset",
        /// Place of the half message in the commit log.
        position: LogPosition => "commitLogOffset",
        /// See [`transaction_outcome`].
        outcome: i32 => "commitOrRollback",
        /// The answer to a [`CheckTransactionState`].
        from_check: bool => "fromTransactionCheck" or false,
        /// The unique key.
        message_id: ByteString => "msgId",
        transaction_id: Option<ByteString> => "transactionId",
        broker_name: Option<ByteString> => "bname",
    } -> Done;

    /// From broker to a producer of the group, one-way: what became of this transaction? The group is the message's property
    /// `PGROUP`. Java: `CheckTransactionStateRequestHeader.java`.
    CheckTransactionState = CHECK_TRANSACTION_STATE {
        topic: Option<ByteString> => "topic",
        queue_offset: QueueOffset => "tranStateTableOffset",
        position: LogPosition => "commitLogOffset",
        /// The unique key.
        message_id: Option<ByteString> => "msgId",
        transaction_id: Option<ByteString> => "transactionId",
        offset_message_id: Option<ByteString> => "offsetMsgId",
        broker_name: Option<ByteString> => "bname",
    } body(message: Bytes)
    -> Done;
}
