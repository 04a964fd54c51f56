//! SQL92 filters: conditions on the properties of a message, as Java's `filter` module reads and evaluates them.
//!
//! An [`Expression`] is compiled once, when a consumer subscribes, and then applied to each message without allocating.
//! What it makes of every expression of `tests/golden/sql92.json` is what Java's own classes made of it.
//!
//! Loosest first: `OR`; `AND`; `=`, `<>`, `IS [NOT] NULL`; `<`, `<=`, `>`, `>=`, `[NOT] BETWEEN`, `[NOT] IN`, `[NOT] CONTAINS`,
//! `[NOT] STARTSWITH`, `[NOT] ENDSWITH`; unary `+`, `-`, `NOT`. So `NOT a = 5` is `(NOT a) = 5`. What follows a complete
//! expression and cannot continue it is ignored, as Java does it. Java: `filter/parser/SelectorParser.jj`.

mod bloom;
mod expression;
mod lexer;
mod parser;
mod value;

pub(crate) use bloom::BloomFilterData;
pub(crate) use expression::Expression;

/// Why an expression is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("SQL92 expression refused at character {at}: {reason}")]
pub(crate) struct FilterError {
    /// Where, in characters from 1.
    at: usize,
    reason: String,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Golden {
        messages: serde_json::Map<String, serde_json::Value>,
        expressions: Vec<Vec<String>>,
    }

    #[test]
    fn every_expression_is_refused_or_evaluated_as_java_does() {
        let golden: Golden = serde_json::from_str(include_str!("../../tests/golden/sql92.json")).unwrap();
        let messages: Vec<BTreeMap<String, String>> = ["full", "none", "odd"]
            .map(|name| serde_json::from_value(golden.messages[name].clone()).unwrap())
            .into();
        let mut wrong = Vec::new();
        for case in &golden.expressions {
            let (text, expected) = case.split_first().unwrap();
            let found: Vec<String> = match Expression::compile(text) {
                Ok(compiled) => messages
                    .iter()
                    .map(|message| compiled.outcome(|name| message.get(name).map(String::as_str)).to_owned())
                    .collect(),
                Err(_) => Vec::new(),
            };
            if found != expected {
                wrong.push(format!("{text:?}: {found:?}, Java: {expected:?}"));
            }
        }
        assert!(golden.expressions.len() > 1000);
        assert!(
            wrong.is_empty(),
            "{} of {} differ:\n{}",
            wrong.len(),
            golden.expressions.len(),
            wrong.join("\n")
        );
    }

    #[test]
    fn a_refusal_says_where_and_why() {
        for (text, expected) in [
            ("a > 3 AND", "at character 10: expected a value, found the end"),
            ("ä = 'x", "at character 1: `ä` belongs to no word of the language"),
            ("a = 'x", "at character 5: the text has no closing quote"),
            ("a > 3; drop", "at character 6: `;` belongs to no word of the language"),
            ("a > 'x'", "at character 5: only numbers and properties can be ordered"),
            ("a BETWEEN 9 AND 1", "at character 11: the lower bound is above the upper one"),
            ("a = NULL", "at character 5: nothing equals NULL; use IS NULL"),
            ("a IN (5)", "at character 7: expected a text in single quotes, found `5`"),
            ("(a > 3", "at character 7: expected `)`, found the end"),
            ("5", "at character 1: a condition or property is expected here"),
            ("a > 9223372036854775808", "at character 5: 9223372036854775808 is out of range"),
        ] {
            let refused = Expression::compile(text).unwrap_err().to_string();
            assert_eq!(refused, format!("SQL92 expression refused {expected}"), "{text}");
        }
    }

    #[test]
    fn neither_depth_nor_length_exhausts_the_stack() {
        let nested = |depth: usize| format!("{}a = 1{}", "(".repeat(depth), ")".repeat(depth));
        Expression::compile(&nested(40)).unwrap();
        for deep in
            [nested(30_000), format!("{}a", "NOT ".repeat(10_000)), format!("{}a", "-".repeat(10_000))]
        {
            let refused = Expression::compile(&deep).unwrap_err();
            assert!(refused.reason.contains("nested"), "{refused}");
        }
        let chain = format!("a{}", " = TRUE".repeat(5_000));
        assert!(Expression::compile(&chain).unwrap_err().reason.contains("nested"));
        let long = (0..3_000).map(|number| format!("a = {number}")).collect::<Vec<_>>().join(" OR ");
        assert!(Expression::compile(&long).unwrap().matches(|_| Some("2999")));
        assert!(Expression::compile(&"a = 1 OR ".repeat(100_000)).unwrap_err().reason.contains("limit"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_compiled_or_refused(text in "[a-c5. '()=<>ä;/*-]{0,40}|(NOT |a |5 |= |> |AND |OR |\\(|\\)|IN |IS |NULL |'x' |BETWEEN |-){0,20}") {
            if let Ok(compiled) = Expression::compile(&text) {
                compiled.matches(|name| (name == "a").then_some("5"));
            }
        }
    }
}
