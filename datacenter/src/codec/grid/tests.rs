use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::codec::{self, CodecError, ValueEncoding};
use crate::{Elements, TableId};

const TABLE: TableId = TableId(3);
const TABLES: u8 = ValueEncoding::GridTables as u8;

/// A small generator: payloads must be the same in every run.
struct Lcg(u64);

impl Lcg {
    /// Uniform between zero and one.
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A random sign, and a magnitude that is one with probability `p`, and otherwise goes on.
    fn multiple(&mut self, p: f64) -> i32 {
        let mut magnitude = 1;
        while self.uniform() >= p {
            magnitude += 1;
        }
        if self.uniform() < 0.5 { magnitude } else { -magnitude }
    }
}

fn elements(values: Vec<f32>) -> Elements {
    Elements { table: TABLE, indexes: (0..values.len() as u32).collect(), values }
}

fn geometric(seed: u64, count: usize, p: f64) -> Vec<i32> {
    let mut random = Lcg(seed);
    (0..count).map(|_| random.multiple(p)).collect()
}

fn scaled(multiples: &[i32], exponent: i32) -> Vec<f32> {
    let [first, second] = powers(exponent);
    multiples.iter().map(|multiple| *multiple as f32 * first * second).collect()
}

fn encoded(elements: &Elements) -> Vec<u8> {
    let mut out = Vec::new();
    codec::encode_compact(elements, 1, &mut out);
    assert_eq!(out.len(), codec::compact_len(elements, 1));
    out
}

fn encoding_of(payload: &[u8]) -> u8 {
    payload[0] >> 4
}

/// That the values come back with the same bits; says how they were written.
fn round_trip(values: Vec<f32>) -> u8 {
    let update = elements(values);
    let payload = encoded(&update);
    let back = codec::decode(&payload, TABLE, update.len() as u32).unwrap();
    assert_eq!(back.indexes, update.indexes);
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&back.values), bits(&update.values));
    assert!(payload.len() <= codec::encoded_len(&update), "never more than f32s");
    encoding_of(&payload)
}

/// The empirical entropy of signs and magnitudes, each by itself, in bits.
fn entropy_bits(multiples: &[i32]) -> f64 {
    let mut counts = std::collections::BTreeMap::new();
    for multiple in multiples {
        *counts.entry((0, multiple.signum())).or_insert(0.0) += 1.0;
        *counts.entry((1, multiple.abs())).or_insert(0.0) += 1.0;
    }
    let total = multiples.len() as f64;
    counts.values().map(|count: &f64| -count * (count / total).log2()).sum()
}

/// The format is a promise to other versions: these bytes may not change.
#[test]
fn grids_are_pinned() {
    let hex = |values: &[f32]| {
        encoded(&elements(values.to_vec())).iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ")
    };
    // 0.25 is 2^-2: 14 more than the usual exponent, 28 as zigzag, 56 with the bit that tells of
    // zeros.
    assert_eq!(hex(&[0.25, -0.25, 0.5, 0.25, 1.75, -0.25]), "50 06 00 38 2e 8b 4f");
    assert_eq!(hex(&[0.25, 0.0, -0.75]), "50 03 00 39 83 a9");
    assert_eq!(hex(&[3.0]), "50 01 00 40 a0");
}

#[test]
fn every_grid_comes_back() {
    const GRID: u8 = ValueEncoding::Grid as u8;
    let smallest = f32::from_bits(1);
    assert_eq!(round_trip(vec![smallest]), GRID);
    assert_eq!(round_trip(vec![-smallest, 3.0 * smallest, 1048576.0 * smallest, 0.0]), GRID);
    assert_eq!(round_trip(vec![f32::MIN_POSITIVE, -f32::MIN_POSITIVE]), GRID);
    assert_eq!(round_trip(vec![2f32.powi(127), -(2f32.powi(127))]), GRID);
    assert_eq!(round_trip(vec![1.5 * 2f32.powi(127), 2f32.powi(126)]), GRID);
    assert_eq!(round_trip(vec![1.0; 5000]), GRID);
    assert_eq!(round_trip((0..3000).map(|i| if i % 2 == 0 { 0.5 } else { -0.5 }).collect()), GRID);
    assert_eq!(round_trip(vec![1.0, 1048575.0]), GRID);
    assert_eq!(round_trip(vec![1.0, 1048576.0]), ValueEncoding::Bf16 as u8, "halves are smaller");
    for exponent in MIN_EXPONENT..=MAX_EXPONENT - 7 {
        assert_eq!(round_trip(scaled(&geometric(1, 20, 0.5), exponent)), GRID, "2^{exponent}");
    }
}

#[test]
fn what_is_no_grid_stays_exact() {
    const F32: u8 = ValueEncoding::F32 as u8;
    const BF16: u8 = ValueEncoding::Bf16 as u8;
    assert_eq!(round_trip(vec![]), F32);
    assert_eq!(round_trip(vec![1.0, -0.0]), BF16);
    assert_eq!(round_trip(vec![0.0, 0.0]), BF16);
    assert_eq!(round_trip(vec![1.0, 1048577.0]), F32);
    assert_eq!(round_trip(vec![0.1, 1.0, 3.0]), F32);
    assert_eq!(round_trip(vec![f32::MIN_POSITIVE, f32::MAX]), F32);
    for what in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(round_trip(vec![1.0, what, 2.0]), BF16);
        assert_eq!(round_trip(vec![0.1, what, 2.0]), F32);
    }
}

#[test]
fn values_cost_their_entropy() {
    for p in [0.5, 0.6, 0.7, 0.8, 0.9, 0.95] {
        for (count, most) in [(2000, 1.10), (20_000, 1.03), (200_000, 1.03)] {
            for seed in 0..6 {
                let multiples = geometric(seed, count, p);
                let ideal = entropy_bits(&multiples) / 8.0;
                let update = elements(scaled(&multiples, -9));
                // Header, count and first index are not values.
                let head = codec::encoded_len(&update) - 4 * count;
                let ratio = (codec::compact_len(&update, 1) - head) as f64 / ideal;
                assert!((0.95..most).contains(&ratio), "p {p}, {count} values, seed {seed}: {ratio:.3}");
            }
        }
    }
}

#[test]
fn a_few_values_cost_a_few_bytes() {
    for count in 1..=64 {
        for seed in 0..50 {
            let update = elements(scaled(&geometric(seed, count, 0.7), -9));
            let (compact, plain) = (codec::compact_len(&update, 1), codec::encoded_len(&update));
            assert!(
                compact < plain && compact <= 3 + 3 + count / 2 + 1,
                "{count} values: {compact} of {plain}"
            );
        }
    }
}

/// Ten values: three bytes of header, count and first index, one of the step, and the rest.
#[test]
fn ten_values() {
    let size = |p| {
        let sizes =
            (0..100).map(|seed| codec::compact_len(&elements(scaled(&geometric(seed, 10, p), -9)), 1));
        sizes.sum::<usize>() as f64 / 100.0
    };
    let sizes = [0.5, 0.7, 0.95].map(size);
    println!("ten values, for a magnitude of one in 50, 70, 95 of 100: {sizes:?} bytes");
    assert!(sizes[0] < 9.0 && sizes[1] < 8.0 && sizes[2] < 7.0, "{sizes:?}");
}

#[test]
fn equal_values_take_a_byte_for_sixteen() {
    let update = elements(vec![0.5; 16_000]);
    assert_eq!(encoded(&update).len(), 1 + 2 + 1 + 1 + 1000);
    let mut short = encoded(&update);
    short.pop();
    assert_eq!(codec::decode(&short, TABLE, 16_000), Err(CodecError::Truncated { count: 16_000 }));
    let mut long = encoded(&update);
    long.push(0);
    assert!(matches!(codec::decode(&long, TABLE, 16_000), Err(CodecError::Trailing { .. })));
    let mut stained = encoded(&update);
    *stained.last_mut().unwrap() = 1;
    assert_eq!(codec::decode(&stained, TABLE, 16_000), Err(CodecError::Padding));
}

/// Like [`grids_are_pinned`]; so many bytes are pinned by their sum.
#[test]
fn tables_are_pinned() {
    let payload = encoded(&elements(scaled(&geometric(9, TABLES_FROM, 0.7), -9)));
    let sum = payload.iter().fold(0u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)));
    assert_eq!((encoding_of(&payload), payload.len(), sum), (TABLES, 4637, 1_710_023_083));
}

#[test]
fn many_values_come_back() {
    for count in [TABLES_FROM, BLOCK, BLOCK + 1, 2 * BLOCK + 5] {
        assert_eq!(round_trip(scaled(&geometric(2, count, 0.6), MIN_EXPONENT)), TABLES);
    }
    // Magnitudes with symbols of their own, and without.
    let mut random = Lcg(3);
    for largest in [2, 127, 128, 300, MAX_MAGNITUDE] {
        let multiples =
            (0..40_000).map(|_| (random.uniform() * f64::from(largest)) as i32 * random.multiple(1.0));
        assert_eq!(round_trip(scaled(&multiples.collect::<Vec<_>>(), 3)), TABLES, "{largest}");
    }
    let mut outliers = geometric(4, 40_000, 0.9);
    outliers[7] = MAX_MAGNITUDE as i32;
    outliers[39_999] = -130;
    assert_eq!(round_trip(scaled(&outliers, -30)), TABLES);
    // A block with one symbol, among others; alone it is shorter without tables.
    let one = [vec![1; BLOCK], geometric(5, 40_000, 0.5)].concat();
    assert_eq!(round_trip(scaled(&one, 0)), TABLES);
    assert_eq!(round_trip(vec![1.0; 40_000]), ValueEncoding::Grid as u8);
    let rare = (0..40_000).map(|i| if i % 20_000 == 7 { -1.0 } else { 1.0 }).collect();
    assert_eq!(round_trip(rare), ValueEncoding::Grid as u8);
}

#[test]
fn damaged_tables_are_refused() {
    let update = elements(scaled(&geometric(5, TABLES_FROM, 0.6), -20));
    let payload = encoded(&update);
    let count = TABLES_FROM as u32;
    // The states return to where they began only by the words that were written.
    for at in (0..40).chain((40..payload.len()).step_by(97)) {
        assert!(codec::decode(&payload[..at], TABLE, count).is_err(), "{at} bytes are left");
        for bit in 0..8 {
            let mut damaged = payload.clone();
            damaged[at] ^= 1 << bit;
            if let Ok(read) = codec::decode(&damaged, TABLE, count) {
                assert!(read.len() <= TABLES_FROM && read.values.iter().all(|value| value.is_finite()));
                assert!(at < 40, "byte {at} tells of nothing");
            }
        }
    }
    let mut long = payload.clone();
    long.push(0);
    assert_eq!(codec::decode(&long, TABLE, count), Err(CodecError::Trailing { bytes: 1 }));
}

#[test]
fn what_is_wrong_is_named() {
    let decode = |bytes: &[u8]| codec::decode(bytes, TABLE, 100).unwrap_err();
    let head = [0x50, 2, 0];
    let with = |step: &[u8], stream: &[u8]| decode(&[&head, step, stream].concat());
    // 2^-150, 2^128, and the largest varint.
    assert_eq!(with(&[0x96, 0x04], &[0]), CodecError::Step { exponent: -150 });
    assert_eq!(with(&[0xc0, 0x04], &[0]), CodecError::Step { exponent: 128 });
    assert!(matches!(
        with(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], &[0]),
        CodecError::Step { .. }
    ));
    // Two times 2^127 is no f32.
    assert_eq!(with(&[0xbc, 0x04], &[0xc0, 0]), CodecError::Step { exponent: 127 });
    assert_eq!(with(&[0x38], &[]), CodecError::Truncated { count: 2 });
    assert!(matches!(with(&[0x38], &[0xff; 9]), CodecError::Magnitude { magnitude } if magnitude > 1 << 20));
    assert!(matches!(with(&[0x38], &[0; 9]), CodecError::Trailing { .. }));
    let values = CodecError::Values { found: ValueEncoding::Grid, expected: ValueEncoding::Absent };
    assert_eq!(codec::decode_indexes(&[0x50, 1, 0, 0x38, 0], 100, 100), Err(values));
}

#[test]
fn every_damage_is_refused_or_bounded() {
    let update = elements(scaled(&geometric(5, 200, 0.6), -20));
    let payload = encoded(&update);
    let read = |payload: &[u8]| {
        let Ok(read) = codec::decode(payload, TABLE, 1000) else { return };
        assert!(
            read.indexes.is_sorted_by(|a, b| a < b) && read.len() == read.values.len() && read.len() <= 1000
        );
        assert!(read.values.iter().all(|value| value.is_finite()));
    };
    for at in 0..payload.len() {
        read(&payload[..at]);
        assert!(codec::decode(&payload[..at.saturating_sub(8)], TABLE, 1000).is_err(), "{at} bytes are left");
        for byte in 0..=255 {
            let mut damaged = payload.clone();
            damaged[at] = byte;
            read(&damaged);
        }
    }
    for more in 1..20 {
        let long = [&payload[..], &vec![0; more]].concat();
        read(&long);
        assert!(more <= MAX_END_SLACK || codec::decode(&long, TABLE, 1000).is_err());
    }
}

/// How many zeros may follow a stream that ends with fewer bytes than it could.
const MAX_END_SLACK: usize = 2;

proptest! {
    #[test]
    fn multiples_come_back(
        multiples in vec(prop_oneof![4 => -3i32..4, 2 => -100i32..100, 1 => -(1i32 << 20)..=1 << 20], 1..300),
        exponent in MIN_EXPONENT..=MAX_EXPONENT - 21,
    ) {
        round_trip(scaled(&multiples, exponent));
    }

    #[test]
    fn any_bits_come_back(bits in vec(any::<u32>(), 0..50)) {
        round_trip(bits.into_iter().map(f32::from_bits).collect());
    }

    /// The step divides every value, and is the largest that does.
    #[test]
    fn the_step_is_the_largest(multiples in vec(-1000i32..1000, 1..20), exponent in MIN_EXPONENT..=100) {
        prop_assume!(multiples.iter().any(|multiple| *multiple != 0));
        let values = scaled(&multiples, exponent);
        let step = Step::of(&values).unwrap();
        let common = multiples.iter().fold(0, |all, multiple| all | multiple).trailing_zeros();
        prop_assert_eq!(step.exponent, exponent + common as i32);
        let divided: Vec<i32> = multiples.iter().map(|multiple| multiple >> common).collect();
        prop_assert_eq!(step.multiples(&values).collect::<Vec<_>>(), divided);
    }

    #[test]
    fn arbitrary_streams_never_panic(
        mut bytes in vec(any::<u8>(), 0..200),
        index_encoding in 0u8..6,
        tables: bool,
        capacity: u32,
    ) {
        if let Some(first) = bytes.first_mut() {
            *first = index_encoding | if tables { 0x60 } else { 0x50 };
        }
        if let Ok(read) = codec::decode(&bytes, TABLE, capacity) {
            prop_assert!(read.values.iter().all(|value| value.is_finite()));
            prop_assert!(read.len() <= 16 * bytes.len());
        }
    }
}
