//! [`ConsumerFilters`]: which groups have filtered which topics by SQL92, kept in `config/consumerFilter.json`.
//!
//! This broker filters by what consumers tell it; the file is for a Java broker that takes over the folder, which takes a group's
//! filter and its age from there. Java: `broker/filter/ConsumerFilterManager.java`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rocketmq_protocol::body::ExpressionType;
use rocketmq_protocol::transport::Clock;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::clients::Clients;
use super::config_table::ConfigTable;
use super::subscription::Subscription;
use crate::filter::BloomFilterData;
use crate::store::ConfigFileError;

/// Pause between two looks at what is subscribed.
const PERIOD: Duration = Duration::from_secs(10);
/// A filter that nobody has used for so long is forgotten. Java: `filterDataCleanTimeSpan`.
const KEPT_MS: i64 = 24 * 3600 * 1000;
/// At a start nobody is connected: a filter that was in use died so long ago at most.
const DIED_BEFORE_START_MS: i64 = 30_000;

/// The file and what it holds.
pub(super) struct ConsumerFilters {
    table: Mutex<Table>,
    file: ConfigTable,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Table {
    filter_data_by_topic: BTreeMap<String, TopicFilters>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct TopicFilters {
    group_filter_data: BTreeMap<String, FilterData>,
    topic: String,
}

/// One filter. Java: `broker/filter/ConsumerFilterData.java`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct FilterData {
    bloom_filter_data: BloomFilterData,
    /// Milliseconds since 1970, as all times here.
    born_time: i64,
    /// Version of the subscription.
    client_version: i64,
    consumer_group: String,
    dead: bool,
    /// 0 while somebody of the group is connected.
    dead_time: i64,
    expression: String,
    expression_type: ExpressionType,
    topic: String,
}

impl ConsumerFilters {
    pub(super) fn open(file: ConfigTable, now_ms: i64) -> Result<Self, ConfigFileError> {
        let mut table: Table = file.load()?;
        let filters = table.filter_data_by_topic.values_mut();
        for filter in filters.flat_map(|topic| topic.group_filter_data.values_mut()) {
            if filter.dead_time == 0 {
                filter.die(filter.born_time.max(now_ms - DIED_BEFORE_START_MS));
            }
        }
        Ok(Self { table: Mutex::new(table), file })
    }

    /// Follows what is subscribed, until `stop`.
    pub(super) async fn keep(&self, clients: &Clients, clock: &Clock, stop: CancellationToken) {
        loop {
            let stopping = tokio::select! {
                () = stop.cancelled() => true,
                () = clock.sleep(PERIOD) => false,
            };
            if let Err(error) = self.save(&clients.sql_subscriptions(), clock.now_ms()).await {
                error!(error = &error as &dyn std::error::Error, "consumer filters not saved, trying again");
            }
            if stopping {
                return;
            }
        }
    }

    /// Takes up what is subscribed now, and writes the file if that is news.
    async fn save(&self, live: &[(String, Arc<Subscription>)], now_ms: i64) -> Result<(), ConfigFileError> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if !table.update(live, now_ms) {
            return Ok(());
        }
        self.file.save(|| table.clone()).await?;
        *self.table.lock().unwrap_or_else(PoisonError::into_inner) = table;
        Ok(())
    }
}

impl Table {
    /// Whether something changed.
    fn update(&mut self, live: &[(String, Arc<Subscription>)], now_ms: i64) -> bool {
        let mut changed = false;
        let mut alive = BTreeSet::new();
        for (group, subscription) in live {
            let topic = &subscription.data.topic;
            alive.insert((topic.as_str(), group.as_str()));
            let filters = self.filter_data_by_topic.entry(topic.clone()).or_default();
            filters.topic.clone_from(topic);
            let filter = filters.group_filter_data.entry(group.clone()).or_default();
            changed |= filter.update(group, subscription, now_ms);
        }
        self.filter_data_by_topic.retain(|topic, filters| {
            filters.group_filter_data.retain(|group, filter| {
                if !filter.dead && !alive.contains(&(topic.as_str(), group.as_str())) {
                    filter.die(now_ms);
                    changed = true;
                }
                let forgotten = filter.dead && now_ms - filter.dead_time >= KEPT_MS;
                changed |= forgotten;
                !forgotten
            });
            !filters.group_filter_data.is_empty()
        });
        changed
    }
}

impl FilterData {
    fn update(&mut self, group: &str, subscription: &Subscription, now_ms: i64) -> bool {
        let data = &subscription.data;
        if !self.dead && self.client_version == data.sub_version && self.expression == data.sub_string {
            return false;
        }
        // The age is that of the expression.
        let born_time = if self.expression == data.sub_string { self.born_time } else { now_ms };
        *self = Self {
            bloom_filter_data: BloomFilterData::of(group, &data.topic),
            born_time,
            client_version: data.sub_version,
            consumer_group: group.to_owned(),
            dead: false,
            dead_time: 0,
            expression: data.sub_string.clone(),
            expression_type: data.expression_type,
            topic: data.topic.clone(),
        };
        true
    }

    fn die(&mut self, at_ms: i64) {
        (self.dead, self.dead_time) = (true, at_ms);
    }
}

#[cfg(test)]
mod tests {
    use rocketmq_protocol::body::SubscriptionData;

    use super::*;

    fn open(dir: &tempfile::TempDir, now_ms: i64) -> ConsumerFilters {
        ConsumerFilters::open(ConfigTable::new(dir.path(), "consumerFilter.json"), now_ms).unwrap()
    }

    #[tokio::test]
    async fn a_filter_is_kept_in_javas_shape_for_a_day_after_its_group_left() {
        let dir = tempfile::tempdir().unwrap();
        let data = SubscriptionData::sql92("TagTopic", "a > 3", 7);
        let live = [("GID_SQL".to_owned(), Arc::new(Subscription::new(data)))];
        let read = || std::fs::read_to_string(dir.path().join("config/consumerFilter.json")).unwrap();

        open(&dir, 1000).save(&live, 1000).await.unwrap();
        let expected = r#"{"filterDataByTopic":{"TagTopic":{"groupFilterData":{"GID_SQL":{"bloomFilterData":{"bitNum":112,"bitPos":[49,3,87]},"bornTime":1000,"clientVersion":7,"consumerGroup":"GID_SQL","dead":false,"deadTime":0,"expression":"a > 3","expressionType":"SQL92","topic":"TagTopic"}},"topic":"TagTopic"}}}"#;
        assert_eq!(read(), expected);

        let reopened = open(&dir, 100_000);
        assert!(
            reopened.table.lock().unwrap().filter_data_by_topic["TagTopic"].group_filter_data["GID_SQL"].dead
        );
        reopened.save(&live, 101_000).await.unwrap();
        assert_eq!(read(), expected, "the same filter is as old as before");
        reopened.save(&[], 102_000).await.unwrap();
        assert!(read().contains(r#""dead":true,"deadTime":102000"#));
        reopened.save(&[], 102_000 + KEPT_MS).await.unwrap();
        assert_eq!(read(), r#"{"filterDataByTopic":{}}"#);
    }
}
