//! Memory for rows on their way: a few pieces that go round, instead of fresh pages for each.
//!
//! A model of 100 MB is read and pushed at every clock, and to have the system hand out pages for
//! that, and take them back, costs more than to copy the rows. So rows travel in [pieces](PIECE),
//! which go back to a pool when the last [`Buffer`] over them is dropped. Small ones are ordinary
//! allocations.
//!
//! Kind: time-free.

use std::any::Any;
use std::ops::{Deref, Range};
use std::sync::{Arc, Mutex, PoisonError};

/// How many values a piece of the pool holds: 256 KiB, which stay in a core's cache while they are
/// copied, coded and sent.
pub const PIECE: usize = 1 << 16;

/// Fewer values than these are not worth a piece.
const SMALL: usize = PIECE / 8;

/// How many pieces the pool keeps at most: 128 MiB.
const KEPT: usize = 512;

const _: () =
    assert!(cfg!(target_endian = "little"), "rows are written as they lie in memory, little-endian");

static POOL: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

/// An empty vector with room for at least `values`: a piece of the pool if one will do.
pub fn with_capacity(values: usize) -> Vec<f32> {
    if !(SMALL..=PIECE).contains(&values) {
        return Vec::with_capacity(values);
    }
    let kept = POOL.lock().unwrap_or_else(PoisonError::into_inner).pop();
    kept.unwrap_or_else(|| Vec::with_capacity(PIECE))
}

fn give_back(mut values: Vec<f32>) {
    if values.capacity() != PIECE {
        return;
    }
    values.clear();
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    if pool.len() < KEPT {
        pool.push(values);
    }
}

/// Values that clones share, in order.
#[derive(Clone)]
pub struct Buffer {
    piece: Arc<Piece>,
    range: Range<usize>,
}

/// What is held for as long as somebody has a buffer, such as room in a queue.
pub type Guard = Box<dyn Any + Send + Sync>;

struct Piece {
    values: Vec<f32>,
    /// Dropped with it.
    _guard: Option<Guard>,
}

impl Buffer {
    /// All of these values.
    pub fn new(values: Vec<f32>) -> Self {
        Self::holding(values, None)
    }

    /// All of these values; `guard` is dropped when nobody has them any more.
    pub fn holding(values: Vec<f32>, guard: Option<Guard>) -> Self {
        let range = 0..values.len();
        Self { piece: Arc::new(Piece { values, _guard: guard }), range }
    }

    /// Some of them.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.range.len(), "a part of what there is");
        let range = self.range.start + range.start..self.range.start + range.end;
        Self { piece: Arc::clone(&self.piece), range }
    }

    /// These values and those of `next` as one, if they lie side by side in one piece.
    pub(crate) fn joined(&self, next: &Self) -> Option<Self> {
        let is_next = Arc::ptr_eq(&self.piece, &next.piece) && self.range.end == next.range.start;
        is_next.then(|| Self { piece: Arc::clone(&self.piece), range: self.range.start..next.range.end })
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        give_back(std::mem::take(&mut self.values));
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.piece.values[self.range.clone()]
    }
}

/// As bytes, little-endian as on the wire.
impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(self)
    }
}

impl From<Vec<f32>> for Buffer {
    fn from(values: Vec<f32>) -> Self {
        Self::new(values)
    }
}

impl PartialEq for Buffer {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_share_their_piece_and_are_joined_where_they_lie_side_by_side() {
        let all = Buffer::new((0..10).map(|i| i as f32).collect());
        let (first, second) = (all.slice(0..4), all.slice(4..10).slice(0..5));
        assert_eq!((first[3], second[0], second[4]), (3.0, 4.0, 8.0));
        assert_eq!(first.joined(&second).as_deref(), Some(&all[..9]));
        assert!(second.joined(&first).is_none() && first.joined(&Buffer::new(vec![4.0])).is_none());
        assert_eq!(AsRef::<[u8]>::as_ref(&all.slice(1..2)), 1f32.to_ne_bytes());
    }

    #[test]
    fn the_guard_goes_with_the_last_part() {
        let guard = Arc::new(());
        let all = Buffer::holding(vec![0.0; 4], Some(Box::new(Arc::clone(&guard))));
        let part = all.slice(1..2);
        drop(all);
        assert_eq!(Arc::strong_count(&guard), 2);
        drop(part);
        assert_eq!(Arc::strong_count(&guard), 1);
    }

    #[test]
    fn vectors_have_room_and_come_back_empty() {
        for values in [0, 1, SMALL - 1, SMALL, PIECE, PIECE + 1] {
            let mut vector = with_capacity(values);
            assert!(vector.is_empty() && vector.capacity() >= values);
            vector.resize(values, 1.0);
            drop(Buffer::new(vector));
        }
    }
}
