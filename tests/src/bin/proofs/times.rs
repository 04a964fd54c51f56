//! [`Times`]: how long things took, and a line that shows it.

use std::fmt::{self, Display};
use std::time::Duration;

/// How long things took. Keeps them all: a proof has some 100,000 of them.
#[derive(Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn over(&self, limit: Duration) -> usize {
        self.0.iter().filter(|time| **time > limit).count()
    }

    /// What `share` of them do not exceed.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

impl Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)] {
            write!(f, "  {name} {:.1} ms", self.quantile(share).as_secs_f64() * 1e3)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_times() {
        let ms = Duration::from_millis;
        let mut times = Times::default();
        for time in (1..=100).rev() {
            times.add(ms(time));
        }
        assert_eq!([0.0, 0.5, 0.99, 1.0].map(|share| times.quantile(share)), [1, 50, 99, 100].map(ms));
        assert_eq!(times.over(ms(98)), 2);
        assert_eq!(Times::default().quantile(0.5), Duration::ZERO);
    }
}
