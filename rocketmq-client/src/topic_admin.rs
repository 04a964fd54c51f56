//! Creating topics.

use std::time::Duration;

use rocketmq_protocol::ByteString;
use rocketmq_protocol::body::{BrokerData, ClusterInfo, TopicConfig};
use rocketmq_protocol::name::{AUTO_CREATE_TOPIC, validate_topic};
use rocketmq_protocol::requests::{CreateTopic, GetClusterInfo};

use crate::{Client, Error};

/// Pause before the name server is asked again whether it knows a new topic.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

impl Client {
    /// Creates or changes a topic on every master of the only cluster, and waits until the name server knows it there.
    ///
    /// ```no_run
    /// # async fn example(client: rocketmq_client::Client) -> Result<(), rocketmq_client::Error> {
    /// use rocketmq_client::{Perm, TopicConfig};
    /// client.create_topic(&TopicConfig::new("orders", 8, Perm::READ_WRITE)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// No or several clusters (see [`Client::create_topic_in`]), a master that cannot be reached or refuses. Masters asked
    /// before it have the topic then.
    pub async fn create_topic(&self, config: &TopicConfig) -> Result<(), Error> {
        let clusters = self.clusters().await?;
        let mut names = clusters.cluster_addr_table.keys();
        match (names.next(), names.next()) {
            (Some(only), None) => self.create_at(&clusters, only, config).await,
            (None, _) => {
                Err(Error::InvalidArgument { name: "cluster", reason: "no cluster is registered".into() })
            }
            (Some(_), Some(_)) => {
                let all: Vec<_> = clusters.cluster_addr_table.keys().map(String::as_str).collect();
                let reason = format!("there are several ({}); use `create_topic_in`", all.join(", "));
                Err(Error::InvalidArgument { name: "cluster", reason })
            }
        }
    }

    /// As [`Client::create_topic`], in the cluster of this name.
    ///
    /// # Errors
    /// As [`Client::create_topic`]; also a cluster that has no master.
    pub async fn create_topic_in(&self, cluster: &str, config: &TopicConfig) -> Result<(), Error> {
        let clusters = self.clusters().await?;
        self.create_at(&clusters, cluster, config).await
    }

    async fn clusters(&self) -> Result<ClusterInfo, Error> {
        let core = self.core();
        let (_, answer) =
            core.name_servers.call(&core.connections, &GetClusterInfo {}, self.request_deadline()).await?;
        answer.map(|reply| reply.clusters)
    }

    async fn create_at(
        &self,
        clusters: &ClusterInfo,
        cluster: &str,
        config: &TopicConfig,
    ) -> Result<(), Error> {
        validate_topic(&config.topic_name)?;
        let names = clusters.cluster_addr_table.get(cluster).into_iter().flatten();
        let brokers = names.filter_map(|name| clusters.broker_addr_table.get(name));
        let masters: Vec<_> = brokers.filter_map(|data| Some((data, data.master_addr()?))).collect();
        if masters.is_empty() {
            let reason = format!("{cluster:?} has no master that is up");
            return Err(Error::InvalidArgument { name: "cluster", reason });
        }
        let request = request(config);
        for (_, addr) in &masters {
            let deadline = self.request_deadline();
            let connection = self.core().connections.connect(&(*addr).into(), deadline).await?;
            connection.call(&request, deadline.left()).await?;
        }
        self.await_route(&config.topic_name, masters.into_iter().map(|(data, _)| data).collect()).await
    }

    /// Brokers tell name servers on their own, some of them later than they answer.
    async fn await_route(&self, topic: &str, brokers: Vec<&BrokerData>) -> Result<(), Error> {
        let deadline = self.request_deadline();
        let topic = ByteString::from(topic);
        loop {
            let missing = match self.core().fetch_route(&topic, deadline).await {
                Ok(route) => {
                    let knows = |broker: &&BrokerData| {
                        route.data.queue_datas.iter().any(|queues| queues.broker_name == broker.broker_name)
                    };
                    if brokers.iter().all(knows) {
                        return Ok(());
                    }
                    Error::Timeout { doing: "registering the new topic", waited: deadline.elapsed() }
                }
                Err(error @ Error::TopicNotFound { .. }) => error,
                Err(error) => return Err(error),
            };
            if deadline.left() <= LOOK_AGAIN {
                return Err(missing);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

fn request(config: &TopicConfig) -> CreateTopic {
    let attributes: Vec<_> =
        config.attributes.iter().map(|(name, value)| format!("+{name}={value}")).collect();
    CreateTopic {
        topic: config.topic_name.as_str().into(),
        default_topic: ByteString::from_static(AUTO_CREATE_TOPIC),
        read_queue_nums: config.read_queue_nums,
        write_queue_nums: config.write_queue_nums,
        perm: config.perm.get(),
        topic_filter_type: config.topic_filter_type.name().into(),
        topic_sys_flag: Some(config.topic_sys_flag),
        order: config.order,
        attributes: Some(attributes.join(",").into())
            .filter(|attributes: &ByteString| !attributes.is_empty()),
        force: None,
    }
}
