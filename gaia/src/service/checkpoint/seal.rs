//! A checksum in the file that it is of.
//!
//! The metadata of a file has `sha256`: 64 hexadecimal digits, the hash of the whole file as it is
//! with 64 zeros in their place. So there is one file, whole or not, and no second one that could
//! belong to another version of it; and whatever is cut off or flipped anywhere, be it in the
//! length, the metadata or the values, the hash is another.
//!
//! Kind: time-free.

use std::ops::Range;

use ring::digest::{Context, SHA256};

use super::content::MAX_HEADER_BYTES;

/// What stands before the digits. JSON writes quotes inside of a text with a backslash, so no text
/// looks like it.
const KEY: &[u8] = b"\"sha256\":\"";
const DIGITS: usize = 64;
/// What is in their place while the hash is computed.
pub(super) const BLANK: [u8; DIGITS] = [b'0'; DIGITS];

/// Writes the checksum into `file`, a safetensors file with a text of 64 characters at `sha256` in
/// its metadata.
///
/// Yields whether there was a place for it.
pub fn seal(file: &mut [u8]) -> bool {
    let Some(place) = place(file) else { return false };
    let digits = digits(file, &place);
    file[place].copy_from_slice(digits.as_bytes());
    true
}

/// Whether `file` is as it was sealed; none if it has no checksum.
pub(super) fn is_intact(file: &[u8]) -> Option<bool> {
    let place = place(file)?;
    Some(digits(file, &place).as_bytes() == &file[place])
}

/// Where the digits are.
fn place(file: &[u8]) -> Option<Range<usize>> {
    let (length, rest) = file.split_first_chunk()?;
    let length = u64::from_le_bytes(*length);
    let header = rest.get(..usize::try_from(length).ok().filter(|_| length <= MAX_HEADER_BYTES)?)?;
    let start = header.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    (start + DIGITS <= header.len()).then_some(8 + start..8 + start + DIGITS)
}

fn digits(file: &[u8], place: &Range<usize>) -> String {
    let mut context = Context::new(&SHA256);
    context.update(&file[..place.start]);
    context.update(&BLANK);
    context.update(&file[place.end..]);
    hex(context.finish().as_ref())
}

/// Bytes in hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
