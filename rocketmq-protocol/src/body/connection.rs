//! Who is connected to a broker in a group.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ConsumeFromWhere, ConsumeType, MessageModel, SubscriptionData};
use crate::{Language, Version};

/// One client of a group. Java: `protocol/body/Connection.java`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Connection {
    /// The client's address as the broker sees it.
    pub client_addr: String,
    /// The client's id.
    pub client_id: String,
    /// What the client is written in.
    #[serde(with = "language")]
    pub language: Language,
    /// The client's release.
    #[serde(with = "version")]
    pub version: Version,
}

impl Default for Connection {
    fn default() -> Self {
        Self {
            client_addr: String::new(),
            client_id: String::new(),
            language: Language::JAVA,
            version: Version::new(0),
        }
    }
}

/// The producers of a group. Java: `protocol/body/ProducerConnection.java`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProducerConnection {
    /// Its members.
    pub connection_set: Vec<Connection>,
}

/// The consumers of a group, and what they agreed on. Java: `protocol/body/ConsumerConnection.java`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConsumerConnection {
    /// Its members.
    pub connection_set: Vec<Connection>,
    /// Where the group starts without an offset.
    pub consume_from_where: ConsumeFromWhere,
    /// How it gets its messages.
    pub consume_type: ConsumeType,
    /// Whether members share the messages.
    pub message_model: MessageModel,
    /// Subscriptions by topic.
    pub subscription_table: BTreeMap<String, SubscriptionData>,
}

/// A language goes by its name in bodies.
mod language {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::Language;

    pub(super) fn serialize<S: Serializer>(language: &Language, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(language.name().unwrap_or("OTHER"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Language, D::Error> {
        Ok(Language::from_name(&String::deserialize(deserializer)?))
    }
}

/// A version goes by its ordinal.
mod version {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::Version;

    pub(super) fn serialize<S: Serializer>(version: &Version, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i32(version.get())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Version, D::Error> {
        i32::deserialize(deserializer).map(Version::new)
    }
}
