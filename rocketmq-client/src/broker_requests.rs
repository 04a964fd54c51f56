//! What brokers ask a client.

use std::sync::Arc;

use rocketmq_protocol::ResponseCode;
use rocketmq_protocol::request::Request;
use rocketmq_protocol::requests::NotifyConsumerIdsChanged;
use rocketmq_protocol::transport::{Call, Service};
use tracing::debug;

use crate::members::Members;

/// Passes the requests of brokers to the members they are about, and refuses those that nobody knows.
pub(crate) struct BrokerRequests {
    pub(crate) members: Arc<Members>,
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
            _ => {
                debug!(peer = %call.connection().peer(), %code, "request of a broker not supported");
                let remark = format!("this client does not serve requests of type {code}");
                call.refuse(ResponseCode::REQUEST_CODE_NOT_SUPPORTED, remark);
            }
        }
    }
}
