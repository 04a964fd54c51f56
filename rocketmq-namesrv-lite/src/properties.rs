//! Java `.properties` files, as name server and broker are configured with.
//!
//! A line is `key=value`, `key: value` or `key value`; `#` and `!` begin a comment; a backslash at the end continues the
//! line, elsewhere it escapes (`\t`, `\n`, `\r`, `\f`, `\uXXXX`, or the character itself). Text is UTF-8. Source:
//! `java.util.Properties.load`.

use std::io;
use std::iter::Peekable;
use std::path::{Path, PathBuf};
use std::str::{Chars, FromStr};

/// The entries of a file, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    entries: Vec<Property>,
}

/// One `key=value` and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    line: usize,
    key: String,
    value: String,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PropertiesError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A `\u` without four hex digits.
    #[error("line {line}: \\u is not followed by four hex digits")]
    Escape {
        /// Where the entry begins, counted from 1.
        line: usize,
    },
    /// A value that its key cannot have.
    #[error("line {line}: {key} is {value:?}, expected {expected}")]
    Value {
        /// Where, counted from 1.
        line: usize,
        /// The key.
        key: String,
        /// What stands there.
        value: String,
        /// What should.
        expected: &'static str,
    },
    /// A key that nobody knows.
    #[error("line {line}: nobody knows the key {key:?}{}", suggested(*suggestion))]
    UnknownKey {
        /// Where, counted from 1.
        line: usize,
        /// The key.
        key: String,
        /// A known key that differs little.
        suggestion: Option<&'static str>,
    },
}

fn suggested(key: Option<&str>) -> String {
    key.map(|key| format!("; did you mean {key}?")).unwrap_or_default()
}

impl Properties {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, is not UTF-8, or has a malformed escape.
    pub fn read(path: &Path) -> Result<Self, PropertiesError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| PropertiesError::Read { path: path.to_owned(), source })?;
        Self::parse(&text)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// A malformed escape.
    pub fn parse(text: &str) -> Result<Self, PropertiesError> {
        let mut entries = Vec::new();
        let mut lines = (1..).zip(text.lines());
        while let Some((line, logical)) = next_logical_line(&mut lines) {
            let mut chars = logical.chars().peekable();
            let key = unescape(&mut chars, line, |c| matches!(c, '=' | ':') || is_blank(c))?;
            skip_blanks(&mut chars);
            if chars.next_if(|&c| matches!(c, '=' | ':')).is_some() {
                skip_blanks(&mut chars);
            }
            let value = unescape(&mut chars, line, |_| false)?;
            entries.push(Property { line, key, value });
        }
        Ok(Self { entries })
    }

    /// The entries in the order of the file. Of two with the same key, the later one counts.
    pub fn iter(&self) -> impl Iterator<Item = &Property> {
        self.entries.iter()
    }
}

impl Property {
    /// Where it begins in the file, counted from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// The key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The value as it stands.
    pub fn text(&self) -> &str {
        &self.value
    }

    /// The value as a number, or anything else that parses; `expected` says what, with its unit.
    ///
    /// # Errors
    /// It does not parse.
    pub fn parsed<T: FromStr>(&self, expected: &'static str) -> Result<T, PropertiesError> {
        self.value.trim().parse().map_err(|_| self.refused(expected))
    }

    /// The value as `true` or `false`, in any case. Unlike Java's reader, nothing else passes for false.
    ///
    /// # Errors
    /// It is neither.
    pub fn boolean(&self) -> Result<bool, PropertiesError> {
        let value = self.value.trim();
        match (value.eq_ignore_ascii_case("true"), value.eq_ignore_ascii_case("false")) {
            (true, _) => Ok(true),
            (_, true) => Ok(false),
            _ => Err(self.refused("true or false")),
        }
    }

    /// The error for a value that does not do.
    pub fn refused(&self, expected: &'static str) -> PropertiesError {
        let Self { line, key, value } = self.clone();
        PropertiesError::Value { line, key, value, expected }
    }

    /// The error for a key that is not among the known ones.
    pub fn unknown(&self, known: impl IntoIterator<Item = &'static str>) -> PropertiesError {
        let close = known.into_iter().map(|known| (edit_distance(&self.key, known), known)).min();
        let suggestion =
            close.filter(|(distance, known)| distance * 3 <= known.len()).map(|(_, known)| known);
        PropertiesError::UnknownKey { line: self.line, key: self.key.clone(), suggestion }
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{c}')
}

fn skip_blanks(chars: &mut Peekable<Chars<'_>>) {
    while chars.next_if(|&c| is_blank(c)).is_some() {}
}

/// The next line that is neither blank nor a comment, with those it continues on.
fn next_logical_line<'a>(lines: &mut impl Iterator<Item = (usize, &'a str)>) -> Option<(usize, String)> {
    let (number, first) = lines
        .map(|(number, line)| (number, line.trim_start_matches(is_blank)))
        .find(|(_, line)| !line.is_empty() && !line.starts_with(['#', '!']))?;
    let mut logical = first.to_owned();
    while continues(&logical) {
        logical.pop();
        match lines.next() {
            Some((_, more)) => logical.push_str(more.trim_start_matches(is_blank)),
            None => break,
        }
    }
    Some((number, logical))
}

/// Whether a line ends in a backslash that is not itself escaped.
fn continues(line: &str) -> bool {
    line.bytes().rev().take_while(|&byte| byte == b'\\').count() % 2 == 1
}

fn unescape(
    chars: &mut Peekable<Chars<'_>>,
    line: usize,
    ends: impl Fn(char) -> bool,
) -> Result<String, PropertiesError> {
    let mut units = Vec::new();
    while let Some(c) = chars.next_if(|&c| !ends(c)) {
        let literal = match c {
            '\\' => match chars.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\u{c}',
                Some('u') => {
                    units.push(utf16_unit(chars).ok_or(PropertiesError::Escape { line })?);
                    continue;
                }
                Some(other) => other,
                None => break,
            },
            c => c,
        };
        units.extend_from_slice(literal.encode_utf16(&mut [0; 2]));
    }
    Ok(String::from_utf16_lossy(&units))
}

/// Four hex digits.
fn utf16_unit(chars: &mut Peekable<Chars<'_>>) -> Option<u16> {
    let mut unit = 0;
    for _ in 0..4 {
        unit = unit << 4 | chars.next()?.to_digit(16)?;
    }
    u16::try_from(unit).ok()
}

/// Letters to insert, delete or replace to make one word the other, in any case.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_ascii_lowercase(), b.to_ascii_lowercase());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let best = (diagonal + usize::from(x != y)).min(left + 1).min(*cell + 1);
            diagonal = std::mem::replace(cell, best);
            left = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<(usize, String, String)> {
        let entries = Properties::parse(text).unwrap().entries;
        entries.into_iter().map(|Property { line, key, value }| (line, key, value)).collect()
    }

    fn entry(line: usize, key: &str, value: &str) -> (usize, String, String) {
        (line, key.to_owned(), value.to_owned())
    }

    #[test]
    fn separators_comments_and_blanks_are_javas() {
        let text = "# comment\n  ! comment\n\n a=1\nb : 2\nc 3\n\td\t=\t4 \ne\nf=\n=g\nh==\n";
        assert_eq!(
            parsed(text),
            [
                entry(4, "a", "1"),
                entry(5, "b", "2"),
                entry(6, "c", "3"),
                entry(7, "d", "4 "),
                entry(8, "e", ""),
                entry(9, "f", ""),
                entry(10, "", "g"),
                entry(11, "h", "="),
            ]
        );
    }

    #[test]
    fn a_backslash_escapes_or_continues() {
        assert_eq!(parsed("k\\ =a\\tb\\\\"), [entry(1, "k ", "a\tb\\")]);
        assert_eq!(
            parsed("k=a,\\\n   b,\\\r\n# no comment\nl=\\u6807\\uD83D\\uDE00\\q"),
            [entry(1, "k", "a,b,# no comment"), entry(4, "l", "标😀q")]
        );
        assert_eq!(parsed("k=v\\"), [entry(1, "k", "v")]);
        assert_eq!(parsed("k=a\\\\\nl=1"), [entry(1, "k", "a\\"), entry(2, "l", "1")]);
        let error = Properties::parse("a=1\nb=\\u12g4").unwrap_err();
        assert_eq!(error.to_string(), "line 2: \\u is not followed by four hex digits");
        assert!(Properties::parse("b=\\u12").is_err());
    }

    #[test]
    fn values_are_read_as_they_are_meant_or_refused_with_their_line() {
        let properties = Properties::parse("a = 12 \nb=TRUE\nc=yes").unwrap();
        let [a, b, c] = properties.entries.as_slice() else { panic!() };
        assert_eq!(a.parsed::<u16>("a number").unwrap(), 12);
        assert!(b.boolean().unwrap());
        assert_eq!(c.boolean().unwrap_err().to_string(), r#"line 3: c is "yes", expected true or false"#);
        assert_eq!(
            b.parsed::<u16>("a port").unwrap_err().to_string(),
            r#"line 2: b is "TRUE", expected a port"#
        );
    }

    #[test]
    fn an_unknown_key_gets_the_known_one_that_is_near() {
        let properties = Properties::parse("listenprot=1\nelsewhere=1").unwrap();
        let unknown: Vec<_> = properties
            .iter()
            .map(|property| property.unknown(["listenPort", "bindAddress"]).to_string())
            .collect();
        assert_eq!(
            unknown,
            [
                r#"line 1: nobody knows the key "listenprot"; did you mean listenPort?"#,
                r#"line 2: nobody knows the key "elsewhere""#,
            ]
        );
    }

    #[test]
    fn an_unreadable_file_is_named() {
        let error = Properties::read(Path::new("/nowhere/x.conf")).unwrap_err();
        assert_eq!(error.to_string(), "cannot read /nowhere/x.conf");
    }
}
