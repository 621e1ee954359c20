//! Operations out of bytes.

use arbitrary::{Arbitrary, Unstructured};

/// The operations that the bytes say, until they end.
pub(super) fn operations<'a, T: Arbitrary<'a>>(bytes: &mut Unstructured<'a>) -> Vec<T> {
    let mut operations = Vec::new();
    while !bytes.is_empty()
        && let Ok(operation) = bytes.arbitrary()
    {
        operations.push(operation);
    }
    operations
}
