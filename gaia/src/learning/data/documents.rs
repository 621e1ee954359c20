//! Documents as bags of words.

use std::sync::Arc;

use super::names::Vocabulary;

/// The most tokens of a document: its counts are kept in 16 bits.
pub const MAX_DOCUMENT_TOKENS: u32 = u16::MAX as u32;

/// The most tokens of a file, whose places are kept in 32 bits.
pub(crate) const MAX_TOKENS: u64 = 1 << 30;

/// Documents, each with its words and how often they occur.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Documents {
    /// Where each begins in the other two; shape `[documents]`.
    starts: Vec<u32>,
    words: Vec<u32>,
    counts: Vec<u32>,
    tokens: u64,
}

impl Documents {
    /// Appends a document of `(word, count)` pairs.
    pub fn push(&mut self, pairs: impl IntoIterator<Item = (u32, u32)>) {
        self.starts.push(self.words.len() as u32);
        for (word, count) in pairs {
            self.words.push(word);
            self.counts.push(count);
            self.tokens += u64::from(count);
        }
    }

    /// How many documents.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// How many tokens: occurrences of words.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// The words of document `at` and how often each occurs, in the order of the file.
    pub fn document(&self, at: usize) -> impl Iterator<Item = (u32, u32)> {
        let end = self.starts.get(at + 1).map_or(self.words.len(), |end| *end as usize);
        let range = self.starts[at] as usize..end;
        self.words[range.clone()].iter().copied().zip(self.counts[range].iter().copied())
    }

    /// How many tokens document `at` has.
    pub fn length(&self, at: usize) -> u64 {
        self.document(at).map(|(_, count)| u64::from(count)).sum()
    }
}

/// A data set of documents.
#[derive(Clone, Debug, PartialEq)]
pub struct Corpus {
    /// What to train on; empty where a model is judged by other documents.
    pub train: Documents,
    /// What to judge by.
    pub test: Option<Documents>,
    /// How many words there are, whether they occur or not.
    pub words: u32,
    /// What they are; none where they are drawn.
    pub vocabulary: Option<Arc<Vocabulary>>,
}
