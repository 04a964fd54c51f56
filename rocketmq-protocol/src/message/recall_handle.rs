//! [`RecallHandle`]: what a timer message is taken back with.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::{GeneralPurposeConfig, URL_SAFE};

use super::MessageError;

/// The version that stands in front.
const VERSION: &str = "v1";

/// Padding is written, and not missed.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
);

/// A timer message and where it waits. As text: URL-safe base64, padded, of `v1 <topic> <broker> <due ms> <unique key>`.
/// Java: `common/producer/RecallMessageHandle.java`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RecallHandle {
    /// The topic that it was sent to.
    pub topic: String,
    /// Name of the broker that holds it.
    pub broker_name: String,
    /// When it is due, in milliseconds since 1970.
    pub deliver_ms: i64,
    /// Its unique key.
    pub unique_key: String,
}

impl fmt::Display for RecallHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, broker_name, deliver_ms, unique_key } = self;
        f.write_str(&URL_SAFE.encode(format!("{VERSION} {topic} {broker_name} {deliver_ms} {unique_key}")))
    }
}

impl FromStr for RecallHandle {
    type Err = MessageError;

    fn from_str(text: &str) -> Result<Self, MessageError> {
        parse(text).ok_or_else(|| MessageError::RecallHandle { text: text.chars().take(256).collect() })
    }
}

fn parse(text: &str) -> Option<RecallHandle> {
    let plain = String::from_utf8(LENIENT.decode(text).ok()?).ok()?;
    let mut parts = plain.split(' ');
    let (VERSION, topic, broker_name) = (parts.next()?, parts.next()?, parts.next()?) else { return None };
    let (deliver_ms, unique_key) = (parts.next()?.parse().ok()?, parts.next()?);
    if parts.next().is_some() || [topic, broker_name, unique_key].contains(&"") {
        return None;
    }
    Some(RecallHandle {
        topic: topic.to_owned(),
        broker_name: broker_name.to_owned(),
        deliver_ms,
        unique_key: unique_key.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn handles_survive_printing_and_parsing(
            topic in "[a-z%|_-]{1,20}", broker_name in "[a-z0-9-]{1,20}", deliver_ms: i64, unique_key in "[0-9A-F]{32}",
        ) {
            let handle = RecallHandle { topic, broker_name, deliver_ms, unique_key };
            let text = handle.to_string();
            prop_assert_eq!(text.parse(), Ok(handle.clone()));
            prop_assert_eq!(text.trim_end_matches('=').parse(), Ok(handle));
        }

        #[test]
        fn any_text_is_a_handle_or_an_error(text in "\\PC{0,80}") {
            drop(text.parse::<RecallHandle>());
        }
    }

    #[test]
    fn a_handle_is_the_text_that_java_makes() {
        // `RecallMessageHandle.HandleV1.buildHandle("T", "b", "1", "K")`
        let handle = RecallHandle {
            topic: "T".into(),
            broker_name: "b".into(),
            deliver_ms: 1,
            unique_key: "K".into(),
        };
        assert_eq!(handle.to_string(), "djEgVCBiIDEgSw==");
    }

    #[test]
    fn other_text_is_refused() {
        for plain in ["", "v2 T b 1 K", "v1 T b x K", "v1 T b 1", "v1 T b 1 K more", "v1  b 1 K"] {
            assert!(URL_SAFE.encode(plain).parse::<RecallHandle>().is_err(), "{plain}");
        }
        assert!("not base64!".parse::<RecallHandle>().is_err());
    }
}
