use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use super::super::indexes;
use super::*;
use crate::codec::{self, IndexEncoding, ValueEncoding};
use crate::{Elements, TableId};

const TABLE: TableId = TableId(3);

/// A small generator: sets must be the same in every run.
struct Lcg(u64);

impl Lcg {
    fn is_hit(&mut self, share: f64) -> bool {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 11) as f64 / (1u64 << 53) as f64) < share
    }
}

fn scattered(seed: u64, share: f64, below: u32) -> Vec<u32> {
    let mut random = Lcg(seed);
    (0..below).filter(|_| random.is_hit(share)).collect()
}

/// Of `rows` rows of `width` a share of the rows, and of those a share of the elements.
fn clustered(seed: u64, rows: u32, width: u32, of_rows: f64, within: f64) -> Vec<u32> {
    let mut random = Lcg(seed);
    let mut indexes = Vec::new();
    for row in 0..rows {
        if random.is_hit(of_rows) {
            indexes.extend((row * width..(row + 1) * width).filter(|_| random.is_hit(within)));
        }
    }
    indexes
}

/// Bits of entropy of a decision.
fn entropy(p: f64) -> f64 {
    if p == 0.0 || p == 1.0 { 0.0 } else { -p * p.log2() - (1.0 - p) * (1.0 - p).log2() }
}

fn payload(indexes: &[u32], width: u32) -> Vec<u8> {
    let mut out = Vec::new();
    indexes::write_head(IndexEncoding::Rows, ValueEncoding::Absent, indexes, &mut out);
    write(indexes, width, &mut out);
    out
}

/// The length of the indexes of a compact payload, with its header.
fn compact_len(indexes: &[u32], width: u32) -> usize {
    let (encoding, mut bytes) = codec::compact_indexes(indexes, width);
    indexes::write_head(encoding, ValueEncoding::Absent, indexes, &mut bytes);
    bytes.len()
}

#[test]
fn rows_are_pinned() {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ");
    // Rows of four: columns 1, 2 and 3 of the first, 0 and 2 of the fourth, 3 of the fifth.
    assert_eq!(hex(&payload(&[1, 2, 3, 12, 14, 19], 4)), "05 06 01 02 04 ea 30");
    assert_eq!(hex(&payload(&[7, 100, 300], 1)), "05 03 07 04 01 fc ef b6 81");
}

#[test]
fn a_random_set_costs_its_entropy() {
    let below = 400_000;
    for (share, most) in
        [(0.001, 1.05), (0.01, 1.05), (0.1, 1.05), (0.25, 1.05), (0.4, 1.05), (0.8, 1.05), (0.95, 1.05)]
    {
        let below = if share > 0.1 { below / 8 } else { below };
        let indexes = scattered(1, share, below);
        let ideal = entropy(indexes.len() as f64 / f64::from(below)) * f64::from(below) / 8.0;
        let ratio = |len: usize| len as f64 / ideal;
        let (plain, compact) = (ratio(codec::encoded_indexes_len(&indexes)), ratio(compact_len(&indexes, 1)));
        println!("{share}: {plain:.3} of the entropy, compact {compact:.3}");
        assert!(compact < most && compact <= plain, "{share}: {compact:.3}");
    }
}

#[test]
fn clustered_rows_cost_their_entropy() {
    for (rows, width, of_rows, within) in
        [(10_000, 32, 0.1, 0.5), (10_000, 32, 0.02, 0.9), (40_000, 8, 0.05, 0.5), (500, 256, 0.3, 0.1)]
    {
        let indexes = clustered(2, rows, width, of_rows, within);
        let touched = indexes.chunk_by(|a, b| a / width == b / width).count() as f64;
        let share = indexes.len() as f64 / (touched * f64::from(width));
        let ideal = (entropy(touched / f64::from(rows)) * f64::from(rows)
            + entropy(share) * touched * f64::from(width))
            / 8.0;
        let ratio = |len: usize| len as f64 / ideal;
        let plain = ratio(codec::encoded_indexes_len(&indexes));
        let (flat, compact) = (ratio(compact_len(&indexes, 1)), ratio(compact_len(&indexes, width)));
        println!(
            "{of_rows} of rows of {width}, {within} within: {plain:.3}, flat {flat:.3}, by rows {compact:.3}"
        );
        assert!(compact < 1.05, "{of_rows} of rows of {width}, {within} within: {compact:.3}");
    }
}

#[test]
fn many_columns_for_few_indexes_are_refused() {
    let wide = [5, 100_000];
    assert!(!is_suited(&wide, 1000) && is_suited(&wide, 30));
    let refused = codec::decode_indexes(&payload(&wide, 1000), 1 << 20, 2);
    assert_eq!(refused, Err(CodecError::Width { width: 1000 }));
    for width in [0, 101] {
        let read = codec::decode_indexes(&[0x05, 2, 0, 1, width, 0], 100, 2);
        assert_eq!(read, Err(CodecError::Width { width: width.into() }));
    }
}

#[test]
fn every_damage_is_refused_or_bounded() {
    for width in [1, 8] {
        let indexes = clustered(3, 200, 8, 0.3, 0.5);
        let bytes = payload(&indexes, width);
        let read = |bytes: &[u8]| {
            let Ok(read) = codec::decode_indexes(bytes, 2000, 1000) else { return };
            assert!(read.is_sorted_by(|a, b| a < b) && read.iter().all(|index| *index < 2000));
        };
        for at in 0..bytes.len() {
            read(&bytes[..at]);
            for byte in 0..=255 {
                let mut damaged = bytes.clone();
                damaged[at] = byte;
                read(&damaged);
            }
        }
    }
}

fn index_set() -> impl Strategy<Value = Vec<u32>> {
    let parts = vec((0u32..60, 1u32..20), 1..60).prop_map(|parts| {
        let (mut next, mut indexes) = (0, Vec::new());
        for (gap, run) in parts {
            indexes.extend(next + gap..next + gap + run);
            next += gap + run;
        }
        indexes
    });
    let scattered = btree_set(0..u32::MAX, 1..100).prop_map(|set| set.into_iter().collect());
    prop_oneof![parts, scattered]
}

proptest! {
    #[test]
    fn sets_come_back(indexes in index_set(), width in prop_oneof![Just(1u32), 2u32..40, Just(1000)]) {
        let capacity = indexes.last().unwrap() + 1;
        let width = width.min(capacity);
        if is_suited(&indexes, width) {
            let bytes = payload(&indexes, width);
            prop_assert_eq!(codec::decode_indexes(&bytes, capacity, indexes.len()), Ok(indexes.clone()));
            prop_assert!(codec::decode_indexes(&bytes, capacity - 1, indexes.len()).is_err());
        }
        let update = Elements { table: TABLE, values: vec![0.5; indexes.len()], indexes };
        let mut bytes = Vec::new();
        codec::encode_compact(&update, width, &mut bytes);
        prop_assert!(bytes.len() <= codec::encoded_len(&update));
        prop_assert_eq!(codec::decode(&bytes, TABLE, capacity), Ok(update));
    }
}
