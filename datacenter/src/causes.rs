//! How errors are told to people.
//!
//! Kind: time-free.

use std::error::Error;

/// An error and its causes, in one line; what a message has of its cause already is not said twice.
pub fn with_causes(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}
