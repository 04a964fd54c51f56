//! The printer: serde_json's, with the keys and escapes of fastjson.

use std::io::{self, Write};

use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::Serializer;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter};

/// How to print what JSON and fastjson do differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonStyle {
    /// As Java prints by default: integer keys are bare, keys that are objects stand as objects. Every Java release reads
    /// this, and before 4.9.4 they (and the Go client) expect it.
    Fastjson,
    /// Standard JSON in ASCII, as newer Java clients ask for with `acceptStandardJsonOnly`.
    Standard,
}

pub(super) fn print<T: Serialize + ?Sized>(value: &T, style: JsonStyle) -> serde_json::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(128);
    value.serialize(&mut Serializer::with_formatter(&mut out, Styled::new(style)))?;
    Ok(out)
}

/// Prints both styles: a formatter for each would compile every body twice. As fastjson, it holds each key back until
/// its end tells what it is.
struct Styled {
    style: JsonStyle,
    /// Between the beginning and the end of a key that is held back.
    in_key: bool,
    /// The key is an integer and is written already, without quotes.
    bare: bool,
    /// The text of the key so far, not escaped.
    key: String,
}

impl Styled {
    fn new(style: JsonStyle) -> Self {
        Self { style, in_key: false, bare: false, key: String::new() }
    }

    /// Before an integer is written.
    fn integer(&mut self) {
        self.bare = self.in_key;
    }
}

macro_rules! integers {
    ($($write:ident($number:ty);)*) => {$(
        fn $write<W: ?Sized + Write>(&mut self, out: &mut W, number: $number) -> io::Result<()> {
            self.integer();
            CompactFormatter.$write(out, number)
        }
    )*};
}

impl Formatter for Styled {
    integers! {
        write_i8(i8);
        write_i16(i16);
        write_i32(i32);
        write_i64(i64);
        write_u8(u8);
        write_u16(u16);
        write_u32(u32);
        write_u64(u64);
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.in_key = self.style == JsonStyle::Fastjson;
        self.bare = false;
        self.key.clear();
        CompactFormatter.begin_object_key(out, first)
    }

    fn end_object_key<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.in_key = false;
        Ok(())
    }

    fn begin_string<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        if self.in_key { Ok(()) } else { CompactFormatter.begin_string(out) }
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, text: &str) -> io::Result<()> {
        if self.in_key {
            self.key.push_str(text);
            return Ok(());
        }
        match self.style {
            JsonStyle::Fastjson => CompactFormatter.write_string_fragment(out, text),
            JsonStyle::Standard => write_ascii(out, text),
        }
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, out: &mut W, escape: CharEscape) -> io::Result<()> {
        if !self.in_key {
            return CompactFormatter.write_char_escape(out, escape);
        }
        self.key.push(match escape {
            CharEscape::Quote => '"',
            CharEscape::ReverseSolidus => '\\',
            CharEscape::Solidus => '/',
            CharEscape::Backspace => '\u{8}',
            CharEscape::FormFeed => '\u{c}',
            CharEscape::LineFeed => '\n',
            CharEscape::CarriageReturn => '\r',
            CharEscape::Tab => '\t',
            CharEscape::AsciiControl(code) => char::from(code),
        });
        Ok(())
    }

    fn end_string<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        if !self.in_key {
            return CompactFormatter.end_string(out);
        }
        if self.bare {
            return Ok(());
        }
        // Text that merely begins like an object (a configuration key, say) must not break the map around it.
        if self.key.starts_with('{') && serde_json::from_str::<IgnoredAny>(&self.key).is_ok() {
            return out.write_all(self.key.as_bytes());
        }
        serde_json::to_writer(out, &self.key).map_err(io::Error::from)
    }
}

/// Escapes whatever is not ASCII, UTF-16 unit by unit.
fn write_ascii<W: ?Sized + Write>(out: &mut W, text: &str) -> io::Result<()> {
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| !c.is_ascii()) {
        let (ascii, foreign) = rest.split_at(at);
        out.write_all(ascii.as_bytes())?;
        let end = foreign.find(|c: char| c.is_ascii()).unwrap_or(foreign.len());
        let (foreign, ascii) = foreign.split_at(end);
        for unit in foreign.encode_utf16() {
            write!(out, "\\u{unit:04X}")?;
        }
        rest = ascii;
    }
    out.write_all(rest.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn printed<T: Serialize>(value: &T, style: JsonStyle) -> String {
        String::from_utf8(print(value, style).unwrap()).unwrap()
    }

    #[test]
    fn integer_keys_are_bare_for_java_and_quoted_in_json() {
        let map = BTreeMap::from([(-1i64, vec!["x"]), (2, vec![])]);
        assert_eq!(printed(&map, JsonStyle::Fastjson), r#"{-1:["x"],2:[]}"#);
        assert_eq!(printed(&map, JsonStyle::Standard), r#"{"-1":["x"],"2":[]}"#);
    }

    #[test]
    fn a_key_is_an_object_only_if_it_really_is_one() {
        let map = BTreeMap::from([(r#"{"a":"\"\n"}"#, 1), ("{", 2), (r#"{}:0,"b""#, 3), ("\"\\\n\u{1}é", 4)]);
        assert_eq!(
            printed(&map, JsonStyle::Fastjson),
            r#"{"\"\\\n\u0001é":4,"{":2,{"a":"\"\n"}:1,"{}:0,\"b\"":3}"#
        );
        assert_eq!(
            printed(&map, JsonStyle::Standard),
            r#"{"\"\\\n\u0001\u00E9":4,"{":2,"{\"a\":\"\\\"\\n\"}":1,"{}:0,\"b\"":3}"#
        );
    }

    #[test]
    fn standard_json_is_ascii() {
        assert_eq!(printed(&"a标b😀", JsonStyle::Standard), r#""a\u6807b\uD83D\uDE00""#);
        assert_eq!(printed(&"a标b😀", JsonStyle::Fastjson), "\"a标b😀\"");
    }
}
