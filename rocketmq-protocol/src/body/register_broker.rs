//! [`RegisterBrokerBody`]: the topics that a broker registers at a name server, as JSON or deflated.
//!
//! The deflated form, inside a zlib stream (lengths and counts are 32 bits):
//!
//! ```text
//! length, DataVersion as JSON
//! count of topics; of each: length, `name readQueues writeQueues perm filterType attributesAsJson`
//! length, filter servers as a JSON list
//! count of static topics; of each: length, JSON (only from brokers since 5.0)
//! ```
//!
//! Source: `protocol/body/RegisterBrokerBody.java`, `TopicConfig.encode`.

use std::io::{self, Read, Write};

use bytes::{Buf, BufMut, Bytes};
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use serde::{Deserialize, Serialize};

use super::{Perm, TopicConfig, TopicConfigAndMappingSerializeWrapper, TopicFilterType};
use crate::json::{self, JsonError, JsonStyle};

/// More than 300,000 topics; what inflates to more is refused.
const MAX_INFLATED_BYTES: u64 = 64 * 1024 * 1024;

/// First byte of a zlib stream with the usual 32 KiB window.
const ZLIB: u8 = 0x78;

/// What a broker registers. Java: `protocol/body/RegisterBrokerBody.java`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RegisterBrokerBody {
    /// Addresses of filter servers; a 3.x feature, empty since.
    pub filter_server_list: Vec<String>,
    /// The topics.
    pub topic_config_serialize_wrapper: TopicConfigAndMappingSerializeWrapper,
}

/// Why a registration cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterBrokerBodyError {
    /// Some part of it is not the JSON it should be.
    #[error("cannot read {part} of a broker registration")]
    Json {
        /// Which part.
        part: &'static str,
        /// What is wrong.
        #[source]
        source: JsonError,
    },
    /// It cannot be inflated.
    #[error("cannot inflate a broker registration")]
    Inflate(#[source] io::Error),
    /// It inflates to too much.
    #[error("a broker registration inflates to more than {limit} bytes")]
    TooLong {
        /// The most allowed.
        limit: u64,
    },
    /// A length or a count leads beyond the end.
    #[error("a broker registration ends within {part} at byte {at} of the inflated {length}")]
    Truncated {
        /// Which part.
        part: &'static str,
        /// Where the part begins.
        at: usize,
        /// Length of the whole.
        length: usize,
    },
    /// The settings of a topic don't have the form above.
    #[error("a broker registration has a topic without {field}: {text:?}")]
    Topic {
        /// What is missing or malformed.
        field: &'static str,
        /// The settings.
        text: String,
    },
}

impl RegisterBrokerBody {
    /// Reads either form and tells them apart by the first byte: the header field `compressed` says `false` from 5.x
    /// brokers whatever the body is. The short form of a topic has no `order` and no system flags; they are off then.
    ///
    /// # Errors
    /// When it is neither form, or inflates to more than 64 MiB.
    pub fn decode(body: &[u8]) -> Result<Self, RegisterBrokerBodyError> {
        if body.first() != Some(&ZLIB) {
            return read_json("the JSON form", body);
        }
        Self::decode_inflated(&inflate(body, MAX_INFLATED_BYTES)?)
    }

    fn decode_inflated(inflated: &[u8]) -> Result<Self, RegisterBrokerBodyError> {
        let mut parts = Parts { rest: inflated, length: inflated.len() };
        let mut body = Self::default();
        let wrapper = &mut body.topic_config_serialize_wrapper;
        wrapper.data_version = read_json("the version", parts.block("the version")?)?;
        for _ in 0..parts.count("the number of topics")? {
            let topic = read_topic(parts.block("a topic")?)?;
            wrapper.topic_config_table.insert(topic.topic_name.clone(), topic);
        }
        // Static topics may follow; see `StaticTopics`.
        body.filter_server_list = read_json("the filter servers", parts.block("the filter servers")?)?;
        Ok(body)
    }

    /// The JSON form.
    ///
    /// # Errors
    /// When it cannot be printed, which does not happen to a body that fits in memory.
    pub fn encode_plain(&self) -> Result<Bytes, JsonError> {
        json::to_bytes(self, JsonStyle::Fastjson)
    }

    /// The deflated form, as brokers since 5.0 write it.
    ///
    /// # Errors
    /// As [`Self::encode_plain`].
    pub fn encode_compressed(&self) -> Result<Bytes, RegisterBrokerBodyError> {
        let plain =
            self.encode_short().map_err(|source| RegisterBrokerBodyError::Json { part: "a part", source })?;
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&plain).map_err(RegisterBrokerBodyError::Inflate)?;
        encoder.finish().map(Bytes::from).map_err(RegisterBrokerBodyError::Inflate)
    }

    /// The short form before it is deflated.
    fn encode_short(&self) -> Result<Vec<u8>, JsonError> {
        let wrapper = &self.topic_config_serialize_wrapper;
        let mut out = Vec::with_capacity(128 + 64 * wrapper.topic_config_table.len());
        put_block(&mut out, &json::to_bytes(&wrapper.data_version, JsonStyle::Fastjson)?);
        out.put_u32(wrapper.topic_config_table.len() as u32);
        for topic in wrapper.topic_config_table.values() {
            put_block(&mut out, print_topic(topic)?.as_bytes());
        }
        put_block(&mut out, &json::to_bytes(&self.filter_server_list, JsonStyle::Fastjson)?);
        out.put_u32(0); // static topics
        Ok(out)
    }
}

fn inflate(body: &[u8], limit: u64) -> Result<Vec<u8>, RegisterBrokerBodyError> {
    let mut inflated = Vec::new();
    let mut decoder = ZlibDecoder::new(body).take(limit.saturating_add(1));
    decoder.read_to_end(&mut inflated).map_err(RegisterBrokerBodyError::Inflate)?;
    if inflated.len() as u64 > limit { Err(RegisterBrokerBodyError::TooLong { limit }) } else { Ok(inflated) }
}

fn put_block(out: &mut Vec<u8>, block: &[u8]) {
    out.put_u32(block.len() as u32);
    out.put_slice(block);
}

fn print_topic(topic: &TopicConfig) -> Result<String, JsonError> {
    let attributes = json::to_string(&topic.attributes, JsonStyle::Fastjson)?;
    let TopicConfig { topic_name, read_queue_nums, write_queue_nums, perm, topic_filter_type, .. } = topic;
    Ok(format!(
        "{topic_name} {read_queue_nums} {write_queue_nums} {} {topic_filter_type} {attributes}",
        perm.get()
    ))
}

fn read_topic(block: &[u8]) -> Result<TopicConfig, RegisterBrokerBodyError> {
    let text = String::from_utf8_lossy(block);
    let without = |field| RegisterBrokerBodyError::Topic { field, text: text.chars().take(512).collect() };
    let mut fields = text.splitn(6, ' ');
    let topic_name =
        fields.next().filter(|name| !name.is_empty()).ok_or_else(|| without("a name"))?.to_owned();
    let mut number = |field| fields.next().and_then(|n| n.parse::<i32>().ok()).ok_or_else(|| without(field));
    let read_queue_nums = number("a number of read queues")?;
    let write_queue_nums = number("a number of write queues")?;
    let perm = Perm::new(number("permissions")?);
    let topic_filter_type =
        fields.next().and_then(TopicFilterType::from_name).ok_or_else(|| without("a filter type"))?;
    // 4.x has no attributes.
    let attributes = match fields.next() {
        Some(attributes) => read_json("a topic's attributes", attributes.as_bytes())?,
        None => Default::default(),
    };
    Ok(TopicConfig {
        attributes,
        perm,
        read_queue_nums,
        topic_filter_type,
        topic_name,
        write_queue_nums,
        ..TopicConfig::default()
    })
}

fn read_json<T: serde::de::DeserializeOwned>(
    part: &'static str,
    text: &[u8],
) -> Result<T, RegisterBrokerBodyError> {
    json::from_slice(text).map_err(|source| RegisterBrokerBodyError::Json { part, source })
}

/// What is left of an inflated body.
struct Parts<'a> {
    rest: &'a [u8],
    length: usize,
}

impl<'a> Parts<'a> {
    fn count(&mut self, part: &'static str) -> Result<usize, RegisterBrokerBodyError> {
        let truncated = self.truncated(part);
        let count = self.rest.try_get_u32().map_err(|_| truncated)?;
        Ok(count as usize)
    }

    fn block(&mut self, part: &'static str) -> Result<&'a [u8], RegisterBrokerBodyError> {
        let length = self.count(part)?;
        let (block, rest) = self.rest.split_at_checked(length).ok_or_else(|| self.truncated(part))?;
        self.rest = rest;
        Ok(block)
    }

    fn truncated(&self, part: &'static str) -> RegisterBrokerBodyError {
        RegisterBrokerBodyError::Truncated { part, at: self.length - self.rest.len(), length: self.length }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::DataVersion;

    fn registration() -> RegisterBrokerBody {
        let mut body = RegisterBrokerBody::default();
        let wrapper = &mut body.topic_config_serialize_wrapper;
        wrapper.data_version = DataVersion { counter: 3, state_version: 0, timestamp: 1_700_000_000_000 };
        for queues in 1..=3 {
            let topic = TopicConfig::new(format!("topic-{queues}"), queues, Perm::READ);
            wrapper.topic_config_table.insert(topic.topic_name.clone(), topic);
        }
        body
    }

    #[test]
    fn both_forms_are_told_apart_and_read_back() {
        let body = registration();
        assert_eq!(RegisterBrokerBody::decode(&body.encode_plain().unwrap()).unwrap(), body);
        assert_eq!(RegisterBrokerBody::decode(&body.encode_compressed().unwrap()).unwrap(), body);
    }

    #[test]
    fn a_registration_cut_anywhere_is_an_error() {
        let short = registration().encode_short().unwrap();
        let end = short.len() - 4; // the count of static topics is optional
        for cut in 0..end {
            let error = RegisterBrokerBody::decode_inflated(&short[..cut]).unwrap_err();
            assert!(matches!(error, RegisterBrokerBodyError::Truncated { .. }), "{cut}: {error}");
        }
        assert_eq!(RegisterBrokerBody::decode_inflated(&short[..end]).unwrap(), registration());
    }

    #[test]
    fn a_count_beyond_the_end_costs_nothing() {
        let mut short = Vec::new();
        put_block(&mut short, b"{}");
        short.put_u32(u32::MAX);
        let error = RegisterBrokerBody::decode_inflated(&short).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a broker registration ends within a topic at byte 10 of the inflated 10"
        );
    }

    #[test]
    fn what_inflates_beyond_the_limit_is_refused() {
        let body = registration().encode_compressed().unwrap();
        let length = registration().encode_short().unwrap().len() as u64;
        assert!(inflate(&body, length).is_ok());
        let error = inflate(&body, length - 1).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("a broker registration inflates to more than {} bytes", length - 1)
        );
    }

    #[test]
    fn a_topic_of_4_x_has_no_attributes_and_a_malformed_one_is_named() {
        let topic = read_topic(b"T 8 4 6 MULTI_TAG").unwrap();
        assert_eq!((topic.read_queue_nums, topic.write_queue_nums, topic.perm), (8, 4, Perm::READ_WRITE));
        assert!(topic.attributes.is_empty());
        for (text, field) in [
            ("", "a name"),
            ("T", "a number of read queues"),
            ("T 8 x", "a number of write queues"),
            ("T 8 8 99999999999", "permissions"),
            ("T 8 8 6 NO_TAG", "a filter type"),
        ] {
            let error = read_topic(text.as_bytes()).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("a broker registration has a topic without {field}: {text:?}")
            );
        }
    }
}
