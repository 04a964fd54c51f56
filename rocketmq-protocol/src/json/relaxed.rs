//! The reader's first step: one pass over the text that makes strict JSON of what fastjson prints.
//!
//! It knows brackets, strings and who is a key; whether the scalars are right is left to serde_json.

use std::borrow::Cow;

use super::{JsonError, MAX_DEPTH, MAX_TEXT_BYTES};

pub(super) struct Relaxed<'a> {
    /// Strict JSON; borrowed when the text was strict already.
    pub(super) text: Cow<'a, str>,
    /// Whether there is a member `$ref`.
    pub(super) has_references: bool,
}

/// Makes strict JSON: bare and single-quoted keys are quoted, keys that are objects become their own text, single-quoted
/// strings double-quoted, and members that are `null` are left out, since for a fastjson reader they are missing.
pub(super) fn relax(text: &[u8]) -> Result<Relaxed<'_>, JsonError> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(JsonError::TooLong { length: text.len(), limit: MAX_TEXT_BYTES });
    }
    let text = std::str::from_utf8(text).map_err(|error| JsonError::NotUtf8 { at: error.valid_up_to() })?;
    Relaxer {
        text,
        at: 0,
        copied: 0,
        out: String::new(),
        open: Vec::new(),
        key_object: None,
        has_references: false,
    }
    .run()
}

struct Relaxer<'a> {
    text: &'a str,
    /// The next byte to look at.
    at: usize,
    /// What is before is in `out`, or was left out.
    copied: usize,
    /// Stays empty while nothing had to be changed.
    out: String,
    /// The brackets that are open.
    open: Vec<Open>,
    /// How many are open outside of the key that is an object, when inside of one.
    key_object: Option<usize>,
    has_references: bool,
}

enum Open {
    Array,
    Object(Member),
}

/// Where an object's current member stands.
#[derive(Clone, Copy)]
struct Member {
    next: Next,
    /// Whether an earlier member was kept, so that this one begins with its comma.
    follows: bool,
    /// `at`, `copied` and the length of `out` when the member began: what to go back to if it is left out.
    start: (usize, usize, usize),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Key,
    Value,
    Comma,
}

impl<'a> Relaxer<'a> {
    fn run(mut self) -> Result<Relaxed<'a>, JsonError> {
        loop {
            self.skip_blanks();
            let Some(byte) = self.peek() else { break };
            match (self.next(), byte) {
                (_, b'}' | b']') => self.close(byte)?,
                (Some(Next::Key), _) => self.key(byte)?,
                (Some(Next::Comma), b',') => self.next_member(),
                (Some(Next::Comma), _) => return Err(self.malformed("comma or end of object")),
                (_, b'{' | b'[') => self.open(byte)?,
                (_, b'"') => {
                    self.string()?;
                    self.value_ended();
                }
                (_, b'\'') => {
                    self.single_quoted()?;
                    self.value_ended();
                }
                (None, b',' | b':') => self.at += 1,
                (_, _) => self.scalar()?,
            }
        }
        if !self.open.is_empty() {
            return Err(self.malformed("closing bracket"));
        }
        let text = if self.copied == 0 {
            Cow::Borrowed(self.text)
        } else {
            self.copy_up_to(self.text.len());
            Cow::Owned(self.out)
        };
        Ok(Relaxed { text, has_references: self.has_references })
    }

    fn open(&mut self, bracket: u8) -> Result<(), JsonError> {
        if self.open.len() == MAX_DEPTH {
            return Err(JsonError::TooDeep { at: self.at, limit: MAX_DEPTH });
        }
        self.at += 1;
        let opened = match bracket {
            b'[' => Open::Array,
            _ => Open::Object(Member { next: Next::Key, follows: false, start: self.here() }),
        };
        self.open.push(opened);
        Ok(())
    }

    fn close(&mut self, bracket: u8) -> Result<(), JsonError> {
        match (self.open.pop(), bracket) {
            (Some(Open::Array), b']') => {}
            (Some(Open::Object(member)), b'}') if member.next != Next::Value => {}
            _ => return Err(self.malformed("value before this bracket")),
        }
        self.at += 1;
        if self.key_object == Some(self.open.len()) {
            self.copy_up_to(self.at);
            self.key_object = None;
            self.out.push('"');
            return self.key_ended();
        }
        self.value_ended();
        Ok(())
    }

    fn key(&mut self, byte: u8) -> Result<(), JsonError> {
        match byte {
            b'"' => {
                let start = self.at;
                self.string()?;
                self.has_references |= self.text.get(start..self.at) == Some("\"$ref\"");
            }
            b'\'' => self.single_quoted()?,
            // Each level of keys in keys would double the escapes.
            b'{' if self.key_object.is_none() => {
                self.copy_up_to(self.at);
                self.out.push('"');
                self.key_object = Some(self.open.len());
                return self.open(byte);
            }
            _ => {
                let key = self.bare()?;
                self.copy_up_to(self.at - key.len());
                self.put("\"");
                self.put(key);
                self.put("\"");
                self.copied = self.at;
            }
        }
        self.key_ended()
    }

    fn key_ended(&mut self) -> Result<(), JsonError> {
        self.skip_blanks();
        if self.peek() != Some(b':') {
            return Err(self.malformed("colon after a key"));
        }
        self.at += 1;
        if let Some(Open::Object(member)) = self.open.last_mut() {
            member.next = Next::Value;
        }
        Ok(())
    }

    fn value_ended(&mut self) {
        if let Some(Open::Object(member)) = self.open.last_mut() {
            member.next = Next::Comma;
            member.follows = true;
        }
    }

    /// At the comma after a member.
    fn next_member(&mut self) {
        let follows = matches!(self.open.last(), Some(Open::Object(Member { follows: true, .. })));
        if !follows {
            self.copy_up_to(self.at);
            self.copied = self.at + 1;
        }
        let start = if follows { self.here() } else { (self.at + 1, self.copied, self.out.len()) };
        self.at += 1;
        if let Some(Open::Object(member)) = self.open.last_mut() {
            *member = Member { next: Next::Key, follows, start };
        }
    }

    /// A value that is neither string nor bracket.
    fn scalar(&mut self) -> Result<(), JsonError> {
        let scalar = self.bare()?;
        match self.open.last_mut() {
            Some(Open::Object(member)) if scalar == "null" => {
                member.next = Next::Comma;
                let (start, copied, out) = member.start;
                self.out.truncate(out);
                self.copied = copied;
                self.copy_up_to(start);
                self.copied = self.at;
            }
            _ => self.value_ended(),
        }
        Ok(())
    }

    /// A run of anything but blanks and what has a meaning.
    fn bare(&mut self) -> Result<&'a str, JsonError> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let end = rest
            .find(|c: char| {
                c.is_ascii_whitespace() || matches!(c, ',' | ':' | '{' | '}' | '[' | ']' | '"' | '\'')
            })
            .unwrap_or(rest.len());
        let (run, _) = rest.split_at(end);
        if run.is_empty() {
            return Err(self.malformed("key or value"));
        }
        self.at += run.len();
        Ok(run)
    }

    fn string(&mut self) -> Result<(), JsonError> {
        let mut bytes = self.text.bytes().enumerate().skip(self.at + 1);
        while let Some((at, byte)) = bytes.next() {
            match byte {
                b'\\' => {
                    bytes.next();
                }
                b'"' => {
                    self.at = at + 1;
                    return Ok(());
                }
                _ => {}
            }
        }
        Err(self.malformed("end of this string"))
    }

    fn single_quoted(&mut self) -> Result<(), JsonError> {
        self.copy_up_to(self.at);
        let mut string = String::from('"');
        let rest = self.text.get(self.at + 1..).unwrap_or_default();
        let mut chars = rest.char_indices();
        while let Some((at, char)) = chars.next() {
            match char {
                '\'' => {
                    string.push('"');
                    self.put(&string);
                    self.at += at + 2;
                    self.copied = self.at;
                    return Ok(());
                }
                '"' => string.push_str("\\\""),
                '\\' => match chars.next() {
                    Some((_, '\'')) => string.push('\''),
                    Some((_, escaped)) => string.extend(['\\', escaped]),
                    None => break,
                },
                _ => string.push(char),
            }
        }
        Err(self.malformed("end of this string"))
    }

    fn next(&self) -> Option<Next> {
        match self.open.last() {
            Some(Open::Object(member)) => Some(member.next),
            _ => None,
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn here(&self) -> (usize, usize, usize) {
        (self.at, self.copied, self.out.len())
    }

    fn copy_up_to(&mut self, end: usize) {
        let piece = self.text.get(self.copied..end).unwrap_or_default();
        self.put(piece);
        self.copied = end;
    }

    /// Appends strict JSON, escaped once more inside of a key.
    fn put(&mut self, piece: &str) {
        if self.key_object.is_none() {
            return self.out.push_str(piece);
        }
        for char in piece.chars() {
            match char {
                '"' | '\\' => self.out.extend(['\\', char]),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                _ => self.out.push(char),
            }
        }
    }

    fn malformed(&self, expected: &'static str) -> JsonError {
        JsonError::Malformed { expected, at: self.at }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;
    use crate::json::{JsonStyle, from_slice, to_bytes};

    fn relaxed(text: &str) -> String {
        relax(text.as_bytes()).map_or_else(|error| error.to_string(), |relaxed| relaxed.text.into_owned())
    }

    #[test]
    fn strict_text_is_not_copied() {
        for text in ["", " 1 ", r#"{"a":[{},[],null,"\\\"{'"],"b":{"c":-1.5e3}}"#, "[\"标\"]"] {
            assert!(
                matches!(relax(text.as_bytes()).unwrap().text, Cow::Borrowed(same) if same == text),
                "{text}"
            );
        }
    }

    #[test]
    fn bare_keys_are_quoted() {
        assert_eq!(relaxed(r#"{0:"a", -1 :"b",x_y:{2:3}}"#), r#"{"0":"a", "-1" :"b","x_y":{"2":3}}"#);
    }

    #[test]
    fn a_key_that_is_an_object_becomes_its_text() {
        assert_eq!(
            relaxed(r#"{{"b":"x\"y",0:'z',"n":null}:1,{"q":[{}]} : {{}:2}}"#),
            r#"{"{\"b\":\"x\\\"y\",\"0\":\"z\"}":1,"{\"q\":[{}]}" : {"{}":2}}"#
        );
        assert_eq!(relaxed(r#"{{"a":{{"b":1}:2}}:3}"#), "JSON has no key or value at byte 7");
    }

    #[test]
    fn single_quotes_become_double() {
        assert_eq!(relaxed(r#"{'a"b':'it\'s \\ \n'}"#), r#"{"a\"b":"it's \\ \n"}"#);
    }

    #[test]
    fn null_members_vanish_with_one_comma() {
        for (text, strict) in [
            (r#"{"a":null}"#, "{}"),
            (r#"{"a":null,"b":1}"#, r#"{"b":1}"#),
            (r#"{"b":1,"a":null}"#, r#"{"b":1}"#),
            (r#"{"a":null,0:null,"b":1,{"c":null}:null,'d':null,"e":2}"#, r#"{"b":1,"e":2}"#),
            (r#"{0:{"a":null},"b":[null,{"c":null,"d":3}]}"#, r#"{"0":{},"b":[null,{"d":3}]}"#),
            ("null", "null"),
        ] {
            assert_eq!(relaxed(text), strict);
        }
    }

    #[test]
    fn what_is_no_fastjson_text_either_is_named_with_its_place() {
        for (text, error) in [
            (r#"{"a""#, "JSON has no colon after a key at byte 4"),
            ("{,}", "JSON has no key or value at byte 1"),
            (r#"{"a":}"#, "JSON has no value before this bracket at byte 5"),
            (r#"{"a":1 2}"#, "JSON has no comma or end of object at byte 7"),
            ("[1}", "JSON has no value before this bracket at byte 2"),
            ("]", "JSON has no value before this bracket at byte 0"),
            (r#"["a"#, "JSON has no end of this string at byte 1"),
            (r"['a\'", "JSON has no end of this string at byte 1"),
            ("[", "JSON has no closing bracket at byte 1"),
        ] {
            assert_eq!(relaxed(text), error, "{text}");
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((any::<String>(), inner), 0..6)
                    .prop_map(|members| Value::from(Map::from_iter(members))),
            ]
        })
    }

    /// Text of whatever means something to the reader, in any order.
    fn any_near_miss() -> impl Strategy<Value = String> {
        let token = prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "null",
            "0",
            "-",
            "\"",
            "'",
            "\\",
            " ",
            "\n",
            "标",
            "'a'",
            "\"b\"",
            "{}:",
            "{\"c\":null}",
            "\"$ref\"",
            "\"$.b[0]\"",
            "{\"$ref\":\"$.b\"}",
        ]);
        prop::collection::vec(token, 0..24).prop_map(|tokens| tokens.concat())
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            _ = from_slice::<Value>(&bytes);
        }

        #[test]
        fn a_near_miss_never_panics(text in any_near_miss()) {
            _ = from_slice::<Value>(text.as_bytes());
        }

        #[test]
        fn any_strict_json_passes_unchanged(value in any_json()) {
            let text = value.to_string();
            prop_assert!(matches!(relax(text.as_bytes()).unwrap().text, Cow::Borrowed(same) if same == text));
        }

        #[test]
        fn what_either_style_prints_reads_back(
            value in any_json(),
            numbered in prop::collection::btree_map(any::<i64>(), any::<String>(), 0..4),
        ) {
            for style in [JsonStyle::Fastjson, JsonStyle::Standard] {
                let text = to_bytes(&value, style).unwrap();
                prop_assert_eq!(&from_slice::<Value>(&text).unwrap(), &value);
                let text = to_bytes(&numbered, style).unwrap();
                prop_assert_eq!(&from_slice::<BTreeMap<i64, String>>(&text).unwrap(), &numbered);
            }
        }
    }
}
