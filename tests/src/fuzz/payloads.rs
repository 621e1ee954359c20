//! Index sets and elements, in every encoding.

use datacenter::TableId;
use datacenter::codec::{self, CodecError, IndexEncoding, IndexSizer, ValueEncoding};

/// How many elements the table has, by the first byte.
const CAPACITIES: [u32; 6] = [0, 1, 100, 5000, 1 << 20, u32::MAX];

/// For how many indexes there is room.
const MOST: usize = 4096;

/// The first byte chooses the table's size, the others are the payload: as elements, and as a set
/// of indexes.
pub fn payloads(data: &[u8]) {
    let Some((choice, payload)) = data.split_first() else { return };
    let capacity = CAPACITIES[usize::from(*choice) % CAPACITIES.len()];
    elements(payload, capacity);
    match codec::decode_indexes(payload, capacity, MOST) {
        Ok(indexes) => index_set(payload, &indexes, capacity),
        Err(CodecError::NoRoom { count, most }) => assert!(count as usize > most && most == MOST),
        Err(_) => {}
    }
}

fn elements(payload: &[u8], capacity: u32) {
    let Ok(first) = codec::decode(payload, TableId(3), capacity) else { return };
    assert_eq!(first.indexes.len(), first.values.len());
    assert!(first.len() <= payload.len() * 16, "a byte holds sixteen values at most");
    check_indexes(&first.indexes, capacity);
    let (mut plain, mut compact) = (Vec::new(), Vec::new());
    codec::encode(&first, &mut plain);
    assert_eq!(plain.len(), codec::encoded_len(&first));
    if payload[0] >> 4 == ValueEncoding::F32 as u8 {
        assert!(first.len() <= payload.len() / 4, "f32s take four bytes each");
        check_size(&plain, payload);
    }
    codec::encode_compact(&first, 1, &mut compact);
    assert!(compact.len() <= plain.len(), "{} bytes, and {} without compression", compact.len(), plain.len());
    for written in [plain, compact] {
        let second = codec::decode(&written, TableId(3), capacity).expect("we read what we write");
        assert_eq!((second.table, &second.indexes), (first.table, &first.indexes));
        assert!(second.values.iter().zip(&first.values).all(|(a, b)| a.to_bits() == b.to_bits()));
    }
}

fn index_set(payload: &[u8], indexes: &[u32], capacity: u32) {
    assert!(indexes.len() <= MOST);
    check_indexes(indexes, capacity);
    let mut written = Vec::new();
    codec::encode_indexes(indexes, &mut written);
    assert_eq!(written.len(), codec::encoded_indexes_len(indexes));
    check_size(&written, payload);
    assert_eq!(codec::decode_indexes(&written, capacity, indexes.len()).as_deref(), Ok(indexes));
    if let Some(short) = indexes.len().checked_sub(1) {
        let refused = codec::decode_indexes(&written, capacity, short);
        assert!(matches!(refused, Err(CodecError::NoRoom { .. })), "{refused:?}");
    }
}

/// Ours is the smallest encoding, but that the parameter of a Rice block may be another's better
/// guess, and that rows are written only where they are asked for.
fn check_size(written: &[u8], payload: &[u8]) {
    let encoding = payload[0] & 0x0f;
    let may_be_smaller = [IndexEncoding::Rice, IndexEncoding::Rows].iter().any(|e| *e as u8 == encoding);
    assert!(written.len() <= payload.len() || may_be_smaller);
}

fn check_indexes(indexes: &[u32], capacity: u32) {
    assert!(indexes.is_sorted_by(|a, b| a < b));
    assert!(indexes.last().is_none_or(|last| *last < capacity));
    let (whole, mut singly, mut by_run) = (IndexSizer::of(indexes), IndexSizer::new(), IndexSizer::new());
    indexes.iter().for_each(|index| singly.push(*index));
    indexes.chunk_by(|a, b| a + 1 == *b).for_each(|run| by_run.push_run(run[0], run.len() as u32));
    for sizer in [singly, by_run] {
        assert_eq!((sizer.encoding(), sizer.elements_len()), (whole.encoding(), whole.elements_len()));
    }
}
