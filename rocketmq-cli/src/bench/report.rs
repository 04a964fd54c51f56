//! [`Report`]: the result of a measurement, as a table or as one JSON object.

use std::io::{Write, stdout};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::tally::Tally;
use super::verify::Verdict;
use crate::{Failure, Outcome};

/// The result of a measurement.
pub(crate) struct Report {
    /// What was done, in a few words.
    pub(crate) what: String,
    pub(crate) tally: Tally,
    /// What the times of the tally are.
    pub(crate) times_are: &'static str,
    /// Other times, with what they are and their prefix among the keys.
    pub(crate) also: Option<(&'static str, &'static str, Histogram<u64>)>,
    pub(crate) took: Duration,
    /// What else was counted, by the key it has in JSON.
    pub(crate) counts: Vec<(&'static str, u64)>,
    pub(crate) verdict: Option<Verdict>,
}

const QUANTILES: [(&str, &str, f64); 4] =
    [("p50", "p50_us", 0.5), ("p90", "p90_us", 0.9), ("p99", "p99_us", 0.99), ("p99.9", "p999_us", 0.999)];

impl Report {
    /// Prints the report; tells whether all went as asked.
    pub(crate) fn print(&self, as_json: bool) -> Result<Outcome, Failure> {
        let text = if as_json { format!("{}\n", self.json()) } else { self.table() };
        stdout()
            .write_all(text.as_bytes())
            .map_err(|source| Failure::System { doing: "write the report", source })?;
        let sound = self.verdict.is_none_or(|verdict| verdict.is_sound());
        Ok(if self.tally.errors == 0 && sound { Outcome::AsAsked } else { Outcome::Not })
    }

    fn per_second(&self, amount: u64) -> f64 {
        let seconds = self.took.as_secs_f64();
        if seconds > 0.0 { amount as f64 / seconds } else { 0.0 }
    }

    fn json(&self) -> Value {
        let tally = &self.tally;
        let mut object = Map::new();
        let mut put = |key: &str, value: Value| drop(object.insert(key.to_owned(), value));
        put("messages", tally.messages.into());
        put("errors", tally.errors.into());
        put("first_error", json!(tally.first_error));
        put("seconds", rounded(self.took.as_secs_f64(), 6));
        put("messages_per_second", rounded(self.per_second(tally.messages), 1));
        put("megabytes_per_second", rounded(self.per_second(tally.bytes) / 1e6, 3));
        for (prefix, times) in
            std::iter::once(("", &tally.times)).chain(self.also.iter().map(|also| (also.1, &also.2)))
        {
            for (_, key, quantile) in QUANTILES {
                put(&format!("{prefix}{key}"), times.value_at_quantile(quantile).into());
            }
            put(&format!("{prefix}max_us"), times.max().into());
        }
        for (key, count) in &self.counts {
            put(key, (*count).into());
        }
        if let Some(verdict) = self.verdict {
            put("verified", verdict.is_sound().into());
            put("distinct", verdict.distinct.into());
            put("lost", verdict.lost.into());
            put("duplicates", verdict.duplicates.into());
            put("reordered", verdict.reordered.into());
            put("corrupt", verdict.corrupt.into());
            put("foreign", verdict.foreign.into());
        }
        Value::Object(object)
    }

    fn table(&self) -> String {
        let tally = &self.tally;
        let mut lines = vec![
            self.what.clone(),
            format!("  messages  {} in {:.3} s", grouped(tally.messages), self.took.as_secs_f64()),
            format!(
                "  rate      {}/s, {:.2} MB/s",
                grouped(self.per_second(tally.messages).round() as u64),
                self.per_second(tally.bytes) / 1e6
            ),
            match &tally.first_error {
                Some(first) => format!("  errors    {}; the first one: {first}", grouped(tally.errors)),
                None => format!("  errors    {}", grouped(tally.errors)),
            },
        ];
        if !self.counts.is_empty() {
            let counts =
                self.counts.iter().map(|(key, count)| format!("{} {key}", grouped(*count)).replace('_', " "));
            lines.push(format!("  of these  {}", counts.collect::<Vec<_>>().join(", ")));
        }
        if !tally.times.is_empty() {
            let heads: String = QUANTILES.iter().map(|(name, ..)| format!("{name:>10}")).collect();
            lines.push(format!("  {:16}{heads}{:>10}", "", "max"));
            let rows = std::iter::once((self.times_are, &tally.times))
                .chain(self.also.iter().map(|(what, _, times)| (*what, times)));
            for (what, times) in rows {
                let cells: String = QUANTILES
                    .iter()
                    .map(|(.., quantile)| times.value_at_quantile(*quantile))
                    .chain([times.max()])
                    .map(|us| format!("{:>10}", time(us)))
                    .collect();
                lines.push(format!("  {what:16}{cells}"));
            }
        }
        if let Some(verdict) = &self.verdict {
            let Verdict { distinct, lost, duplicates, reordered, corrupt, foreign } = verdict;
            let judgement = if verdict.is_sound() { "sound" } else { "NOT SOUND" };
            lines.push(format!(
                "  verified  {judgement}: {distinct} distinct, {lost} lost, {duplicates} duplicates, {reordered} \
                 reordered, {corrupt} corrupt, {foreign} not stamped"
            ));
        }
        lines.push(String::new());
        lines.join("\n")
    }
}

fn rounded(value: f64, digits: i32) -> Value {
    let scale = 10f64.powi(digits);
    json!((value * scale).round() / scale)
}

/// Digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Microseconds with a unit that keeps them short.
fn time(us: u64) -> String {
    match us {
        0..10_000 => format!("{us} µs"),
        10_000..10_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        _ => format!("{:.1} s", us as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut tally = Tally::new();
        for us in 1..=1000 {
            tally.went_well(2, 256, Duration::from_micros(us));
        }
        Report {
            what: "produce to t".into(),
            tally,
            times_are: "send to ack",
            also: None,
            took: Duration::from_millis(500),
            counts: Vec::new(),
            verdict: None,
        }
    }

    #[test]
    fn json_has_rates_and_times() {
        let json = report().json();
        for (key, value) in [
            ("messages", json!(2000)),
            ("errors", json!(0)),
            ("messages_per_second", json!(4000.0)),
            ("megabytes_per_second", json!(0.512)),
            ("p50_us", json!(500)),
            ("p99_us", json!(990)),
            ("p999_us", json!(999)),
            ("max_us", json!(1000)),
        ] {
            assert_eq!(json[key], value, "{key}");
        }
    }

    #[test]
    fn a_table_is_for_humans() {
        let mut report = report();
        report.verdict = Some(Verdict { distinct: 2000, ..Verdict::default() });
        report.tally.failed(3, || "refused".into());
        let expected = "\
produce to t
  messages  2,000 in 0.500 s
  rate      4,000/s, 0.51 MB/s
  errors    3; the first one: refused
                         p50       p90       p99     p99.9       max
  send to ack         500 µs    900 µs    990 µs    999 µs   1000 µs
  verified  sound: 2000 distinct, 0 lost, 0 duplicates, 0 reordered, 0 corrupt, 0 not stamped
";
        assert_eq!(report.table(), expected);
    }

    #[test]
    fn numbers_are_short_to_read() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([7, 9999, 12_345, 60_000_000].map(time), ["7 µs", "9999 µs", "12.3 ms", "60.0 s"]);
    }
}
