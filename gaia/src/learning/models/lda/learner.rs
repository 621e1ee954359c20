//! One worker's passes over its documents, a slice of them each clock.

use std::ops::Range;

use super::random::Random;
use super::sampler::{Priors, Tokens};
use super::{DOCUMENTS, Lda, TOPICS, WORDS};
use crate::learning::application::{Learner, RowSet, StepError, Tables, Work};

pub(super) struct LdaLearner<'a> {
    application: &'a Lda,
    documents: Vec<u32>,
    slices: Vec<Slice>,
    random: Random,
    /// Of one word: what the table has, and what is added to it; shape `[topics]` each.
    row: Vec<f32>,
    delta: Vec<f32>,
}

/// The documents of one clock of each epoch.
struct Slice {
    /// Their places among the worker's.
    documents: Range<usize>,
    tokens: Tokens,
    /// Whether their tokens have topics.
    has_begun: bool,
}

impl<'a> LdaLearner<'a> {
    pub(super) fn new(application: &'a Lda, documents: Vec<u32>, seed: u64) -> Self {
        let (count, priors) = (documents.len(), application.priors());
        let slices = (application.settings.clocks_per_epoch as usize).min(count.max(1));
        let slice = |part: usize| {
            let range = part * count / slices..(part + 1) * count / slices;
            let bags =
                documents[range.clone()].iter().map(|at| application.data.train.document(*at as usize));
            Slice { documents: range, tokens: Tokens::new(bags, priors), has_begun: false }
        };
        Self {
            slices: (0..slices).map(slice).collect(),
            row: vec![0.0; priors.topics],
            delta: vec![0.0; priors.topics],
            random: Random::new(seed),
            documents,
            application,
        }
    }

    /// Which slice's turn it is; none at the clocks of an epoch for which there are no documents.
    fn slice(&self, clock: u32) -> Option<usize> {
        let part = (clock % self.application.settings.clocks_per_epoch) as usize;
        (part < self.slices.len()).then_some(part)
    }

    /// The part of the joint log-likelihood that is the documents' (`Lda::log_document`), of those
    /// whose tokens have topics.
    #[cfg(test)]
    pub(super) fn log_documents(&self) -> f64 {
        let slices = self.slices.iter().filter(|slice| slice.has_begun);
        let of_slice = |slice: &Slice| -> f64 {
            let documents = (0..slice.tokens.document_count()).map(|at| slice.tokens.of_document(at));
            documents.map(|counts| self.application.log_document(counts)).sum()
        };
        slices.map(of_slice).sum()
    }

    /// Goes over the words of a slice: `act` is told the place of each, what the table has of it, and
    /// where to put what is to be added. Yields what that is by topic, in sum.
    fn each_word(
        slice: &mut Slice,
        (row, delta): (&mut [f32], &mut [f32]),
        tables: &mut dyn Tables,
        mut act: impl FnMut(&mut Tokens, usize, &[f32], &mut [f32]),
    ) -> Vec<f32> {
        let mut sums = vec![0.0; row.len()];
        for at in 0..slice.tokens.words().len() {
            let word = slice.tokens.words()[at];
            row.copy_from_slice(tables.row(WORDS, word));
            delta.fill(0.0);
            act(&mut slice.tokens, at, row, delta);
            if delta.iter().any(|change| *change != 0.0) {
                sums.iter_mut().zip(&*delta).for_each(|(sum, change)| *sum += change);
                tables.add(WORDS, word, delta);
            }
        }
        sums
    }

    /// Gives the tokens of a slice their first topics.
    fn begin(&mut self, part: usize, priors: Priors, tables: &mut dyn Tables) {
        let Self { slices, random, row, delta, documents, .. } = self;
        let (slice, documents) = (&mut slices[part], &*documents);
        let ids = &documents[slice.documents.clone()];
        let is_counted: Vec<bool> = ids.iter().map(|id| tables.row(DOCUMENTS, *id)[0] > 0.0).collect();
        let sums = Self::each_word(slice, (row, delta), tables, |tokens, at, row, delta| {
            tokens.begin_word(at, (row, delta), |document| is_counted[document], priors, random);
        });
        tables.add(TOPICS, 0, &sums);
        for (at, id) in ids.iter().enumerate().filter(|(at, _)| !is_counted[*at]) {
            tables.add(DOCUMENTS, *id, &[slice.tokens.length(at) as f32]);
        }
        slice.has_begun = true;
    }

    /// Samples all tokens of a slice.
    fn pass(&mut self, part: usize, priors: Priors, tables: &mut dyn Tables) {
        let Self { slices, random, row, delta, .. } = self;
        let mut totals = tables.row(TOPICS, 0).to_vec();
        let sums = Self::each_word(&mut slices[part], (row, delta), tables, |tokens, at, row, delta| {
            tokens.pass_word(at, (row, delta), &mut totals, priors, random);
        });
        tables.add(TOPICS, 0, &sums);
    }
}

impl Learner for LdaLearner<'_> {
    fn rows(&mut self, clock: u32, rows: &mut RowSet) {
        let Some(part) = self.slice(clock) else { return };
        let slice = &self.slices[part];
        rows.extend(WORDS, slice.tokens.words().iter().copied());
        rows.insert(TOPICS, 0);
        if !slice.has_begun {
            rows.extend(DOCUMENTS, self.documents[slice.documents.clone()].iter().copied());
        }
    }

    fn step(&mut self, clock: u32, tables: &mut dyn Tables) -> Result<Work, StepError> {
        let Some(part) = self.slice(clock) else { return Ok(Work::examples(0)) };
        let priors = self.application.priors();
        if self.slices[part].has_begun {
            self.pass(part, priors, tables);
        } else {
            self.begin(part, priors, tables);
        }
        Ok(Work::examples(self.slices[part].documents.len() as u64))
    }
}
