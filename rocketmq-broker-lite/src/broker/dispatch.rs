//! [`Dispatch`]: gives each request to the one service that its code belongs to.

use std::sync::Arc;

use rocketmq_protocol::request::{Done, Request};
use rocketmq_protocol::requests::*;
use rocketmq_protocol::transport::{Call, Connection, Service};
use rocketmq_protocol::{RequestCode, ResponseCode};

use super::client_service::ClientService;
use super::clients::Clients;
use super::group_admin::GroupAdmin;
use super::member_relay::MemberRelay;
use super::offset_reset::OffsetReset;
use super::pull::PullService;
use super::queries::QueryService;
use super::queue_locks::QueueLocks;
use super::recall::RecallService;
use super::refusal::Refusal;
use super::reply::ReplyService;
use super::send::SendService;
use super::send_back::SendBackService;
use super::tasks::Tasks;
use super::topic_admin::TopicAdmin;
use super::transactions::Transactions;

/// The services of a broker.
pub(super) struct Dispatch {
    pub(super) send: Arc<SendService>,
    pub(super) send_back: Arc<SendBackService>,
    pub(super) recall: RecallService,
    pub(super) locks: Arc<QueueLocks>,
    pub(super) group_admin: Arc<GroupAdmin>,
    pub(super) offset_reset: Arc<OffsetReset>,
    pub(super) member_relay: Arc<MemberRelay>,
    pub(super) pull: Arc<PullService>,
    pub(super) transactions: Arc<Transactions>,
    pub(super) reply: Arc<ReplyService>,
    pub(super) queries: Arc<QueryService>,
    pub(super) client_service: ClientService,
    pub(super) clients: Arc<Clients>,
    pub(super) topic_admin: Arc<TopicAdmin>,
    pub(super) tasks: Tasks,
}

impl Service for Dispatch {
    fn serve(&self, call: Call) {
        let queries = &self.queries;
        let clients = &self.client_service;
        match call.frame().request_code() {
            RequestCode::SEND_MESSAGE | SendMessage::CODE | SendBatchMessage::CODE => self.send.serve(call),
            PullMessage::CODE | LitePullMessage::CODE => self.pull.serve(call),
            EndTransaction::CODE => self.transactions.serve(call),
            RequestCode::SEND_REPLY_MESSAGE | SendReplyMessage::CODE => self.reply.serve(call),
            SendMessageBack::CODE => {
                let send_back = Arc::clone(&self.send_back);
                self.spawned(call, async move |request| send_back.send_back(request).await);
            }
            RecallMessage::CODE => {
                at_once(call, |call, request| self.recall.recall(&request, call.connection().peer()))
            }
            Heartbeat::CODE => at_once(call, |call, request| clients.heartbeat(call, &request)),
            UnregisterClient::CODE => {
                at_once(call, |call, request| clients.unregister(call.connection(), &request))
            }
            CheckClientConfig::CODE => at_once(call, |_, request| clients.check_config(request)),
            GetConsumerListByGroup::CODE => at_once(call, |_, request| clients.consumer_list(&request)),
            QueryConsumerOffset::CODE => at_once(call, |_, request| queries.consumer_offset(&request)),
            UpdateConsumerOffset::CODE => {
                at_once(call, |_, request| queries.update_consumer_offset(&request))
            }
            LockBatch::CODE => at_once(call, |_, request: LockBatch| {
                Ok(LockBatchReply { locked: self.locks.lock(request.queues) })
            }),
            UnlockBatch::CODE => at_once(call, |_, request: UnlockBatch| {
                self.locks.unlock(&request.queues);
                Ok(Done {})
            }),
            GetMaxOffset::CODE => at_once(call, |_, request| queries.max_offset(&request)),
            GetMinOffset::CODE => at_once(call, |_, request| queries.min_offset(&request)),
            SearchOffset::CODE => self.blocking(call, QueryService::search_offset),
            GetEarliestStoreTime::CODE => self.blocking(call, QueryService::earliest_store_time),
            QueryMessage::CODE => self.blocking(call, QueryService::query_message),
            ViewMessage::CODE => self.blocking(call, QueryService::view_message),
            GetTopicConfig::CODE => at_once(call, |_, request| self.topic_admin.get(&request)),
            GetAllTopicConfig::CODE => at_once(call, |_, _: GetAllTopicConfig| self.topic_admin.list()),
            CreateTopic::CODE => {
                let admin = Arc::clone(&self.topic_admin);
                self.spawned(call, async move |request| admin.create(request).await);
            }
            DeleteTopic::CODE => {
                let admin = Arc::clone(&self.topic_admin);
                self.spawned(call, async move |request| admin.delete(request).await);
            }
            DeleteExpiredCommitLog::CODE => {
                self.blocking(call, |queries, _: DeleteExpiredCommitLog| {
                    queries.with.store.clean_at_any_hour().map(|()| Done {}).map_err(Refusal::from)
                });
            }
            GetGroupConfig::CODE => at_once(call, |_, request| self.group_admin.get(&request)),
            GetAllGroupConfig::CODE => at_once(call, |_, _: GetAllGroupConfig| self.group_admin.list()),
            UpdateGroup::CODE => {
                let admin = Arc::clone(&self.group_admin);
                self.spawned(call, async move |request| admin.update(request).await);
            }
            DeleteGroup::CODE => {
                let admin = Arc::clone(&self.group_admin);
                self.spawned(call, async move |request| admin.delete(request).await);
            }
            GetConsumerConnections::CODE => {
                at_once(call, |_, request| self.group_admin.connections(&request))
            }
            QueryTopicConsumers::CODE => at_once(call, |_, request| self.group_admin.consumers_of(&request)),
            GetConsumeStats::CODE => {
                let admin = Arc::clone(&self.group_admin);
                self.tasks.spawn_blocking(move || at_once(call, |_, request| admin.consume_stats(&request)));
            }
            InvokeResetOffset::CODE => {
                let reset = Arc::clone(&self.offset_reset);
                let serve = move |call: &Call, request| reset.reset(&request, call.frame().language);
                self.tasks.spawn_blocking(move || at_once(call, serve));
            }
            InvokeGetConsumerStatus::CODE => {
                let relay = Arc::clone(&self.member_relay);
                self.spawned(call, async move |request| relay.status(request).await);
            }
            GetConsumerRunningInfo::CODE => {
                let relay = Arc::clone(&self.member_relay);
                self.tasks.spawn(async move { relay.running_info(call).await });
            }
            ConsumeMessageDirectly::CODE => {
                let relay = Arc::clone(&self.member_relay);
                self.tasks.spawn(async move { relay.consume_directly(call).await });
            }
            code => {
                let remark = format!(" request type {} not supported", code.get());
                call.refuse(ResponseCode::REQUEST_CODE_NOT_SUPPORTED, remark);
            }
        }
    }

    fn served(&self) {
        self.pull.answer_woken();
    }

    fn disconnected(&self, connection: &Connection) {
        self.clients.leave(connection);
        if connection.requests_in_progress() > 0 {
            self.pull.forget(connection);
        }
    }
}

/// Serves what never waits.
fn at_once<R: Request>(call: Call, serve: impl FnOnce(&Call, R) -> Result<R::Reply, Refusal>) {
    let reply = call.read().map_err(Refusal::from).and_then(|request| serve(&call, request));
    answer::<R>(&call, reply);
}

fn answer<R: Request>(call: &Call, reply: Result<R::Reply, Refusal>) {
    match reply {
        Ok(reply) => call.reply(&reply),
        Err(refusal) => refusal.answer(call),
    }
}

impl Dispatch {
    /// Serves what may wait for the disk, on a thread that may.
    fn blocking<R: Request>(&self, call: Call, serve: fn(&QueryService, R) -> Result<R::Reply, Refusal>) {
        let queries = Arc::clone(&self.queries);
        self.tasks.spawn_blocking(move || at_once(call, |_, request| serve(&queries, request)));
    }

    /// Serves what waits for files and name servers.
    fn spawned<R, S, F>(&self, call: Call, serve: S)
    where
        R: Request,
        S: FnOnce(R) -> F + Send + 'static,
        F: Future<Output = Result<R::Reply, Refusal>> + Send + 'static,
    {
        match call.read() {
            Ok(request) => {
                let serving = serve(request);
                self.tasks.spawn(async move { answer::<R>(&call, serving.await) });
            }
            Err(error) => Refusal::from(error).answer(&call),
        }
    }
}
