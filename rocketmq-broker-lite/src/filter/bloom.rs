//! [`BloomFilterData`]: the bits of a group in Java's bloom pre-filter, as `consumerFilter.json` holds them.
//!
//! This broker evaluates every message and writes no bits beside the queues. Java drops the whole file where an entry's bits are
//! not those that it would compute itself. Java: `filter/util/BloomFilter.java`; the hash is the MurmurHash3 (x64, 128 bits) of Guava.

use serde::{Deserialize, Serialize};

/// Bits of the filter: what `expectConsumerNumUseFilter=32` and `maxErrorRateOfBloomFilter=20`, Java's defaults, come to.
const BITS: u32 = 112;
/// Bits of one group, from the same.
const HASHES: u32 = 3;

/// The bits that stand for one group and topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct BloomFilterData {
    bit_num: u32,
    bit_pos: Vec<u32>,
}

impl BloomFilterData {
    pub(crate) fn of(group: &str, topic: &str) -> Self {
        Self::of_name(&format!("{group}#{topic}"))
    }

    fn of_name(name: &str) -> Self {
        let hash = murmur3(name.as_bytes());
        let (low, high) = (hash as i32, (hash >> 32) as i32);
        let position = |number: u32| {
            let combined = low.wrapping_add(high.wrapping_mul(number as i32));
            (if combined < 0 { !combined } else { combined }) as u32 % BITS
        };
        Self { bit_num: BITS, bit_pos: (1..=HASHES).map(position).collect() }
    }
}

/// The first 64 bits of the hash, with seed 0.
fn murmur3(bytes: &[u8]) -> u64 {
    const C1: u64 = 0x87c3_7b91_1142_53d5;
    const C2: u64 = 0x4cf5_ad43_2745_937f;
    let mix1 = |word: u64| word.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2);
    let mix2 = |word: u64| word.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1);
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    let halves = |block: &[u8]| {
        let (low, high) = block.split_at(block.len().min(8));
        (word(low), word(high))
    };
    let (mut h1, mut h2) = (0_u64, 0_u64);
    let mut blocks = bytes.chunks_exact(16);
    for block in &mut blocks {
        let (k1, k2) = halves(block);
        h1 = (h1 ^ mix1(k1)).rotate_left(27).wrapping_add(h2).wrapping_mul(5).wrapping_add(0x52dc_e729);
        h2 = (h2 ^ mix2(k2)).rotate_left(31).wrapping_add(h1).wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }
    let (k1, k2) = halves(blocks.remainder());
    let length = bytes.len() as u64;
    h1 = h1 ^ mix1(k1) ^ length;
    h2 = h2 ^ mix2(k2) ^ length;
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    finish(h1).wrapping_add(finish(h2))
}

fn finish(mut hash: u64) -> u64 {
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ hash >> 33).wrapping_mul(factor);
    }
    hash ^ hash >> 33
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_are_javas() {
        #[derive(Deserialize)]
        struct Golden {
            bloom: Vec<(String, u32, Vec<u32>)>,
        }
        let golden: Golden = serde_json::from_str(include_str!("../../tests/golden/sql92.json")).unwrap();
        assert!(golden.bloom.len() >= 5);
        for (name, bit_num, bit_pos) in golden.bloom {
            assert_eq!(BloomFilterData::of_name(&name), BloomFilterData { bit_num, bit_pos }, "{name}");
        }
    }
}
