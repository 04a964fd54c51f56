//! [`Target`]: the cluster and topic that are measured.

use std::time::{Duration, Instant};

use clap::Args;
use rocketmq_client::{Client, Error, Perm, QueueId, TopicConfig};
use rocketmq_protocol::name::AUTO_CREATE_TOPIC;

use crate::Failure;

/// Pause before a cluster that is not there yet is looked for again.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Queues on each broker of a topic that is created because it is sent to, as producers ask for it by default.
const PRODUCERS_ASK_FOR: QueueId = QueueId::new(4);

/// The cluster that is measured.
#[derive(Args, Clone)]
pub(crate) struct Cluster {
    /// Name servers, separated by `;` [default: NAMESRV_ADDR of the environment]
    #[arg(long, short = 'n', value_name = "HOST:PORT")]
    namesrv: Option<String>,
}

impl Cluster {
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        Ok(Client::builder().name_servers(&self.namesrv).start().await?)
    }
}

/// The cluster and topic that are measured.
#[derive(Args, Clone)]
pub(crate) struct Target {
    #[command(flatten)]
    cluster: Cluster,
    /// The topic
    #[arg(long, short)]
    pub(crate) topic: String,
}

/// How a topic that is not there comes to be.
#[derive(Args, Clone)]
pub(crate) struct Creation {
    /// Queues on each broker, when the topic is created; one that exists stays as it is
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    queues: u16,
    /// Cluster that gets the topic, where there are several
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// Leave it to the broker to create the topic, because it is sent to
    #[arg(long, conflicts_with_all = ["queues", "cluster"])]
    auto_create: bool,
    /// How long to wait for a cluster that is only just starting
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration)]
    pub(crate) wait: Duration,
}

impl Target {
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        self.cluster.connect().await
    }

    /// Counts the topic's queues, which are created when the topic does not exist.
    ///
    /// # Errors
    /// The cluster cannot be reached, or does not take the topic.
    pub(crate) async fn create(&self, client: &Client, creation: &Creation) -> Result<usize, Failure> {
        let until = Instant::now() + creation.wait;
        loop {
            match self.create_now(client, creation).await {
                Ok(queues) => return Ok(queues),
                Err(error) if Instant::now() < until && may_come(&error) => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn create_now(&self, client: &Client, creation: &Creation) -> Result<usize, Error> {
        let found = match client.queues(&self.topic).await {
            Err(Error::TopicNotFound { .. }) if creation.auto_create => {
                let mut queues = client.queues(AUTO_CREATE_TOPIC).await?;
                queues.retain(|queue| queue.queue_id < PRODUCERS_ASK_FOR);
                Ok(queues)
            }
            Err(Error::TopicNotFound { .. }) => {
                let config = TopicConfig::new(&self.topic, creation.queues.into(), Perm::READ_WRITE);
                match &creation.cluster {
                    Some(cluster) => client.create_topic_in(cluster, &config).await?,
                    None => client.create_topic(&config).await?,
                }
                client.queues(&self.topic).await
            }
            found => found,
        };
        found.map(|queues| queues.len())
    }
}

/// Whether a cluster that is starting may say so.
fn may_come(error: &Error) -> bool {
    matches!(
        error,
        Error::NameServersUnavailable { .. }
            | Error::Request(_)
            | Error::BrokerNotFound { .. }
            | Error::NoQueue { .. }
            | Error::TopicNotFound { .. }
            | Error::InvalidArgument { name: "cluster", .. }
    )
}
