//! What brokers tell a name server, and what is asked about brokers.

use bytes::Bytes;

use crate::ByteString;
use crate::body::{BrokerMemberGroupBody, DataVersion, KvTable};
use crate::request::{Done, requests};
use crate::requests::RouteBody;

requests! {
    /// A broker, its address and its topics. The body is that of `body::RegisterBrokerBody`, plain or compressed.
    /// Java: `protocol/header/namesrv/RegisterBrokerRequestHeader.java`.
    RegisterBroker = REGISTER_BROKER {
        broker_name: ByteString => "brokerName",
        broker_addr: ByteString => "brokerAddr",
        cluster_name: ByteString => "clusterName",
        ha_server_addr: ByteString => "haServerAddr",
        /// 0 is the master.
        broker_id: i64 => "brokerId",
        /// After how much silence the broker counts as gone.
        heartbeat_timeout_ms: Option<i64> => "heartbeatTimeoutMillis",
        enable_acting_master: Option<bool> => "enableActingMaster",
        /// 5.x says false even when the body is compressed.
        compressed: bool => "compressed" or false,
        /// CRC-32 of the body and 0x7FFFFFFF; 0: not checked.
        body_crc32: u32 => "bodyCrc32" or 0,
    } body(body: Bytes)
    -> RegisterBrokerReply {
        ha_server_addr: Option<ByteString> => "haServerAddr",
        master_addr: Option<ByteString> => "masterAddr",
    } body(order_topics: Option<KvTable>);

    /// The queues of one topic on one broker, told as soon as the topic is there. The body is a route of which only the
    /// queues count. Java: `RegisterTopicRequestHeader.java`.
    RegisterTopic = REGISTER_TOPIC_IN_NAMESRV {
        topic: ByteString => "topic",
    } body(route: RouteBody)
    -> Done;

    /// A broker leaves. Java: `UnRegisterBrokerRequestHeader.java`.
    UnregisterBroker = UNREGISTER_BROKER {
        broker_name: ByteString => "brokerName",
        broker_addr: ByteString => "brokerAddr",
        cluster_name: ByteString => "clusterName",
        broker_id: i64 => "brokerId",
    } -> Done;

    /// A broker is alive. Java: `BrokerHeartbeatRequestHeader.java`.
    BrokerHeartbeat = BROKER_HEARTBEAT {
        cluster_name: ByteString => "clusterName",
        broker_addr: ByteString => "brokerAddr",
        broker_name: ByteString => "brokerName",
        heartbeat_timeout_ms: Option<i64> => "heartbeatTimeoutMills",
    } -> Done;

    /// Whether the name server has this version of a broker's topics. Java: `QueryDataVersionRequestHeader.java`.
    QueryDataVersion = QUERY_DATA_VERSION {
        broker_name: ByteString => "brokerName",
        broker_addr: ByteString => "brokerAddr",
        cluster_name: ByteString => "clusterName",
        broker_id: i64 => "brokerId",
    } body(version: DataVersion)
    -> QueryDataVersionReply {
        changed: bool => "changed",
    } body(version: Option<DataVersion>);

    /// The members of one broker group. Java: `GetBrokerMemberGroupRequestHeader.java`.
    GetBrokerMemberGroup = GET_BROKER_MEMBER_GROUP {
        cluster_name: ByteString => "clusterName",
        broker_name: ByteString => "brokerName",
    } -> GetBrokerMemberGroupReply {
    } body(group: BrokerMemberGroupBody);

    /// Takes the write permission from all queues of a broker. Java: `WipeWritePermOfBrokerRequestHeader.java`.
    WipeWritePermission = WIPE_WRITE_PERM_OF_BROKER {
        broker_name: ByteString => "brokerName",
    } -> WipeWritePermissionReply {
        topics: i32 => "wipeTopicCount",
    };

    /// Gives it back. Java: `AddWritePermOfBrokerRequestHeader.java`.
    AddWritePermission = ADD_WRITE_PERM_OF_BROKER {
        broker_name: ByteString => "brokerName",
    } -> AddWritePermissionReply {
        topics: i32 => "addTopicCount",
    };

    /// Deletes the commit log files whose time is up, at whatever hour. Java: `AdminBrokerProcessor.java`, `deleteExpiredCommitLog`.
    DeleteExpiredCommitLog = DELETE_EXPIRED_COMMITLOG {
    } -> Done;
}
