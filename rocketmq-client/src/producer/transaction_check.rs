//! [`TransactionChecker`]: answers brokers that ask what became of a transaction.
//!
//! Java: `client/impl/ClientRemotingProcessor.java`, `DefaultMQProducerImpl.java`, `checkTransactionState`.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rocketmq_protocol::ByteString;
use rocketmq_protocol::message::{StoredMessage, property};
use rocketmq_protocol::requests::{CheckTransactionState, EndTransaction};
use rocketmq_protocol::transport::{Call, Connection};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::interceptor::{EndTransactionEvent, Interceptors};
use super::transaction::TransactionOutcome;
use crate::members::Members;
use crate::{HandlerError, ReceivedMessage};

/// Questions that wait; the broker repeats what finds no room. Java: `checkRequestHoldMax`.
pub(super) const CHECKS_HELD: usize = 2000;
/// Questions looked into at the same time.
const CHECKS_AT_A_TIME: usize = 16;
/// A check that takes longer is given up; the broker asks again.
const CHECK_LIMIT: Duration = Duration::from_secs(30);
/// Limit of handing the answer to the connection.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// Tells what became of a transaction whose outcome the broker did not get. Closures from [`ReceivedMessage`] to a future
/// are checkers.
///
/// The broker asks some producer of the group: it may be another process than the one that sent the half message, so look
/// into storage that all of them share. It asks again after [`TransactionOutcome::Unknown`], an error, or no answer within
/// 30 s.
#[async_trait]
pub trait TransactionChecker: Send + Sync + 'static {
    /// What became of the transaction of this half message.
    async fn check(&self, half: ReceivedMessage) -> Result<TransactionOutcome, HandlerError>;
}

#[async_trait]
impl<F, Fut> TransactionChecker for F
where
    F: Fn(ReceivedMessage) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<TransactionOutcome, HandlerError>> + Send,
{
    async fn check(&self, half: ReceivedMessage) -> Result<TransactionOutcome, HandlerError> {
        self(half).await
    }
}

/// A broker's question.
pub(crate) struct TransactionCheck {
    request: CheckTransactionState,
    half: ReceivedMessage,
    /// The broker gets the answer where it asked.
    connection: Connection,
}

impl TransactionCheck {
    /// Hands a question to the producer whose group it is for. One for nobody goes unanswered: the broker asks another
    /// client next time.
    pub(crate) fn serve(members: &Members, call: &Call) {
        let request = match call.read::<CheckTransactionState>() {
            Ok(request) => request,
            Err(error) => {
                return warn!(peer = %call.connection().peer(), %error, "unreadable transaction check");
            }
        };
        let half = match StoredMessage::decode(&mut request.message.clone()) {
            Ok(Some(half)) => half,
            Ok(None) => return warn!(peer = %call.connection().peer(), "transaction check without a message"),
            Err(error) => return warn!(peer = %call.connection().peer(), %error, "unreadable half message"),
        };
        let group = half.properties.get(property::PGROUP).unwrap_or_default();
        let Some(checks) = members.checks(group) else {
            return debug!(group, "transaction check for a group without a checker here");
        };
        let half = ReceivedMessage::new(half, &request.broker_name.clone().unwrap_or_default());
        let check = Self { request, half, connection: call.connection().clone() };
        if let Err(error) = checks.try_send(check) {
            warn!(%error, "transaction check dropped: the broker will ask again");
        }
    }
}

/// Answers questions until the producer has left its group.
pub(super) async fn answer_checks(
    mut checks: mpsc::Receiver<TransactionCheck>,
    checker: Arc<dyn TransactionChecker>,
    group: ByteString,
    interceptors: Interceptors,
) {
    let mut answering = JoinSet::new();
    loop {
        tokio::select! {
            check = checks.recv(), if answering.len() < CHECKS_AT_A_TIME => {
                let Some(check) = check else { break };
                let (checker, group) = (Arc::clone(&checker), group.clone());
                answering.spawn(answer(check, checker, group, Arc::clone(&interceptors)));
            }
            Some(answered) = answering.join_next() => log_panic(answered),
        }
    }
    while let Some(answered) = answering.join_next().await {
        log_panic(answered);
    }
}

fn log_panic(answered: Result<(), tokio::task::JoinError>) {
    if let Some(error) = answered.err().filter(tokio::task::JoinError::is_panic) {
        warn!(%error, "transaction checker panicked: the broker will ask again");
    }
}

async fn answer(
    check: TransactionCheck,
    checker: Arc<dyn TransactionChecker>,
    group: ByteString,
    interceptors: Interceptors,
) {
    let TransactionCheck { request, half, connection } = check;
    let message_id: ByteString = (&*half.message_id()).into();
    let outcome = match tokio::time::timeout(CHECK_LIMIT, checker.check(half.clone())).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => {
            warn!(%group, %message_id, %error, "transaction not checked: the broker will ask again");
            TransactionOutcome::Unknown
        }
        Err(_) => {
            warn!(%group, %message_id, limit = ?CHECK_LIMIT, "transaction check took too long: the broker will ask again");
            TransactionOutcome::Unknown
        }
    };
    debug!(%group, %message_id, ?outcome, "transaction checked");
    let transaction_id = request.transaction_id.clone().unwrap_or_else(|| message_id.clone());
    let answer = EndTransaction {
        topic: request.topic.or_else(|| Some(half.queue().topic)),
        producer_group: group.clone(),
        queue_offset: request.queue_offset,
        position: request.position,
        outcome: outcome.wire(),
        from_check: true,
        message_id: message_id.clone(),
        transaction_id: Some(transaction_id.clone()),
        broker_name: request.broker_name,
    };
    if let Err(error) = connection.send_oneway(&answer, ANSWER_LIMIT).await {
        warn!(%group, %message_id, %error, "transaction check not answered: the broker will ask again");
    }
    let event = EndTransactionEvent {
        group: &group,
        topic: half.topic(),
        message_id: &message_id,
        tag: half.tag(),
        keys: half.property(property::KEYS),
        transaction_id: &transaction_id,
        broker_addr: connection.peer(),
        outcome,
        from_check: true,
    };
    for interceptor in interceptors.iter() {
        interceptor.after_end_transaction(&event).await;
    }
}
