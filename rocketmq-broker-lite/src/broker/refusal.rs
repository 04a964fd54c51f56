//! [`Refusal`]: an answer that says no, and why.

use rocketmq_protocol::ResponseCode;
use rocketmq_protocol::request::PayloadError;
use rocketmq_protocol::transport::Call;

use crate::filter::FilterError;
use crate::store::StoreError;

/// A response code and a remark that names the value and the limit.
#[derive(Debug)]
pub(super) struct Refusal {
    code: ResponseCode,
    remark: String,
}

impl Refusal {
    pub(super) fn new(code: ResponseCode, remark: String) -> Self {
        Self { code, remark }
    }

    pub(super) fn forbidden(remark: String) -> Self {
        Self::new(ResponseCode::NO_PERMISSION, remark)
    }

    pub(super) fn illegal(remark: String) -> Self {
        Self::new(ResponseCode::MESSAGE_ILLEGAL, remark)
    }

    pub(super) fn no_topic(topic: &str, action: &str) -> Self {
        let remark = format!(
            "cannot {action} the topic {topic}: it does not exist; create it, or set autoCreateTopicEnable=true"
        );
        Self::new(ResponseCode::TOPIC_NOT_EXIST, remark)
    }

    pub(super) fn no_group(group: &str) -> Self {
        let remark =
            format!("the group {group} does not exist; create it, or set autoCreateSubscriptionGroup=true");
        Self::new(ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST, remark)
    }

    pub(super) fn no_sql() -> Self {
        let remark = "SQL92 filters are switched off; set enablePropertyFilter=true, or subscribe by tags";
        Self::new(ResponseCode::SYSTEM_ERROR, remark.to_owned())
    }

    pub(super) fn not_parsed(error: &FilterError) -> Self {
        Self::new(ResponseCode::SUBSCRIPTION_PARSE_FAILED, error.to_string())
    }

    pub(super) fn answer(self, call: &Call) {
        call.refuse(self.code, self.remark);
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let source =
            std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        Self::new(ResponseCode::SYSTEM_ERROR, format!("{error}{source}"))
    }
}

impl From<PayloadError> for Refusal {
    fn from(error: PayloadError) -> Self {
        let code = match error {
            PayloadError::Missing { .. } | PayloadError::Malformed { .. } => ResponseCode::INVALID_PARAMETER,
            _ => ResponseCode::SYSTEM_ERROR,
        };
        let source =
            std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        Self::new(code, format!("{error}{source}"))
    }
}
