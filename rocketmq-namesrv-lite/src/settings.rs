//! [`Settings`]: what an operator may switch while the name server runs, under the keys of Java's
//! `common/namesrv/NamesrvConfig.java`.

use std::fmt;

use crate::properties::{Properties, PropertiesError, Property};

/// The switches, each off or on as in Java unless set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Routes tell the queues of strictly ordered topics.
    pub(crate) order_messages: bool,
    /// Registrations are answered with all strictly ordered topics.
    pub(crate) return_order_topics: bool,
    /// Topics that a registration no longer names are forgotten.
    pub(crate) drop_stale_topics: bool,
    /// The replica that stands in for a master is shown as one.
    pub(crate) acting_master: bool,
    /// The list of all topics is given.
    pub(crate) all_topic_list: bool,
    /// Other lists of topics are given.
    pub(crate) topic_list: bool,
    /// Routes are withheld for some time after the start, so that no client takes a part for the whole.
    pub(crate) wait_for_service: bool,
    /// For how long.
    pub(crate) wait_seconds: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            order_messages: false,
            return_order_topics: true,
            drop_stale_topics: false,
            acting_master: false,
            all_topic_list: true,
            topic_list: true,
            wait_for_service: false,
            wait_seconds: 45,
        }
    }
}

/// Why a running name server does not take a setting.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpdateError {
    #[error("{key} must not be changed over the network")]
    Protected { key: String },
    #[error("{key} is not a setting that a running name server can change; those are {}", Settings::KEYS.join(", "))]
    NotHere { key: String },
    #[error(transparent)]
    Malformed(#[from] PropertiesError),
}

impl Settings {
    /// The keys.
    pub(crate) const KEYS: [&'static str; 8] = [
        "orderMessageEnable",
        "returnOrderTopicConfigToBroker",
        "deleteTopicWithBrokerRegistration",
        "supportActingMaster",
        "enableAllTopicList",
        "enableTopicList",
        "needWaitForService",
        "waitSecondsForService",
    ];

    /// Keys that Java's name server, too, refuses to change over the network.
    const PROTECTED: [&'static str; 4] =
        ["configBlackList", "configStorePath", "kvConfigPath", "rocketmqHome"];

    /// Takes a property; whether its key is one of [`Settings::KEYS`].
    pub(crate) fn set(&mut self, property: &Property) -> Result<bool, PropertiesError> {
        match property.key() {
            "orderMessageEnable" => self.order_messages = property.boolean()?,
            "returnOrderTopicConfigToBroker" => self.return_order_topics = property.boolean()?,
            "deleteTopicWithBrokerRegistration" => self.drop_stale_topics = property.boolean()?,
            "supportActingMaster" => self.acting_master = property.boolean()?,
            "enableAllTopicList" => self.all_topic_list = property.boolean()?,
            "enableTopicList" => self.topic_list = property.boolean()?,
            "needWaitForService" => self.wait_for_service = property.boolean()?,
            "waitSecondsForService" => self.wait_seconds = property.parsed("a number of seconds")?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// These settings with the changes of an operator; all of them, or none.
    pub(crate) fn updated(mut self, properties: &Properties) -> Result<Self, UpdateError> {
        for property in properties.iter() {
            let key = property.key().to_owned();
            if Self::PROTECTED.contains(&property.key()) {
                return Err(UpdateError::Protected { key });
            }
            if !self.set(property)? {
                return Err(UpdateError::NotHere { key });
            }
        }
        Ok(self)
    }

    /// Whether routes are withheld yet, `up_ms` milliseconds after the start.
    pub(crate) fn withholds_routes(&self, up_ms: i64) -> bool {
        self.wait_for_service && up_ms / 1000 < i64::from(self.wait_seconds)
    }
}

/// Lines of `key=value`.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "orderMessageEnable={}", self.order_messages)?;
        writeln!(f, "returnOrderTopicConfigToBroker={}", self.return_order_topics)?;
        writeln!(f, "deleteTopicWithBrokerRegistration={}", self.drop_stale_topics)?;
        writeln!(f, "supportActingMaster={}", self.acting_master)?;
        writeln!(f, "enableAllTopicList={}", self.all_topic_list)?;
        writeln!(f, "enableTopicList={}", self.topic_list)?;
        writeln!(f, "needWaitForService={}", self.wait_for_service)?;
        writeln!(f, "waitSecondsForService={}", self.wait_seconds)
    }
}
