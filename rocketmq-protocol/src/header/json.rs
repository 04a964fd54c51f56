//! The JSON header. Java prints its members alphabetically and without white space; readers take any order, numbers
//! and booleans where text is usual, and members they do not know.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::{Encoding, FieldWriter, Head, HeaderError, HeaderFields};
use crate::fields::{Fields, FieldsBuffer};
use crate::{ByteString, Language, Opaque, Version};

pub(super) fn encode(out: &mut Vec<u8>, head: &Head, fields: &dyn HeaderFields) {
    out.extend_from_slice(b"{\"code\":");
    put_integer(out, head.code);
    let before = out.len();
    out.extend_from_slice(b",\"extFields\":{");
    let empty = out.len();
    fields.write_fields(&mut FieldWriter::new(out, Encoding::Json));
    if out.len() == empty {
        out.truncate(before);
    } else {
        out.push(b'}');
    }
    out.extend_from_slice(b",\"flag\":");
    put_integer(out, head.flag);
    out.extend_from_slice(b",\"language\":\"");
    out.extend_from_slice(head.language.name().unwrap_or("OTHER").as_bytes());
    out.extend_from_slice(b"\",\"opaque\":");
    put_integer(out, head.opaque.get());
    if let Some(remark) = &head.remark {
        out.extend_from_slice(b",\"remark\":");
        put_string(out, remark);
    }
    out.extend_from_slice(b",\"serializeTypeCurrentRPC\":\"JSON\",\"version\":");
    put_integer(out, head.version.get());
    out.push(b'}');
}

fn put_integer(out: &mut Vec<u8>, value: i32) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

pub(super) fn begin_field(out: &mut Vec<u8>, name: &str, first: bool) {
    if !first {
        out.push(b',');
    }
    put_string(out, name);
    out.push(b':');
}

pub(super) fn put_string(out: &mut Vec<u8>, text: &str) {
    if text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else if serde_json::to_writer(out, text).is_err() {
        unreachable!("text is always JSON, and the buffer grows");
    }
}

pub(super) fn decode(header: &[u8], scratch: &mut FieldsBuffer) -> Result<(Head, Fields), HeaderError> {
    scratch.clear(); // what a malformed header before this one may have left
    // As text, looked at once; as bytes, each string would be looked at for itself.
    let header = std::str::from_utf8(header).map_err(|_| HeaderError::Utf8)?;
    let mut json = serde_json::Deserializer::from_str(header);
    let head = HeadSeed(scratch)
        .deserialize(&mut json)
        .and_then(|head| json.end().map(|()| head))
        .map_err(|error| HeaderError::Json(error.to_string()))?;
    Ok((head, scratch.take()))
}

struct HeadSeed<'a>(&'a mut FieldsBuffer);

impl<'de> DeserializeSeed<'de> for HeadSeed<'_> {
    type Value = Head;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Head, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for HeadSeed<'_> {
    type Value = Head;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a header object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Head, A::Error> {
        let mut head = Head {
            code: 0,
            language: Language::OTHER,
            version: Version::new(0),
            opaque: Opaque::ZERO,
            flag: 0,
            remark: None,
        };
        let mut code = None;
        while let Some(member) = map.next_key::<Member>()? {
            match member {
                Member::Code => code = Some(map.next_value()?),
                Member::Flag => head.flag = map.next_value()?,
                Member::Opaque => head.opaque = map.next_value()?,
                Member::Version => head.version = Version::new(map.next_value()?),
                Member::Language => head.language = map.next_value::<AnyLanguage>()?.0,
                Member::Remark => head.remark = map.next_value::<Option<ByteString>>()?,
                Member::ExtFields => map.next_value_seed(FieldsSeed(self.0))?,
                Member::Unknown => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        head.code = code.ok_or_else(|| A::Error::missing_field("code"))?;
        Ok(head)
    }
}

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum Member {
    Code,
    ExtFields,
    Flag,
    Language,
    Opaque,
    Remark,
    Version,
    #[serde(other)]
    Unknown,
}

/// A language by name; some old clients sent the number.
struct AnyLanguage(Language);

impl<'de> serde::Deserialize<'de> for AnyLanguage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyLanguageVisitor;

        impl Visitor<'_> for AnyLanguageVisitor {
            type Value = AnyLanguage;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a language name")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<AnyLanguage, E> {
                Ok(AnyLanguage(Language::from_name(name)))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<AnyLanguage, E> {
                Ok(AnyLanguage(u8::try_from(number).map_or(Language::OTHER, Language::new)))
            }

            fn visit_unit<E: Error>(self) -> Result<AnyLanguage, E> {
                Ok(AnyLanguage(Language::OTHER))
            }
        }

        deserializer.deserialize_any(AnyLanguageVisitor)
    }
}

/// Reads `extFields` into the compact layout.
struct FieldsSeed<'a>(&'a mut FieldsBuffer);

impl<'de> DeserializeSeed<'de> for FieldsSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FieldsSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of fields")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        loop {
            let mark = self.0.mark();
            if map.next_key_seed(NameSeed(self.0))?.is_none() {
                return Ok(());
            }
            if !map.next_value_seed(ValueSeed(self.0))? {
                self.0.truncate(mark);
            }
        }
    }
}

struct NameSeed<'a>(&'a mut FieldsBuffer);

impl<'de> DeserializeSeed<'de> for NameSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NameSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<(), E> {
        if name.len() > usize::from(u16::MAX) {
            return Err(E::custom("field name longer than 65535 bytes"));
        }
        self.0.begin(name);
        Ok(())
    }
}

/// Reads a value as text; false for `null`.
struct ValueSeed<'a>(&'a mut FieldsBuffer);

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for ValueSeed<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field value")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<bool, E> {
        self.0.value(text);
        Ok(true)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<bool, E> {
        self.visit_str(itoa::Buffer::new().format(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<bool, E> {
        self.visit_str(itoa::Buffer::new().format(number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<bool, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<bool, E> {
        self.visit_str(if value { "true" } else { "false" })
    }

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        Ok(false)
    }
}
