//! [`MemberRelay`]: questions of administrators that the members of a group answer. The broker hands them on, and the answers back.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rocketmq_protocol::body::ConsumerStatus;
use rocketmq_protocol::message::OffsetMessageId;
use rocketmq_protocol::request::{Payload, PayloadError, Request, Segments};
use rocketmq_protocol::requests::{
    ConsumeMessageDirectly, GetConsumerRunningInfo, GetConsumerStatus, InvokeGetConsumerStatus,
    InvokeGetConsumerStatusReply,
};
use rocketmq_protocol::transport::{Call, Connection, RequestError};
use rocketmq_protocol::{FieldWriter, Frame, HeaderFields, RequestCode, ResponseCode};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::refusal::Refusal;
use super::shared::Shared;

/// How long a member may take to answer. Java: `AdminBrokerProcessor.java`, `callConsumer`.
const LIMIT: Duration = Duration::from_secs(10);
/// How long a member may take to say how far it is. Java: `Broker2Client.java`, `getConsumeStatus`.
const STATUS_LIMIT: Duration = Duration::from_secs(5);
/// The transport shall not give a member up that takes its time; the limits here count.
const NEVER: Duration = Duration::from_secs(24 * 3600);

/// Asks members on behalf of administrators.
pub(super) struct MemberRelay {
    pub(super) with: Shared,
    /// Ends the waiting.
    pub(super) stop: CancellationToken,
}

impl MemberRelay {
    /// `GET_CONSUMER_RUNNING_INFO`.
    pub(super) async fn running_info(&self, call: Call) {
        match call.read::<GetConsumerRunningInfo>() {
            Ok(asked) => {
                let (group, client_id) = (&asked.consumer_group, &asked.client_id);
                self.relay::<GetConsumerRunningInfo>(&call, group, client_id, call.frame().body.clone())
                    .await;
            }
            Err(error) => Refusal::from(error).answer(&call),
        }
    }

    /// `CONSUME_MESSAGE_DIRECTLY`: the administrator names a message, the member gets it whole.
    pub(super) async fn consume_directly(&self, call: Call) {
        let asked = match call.read::<ConsumeMessageDirectly>() {
            Ok(asked) => asked,
            Err(error) => return Refusal::from(error).answer(&call),
        };
        match self.named_message(&asked).await {
            Ok(message) => {
                let client_id = asked.client_id.as_deref().unwrap_or_default();
                self.relay::<ConsumeMessageDirectly>(&call, &asked.consumer_group, client_id, message).await;
            }
            Err(refusal) => refusal.answer(&call),
        }
    }

    async fn named_message(&self, asked: &ConsumeMessageDirectly) -> Result<Bytes, Refusal> {
        let message_id = asked.message_id.as_deref().unwrap_or_default();
        let id: OffsetMessageId = message_id.parse().map_err(|_| {
            let remark = format!("msgId {message_id:?} is not an offset message id");
            Refusal::new(ResponseCode::INVALID_PARAMETER, remark)
        })?;
        let store = Arc::clone(&self.with.store);
        let reading = tokio::task::spawn_blocking(move || store.message_at(id.position));
        let record =
            reading.await.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()));
        record.ok_or_else(|| {
            let remark = format!("no message at position {} of the commit log", id.position);
            Refusal::new(ResponseCode::SYSTEM_ERROR, remark)
        })
    }

    async fn relay<R: Request>(&self, call: &Call, group: &str, client_id: &str, body: Bytes) {
        let Some(member) = self.with.clients.member(group, client_id) else {
            let remark = format!("the client {client_id} of the group {group} is not connected");
            return call.refuse(ResponseCode::SYSTEM_ERROR, remark);
        };
        let relayed = Relayed::<R> { frame: call.frame().clone(), body, of: PhantomData };
        match self.ask(&member, &relayed, LIMIT).await {
            Ok(answer) => call.reply(&answer),
            Err(refusal) => refusal.answer(call),
        }
    }

    /// How far the members are, by their own account. Those that do not answer are left out.
    pub(super) async fn status(
        &self,
        asked: InvokeGetConsumerStatus,
    ) -> Result<InvokeGetConsumerStatusReply, Refusal> {
        let members = self.with.clients.members(&asked.group);
        if members.is_empty() {
            let remark = format!("no consumer of the group {} is connected", asked.group);
            return Err(Refusal::new(ResponseCode::SYSTEM_ERROR, remark));
        }
        let wanted = asked.client_id.as_deref().filter(|id| !id.is_empty());
        let mut status = ConsumerStatus::default();
        for member in members.into_iter().filter(|member| wanted.is_none_or(|id| id == member.client_id)) {
            let question = GetConsumerStatus {
                topic: asked.topic.clone(),
                group: asked.group.clone(),
                client_id: asked.client_id.clone(),
            };
            match self.ask(&member.connection, &question, STATUS_LIMIT).await {
                Ok(reply) => {
                    drop(status.consumer_table.insert(member.client_id, reply.status.message_queue_table))
                }
                Err(refusal) => {
                    debug!(group = %asked.group, client = member.client_id, ?refusal, "no consumer status");
                }
            }
        }
        Ok(InvokeGetConsumerStatusReply { status })
    }

    async fn ask<R: Request>(
        &self,
        member: &Connection,
        request: &R,
        limit: Duration,
    ) -> Result<R::Reply, Refusal> {
        let late = || {
            let remark = format!("the client at {} did not answer within {limit:?}", member.peer());
            Err(Refusal::new(ResponseCode::CONSUME_MSG_TIMEOUT, remark))
        };
        tokio::select! {
            () = self.stop.cancelled() => late(),
            () = self.with.clock.sleep(limit) => late(),
            answer = member.call(request, NEVER) => answer.map_err(|error| match error {
                RequestError::Refused { code, remark, .. } => Refusal::new(code, remark.unwrap_or_default()),
                error => Refusal::new(ResponseCode::SYSTEM_ERROR, error.to_string()),
            }),
        }
    }
}

/// A request that goes on as it came, what this broker does not know of it included.
#[derive(Debug)]
struct Relayed<R> {
    frame: Frame,
    body: Bytes,
    of: PhantomData<fn() -> R>,
}

impl<R: Request> HeaderFields for Relayed<R> {
    fn write_fields(&self, out: &mut FieldWriter<'_>) {
        self.frame.fields.write_fields(out);
    }
}

impl<R: Request> Payload for Relayed<R> {
    fn body(&self) -> Segments {
        self.body.clone().into()
    }

    fn read(frame: &Frame) -> Result<Self, PayloadError> {
        Ok(Self { frame: frame.clone(), body: frame.body.clone(), of: PhantomData })
    }
}

impl<R: Request> Request for Relayed<R> {
    const CODE: RequestCode = R::CODE;
    const ACCEPTS: &'static [ResponseCode] = R::ACCEPTS;
    type Reply = Self;
}
