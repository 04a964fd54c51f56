//! [`UniqueKeyGenerator`]: the id a client gives a message before it is sent (property `UNIQ_KEY`).

use std::net::IpAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};

use super::hex::hex_digits;
use super::property::{NAME_END, UNIQ_KEY, VALUE_END};

const MS_PER_DAY: i64 = 86_400_000;

/// Digits of the time and the counter.
const VARYING: usize = 12;

/// Makes unique keys: upper-case hex of address (4 or 16 bytes), low half of the process id (2), a number that tells
/// apart generators of one process (4), milliseconds since the month began (4) and a counter (2), so 32 or 56 digits.
/// Java: `common/message/MessageClientIDSetter.java`.
///
/// The month begins by UTC here, by local time in Java. Nobody may read more than uniqueness out of a key, and a key
/// repeats only where a generator makes more than 65,536 of them in one millisecond.
#[derive(Debug)]
pub struct UniqueKeyGenerator {
    /// Address, process and instance, which every key starts with.
    prefix: String,
    counter: AtomicU16,
}

impl UniqueKeyGenerator {
    /// Keys of this address (one that tells machines apart), process and instance.
    pub fn new(address: IpAddr, process_id: u32, instance: u32) -> Self {
        let address = match address {
            IpAddr::V4(ip) => format!("{:08X}", ip.to_bits()),
            IpAddr::V6(ip) => format!("{:032X}", ip.to_bits()),
        };
        let prefix = format!("{address}{:04X}{instance:08X}", process_id & 0xffff);
        Self { prefix, counter: AtomicU16::new(0) }
    }

    /// The next key, at `now_ms` milliseconds since the epoch.
    pub fn next(&self, now_ms: i64) -> String {
        let mut key = Vec::with_capacity(self.key_len());
        self.append(now_ms, &mut key);
        String::from_utf8(key).unwrap_or_default()
    }

    /// Appends the next key, as the property it is, to the property string `out`; returns where in it the key stands.
    pub fn append_property(&self, now_ms: i64, out: &mut Vec<u8>) -> Range<usize> {
        out.reserve(self.property_len());
        out.extend_from_slice(UNIQ_KEY.as_bytes());
        out.push(NAME_END);
        let from = out.len();
        self.append(now_ms, out);
        let key = from..out.len();
        out.push(VALUE_END);
        key
    }

    /// Bytes that [`append_property`](Self::append_property) appends.
    pub fn property_len(&self) -> usize {
        UNIQ_KEY.len() + self.key_len() + 2
    }

    fn key_len(&self) -> usize {
        self.prefix.len() + VARYING
    }

    fn append(&self, now_ms: i64, out: &mut Vec<u8>) {
        let count = self.counter.fetch_add(1, Ordering::Relaxed);
        let varying = ms_since_month_start(now_ms) << 16 | u64::from(count);
        out.extend_from_slice(self.prefix.as_bytes());
        out.extend_from_slice(&hex_digits::<VARYING>(varying.into()));
    }
}

/// By UTC: the standard library knows no time zones.
fn ms_since_month_start(now_ms: i64) -> u64 {
    let days_since_month_start = day_of_month(now_ms.div_euclid(MS_PER_DAY)) - 1;
    (days_since_month_start * MS_PER_DAY + now_ms.rem_euclid(MS_PER_DAY)) as u64
}

/// Day of the month, from 1, of a day counted from 1970-01-01, in the Gregorian calendar. Years are counted from
/// March, so that the leap day comes last (Howard Hinnant, `chrono`-Compatible Low-Level Date Algorithms).
const fn day_of_month(days_since_epoch: i64) -> i64 {
    let day_of_era = (days_since_epoch + 719_468).rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    day_of_year - (153 * month_from_march + 2) / 5 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_begin_where_the_calendar_says() {
        for (now_ms, day) in [
            (0, 1),                  // 1970-01-01
            (-1, 31),                // 1969-12-31
            (951_782_400_000, 29),   // 2000-02-29
            (951_868_800_000, 1),    // 2000-03-01
            (1_709_164_800_000, 29), // 2024-02-29
            (4_107_542_400_000, 1),  // 2100-03-01, after the 28th
            (4_107_456_000_000, 28),
            (1_798_761_599_999, 31), // the last millisecond of 2026
        ] {
            assert_eq!(day_of_month(i64::div_euclid(now_ms, MS_PER_DAY)), day, "{now_ms}");
        }
        assert_eq!(ms_since_month_start(1_798_761_599_999), 31 * 86_400_000 - 1);
        for extreme in [i64::MIN, i64::MAX] {
            assert!(ms_since_month_start(extreme) < 31 * 86_400_000);
        }
    }

    #[test]
    fn keys_of_one_millisecond_differ() {
        let generator = UniqueKeyGenerator::new([10, 1, 2, 3].into(), 7, 8);
        let keys: std::collections::HashSet<_> = (0..65_536).map(|_| generator.next(1)).collect();
        assert_eq!(keys.len(), 65_536);
    }
}
