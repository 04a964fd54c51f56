//! What a client says after it was handed one message on request of an administrator.

use serde::{Deserialize, Serialize};

wire_enum! {
    /// What the listener made of the message. Java: `protocol/body/CMResult.java`.
    ConsumeResult {
        /// It was consumed.
        #[default]
        Success = "CR_SUCCESS",
        /// It should come again later.
        Later = "CR_LATER",
        /// An ordered listener rolled back.
        Rollback = "CR_ROLLBACK",
        /// An ordered listener committed.
        Commit = "CR_COMMIT",
        /// The listener failed.
        ThrowException = "CR_THROW_EXCEPTION",
        /// The listener gave no answer.
        ReturnNull = "CR_RETURN_NULL",
    }
}

/// Answer to `CONSUME_MESSAGE_DIRECTLY`. Java: `protocol/body/ConsumeMessageDirectlyResult.java`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConsumeMessageDirectlyResult {
    /// Whether an ordered listener leaves the commit to the client.
    pub auto_commit: bool,
    /// What the listener made of it.
    pub consume_result: ConsumeResult,
    /// Whether the listener is an ordered one.
    pub order: bool,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remark: Option<String>,
    /// How long the listener took, in milliseconds.
    pub spent_time_mills: i64,
}

impl Default for ConsumeMessageDirectlyResult {
    fn default() -> Self {
        Self {
            auto_commit: true,
            consume_result: ConsumeResult::default(),
            order: false,
            remark: None,
            spent_time_mills: 0,
        }
    }
}
