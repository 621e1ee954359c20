use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use super::*;

const TABLE: TableId = TableId(3);

fn elements(indexes: Vec<u32>) -> Elements {
    let values = indexes.iter().map(|i| *i as f32 * 0.5 - 7.0).collect();
    Elements { table: TABLE, indexes, values }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ")
}

fn encoded(elements: &Elements) -> Vec<u8> {
    let mut out = Vec::new();
    encode(elements, &mut out);
    out
}

fn encoded_indexes(indexes: &[u32]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_indexes(indexes, &mut out);
    out
}

/// The format is a promise to other versions: these bytes may not change.
#[test]
fn index_sets_are_pinned() {
    use IndexEncoding::*;
    let sparse: Vec<u32> = (0..12).map(|i| 1000 * i + 37 * (i % 3)).collect();
    let cases: &[(&[u32], IndexEncoding, &str)] = &[
        (&[], Dense, "00 00"),
        (&[5], Dense, "00 01 05"),
        (&[300], Dense, "00 01 ac 02"),
        (&[0, 1, 2, 3, 4], Dense, "00 05 00"),
        // Runs of 3, 200 and 1; 4 and 1000 are left out.
        (
            &[&[10, 11, 12][..], &(17..217).collect::<Vec<_>>(), &[1217]].concat(),
            Runs,
            "01 cc 01 0a 02 03 c7 01 e7 07 00",
        ),
        // Bits 0, 2, 3 of the indexes from 8 on, then bit 8.
        (&[7, 8, 10, 11, 16], Bitmap, "02 05 07 0d 01"),
        (&[7, 100, 300], Delta, "03 03 07 5c c7 01"),
        // Eleven gaps of about a thousand: k = 9, and two or one times 512.
        (&sparse, Rice, "04 0c 00 89 0c c8 c0 ce 64 40 06 76 26 03 32 b0 33 19 90 01"),
    ];
    for (indexes, encoding, bytes) in cases {
        assert_eq!(IndexSizer::of(indexes).encoding(), *encoding, "{indexes:?}");
        assert_eq!(hex(&encoded_indexes(indexes)), *bytes, "{indexes:?}");
    }
}

#[test]
fn elements_are_pinned() {
    let update = Elements { table: TABLE, indexes: vec![2, 9], values: vec![1.0, -0.5] };
    assert_eq!(hex(&encoded(&update)), "12 02 02 40 00 00 80 3f 00 00 00 bf");
    assert_eq!(hex(&encoded(&Elements::new(TABLE))), "10 00");
}

#[test]
fn every_bit_of_a_value_survives() {
    let bits = [0, 0x8000_0000, 0x7fc0_0001, 0xff80_0000, 1, 0x3f80_0000];
    let update = Elements {
        table: TABLE,
        indexes: (0..6).collect(),
        values: bits.iter().map(|b| f32::from_bits(*b)).collect(),
    };
    let back = decode(&encoded(&update), TABLE, 6).unwrap();
    assert_eq!(back.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), bits);
}

#[test]
fn values_with_only_upper_halves_take_two_bytes_each() {
    // Too far apart for a common step.
    let values = [1.0, -3.0e20, 7.0e-30, f32::INFINITY];
    let elements = Elements { table: TABLE, indexes: vec![3, 4, 5, 6], values: values.to_vec() };
    let halves: Vec<f32> = values.map(|value| f32::from_bits(value.to_bits() & 0xffff_0000)).to_vec();
    let (mut whole, mut half) = (Vec::new(), Vec::new());
    encode_compact(&elements, 1, &mut whole);
    let elements = Elements { values: halves, ..elements };
    encode_compact(&elements, 1, &mut half);
    assert_eq!((half[0] >> 4, whole.len() - half.len()), (ValueEncoding::Bf16 as u8, 2 * values.len()));
    assert_eq!(decode(&half, TABLE, 100), Ok(elements));
}

#[test]
fn what_is_wrong_is_named() {
    use CodecError::*;
    let unhex =
        |text: &str| text.split_whitespace().map(|b| u8::from_str_radix(b, 16).unwrap()).collect::<Vec<_>>();
    let cases: &[(&str, CodecError)] = &[
        ("", Truncated { count: 0 }),
        ("00", Varint),
        ("06 01 00", UnknownIndexEncoding(6)),
        ("70 01 00", UnknownValueEncoding(7)),
        ("20 01 00", Values { found: ValueEncoding::Bf16, expected: ValueEncoding::Absent }),
        ("10 01 00 00 00", Values { found: ValueEncoding::F32, expected: ValueEncoding::Absent }),
        // More elements than the table has, up to what 64 bits can claim.
        ("00 65 00", TooMany { count: 101, capacity: 100 }),
        ("00 ff ff ff ff ff ff ff ff ff 01 00", TooMany { count: u64::MAX, capacity: 100 }),
        ("00 ff ff ff ff ff ff ff ff ff 7f 00", Varint),
        // The last index of a dense span, of a run, of a bitmap, of gaps.
        ("00 02 63", OutOfRange { index: 100, capacity: 100 }),
        ("00 02 ff ff ff ff ff ff ff ff ff 01", OutOfRange { index: u64::MAX, capacity: 100 }),
        ("01 03 61 01 00", OutOfRange { index: 100, capacity: 100 }),
        ("02 02 60 08", OutOfRange { index: 100, capacity: 100 }),
        ("03 02 60 03", OutOfRange { index: 100, capacity: 100 }),
        ("03 02 60 ff ff ff ff ff ff ff ff ff 01", OutOfRange { index: u64::MAX, capacity: 100 }),
        ("04 02 60 00 01", OutOfRange { index: 100, capacity: 100 }),
        // A run longer than what is left of the set.
        ("01 03 00 01 00 03", TooMany { count: 4, capacity: 1 }),
        ("01 03 00 01", Varint),
        ("02 02 00", Truncated { count: 2 }),
        ("02 03 00 01", Truncated { count: 3 }),
        ("02 02 00 03", Padding),
        ("03 03 00 01", Truncated { count: 3 }),
        ("04 02 00", Truncated { count: 2 }),
        ("04 02 00 00", Truncated { count: 2 }),
        ("04 02 00 60", Padding),
        ("00 01 00 00", Trailing { bytes: 1 }),
    ];
    for (bytes, error) in cases {
        assert_eq!(decode_indexes(&unhex(bytes), 100, 100), Err(error.clone()), "{bytes}");
    }
    let values: &[(&str, CodecError)] = &[
        ("10 02 00 00 00 80 3f", Truncated { count: 2 }),
        ("10 01 00 00 00 80 3f 00", Trailing { bytes: 1 }),
        ("20 02 00 80 3f", Truncated { count: 2 }),
        ("20 01 00 80 3f 00", Trailing { bytes: 1 }),
        ("30 01 00 00", UnknownValueEncoding(3)),
        ("00 01 00", Values { found: ValueEncoding::Absent, expected: ValueEncoding::F32 }),
    ];
    for (bytes, error) in values {
        assert_eq!(decode(&unhex(bytes), TABLE, 100), Err(error.clone()), "{bytes}");
    }
}

#[test]
fn the_ends_of_the_index_range_work() {
    let capacity = u32::MAX;
    for indexes in [vec![u32::MAX - 1], vec![0, u32::MAX - 1], vec![u32::MAX - 3, u32::MAX - 1]] {
        assert_eq!(decode_indexes(&encoded_indexes(&indexes), capacity, indexes.len()), Ok(indexes));
    }
}

#[test]
fn a_sparse_set_costs_about_its_entropy() {
    // Every thousandth on average, by a multiplicative generator: 11.4 bits by entropy.
    let (mut state, mut index, mut indexes) = (1u64, 0u32, Vec::new());
    while indexes.len() < 1000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        index += 1;
        if (state >> 33) % 1000 == 0 {
            indexes.push(index);
        }
    }
    let sizer = IndexSizer::of(&indexes);
    assert_eq!(sizer.encoding(), IndexEncoding::Rice);
    let bits = sizer.indexes_len() as f64 * 8.0 / 1000.0;
    assert!((11.2..11.8).contains(&bits), "{bits} bits an index");
}

#[test]
#[should_panic(expected = "strictly ascend")]
fn descending_indexes_are_our_own_bug() {
    encode_indexes(&[1, 3, 2], &mut Vec::new());
}

/// Index sets of all densities: runs of runs, with gaps of very different sizes.
fn index_set() -> impl Strategy<Value = Vec<u32>> {
    let gap = prop_oneof![4 => 0u32..3, 2 => 0u32..200, 1 => 0u32..100_000];
    let run = prop_oneof![4 => 1u32..3, 2 => 1u32..80, 1 => 1u32..600];
    let clustered = vec((gap, run), 0..60).prop_map(|parts| {
        let (mut next, mut indexes) = (0, Vec::new());
        for (gap, run) in parts {
            indexes.extend(next + gap..next + gap + run);
            next += gap + run;
        }
        indexes
    });
    let scattered = (1u32..1 << 26)
        .prop_flat_map(|top| btree_set(0..top, 0..400).prop_map(|set| set.into_iter().collect::<Vec<_>>()));
    prop_oneof![clustered, scattered]
}

fn body(encoding: IndexEncoding, indexes: &[u32]) -> Vec<u8> {
    let mut out = Vec::new();
    indexes::write(encoding, ValueEncoding::Absent, indexes, &mut out);
    out
}

proptest! {
    #[test]
    fn what_is_encoded_comes_back(indexes in index_set()) {
        let capacity = indexes.last().map_or(0, |last| last + 1);
        let update = elements(indexes);
        let bytes = encoded(&update);
        prop_assert_eq!(bytes.len(), encoded_len(&update));
        prop_assert_eq!(&decode(&bytes, TABLE, capacity), &Ok(update.clone()));
        if capacity > 0 {
            prop_assert!(decode(&bytes, TABLE, capacity - 1).is_err());
        }
        let bytes = encoded_indexes(&update.indexes);
        prop_assert_eq!(bytes.len(), encoded_indexes_len(&update.indexes));
        prop_assert_eq!(decode_indexes(&bytes, capacity, capacity as usize), Ok(update.indexes));
    }

    #[test]
    fn the_smallest_encoding_is_chosen_and_all_sizes_are_exact(indexes in index_set()) {
        let sizer = IndexSizer::of(&indexes);
        let head = if indexes.is_empty() { 2 } else { body(IndexEncoding::Dense, &indexes).len() };
        for encoding in IndexEncoding::ALL {
            let Some(size) = sizer.body_len(encoding) else { continue };
            prop_assert!(size >= sizer.indexes_len() - head, "{:?} is smaller", encoding);
            if !indexes.is_empty() {
                let bytes = body(encoding, &indexes);
                prop_assert_eq!(bytes.len(), head + size, "{:?}", encoding);
                prop_assert_eq!(decode_indexes(&bytes, u32::MAX, indexes.len()), Ok(indexes.clone()));
            }
        }
    }

    /// Counting in pieces, as the filter does for the baseline, gives the same size.
    #[test]
    fn the_sizer_can_be_fed_in_pieces(indexes in index_set()) {
        let mut singly = IndexSizer::new();
        indexes.iter().for_each(|index| singly.push(*index));
        let mut by_run = IndexSizer::new();
        for run in indexes.chunk_by(|a, b| a + 1 == *b) {
            by_run.push_run(run[0], run.len() as u32);
        }
        let whole = IndexSizer::of(&indexes);
        prop_assert_eq!(singly.elements_len(), whole.elements_len());
        prop_assert_eq!(by_run.elements_len(), whole.elements_len());
        prop_assert_eq!(by_run.encoding(), whole.encoding());
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut bytes in vec(any::<u8>(), 0..300), header in 0u8..6, capacity: u32) {
        let _ = decode_indexes(&bytes, capacity.min(1 << 16), 1 << 16);
        if let Some(first) = bytes.first_mut() {
            *first = header | 0x10;
        }
        if let Ok(read) = decode(&bytes, TABLE, capacity) {
            prop_assert!(read.indexes.is_sorted_by(|a, b| a < b));
            prop_assert!(read.indexes.last().is_none_or(|last| *last < capacity));
            prop_assert_eq!(read.indexes.len(), read.values.len());
        }
    }

    /// A payload with one byte changed, or cut, is read as something valid or refused.
    #[test]
    fn damaged_payloads_never_panic(indexes in index_set(), at: usize, to: u8, cut: bool) {
        let mut bytes = encoded(&elements(indexes));
        let at = at % bytes.len();
        bytes[at] = to;
        if cut {
            bytes.truncate(at);
        }
        if let Ok(read) = decode(&bytes, TABLE, 1 << 26) {
            prop_assert!(read.indexes.is_sorted_by(|a, b| a < b));
        }
    }
}

#[test]
fn a_set_larger_than_there_is_room_for_is_refused_before_it_takes_memory() {
    let all: Vec<u32> = (0..1000).collect();
    let bytes = encoded_indexes(&all);
    assert!(bytes.len() < 10, "a few bytes name them all");
    assert_eq!(decode_indexes(&bytes, u32::MAX, 999), Err(CodecError::NoRoom { count: 1000, most: 999 }));
    assert_eq!(decode_indexes(&bytes, u32::MAX, 1000), Ok(all));
}
