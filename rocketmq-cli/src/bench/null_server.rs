//! `rmq bench null-server`: a name server and a broker in one that takes every frame apart, answers, and stores nothing.

use std::io::{Write, stdout};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use clap::Args;
use rocketmq_protocol::body::{BrokerData, ClusterInfo, MASTER_ID, Perm, QueueData, TopicRouteData};
use rocketmq_protocol::requests::{
    GetClusterInfoReply, GetRouteInfoReply, HeartbeatReply, RouteBody, SendReply,
};
use rocketmq_protocol::transport::{Call, Server, ServerOptions, Service};
use rocketmq_protocol::{ByteString, QueueId, QueueOffset, RequestCode, ResponseCode};
use tokio::net::TcpListener;

use crate::{Failure, Outcome};

const NAME: &str = "null";

/// Options of `rmq bench null-server`.
#[derive(Args)]
pub(crate) struct Options {
    /// Where to listen, as name server and as broker
    #[arg(long, short, value_name = "HOST:PORT", default_value = "127.0.0.1:9876")]
    listen: SocketAddr,
    /// Queues of every topic
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    queues: u16,
}

struct Null {
    addr: SocketAddr,
    queues: i32,
    message_id: ByteString,
    next_offset: AtomicI64,
}

pub(crate) async fn run(options: Options) -> Result<Outcome, Failure> {
    let failed = |source| Failure::Listen { addr: options.listen, source };
    let listener = TcpListener::bind(options.listen).await.map_err(failed)?;
    let addr = listener.local_addr().map_err(failed)?;
    let service = Null {
        addr,
        queues: options.queues.into(),
        message_id: ByteString::from_static("7F00000100002A9F0000000000000000"),
        next_offset: AtomicI64::new(0),
    };
    let server =
        Server::serve(listener, Arc::new(service), ServerOptions::new("null server")).map_err(failed)?;
    let ready = format!("name server and broker at {addr}; nothing is stored\n");
    stdout().write_all(ready.as_bytes()).map_err(|source| Failure::System { doing: "say so", source })?;
    tokio::signal::ctrl_c()
        .await
        .map_err(|source| Failure::System { doing: "listen for signals", source })?;
    server.shutdown(Duration::from_secs(1)).await;
    Ok(Outcome::AsAsked)
}

impl Service for Null {
    fn serve(&self, call: Call) {
        match call.frame().request_code() {
            RequestCode::SEND_MESSAGE_V2 | RequestCode::SEND_MESSAGE | RequestCode::SEND_BATCH_MESSAGE => {
                call.reply(&self.stored());
            }
            RequestCode::GET_ROUTEINFO_BY_TOPIC => call.reply(&GetRouteInfoReply { route: self.route() }),
            RequestCode::GET_BROKER_CLUSTER_INFO => {
                call.reply(&GetClusterInfoReply { clusters: self.clusters() });
            }
            RequestCode::HEART_BEAT => {
                call.reply(&HeartbeatReply { supports_v2: Some(false), subscription_changed: None });
            }
            RequestCode::UNREGISTER_CLIENT | RequestCode::UPDATE_AND_CREATE_TOPIC => call.done(),
            code => {
                let remark = format!("{code}: the null server only takes messages");
                call.refuse(ResponseCode::REQUEST_CODE_NOT_SUPPORTED, remark);
            }
        }
    }
}

impl Null {
    fn stored(&self) -> SendReply {
        SendReply {
            message_id: self.message_id.clone(),
            queue_id: QueueId::new(0),
            queue_offset: QueueOffset::new(self.next_offset.fetch_add(1, Ordering::Relaxed)),
            transaction_id: None,
            batch_unique_id: None,
            recall_handle: None,
            region: None,
            trace_on: None,
        }
    }

    fn broker(&self) -> BrokerData {
        BrokerData {
            broker_addrs: [(MASTER_ID, self.addr.to_string())].into(),
            broker_name: NAME.into(),
            cluster: NAME.into(),
            ..BrokerData::default()
        }
    }

    fn route(&self) -> RouteBody {
        let queues = QueueData {
            broker_name: NAME.into(),
            perm: Perm::READ_WRITE,
            read_queue_nums: self.queues,
            write_queue_nums: self.queues,
            topic_sys_flag: 0,
        };
        let route = TopicRouteData {
            broker_datas: vec![self.broker()],
            queue_datas: vec![queues],
            ..TopicRouteData::default()
        };
        RouteBody { route, standard_json: true }
    }

    fn clusters(&self) -> ClusterInfo {
        ClusterInfo {
            broker_addr_table: [(NAME.into(), self.broker())].into(),
            cluster_addr_table: [(NAME.into(), vec![NAME.into()])].into(),
        }
    }
}
