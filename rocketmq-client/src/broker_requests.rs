//! What brokers ask a client.

use std::sync::Arc;

use rocketmq_protocol::ResponseCode;
use rocketmq_protocol::request::Request;
use rocketmq_protocol::requests::{CheckTransactionState, NotifyConsumerIdsChanged, PushReplyMessage};
use rocketmq_protocol::transport::{Call, Service};
use tracing::debug;

use crate::members::Members;
use crate::producer::{AwaitedReplies, TransactionCheck};

/// Passes the requests of brokers to the members they are about, and refuses those that nobody knows.
pub(crate) struct BrokerRequests {
    pub(crate) members: Arc<Members>,
    pub(crate) replies: Arc<AwaitedReplies>,
}

impl Service for BrokerRequests {
    fn serve(&self, call: Call) {
        let code = call.frame().request_code();
        match code {
            NotifyConsumerIdsChanged::CODE => match call.read::<NotifyConsumerIdsChanged>() {
                Ok(changed) => {
                    self.members.wake(&changed.consumer_group);
                    call.done(); // brokers send it one-way, but some forget to say so
                }
                Err(error) => call.refuse(ResponseCode::SYSTEM_ERROR, error.to_string()),
            },
            CheckTransactionState::CODE => TransactionCheck::serve(&self.members, &call),
            PushReplyMessage::CODE => self.replies.serve(&call),
            _ => {
                debug!(peer = %call.connection().peer(), %code, "request of a broker not supported");
                let remark = format!("this client does not serve requests of type {code}");
                call.refuse(ResponseCode::REQUEST_CODE_NOT_SUPPORTED, remark);
            }
        }
    }
}
