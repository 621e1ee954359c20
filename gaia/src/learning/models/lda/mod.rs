//! Topics of documents: latent Dirichlet allocation (Blei, Ng and Jordan, JMLR 3, 2003) by collapsed
//! Gibbs sampling.
//!
//! Each token has a topic. With `n_wk` tokens of word `w` that have topic `k`, `n_k` of them over
//! all words, and `n_dk` in document `d`, workers go through their tokens and draw each one's topic
//! given all others' (see `sampler`). What they share is counts:
//!
//! | table | shape | has |
//! | --- | --- | --- |
//! | `words` | `[words, topics]` | `n_wk` |
//! | `topics` | `[1, topics]` | `n_k` |
//! | `documents` | `[documents, 1]` | how many tokens of a document are counted in the others |
//!
//! All hold whole numbers. The topics of tokens, and `n_dk`, stay with the worker that has the
//! document. A worker that starts again does not know them any more; it sees in `documents` what it
//! has counted, draws topics for these tokens that are likely by `words`, and counts nothing twice:
//! at every clock, the sum of `words`, that of `topics` and that of `documents` are equal, and once all
//! have begun they are the number of tokens.
//!
//! Two scores. *Joint log-likelihood* a token, of words and their topics, by which samplers are
//! compared, is (Griffiths and Steyvers, PNAS 101, 2004, equations 2 and 3)
//!
//! ```text
//! 1/N [ sum_k ( lnG(V b) - V lnG(b) + sum_w lnG(n_wk + b) - lnG(n_k + V b) )
//!     + sum_d ( lnG(K a) - K lnG(a) + sum_k lnG(n_dk + a) - lnG(n_d + K a) ) ]
//! ```
//!
//! with `a` and `b` for `alpha` and `beta`, and `lnG` the logarithm of the gamma function. It needs
//! the topics of all tokens. *Perplexity by document completion* needs the model alone: with every
//! other token of a document the shares of its topics are found (`theta`, by expectation
//! maximisation), and the others are predicted by them, as `exp(-1/N sum ln sum_k theta_k phi_wk)` with
//! `phi_wk = (n_wk + beta) / (n_k + V beta)` (Wallach et al., ICML 2009, section 5). That is the metric,
//! and its logarithm for training documents is the objective.

mod kind;
mod learner;
mod random;
mod sampler;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use datacenter::{TableId, TableSpec};

use self::learner::LdaLearner;
use self::sampler::Priors;
use crate::learning::application::{Application, Evaluation, Judgement, Learner, Metric, Model};
use crate::learning::data::partition::{Attributes, partition};
use crate::learning::data::{Corpus, Documents, Partition, Vocabulary};

pub use self::kind::{LdaKind, LdaSettings};
pub(crate) use self::sampler::MOST_TOPICS;

const WORDS: TableId = TableId(0);
const TOPICS: TableId = TableId(1);
const DOCUMENTS: TableId = TableId(2);

/// Of so many training documents, evenly spread over all, the objective is the mean.
const MOST_SCORED: usize = 1000;

/// Iterations of expectation maximisation that find a document's topics.
const ITERATIONS: u32 = 20;

/// A topic model of documents.
pub struct Lda {
    settings: LdaSettings,
    data: Corpus,
    partition: Partition,
    seed: u64,
}

impl Lda {
    /// The application; `seed` decides the partition.
    pub fn new(settings: LdaSettings, data: Corpus, partition: Partition, seed: u64) -> Self {
        Self { settings, data, partition, seed }
    }

    fn priors(&self) -> Priors {
        let LdaSettings { topics, alpha, beta, proposals, .. } = self.settings;
        Priors {
            topics: topics as usize,
            alpha: alpha as f32,
            beta: beta as f32,
            beta_sum: (beta * f64::from(self.data.words)) as f32,
            proposals,
        }
    }

    /// The part of the joint log-likelihood that is the words', of all tokens together.
    pub fn log_words(&self, model: &Model) -> f64 {
        let (beta, words) = (self.settings.beta, f64::from(self.data.words));
        let (of_all, of_one) = (libm::lgamma(words * beta), libm::lgamma(beta));
        let counts = model.table(WORDS);
        let mut sum = 0.0;
        for topic in counts.columns() {
            let total: f64 = topic.iter().map(|count| f64::from(*count)).sum();
            // Those that are zero add nothing.
            let seen = topic.iter().filter(|count| **count > 0.0);
            let of_words: f64 = seen.map(|count| libm::lgamma(f64::from(*count) + beta) - of_one).sum();
            sum += of_all - libm::lgamma(total + words * beta) + of_words;
        }
        sum
    }

    /// The part of the joint log-likelihood that is a document's, whose tokens have topics so often;
    /// shape `[topics]`.
    #[cfg(test)]
    fn log_document(&self, counts: &[u16]) -> f64 {
        let (alpha, topics) = (self.settings.alpha, f64::from(self.settings.topics));
        let of_one = libm::lgamma(alpha);
        let seen = counts.iter().filter(|count| **count > 0);
        let of_topics: f64 = seen.map(|count| libm::lgamma(f64::from(*count) + alpha) - of_one).sum();
        let length: f64 = counts.iter().map(|count| f64::from(*count)).sum();
        libm::lgamma(topics * alpha) - libm::lgamma(length + topics * alpha) + of_topics
    }

    /// The words of each topic with the largest counts, most first; of equal ones the first in the
    /// vocabulary.
    pub fn top_words(&self, model: &Model, most: usize) -> Vec<Vec<u32>> {
        let counts = model.table(WORDS);
        let top = |topic: usize| {
            let column = counts.column(topic);
            let mut words: Vec<u32> = (0..self.data.words).collect();
            words.sort_by(|a, b| column[*b as usize].total_cmp(&column[*a as usize]));
            words.truncate(most);
            words
        };
        (0..counts.ncols()).map(top).collect()
    }

    /// How unlikely the second halves of some documents are, given the first ones.
    fn completed(&self, phi: &Phi, documents: &Documents, which: impl Iterator<Item = usize>) -> Score {
        let mut score = Score::default();
        which.for_each(|at| phi.complete(documents.document(at), self.settings.alpha, &mut score));
        score
    }

    fn evaluation(&self, objective: Score, judged: Score) -> Evaluation {
        let value = libm::exp(judged.mean());
        let metric = Metric { name: "perplexity", value, larger_is_better: false, best: Some(1.0) };
        Evaluation { objective: objective.mean(), metric }
    }
}

impl Application for Lda {
    fn tables(&self) -> Vec<TableSpec> {
        let documents = self.data.train.len().max(1) as u32;
        vec![
            TableSpec::new("words", self.data.words, self.settings.topics).whole(),
            TableSpec::new("topics", 1, self.settings.topics).whole(),
            TableSpec::new("documents", documents, 1).whole(),
        ]
    }

    fn initialise(&self, _table: TableId, _row: u32, _out: &mut [f32]) {
        // Nothing is counted yet.
    }

    fn partition(&self, parts: usize) -> Vec<Vec<u32>> {
        let keys: Vec<u32> = (0..self.data.train.len() as u32).collect();
        partition(self.partition, Attributes { keys: &keys, labels: &keys }, parts, self.seed)
    }

    fn learner(&self, examples: Vec<u32>, _share: f64, seed: u64) -> Box<dyn Learner + '_> {
        Box::new(LdaLearner::new(self, examples, seed))
    }

    fn evaluate(&self, model: &Model) -> Evaluation {
        let phi = Phi::of(model, self.settings.beta);
        let count = self.data.train.len();
        let scored = count.min(MOST_SCORED);
        let trained = self.completed(&phi, &self.data.train, (0..scored).map(|at| at * count / scored));
        let judged = match &self.data.test {
            Some(test) => self.completed(&phi, test, 0..test.len()),
            None => trained,
        };
        self.evaluation(trained, judged)
    }

    fn judge(&self, model: &Model) -> Option<Judgement> {
        let test = self.data.test.as_ref().filter(|test| !test.is_empty())?;
        let judged = self.completed(&Phi::of(model, self.settings.beta), test, 0..test.len());
        Some(Judgement { evaluation: self.evaluation(judged, judged), examples: test.len() })
    }

    fn vocabulary(&self) -> Option<Arc<Vocabulary>> {
        self.data.vocabulary.clone()
    }
}

/// A sum of negative log-likelihoods.
#[derive(Clone, Copy, Debug, Default)]
struct Score {
    sum: f64,
    tokens: u64,
}

impl Score {
    fn mean(self) -> f64 {
        self.sum / self.tokens.max(1) as f64
    }
}

/// `phi`: how likely each word is by each topic.
struct Phi {
    topics: usize,
    /// Shape `[words, topics]`.
    values: Vec<f64>,
}

impl Phi {
    fn of(model: &Model, beta: f64) -> Self {
        let counts = model.table(WORDS);
        let (words, topics) = counts.dim();
        // A copy may lack what others have taken away, and then has less than nothing.
        let count = |count: f32| f64::from(count.max(0.0)) + beta;
        let totals: Vec<f64> =
            counts.columns().into_iter().map(|topic| topic.iter().map(|c| count(*c)).sum()).collect();
        let mut values = Vec::with_capacity(words * topics);
        for row in counts.rows() {
            values.extend(row.iter().zip(&totals).map(|(c, total)| count(*c) / total));
        }
        Self { topics, values }
    }

    fn row(&self, word: u32) -> &[f64] {
        &self.values[word as usize * self.topics..][..self.topics]
    }

    /// Adds how unlikely every second token of a document is, given the others.
    fn complete(&self, document: impl Iterator<Item = (u32, u32)>, alpha: f64, score: &mut Score) {
        let (mut known, mut hidden, mut before) = (Vec::new(), Vec::new(), 0);
        for (word, count) in document {
            // Tokens are known and hidden in turn.
            let of_known = (count + 1 - before % 2) / 2;
            known.push((word, f64::from(of_known)));
            hidden.push((word, count - of_known));
            before += count;
        }
        let mut theta = vec![1.0 / self.topics as f64; self.topics];
        let mut next = vec![0.0; self.topics];
        for _ in 0..ITERATIONS {
            next.fill(alpha);
            for (word, count) in known.iter().filter(|(_, count)| *count > 0.0) {
                let parts = || theta.iter().zip(self.row(*word)).map(|(share, phi)| share * phi);
                let scale = count / parts().sum::<f64>();
                next.iter_mut().zip(parts()).for_each(|(next, part)| *next += scale * part);
            }
            let sum: f64 = next.iter().sum();
            theta.iter_mut().zip(&next).for_each(|(share, next)| *share = next / sum);
        }
        for (word, count) in hidden.into_iter().filter(|(_, count)| *count > 0) {
            let likelihood: f64 = theta.iter().zip(self.row(word)).map(|(share, phi)| share * phi).sum();
            score.sum -= f64::from(count) * libm::log(likelihood);
            score.tokens += u64::from(count);
        }
    }
}
