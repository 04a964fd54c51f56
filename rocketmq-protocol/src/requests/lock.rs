//! Locks on queues, within a group: ordered consumers hold them.

use crate::body::{LockBatchRequest, LockBatchResponse, UnlockBatchRequest};
use crate::request::{Done, requests};

requests! {
    /// Takes or renews the locks of some queues; the reply names those that the client holds now. Goes to the master.
    /// Java: `broker/processor/AdminBrokerProcessor.java`, `lockBatchMQ`.
    LockBatch = LOCK_BATCH_MQ {
    } body(queues: LockBatchRequest)
    -> LockBatchReply {
    } body(locked: LockBatchResponse);

    /// Gives locks back. Those of others are left alone. Java: `broker/processor/AdminBrokerProcessor.java`,
    /// `unlockBatchMQ`.
    UnlockBatch = UNLOCK_BATCH_MQ {
    } body(queues: UnlockBatchRequest)
    -> Done;
}
