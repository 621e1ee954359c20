//! Bags of words in text files: UCI's and LDA-C's, and the words that they count.
//!
//! UCI's (`docword.*.txt`) begins with three lines, the numbers of documents, of words and of the lines
//! that follow, each of which is `document word count` with both counted from one; lines of one
//! document follow each other. LDA-C's (Blei) has a line for each document: how many words it has,
//! then `word:count` for each, words counted from zero. The words are a file of their own, one in a
//! line.
//!
//! A document without words is left out. What is claimed at the top is compared with what comes, and
//! nothing is allocated for it.

use std::io::BufRead;

use super::documents::{Documents, MAX_DOCUMENT_TOKENS, MAX_TOKENS};
use super::lines::{LineError, Lines, excerpt};
use super::names::MAX_NAME_BYTES;

/// The most words of a vocabulary.
pub(crate) const MAX_WORDS: u32 = 10_000_000;

/// Why a file is no usable bag of words.
#[derive(Debug, thiserror::Error)]
pub enum BagError {
    /// A line cannot be had.
    #[error(transparent)]
    Line(#[from] LineError),
    /// A line of the header.
    #[error("line {line}: `{found}`, the number of {what} is allowed here, alone")]
    Header {
        /// Counted from one.
        line: u64,
        /// What should be there.
        what: &'static str,
        /// What is.
        found: String,
    },
    /// The file ends where its header has yet to be.
    #[error("there are no documents, at least one is needed")]
    Empty,
    /// Not what an entry looks like.
    #[error("line {line}: `{found}`, only {allowed} is allowed")]
    Entry {
        /// Counted from one.
        line: u64,
        /// What is there.
        found: String,
        /// What may be.
        allowed: &'static str,
    },
    /// A number out of its range.
    #[error("line {line}: {what} {found}, {least} to {most} is allowed")]
    Range {
        /// Counted from one.
        line: u64,
        /// What it counts or names.
        what: &'static str,
        /// The number.
        found: u64,
        /// The least.
        least: u64,
        /// The most.
        most: u64,
    },
    /// Lines of one document that do not follow each other.
    #[error("line {line}: document {found} after document {before}; documents ascend")]
    Order {
        /// Counted from one.
        line: u64,
        /// The document.
        found: u64,
        /// The one before.
        before: u64,
    },
    /// Another number of things than was claimed.
    #[error("{found} {what}, {claimed} were announced")]
    Count {
        /// What was counted.
        what: &'static str,
        /// How many there are.
        found: u64,
        /// How many there should be.
        claimed: u64,
    },
    /// A document, or a file, with too many tokens.
    #[error("line {line}: {what} has more than the {most} tokens allowed")]
    TooMany {
        /// Counted from one.
        line: u64,
        /// `the document` or `the file`.
        what: &'static str,
        /// The most.
        most: u64,
    },
    /// A word that is too long to be one.
    #[error("line {line}: `{found}` has more than the {MAX_NAME_BYTES} bytes allowed")]
    Word {
        /// Counted from one.
        line: u64,
        /// Its beginning.
        found: String,
    },
}

/// Documents as they are read.
#[derive(Default)]
struct Reading {
    documents: Documents,
    /// Of the document that is being read.
    pairs: Vec<(u32, u32)>,
    length: u64,
}

impl Reading {
    fn push(&mut self, line: u64, word: u32, count: u64) -> Result<(), BagError> {
        self.length += count;
        if self.length > u64::from(MAX_DOCUMENT_TOKENS) {
            return Err(BagError::TooMany { line, what: "the document", most: MAX_DOCUMENT_TOKENS.into() });
        }
        if self.documents.tokens() + self.length > MAX_TOKENS {
            return Err(BagError::TooMany { line, what: "the file", most: MAX_TOKENS });
        }
        self.pairs.push((word, count as u32));
        Ok(())
    }

    fn end_document(&mut self) {
        self.length = 0;
        if !self.pairs.is_empty() {
            self.documents.push(self.pairs.drain(..));
        }
    }

    fn finish(mut self) -> Result<Documents, BagError> {
        self.end_document();
        if self.documents.is_empty() { Err(BagError::Empty) } else { Ok(self.documents) }
    }
}

fn within(line: u64, what: &'static str, found: u64, (least, most): (u64, u64)) -> Result<u64, BagError> {
    match (least..=most).contains(&found) {
        true => Ok(found),
        false => Err(BagError::Range { line, what, found, least, most }),
    }
}

/// Reads UCI's format, of documents over `words` words.
pub(crate) fn read_uci(input: impl BufRead, words: u32) -> Result<Documents, BagError> {
    const ENTRY: &str = "document word count, each a whole number";
    let mut lines = Lines::new(input);
    let mut header = [0; 3];
    for (value, what) in header.iter_mut().zip(["documents", "words", "lines that follow"]) {
        let (line, text) = lines.next_filled()?.ok_or(BagError::Empty)?;
        *value = text.parse().map_err(|_| BagError::Header { line, what, found: excerpt(text) })?;
        if what == "words" {
            within(line, "the number of words is", *value, (1, words.into()))?;
        }
    }
    let [documents, of_words, claimed] = header;
    let (mut reading, mut before, mut count_of_lines) = (Reading::default(), 0, 0);
    while let Some((line, text)) = lines.next_filled()? {
        let wrong = || BagError::Entry { line, found: excerpt(text), allowed: ENTRY };
        let mut numbers = text.split_ascii_whitespace().map(str::parse::<u64>);
        let mut next = || numbers.next().and_then(Result::ok).ok_or_else(wrong);
        let (document, word, count) = (next()?, next()?, next()?);
        if numbers.next().is_some() {
            return Err(wrong());
        }
        within(line, "document", document, (1, documents))?;
        within(line, "word", word, (1, of_words))?;
        within(line, "count", count, (1, MAX_DOCUMENT_TOKENS.into()))?;
        if document < before {
            return Err(BagError::Order { line, found: document, before });
        }
        if document > before {
            reading.end_document();
        }
        before = document;
        reading.push(line, word as u32 - 1, count)?;
        count_of_lines += 1;
    }
    if count_of_lines != claimed {
        return Err(BagError::Count { what: "lines", found: count_of_lines, claimed });
    }
    reading.finish()
}

/// Reads LDA-C's format, of documents over `words` words.
pub(crate) fn read_ldac(input: impl BufRead, words: u32) -> Result<Documents, BagError> {
    let mut lines = Lines::new(input);
    let mut reading = Reading::default();
    while let Some((line, text)) = lines.next_filled()? {
        let mut fields = text.split_ascii_whitespace();
        let first = fields.next().unwrap_or_default();
        let what = "words of the document";
        let claimed: u64 =
            first.parse().map_err(|_| BagError::Header { line, what, found: excerpt(first) })?;
        let mut found = 0;
        for field in fields {
            let wrong = || BagError::Entry {
                line,
                found: excerpt(field),
                allowed: "word:count, each a whole number",
            };
            let (word, count) = field.split_once(':').ok_or_else(wrong)?;
            let [word, count] =
                [word.parse::<u64>().map_err(|_| wrong())?, count.parse().map_err(|_| wrong())?];
            within(line, "word", word, (0, u64::from(words) - 1))?;
            within(line, "count", count, (1, MAX_DOCUMENT_TOKENS.into()))?;
            reading.push(line, word as u32, count)?;
            found += 1;
        }
        within(line, "the number of words is", claimed, (found, found))?;
        reading.end_document();
    }
    reading.finish()
}

/// Reads the words, one in a line, in their order.
pub(crate) fn read_words(input: impl BufRead) -> Result<Vec<String>, BagError> {
    let mut lines = Lines::new(input);
    let mut words = Vec::new();
    while let Some((line, word)) = lines.next_filled()? {
        if word.len() > MAX_NAME_BYTES {
            return Err(BagError::Word { line, found: excerpt(word) });
        }
        within(line, "the number of words is", words.len() as u64 + 1, (1, MAX_WORDS.into()))?;
        words.push(word.to_owned());
    }
    if words.is_empty() { Err(BagError::Empty) } else { Ok(words) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uci(text: &str) -> Result<Documents, String> {
        read_uci(text.as_bytes(), 5).map_err(|error| error.to_string())
    }

    fn ldac(text: &str) -> Result<Documents, String> {
        read_ldac(text.as_bytes(), 5).map_err(|error| error.to_string())
    }

    #[test]
    fn both_formats_say_the_same() {
        let one = uci("3\n5\n4\n1 2 1\n1 5 3\n3 1 2\n3 2 1\n").expect("it is sound");
        assert_eq!((one.len(), one.tokens()), (2, 7));
        assert!(one.document(0).eq([(1, 1), (4, 3)]) && one.document(1).eq([(0, 2), (1, 1)]));
        assert_eq!(one.length(1), 3);
        assert_eq!(ldac("2 1:1 4:3\n0\n2 0:2 1:1\n"), Ok(one));
        assert_eq!(read_words("a\nb c\n".as_bytes()).unwrap(), ["a", "b c"]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let table = [
            (uci(""), "there are no documents, at least one is needed"),
            (uci("1\n5\n0\n"), "there are no documents, at least one is needed"),
            (uci("x\n"), "line 1: `x`, the number of documents is allowed here, alone"),
            (uci("1\n6\n1\n1 6 1\n"), "line 2: the number of words is 6, 1 to 5 is allowed"),
            (uci("1\n5\n1\n1 6 1\n"), "line 4: word 6, 1 to 5 is allowed"),
            (uci("1\n5\n1\n1 0 1\n"), "line 4: word 0, 1 to 5 is allowed"),
            (uci("1\n5\n1\n2 1 1\n"), "line 4: document 2, 1 to 1 is allowed"),
            (uci("1\n5\n1\n1 1 0\n"), "line 4: count 0, 1 to 65535 is allowed"),
            (
                uci("1\n5\n1\n1 1 -3\n"),
                "line 4: `1 1 -3`, only document word count, each a whole number is allowed",
            ),
            (
                uci("1\n5\n1\n1 1 1 1\n"),
                "line 4: `1 1 1 1`, only document word count, each a whole number is allowed",
            ),
            (uci("2\n5\n2\n2 1 1\n1 1 1\n"), "line 5: document 1 after document 2; documents ascend"),
            (uci("1\n5\n2\n1 1 1\n"), "1 lines, 2 were announced"),
            (
                uci("1\n5\n2\n1 1 65535\n1 2 1\n"),
                "line 5: the document has more than the 65535 tokens allowed",
            ),
            (ldac("x 1:1\n"), "line 1: `x`, the number of words of the document is allowed here, alone"),
            (ldac("1 5:1\n"), "line 1: word 5, 0 to 4 is allowed"),
            (ldac("1 1:x\n"), "line 1: `1:x`, only word:count, each a whole number is allowed"),
            (ldac("2 1:1\n"), "line 1: the number of words is 2, 1 to 1 is allowed"),
            (ldac("0\n"), "there are no documents, at least one is needed"),
        ];
        for (found, expected) in table {
            assert_eq!(found, Err(expected.to_owned()));
        }
        let long = "x".repeat(300);
        assert!(matches!(read_words(long.as_bytes()), Err(BagError::Word { line: 1, .. })));
    }
}
