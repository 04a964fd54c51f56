//! The settings of a name server.

use bytes::Bytes;

use crate::request::{Done, requests};

requests! {
    /// Changes settings: lines of `key=value`.
    UpdateNameServerConfig = UPDATE_NAMESRV_CONFIG {
    } body(properties: Bytes)
    -> Done;

    /// All settings, as lines of `key=value`.
    GetNameServerConfig = GET_NAMESRV_CONFIG {
    } -> GetNameServerConfigReply {
    } body(properties: Bytes);
}
