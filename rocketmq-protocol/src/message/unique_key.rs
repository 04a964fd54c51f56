//! [`UniqueKeyGenerator`]: the id a client gives a message before it is sent (property `UNIQ_KEY`).

use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, Ordering};

const MS_PER_DAY: i64 = 86_400_000;
const HEX: &[u8; 16] = b"0123456789ABCDEF";

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
        let count = self.counter.fetch_add(1, Ordering::Relaxed);
        let since_month_start = ms_since_month_start(now_ms);
        let mut key = String::with_capacity(self.prefix.len() + 12);
        key.push_str(&self.prefix);
        let varying = since_month_start << 16 | u64::from(count);
        for shift in (0..12).rev() {
            let digit = varying >> (shift * 4) & 0xf;
            key.push(HEX[digit as usize].into());
        }
        key
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
