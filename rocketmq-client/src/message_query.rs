//! Finding stored messages: by id, by key, by place.
//!
//! Java: `client/impl/MQAdminImpl.java`, `queryMessage`, `viewMessage`.

use std::ops::RangeBounds;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rocketmq_protocol::body::BrokerData;
use rocketmq_protocol::message::{OffsetMessageId, property};
use rocketmq_protocol::requests::{QueryMessage, ViewMessage};
use rocketmq_protocol::{ByteString, ResponseCode};
use tokio::task::JoinSet;
use tracing::debug;

use crate::deadline::Deadline;
use crate::received_message::ReceivedMessages;
use crate::route_table::BrokerChoice;
use crate::{Client, Error, ReceivedMessage};

/// Limit of a query. An index on disk takes its time. Java: 4 × 6 s.
const QUERY_LIMIT: Duration = Duration::from_secs(24);

/// Which messages of a topic to find by key: for [`Client::query_messages`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct MessageQuery {
    key: String,
    max: i32,
    begin_ms: i64,
    end_ms: i64,
}

impl MessageQuery {
    /// Messages with this key, of all times: the newest 32 of each broker.
    pub fn key(key: impl Into<String>) -> Self {
        Self { key: key.into(), max: 32, begin_ms: 0, end_ms: i64::MAX }
    }

    /// At most so many of each broker, the newest. A broker has a limit of its own, 64 by default.
    pub fn max(mut self, messages: u16) -> Self {
        self.max = messages.into();
        self
    }

    /// Only those stored at such a time, to the millisecond, by the broker's clock.
    pub fn stored(mut self, times: impl RangeBounds<SystemTime>) -> Self {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        self.begin_ms = match times.start_bound() {
            Included(time) => epoch_ms(*time),
            Excluded(time) => epoch_ms(*time).saturating_add(1),
            Unbounded => 0,
        };
        self.end_ms = match times.end_bound() {
            Included(time) => epoch_ms(*time),
            Excluded(time) => epoch_ms(*time).saturating_sub(1),
            Unbounded => i64::MAX,
        };
        self
    }
}

fn epoch_ms(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Client {
    /// Messages of a topic that have a key, oldest first. Every broker of the topic is asked.
    ///
    /// ```no_run
    /// # async fn example(client: rocketmq_client::Client) -> Result<(), rocketmq_client::Error> {
    /// use std::time::{Duration, SystemTime};
    /// use rocketmq_client::MessageQuery;
    ///
    /// let yesterday = SystemTime::now() - Duration::from_secs(86_400);
    /// let query = MessageQuery::key("order-42").stored(yesterday..);
    /// for message in client.query_messages("orders", query).await? {
    ///     println!("{} at {}", message.message_id(), message.queue());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The topic does not exist, or one of its brokers did not answer: messages may be there that were not found.
    pub async fn query_messages(
        &self,
        topic: &str,
        query: MessageQuery,
    ) -> Result<Vec<ReceivedMessage>, Error> {
        let key = query.key.clone();
        let has_key = |message: &ReceivedMessage| message.keys().any(|of| of == key);
        self.query(topic, query, false, has_key).await
    }

    /// The message of this id (its unique key, [`SendReceipt::message_id`](crate::SendReceipt::message_id)); `None` when no
    /// broker of the topic has it.
    ///
    /// # Errors
    /// As [`Client::query_messages`], unless another broker has it.
    pub async fn message_by_id(
        &self,
        topic: &str,
        message_id: &str,
    ) -> Result<Option<ReceivedMessage>, Error> {
        let query = MessageQuery::key(message_id);
        let is_it = |message: &ReceivedMessage| message.property(property::UNIQ_KEY) == Some(message_id);
        // Retries leave several copies of the same id: the first is the one that was sent.
        self.query(topic, query, true, is_it).await.map(|found| found.into_iter().next())
    }

    /// The message at a place, as [`SendReceipt::offset_message_id`](crate::SendReceipt::offset_message_id) tells it; `None`
    /// when the broker has none there, any more. The broker is asked at the address in the id.
    ///
    /// # Errors
    /// No such id ([`Error::Format`]), or the broker did not answer.
    pub async fn message_at(&self, offset_message_id: &str) -> Result<Option<ReceivedMessage>, Error> {
        let id: OffsetMessageId = offset_message_id.parse()?;
        let deadline = self.request_deadline();
        let addr = id.host.to_string();
        let connection = self.core().connections.connect(&addr.as_str().into(), deadline).await?;
        let request = ViewMessage { position: id.position, topic: None };
        let found = match connection.call(&request, deadline.left()).await.map_err(Error::from) {
            Ok(reply) => reply.message,
            Err(error) if is_nothing_there(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(message) = self.decoded(found, &ByteString::EMPTY)?.into_iter().next() else {
            return Ok(None);
        };
        // Which broker that is, the route of the topic says.
        let route = self.route(&message.queue().topic, deadline).await.ok();
        let is_there = |data: &&BrokerData| data.broker_addrs.values().any(|of| *of == addr);
        let broker = route.as_ref().and_then(|route| route.data.broker_datas.iter().find(is_there));
        let name = broker.map_or(ByteString::EMPTY, |data| data.broker_name.as_str().into());
        Ok(Some(message.of_broker(&name)))
    }

    async fn query(
        &self,
        topic: &str,
        query: MessageQuery,
        by_unique_key: bool,
        matches: impl Fn(&ReceivedMessage) -> bool,
    ) -> Result<Vec<ReceivedMessage>, Error> {
        let deadline = Deadline::after(QUERY_LIMIT);
        let topic = self.core().namespace.wrap(&topic.into());
        let route = self.route(&topic, deadline).await?;
        let request = QueryMessage {
            topic: topic.clone(),
            key: query.key.into(),
            max_messages: query.max,
            begin_timestamp: query.begin_ms,
            end_timestamp: query.end_ms,
            index_type: Some(ByteString::from_static(if by_unique_key { "U" } else { "K" })),
            unique_key_query: Some(by_unique_key),
        };
        let mut asking = JoinSet::new();
        for broker in &route.data.broker_datas {
            let (client, topic, request) = (self.clone(), topic.clone(), request.clone());
            let broker = ByteString::from(broker.broker_name.as_str());
            asking.spawn(async move {
                let choice = BrokerChoice::MasterOrReplica;
                match client.call_broker(&topic, &broker, choice, &request, deadline).await {
                    Ok(reply) => client.decoded(reply.messages.into_bytes(), &broker),
                    Err(error) if error.response_code() == Some(ResponseCode::QUERY_NOT_FOUND) => {
                        Ok(Vec::new())
                    }
                    Err(error) => Err(error),
                }
            });
        }
        let (mut found, mut failed) = (Vec::new(), None);
        while let Some(answer) = asking.join_next().await {
            match answer {
                Ok(Ok(messages)) => found.extend(messages.into_iter().filter(&matches)),
                Ok(Err(error)) => {
                    debug!(%topic, %error, "broker not queried");
                    failed = Some(error);
                }
                Err(_) => failed = Some(Error::Closed { what: "the client" }), // the runtime ends
            }
        }
        found.sort_by_key(ReceivedMessage::store_time);
        match failed {
            Some(error) if !by_unique_key || found.is_empty() => Err(error),
            _ => Ok(found),
        }
    }

    fn decoded(&self, body: Bytes, broker: &ByteString) -> Result<Vec<ReceivedMessage>, Error> {
        let namespace = &self.core().namespace;
        let (messages, decoded) = ReceivedMessages::decode(body, broker, namespace);
        decoded?;
        Ok(messages.collect())
    }
}

/// Java's broker has no code of its own for it.
fn is_nothing_there(error: &Error) -> bool {
    let Error::Request(request) = error else { return false };
    let remark = match &**request {
        crate::RequestError::Refused { code: ResponseCode::SYSTEM_ERROR, remark, .. } => remark.as_deref(),
        crate::RequestError::Refused { code: ResponseCode::QUERY_NOT_FOUND, .. } => return true,
        _ => None,
    };
    remark.is_some_and(|remark| {
        remark.starts_with("can not find message") || remark.starts_with("no message at position")
    })
}
