//! Text files, one line at a time in one buffer.

use std::io::{self, BufRead, Read};

use datacenter::printable;

/// The longest line, in bytes: 16 MiB, far above any sane example and far below a machine's memory,
/// also where a loader makes ten times as much of it.
pub(crate) const MAX_LINE_BYTES: u64 = 16 << 20;

/// What is allowed where a feature or a rating stands.
pub(crate) const FINITE: &str = "a number from -3.4e38 to 3.4e38 is allowed";

/// Why a line cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The file cannot be read on, or its gzip stream is damaged.
    #[error("line {line}: cannot be read")]
    Io {
        /// Counted from one.
        line: u64,
        /// The cause.
        source: io::Error,
    },
    /// The line is too long to be an example.
    #[error("line {line}: is longer than the {MAX_LINE_BYTES} bytes allowed")]
    TooLong {
        /// Counted from one.
        line: u64,
    },
    /// The line is not text.
    #[error("line {line}: is not UTF-8 text")]
    NotText {
        /// Counted from one.
        line: u64,
    },
}

/// The lines of a text file, numbered from one.
pub(crate) struct Lines<R> {
    input: R,
    buffer: Vec<u8>,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, buffer: Vec::new(), number: 0 }
    }

    /// What has not been read yet.
    pub(crate) fn into_inner(self) -> R {
        self.input
    }

    /// The next line that is not blank, with its number, without surrounding white space or a byte
    /// order mark.
    pub(crate) fn next_filled(&mut self) -> Result<Option<(u64, &str)>, LineError> {
        Ok(self.next_whole()?.map(|(line, text)| (line, text.trim())))
    }

    /// The same with the white space around it, but without its end.
    pub(crate) fn next_whole(&mut self) -> Result<Option<(u64, &str)>, LineError> {
        loop {
            self.number += 1;
            let line = self.number;
            self.buffer.clear();
            let mut limited = (&mut self.input).take(MAX_LINE_BYTES + 1);
            let count = limited
                .read_until(b'\n', &mut self.buffer)
                .map_err(|source| LineError::Io { line, source })?;
            if count == 0 {
                return Ok(None);
            }
            if count as u64 > MAX_LINE_BYTES {
                return Err(LineError::TooLong { line });
            }
            if self.buffer.iter().any(|byte| !byte.is_ascii_whitespace()) {
                break;
            }
        }
        let line = self.number;
        let text = std::str::from_utf8(&self.buffer).map_err(|_| LineError::NotText { line })?;
        Ok(Some((line, text.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']))))
    }
}

/// `text` as it may stand in a message: its first 40 characters, those escaped that are not seen.
pub(crate) fn excerpt(text: &str) -> String {
    const SHOWN: usize = 40;
    let end = text.char_indices().nth(SHOWN).map_or(text.len(), |(end, _)| end);
    let mut shown = printable::line(&text[..end]).into_owned();
    if text.chars().nth(SHOWN).is_some() {
        shown.push_str("...");
    }
    shown
}

/// A finite number.
pub(crate) fn parse_finite(text: &str) -> Option<f32> {
    text.parse().ok().filter(|number: &f32| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_lines_are_skipped_and_still_counted() {
        let mut lines = Lines::new("\u{feff}a b\r\n\n  \nc".as_bytes());
        assert_eq!(lines.next_filled().unwrap(), Some((1, "a b")));
        assert_eq!(lines.next_filled().unwrap(), Some((4, "c")));
        assert_eq!(lines.next_filled().unwrap(), None);
    }

    #[test]
    fn an_endless_line_ends_the_reading_not_the_memory() {
        let mut lines = Lines::new(io::BufReader::new(io::repeat(b'x')));
        assert!(matches!(lines.next_filled(), Err(LineError::TooLong { line: 1 })));
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        let mut lines = Lines::new(&b"ok\n\xff\xfe\n"[..]);
        assert_eq!(lines.next_filled().unwrap(), Some((1, "ok")));
        assert!(matches!(lines.next_filled(), Err(LineError::NotText { line: 2 })));
    }

    #[test]
    fn excerpts_are_short_and_safe() {
        assert_eq!(excerpt("short"), "short");
        assert_eq!(excerpt("\u{1b}[2J\n"), "\\u{1b}[2J\\n");
        assert_eq!(excerpt("1\u{202e}2\u{200b}"), "1\\u{202e}2\\u{200b}");
        assert_eq!(excerpt(&"é".repeat(100)), format!("{}...", "é".repeat(40)));
    }
}
