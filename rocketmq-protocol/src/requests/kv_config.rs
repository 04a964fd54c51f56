//! The name server's key-value configuration.

use crate::ByteString;
use crate::body::KvTable;
use crate::request::{Done, requests};

requests! {
    /// Sets a value. Java: `protocol/header/namesrv/PutKVConfigRequestHeader.java`.
    PutKvConfig = PUT_KV_CONFIG {
        namespace: ByteString => "namespace",
        key: ByteString => "key",
        value: ByteString => "value",
    } -> Done;

    /// Reads a value; refused with `QUERY_NOT_FOUND` when there is none. Java: `GetKVConfigRequestHeader.java`.
    GetKvConfig = GET_KV_CONFIG {
        namespace: ByteString => "namespace",
        key: ByteString => "key",
    } -> GetKvConfigReply {
        value: Option<ByteString> => "value",
    };

    /// Removes a value. Java: `DeleteKVConfigRequestHeader.java`.
    DeleteKvConfig = DELETE_KV_CONFIG {
        namespace: ByteString => "namespace",
        key: ByteString => "key",
    } -> Done;

    /// All values of a namespace; refused with `QUERY_NOT_FOUND` when there is none.
    /// Java: `GetKVListByNamespaceRequestHeader.java`.
    GetKvListByNamespace = GET_KVLIST_BY_NAMESPACE {
        namespace: ByteString => "namespace",
    } -> GetKvListByNamespaceReply {
    } body(table: KvTable);
}
