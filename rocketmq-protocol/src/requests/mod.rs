//! Every request this family speaks, by concern.

mod broker;
mod client;
mod group;
mod kv_config;
mod lock;
mod member;
mod name_server_config;
mod offset;
mod pull;
mod query;
mod reply;
mod route;
mod send;
mod topic;
mod transaction;

pub use broker::*;
pub use client::*;
pub use group::*;
pub use kv_config::*;
pub use lock::*;
pub use member::*;
pub use name_server_config::*;
pub use offset::*;
pub use pull::*;
pub use query::*;
pub use reply::*;
pub use route::*;
pub use send::*;
pub use topic::*;
pub use transaction::*;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Encoding;
    use crate::request::sample::{RoundTrip, Source};

    const FAMILIES: &[&[RoundTrip]] = &[
        broker::ROUND_TRIPS,
        client::ROUND_TRIPS,
        group::ROUND_TRIPS,
        kv_config::ROUND_TRIPS,
        lock::ROUND_TRIPS,
        member::ROUND_TRIPS,
        name_server_config::ROUND_TRIPS,
        offset::ROUND_TRIPS,
        pull::ROUND_TRIPS,
        query::ROUND_TRIPS,
        reply::ROUND_TRIPS,
        route::ROUND_TRIPS,
        send::ROUND_TRIPS,
        topic::ROUND_TRIPS,
        transaction::ROUND_TRIPS,
    ];

    proptest! {
        #[test]
        fn every_request_and_reply_survives_both_encodings(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            for round_trip in FAMILIES.iter().copied().flatten() {
                for encoding in [Encoding::Json, Encoding::Compact] {
                    round_trip(&mut Source(bytes.clone().into_iter()), encoding);
                }
            }
        }
    }
}
