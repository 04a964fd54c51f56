//! [`RequestError`]: why a call got no reply, and whether to try again.

use std::io;
use std::time::Duration;

use crate::request::PayloadError;
use crate::{FrameTooLong, ResponseCode};

/// Why a call got no reply.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// No connection came about; nothing was sent.
    #[error("cannot connect to {addr}")]
    Connect {
        /// Whom.
        addr: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The connection was gone before the request could be sent.
    #[error("{request} to {addr} not sent: the connection is closed")]
    NotSent {
        /// Name of the request.
        request: &'static str,
        /// Whom.
        addr: String,
    },
    /// The reply did not come in time. The request may have been carried out.
    #[error("{request} to {addr}: no reply within {waited:?}")]
    Timeout {
        /// Name of the request.
        request: &'static str,
        /// Whom.
        addr: String,
        /// How long.
        waited: Duration,
    },
    /// The connection was lost while the reply was awaited. The request may have been carried out.
    #[error("{request} to {addr}: connection closed before the reply")]
    Closed {
        /// Name of the request.
        request: &'static str,
        /// Whom.
        addr: String,
    },
    /// The peer answered with an error.
    #[error("{request} refused by {addr}: {code}, {}", remark.as_deref().unwrap_or("no remark"))]
    Refused {
        /// Name of the request.
        request: &'static str,
        /// Whom.
        addr: String,
        /// The response code.
        code: ResponseCode,
        /// What the peer says about it.
        remark: Option<String>,
    },
    /// The request is longer than a frame may be; nothing was sent.
    #[error("{request} to {addr} is too long")]
    TooLong {
        /// Name of the request.
        request: &'static str,
        /// Whom.
        addr: String,
        /// The numbers.
        #[source]
        source: FrameTooLong,
    },
    /// The answer cannot be read.
    #[error("{request} to {addr}: the reply cannot be read")]
    Reply {
        /// Name of the request.
        request: &'static str,
        /// Whom.
        addr: String,
        /// Why.
        #[source]
        source: PayloadError,
    },
}

/// Whether trying again makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retry {
    /// The same request will fail again.
    No,
    /// Another broker may do it; this one did not.
    AnotherBroker,
    /// It may have been done: doing it again may do it twice.
    MayDuplicate,
}

impl RequestError {
    /// Whether trying again makes sense.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Connect { .. } | Self::NotSent { .. } => Retry::AnotherBroker,
            Self::Timeout { .. } | Self::Closed { .. } | Self::Reply { .. } => Retry::MayDuplicate,
            Self::Refused { code, .. } if code.is_transient() => Retry::AnotherBroker,
            Self::Refused { .. } | Self::TooLong { .. } => Retry::No,
        }
    }

    /// The code of a refusal.
    pub fn response_code(&self) -> Option<ResponseCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

impl ResponseCode {
    /// Whether another broker may accept what this one refused. Java: `DefaultMQProducer.java`, `retryResponseCodes`.
    pub fn is_transient(self) -> bool {
        matches!(
            self,
            Self::TOPIC_NOT_EXIST
                | Self::SERVICE_NOT_AVAILABLE
                | Self::SYSTEM_ERROR
                | Self::SYSTEM_BUSY
                | Self::NO_PERMISSION
                | Self::NO_BUYER_ID
                | Self::NOT_IN_CURRENT_UNIT
                | Self::GO_AWAY
        )
    }
}
