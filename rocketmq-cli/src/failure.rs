//! [`Failure`]: why a command did not run, and what to do about it.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rocketmq_client::{CompressionError, Error};

/// Why a command did not run to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Client(#[from] Error),
    #[error("a message cannot be decompressed")]
    Body(#[from] Arc<CompressionError>),
    /// Several options that do not go together.
    #[error("{0}")]
    Options(String),
    #[error("cannot listen on {addr}")]
    Listen {
        addr: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("cannot {doing}")]
    System {
        doing: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("within {waited:?} messages came back from only {reached} of {queues} queues")]
    NotReached { reached: usize, queues: usize, waited: Duration },
}

impl Failure {
    /// The failure, what caused it, and on a line of its own what to do next.
    pub(crate) fn explanation(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        if let Some(advice) = self.advice() {
            text.push('\n');
            text.push_str(advice);
        }
        text
    }

    fn advice(&self) -> Option<&'static str> {
        Some(match self {
            Self::Client(Error::NoNameServer) => "Give --namesrv HOST:PORT, or set NAMESRV_ADDR.",
            Self::Client(Error::NameServersUnavailable { .. }) => {
                "Is a name server running there? `rocketmq-broker-lite --standalone` starts a cluster on this machine; \
                 --wait 30s waits for one."
            }
            Self::Client(Error::TopicNotFound { .. }) => {
                "Check --topic; `rmq bench produce` creates a topic that is not there, unless --auto-create leaves it to the broker."
            }
            Self::Client(Error::InvalidArgument { name: "cluster", .. }) => {
                "Name the cluster that is to get the topic with --cluster, once a broker is up."
            }
            Self::Client(Error::BrokerNotFound { .. } | Error::NoQueue { .. }) => {
                "The name server knows the topic, but no broker that serves it: check that its brokers are up."
            }
            Self::Listen { .. } => "Choose another --listen; port 0 takes a free one.",
            Self::NotReached { .. } => {
                "The brokers take messages, but not all reach a consumer: check the topic's permission, and that the \
                 group is allowed to consume."
            }
            Self::Client(_) | Self::Body(_) | Self::Options(_) | Self::System { .. } => return None,
        })
    }
}
