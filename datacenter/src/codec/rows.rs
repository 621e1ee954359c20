//! Rows, then columns within them, range-coded: index sets whose elements keep together
//! (time-free).
//!
//! A user who rated something, a word that came, a neuron that fired: what an update touches is
//! rows, and of a touched row a large part. Gaps between elements see that only as disorder. Here
//! the gaps are between touched rows, and a touched row has a bit for each column, with the
//! probability that those before suggest; with rows one element wide what is left is gaps coded to
//! their entropy, at every density.
//!
//! ```text
//! body     = length width stream
//! length   = varint: bytes of the stream
//! width    = varint: elements of a row
//! stream   = the columns of the first row after the first index; then for each other row how many rows are left out
//!            before it, and its columns; it ends with the last index
//! columns  = a bit for each; the last one is omitted where it is the only one that can be set, all where width is 1
//! ```

use prost::encoding::encode_varint;

use super::CodecError;
use super::arithmetic::{Decoder, Encoder, NumberModel, Probability};
use super::indexes::{Reader, Unread};

/// How many columns may be looked at for each index. A row of a million columns with one index
/// would cost more time than such a set is worth, and a reader as much for a few bytes.
const MAX_COLUMNS_PER_INDEX: u64 = 32;

/// Up to how many indexes are written so: there each takes up to fifty nanoseconds, and more are
/// seldom so sparse.
pub(super) const MAX_COUNT: usize = 1 << 16;

/// Whether rows of `width` suit `indexes`.
pub(super) fn is_suited(indexes: &[u32], width: u32) -> bool {
    let rows = indexes.chunk_by(|a, b| a / width == b / width).count();
    is_affordable(rows as u64, width.into(), indexes.len() as u64)
}

fn is_affordable(rows: u64, width: u64, count: u64) -> bool {
    width == 1 || rows.saturating_mul(width) <= MAX_COLUMNS_PER_INDEX * count
}

/// Appends the body of `indexes`, of which the first is already written.
pub(super) fn write(indexes: &[u32], width: u32, out: &mut Vec<u8>) {
    let mut stream = Vec::new();
    let mut encoder = Encoder::new(&mut stream);
    let mut model = Model::new();
    let mut next_row = None;
    let mut left = indexes.len();
    for row in indexes.chunk_by(|a, b| a / width == b / width) {
        let number = row[0] / width;
        let mut next_column = match next_row {
            None => row[0] % width + 1,
            Some(next) => {
                model.rows.put(&mut encoder, number - next);
                0
            }
        };
        next_row = Some(number + 1);
        let listed = if next_column > 0 { &row[1..] } else { row };
        left -= row.len();
        if width == 1 {
            continue;
        }
        let mut is_empty = next_column == 0;
        let mut put = |column: u32, is_set: bool| {
            if !(is_empty && column == width - 1) {
                model.put_column(&mut encoder, is_set);
            }
            is_empty &= !is_set;
        };
        for index in listed {
            let column = index % width;
            (next_column..column).for_each(|column| put(column, false));
            put(column, true);
            next_column = column + 1;
        }
        if left > 0 {
            (next_column..width).for_each(|column| put(column, false));
        }
        model.was_set = false;
    }
    encoder.finish();
    encode_varint(stream.len() as u64, out);
    encode_varint(width.into(), out);
    out.extend_from_slice(&stream);
}

/// Reads the body of `set` and appends its indexes.
pub(super) fn read(set: Unread, reader: &mut Reader<'_>, indexes: &mut Vec<u32>) -> Result<(), CodecError> {
    let len = reader.varint()?;
    let width = reader.varint()?;
    if width == 0 || width > set.capacity.into() {
        return Err(CodecError::Width { width });
    }
    let mut decoder = Decoder::new(reader.take(usize::try_from(len).unwrap_or(usize::MAX))?);
    let mut model = Model::new();
    indexes.push(set.first);
    let mut left = set.count - 1;
    let (mut row, mut rows) = (u64::from(set.first) / width, 1);
    let mut column = u64::from(set.first) % width + 1;
    let mut is_empty = false;
    loop {
        if !is_affordable(rows, width, set.count.into()) {
            return Err(CodecError::Width { width });
        }
        while column < width && left > 0 {
            let is_set = (is_empty && column == width - 1) || model.take_column(&mut decoder);
            if is_set {
                indexes.push(set.check(row * width + column)?);
                left -= 1;
                is_empty = false;
            }
            column += 1;
        }
        if left == 0 {
            return decoder.finish(0, set.count);
        }
        model.was_set = false;
        row += 1 + u64::from(model.rows.take(&mut decoder));
        set.check(row * width)?;
        rows += 1;
        (column, is_empty) = (0, true);
    }
}

/// What rows and columns were so far.
struct Model {
    /// How many rows are left out between two.
    rows: NumberModel,
    /// Whether a column is set, by whether the one before it in the row is.
    columns: [Probability; 2],
    was_set: bool,
}

impl Model {
    fn new() -> Self {
        Self { rows: NumberModel::new(), columns: [Probability::EVEN; 2], was_set: false }
    }

    fn put_column(&mut self, encoder: &mut Encoder<'_>, is_set: bool) {
        encoder.put(&mut self.columns[usize::from(self.was_set)], is_set);
        self.was_set = is_set;
    }

    fn take_column(&mut self, decoder: &mut Decoder<'_>) -> bool {
        self.was_set = decoder.take(&mut self.columns[usize::from(self.was_set)]);
        self.was_set
    }
}

#[cfg(test)]
mod tests;
