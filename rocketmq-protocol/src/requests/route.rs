//! What clients ask a name server.

use bytes::Bytes;

use crate::ByteString;
use crate::body::{ClusterInfo, TopicList, TopicRouteData};
use crate::json::{self, JsonError, JsonStyle};
use crate::request::{Body, Done, Segments, requests};

/// A route and how its reader wants it: clients before 4.9.4, and the Go client, take the numeric keys unquoted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteBody {
    /// The route.
    pub route: TopicRouteData,
    /// Whether to print standard JSON.
    pub standard_json: bool,
}

impl Body for RouteBody {
    fn to_segments(&self) -> Segments {
        let style = if self.standard_json { JsonStyle::Standard } else { JsonStyle::Fastjson };
        json::to_bytes(&self.route, style).expect("a route is text, numbers and maps").into()
    }

    fn from_bytes(bytes: Bytes) -> Result<Self, JsonError> {
        Ok(Self { route: json::from_slice(&bytes)?, standard_json: false })
    }
}

#[cfg(test)]
impl crate::request::sample::Sample for RouteBody {
    fn sample(_: &mut crate::request::sample::Source) -> Self {
        Self::default()
    }
}

requests! {
    /// Which brokers hold a topic. Java: `protocol/header/namesrv/GetRouteInfoRequestHeader.java`.
    GetRouteInfo = GET_ROUTEINFO_BY_TOPIC {
        topic: ByteString => "topic",
        accept_standard_json_only: Option<bool> => "acceptStandardJsonOnly",
    } -> GetRouteInfoReply {
    } body(route: RouteBody);

    /// All clusters and brokers.
    GetClusterInfo = GET_BROKER_CLUSTER_INFO {
    } -> GetClusterInfoReply {
    } body(clusters: ClusterInfo);

    /// All topics.
    GetAllTopicList = GET_ALL_TOPIC_LIST_FROM_NAMESERVER {
    } -> TopicListReply {
    } body(topics: TopicList);

    /// Topics of one cluster. Java: `GetTopicsByClusterRequestHeader.java`.
    GetTopicsByCluster = GET_TOPICS_BY_CLUSTER {
        cluster: ByteString => "cluster",
    } -> TopicListReply;

    /// Cluster names and broker names, in the shape of a topic list.
    GetSystemTopicList = GET_SYSTEM_TOPIC_LIST_FROM_NS {
    } -> TopicListReply;

    /// Topics whose system flags have the unit bit (1).
    GetUnitTopicList = GET_UNIT_TOPIC_LIST {
    } -> TopicListReply;

    /// Topics whose system flags have the unit-subscription bit (2).
    GetHasUnitSubTopicList = GET_HAS_UNIT_SUB_TOPIC_LIST {
    } -> TopicListReply;

    /// Topics whose system flags have the unit-subscription bit (2) and not the unit bit (1).
    GetHasUnitSubUnunitTopicList = GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST {
    } -> TopicListReply;

    /// Forgets a topic, of one cluster or of all. Java: `DeleteTopicFromNamesrvRequestHeader.java`.
    DeleteTopicInNameServer = DELETE_TOPIC_IN_NAMESRV {
        topic: ByteString => "topic",
        cluster: Option<ByteString> => "clusterName",
    } -> Done;
}
