//! [`Lexer`]: an SQL92 expression word by word.

use super::FilterError;

/// One word of the language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'s> {
    Keyword(Keyword),
    /// Name of a property.
    Name(&'s str),
    /// Digits without the `L` that may follow them.
    Integer(&'s str),
    Float(&'s str),
    /// What stands between the quotes; inner quotes are still doubled.
    Text(&'s str),
    /// One of `= <> > >= < <= ( ) , + -`.
    Symbol(&'static str),
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword {
    Not,
    And,
    Or,
    Between,
    In,
    True,
    False,
    Null,
    Is,
    Contains,
    StartsWith,
    EndsWith,
}

const KEYWORDS: [(&str, Keyword); 12] = [
    ("NOT", Keyword::Not),
    ("AND", Keyword::And),
    ("OR", Keyword::Or),
    ("BETWEEN", Keyword::Between),
    ("IN", Keyword::In),
    ("TRUE", Keyword::True),
    ("FALSE", Keyword::False),
    ("NULL", Keyword::Null),
    ("IS", Keyword::Is),
    ("CONTAINS", Keyword::Contains),
    ("STARTSWITH", Keyword::StartsWith),
    ("ENDSWITH", Keyword::EndsWith),
];

/// The longer ones first.
const SYMBOLS: [&str; 11] = ["<>", ">=", "<=", "=", ">", "<", "(", ")", ",", "+", "-"];

/// A word and where it starts, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Located<'s> {
    pub(super) token: Token<'s>,
    pub(super) at: usize,
    /// As it is written.
    pub(super) text: &'s str,
}

/// Reads word by word, so that what nobody asks for may be anything.
pub(super) struct Lexer<'s> {
    text: &'s str,
    at: usize,
}

impl<'s> Lexer<'s> {
    pub(super) fn new(text: &'s str) -> Self {
        Self { text, at: 0 }
    }

    /// An error at a byte of the text.
    pub(super) fn refuse(&self, at: usize, reason: impl Into<String>) -> FilterError {
        let before = self.text.get(..at).unwrap_or(self.text);
        FilterError { at: before.chars().count() + 1, reason: reason.into() }
    }

    pub(super) fn next(&mut self) -> Result<Located<'s>, FilterError> {
        self.skip_blanks();
        let (at, rest) = (self.at, self.rest());
        let Some(first) = rest.chars().next() else {
            return Ok(Located { token: Token::End, at, text: "" });
        };
        let (token, len) = if is_name_start(first) {
            name(rest)
        } else if let Some(number) = number(rest) {
            number
        } else if first == '\'' {
            text(rest).ok_or_else(|| self.refuse(at, "the text has no closing quote"))?
        } else {
            let symbol = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol));
            let symbol = symbol
                .ok_or_else(|| self.refuse(at, format!("`{first}` belongs to no word of the language")))?;
            (Token::Symbol(symbol), symbol.len())
        };
        self.at += len;
        Ok(Located { token, at, text: rest.get(..len).unwrap_or(rest) })
    }

    fn rest(&self) -> &'s str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Skips blanks and comments. A line comment needs the end of its line; without it, it is two minus signs.
    fn skip_blanks(&mut self) {
        loop {
            let rest = self.rest();
            let blanks = rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r', '\x0c']).len();
            let comment = if rest.starts_with("--") {
                rest.find(['\n', '\r']).map_or(0, |end| end + 1)
            } else if let Some(comment) = rest.strip_prefix("/*") {
                comment.find("*/").map_or(0, |end| end + 4)
            } else {
                0
            };
            if blanks + comment == 0 {
                return;
            }
            self.at += blanks.max(comment);
        }
    }
}

fn is_name_start(char: char) -> bool {
    char.is_ascii_alphabetic() || char == '_' || char == '$'
}

fn name(rest: &str) -> (Token<'_>, usize) {
    let len = rest.find(|char: char| !is_name_start(char) && !char.is_ascii_digit()).unwrap_or(rest.len());
    let word = rest.get(..len).unwrap_or(rest);
    let keyword = KEYWORDS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name));
    (keyword.map_or(Token::Name(word), |(_, keyword)| Token::Keyword(*keyword)), len)
}

/// The longest number at the start: a float where there is one, else an integer, which has no leading zeros.
fn number(rest: &str) -> Option<(Token<'_>, usize)> {
    let digits = |from: usize| {
        let rest = rest.as_bytes().get(from..).unwrap_or_default();
        rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
    };
    let byte = |at: usize| rest.as_bytes().get(at).copied().unwrap_or_default();
    let whole = digits(0);
    let mut end = whole;
    let mut float = false;
    if byte(whole) == b'.' {
        let fraction = digits(whole + 1);
        if whole + fraction == 0 {
            return None;
        }
        (end, float) = (whole + 1 + fraction, true);
    } else if whole == 0 {
        return None;
    }
    if byte(end).eq_ignore_ascii_case(&b'e') {
        let sign = usize::from(matches!(byte(end + 1), b'+' | b'-'));
        let exponent = digits(end + 1 + sign);
        if exponent > 0 {
            (end, float) = (end + 1 + sign + exponent, true);
        }
    }
    if float {
        return Some((Token::Float(rest.get(..end)?), end));
    }
    let len = if byte(0) == b'0' { 1 } else { whole };
    let suffix = usize::from(byte(0) != b'0' && byte(len).eq_ignore_ascii_case(&b'l'));
    Some((Token::Integer(rest.get(..len)?), len + suffix))
}

/// The longest quoted text at the start; a doubled quote does not end it, unless nothing else does.
fn text(rest: &str) -> Option<(Token<'_>, usize)> {
    let bytes = rest.as_bytes();
    let (mut at, mut end) = (1, None);
    while let Some(quote) = bytes.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == b'\'')) {
        end = Some(at + quote);
        if bytes.get(at + quote + 1) != Some(&b'\'') {
            break;
        }
        at += quote + 2;
    }
    let end = end?;
    Some((Token::Text(rest.get(1..end)?), end + 1))
}
