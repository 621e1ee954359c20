//! Topics of tokens, sampled by Metropolis and Hastings.
//!
//! What is sampled from is the posterior of collapsed Gibbs sampling (Griffiths and Steyvers, PNAS
//! 101, 2004, equation 5), for a token of word `w` in document `d`, with all counts taken without
//! that token:
//!
//! ```text
//! p(k)  ~  (n_dk + alpha) (n_wk + beta) / (n_k + V beta)
//! ```
//!
//! To compute it for each topic would cost `K` a token. So a topic is proposed by one of the factors,
//! which takes constant time, and accepted by what that leaves of the others (LightLDA: Yuan et al.,
//! WWW 2015, section 3):
//!
//! | proposal | by | how |
//! | --- | --- | --- |
//! | word | `n_wk + beta`, as it was when this word's turn came | Walker's aliases, made once a word and pass over what is not zero |
//! | document | `n_dk + alpha` | the topic of another token of the document, or any |
//!
//! A pass goes word by word, so that the counts of one word lie in the nearest cache. Where we
//! differ from the source: a proposal leaves out the token itself, which would else be proposed its
//! own topic most of the time where the word is rare.
//!
//! WarpLDA (Chen et al., VLDB 2016) would do without the counts of documents, in two passes of which
//! each sees one factor, and the other as it stood in the pass before. It was tried: on the KOS
//! corpus it came to -8.10 of joint log-likelihood a token in 500 passes, a sampler with these counts
//! to -8.06, and a Gibbs sampler that computes all topics to -8.03.
//!
//! Kind: time-free.

use super::random::Random;

/// The most topics: they are kept in 16 bits, as are the counts of a document.
pub(crate) const MOST_TOPICS: u32 = u16::MAX as u32;

/// What a pass needs to know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Priors {
    /// `K`.
    pub(super) topics: usize,
    /// `alpha`, of each topic.
    pub(super) alpha: f32,
    /// `beta`, of each word.
    pub(super) beta: f32,
    /// `V beta`.
    pub(super) beta_sum: f32,
    /// How many topics are proposed to a token by its word, and as many by its document.
    pub(super) proposals: u32,
}

/// The tokens of some documents: occurrences of words.
#[derive(Debug)]
pub(super) struct Tokens {
    /// The topic of each, by document; shape `[tokens]`.
    topics: Vec<u16>,
    /// Where each document begins, and the last one ends; shape `[documents + 1]`.
    documents: Vec<u32>,
    /// `n_dk`, shape `[documents, topics]`.
    of_documents: Vec<u16>,
    /// The words that occur, ascending.
    words: Vec<u32>,
    /// Where the tokens of each word begin in `by_word`, and the last one's end; shape `[words + 1]`.
    word_starts: Vec<u32>,
    /// Tokens by word, with their documents; shape `[tokens]`.
    by_word: Vec<(u32, u32)>,
    /// Counts of one word by topic, as they were and as they are; shape `[topics]` each.
    before: Vec<f32>,
    counts: Vec<f32>,
    alias: Alias,
}

impl Tokens {
    /// Those of `documents`, each with its words and how often they occur. All have topic zero, and
    /// no document is counted.
    pub(super) fn new<D: Iterator<Item = (u32, u32)>>(
        documents: impl Iterator<Item = D>,
        priors: Priors,
    ) -> Self {
        let (mut words_of, mut starts) = (Vec::new(), vec![0]);
        for document in documents {
            for (word, count) in document {
                words_of.extend((0..count).map(|_| word));
            }
            starts.push(words_of.len() as u32);
        }
        let documents = (0..).zip(starts.windows(2));
        let mut by_word: Vec<(u32, u32)> = documents
            .flat_map(|(document, range)| (range[0]..range[1]).map(move |token| (token, document)))
            .collect();
        by_word.sort_by_key(|(token, _)| words_of[*token as usize]);
        let (mut words, mut word_starts) = (Vec::new(), Vec::new());
        for (place, (token, _)) in (0..).zip(&by_word) {
            let word = words_of[*token as usize];
            if words.last() != Some(&word) {
                words.push(word);
                word_starts.push(place);
            }
        }
        word_starts.push(by_word.len() as u32);
        Self {
            topics: vec![0; words_of.len()],
            of_documents: vec![0; (starts.len() - 1) * priors.topics],
            documents: starts,
            words,
            word_starts,
            by_word,
            before: vec![0.0; priors.topics],
            counts: vec![0.0; priors.topics],
            alias: Alias::default(),
        }
    }

    /// The words that occur, ascending.
    pub(super) fn words(&self) -> &[u32] {
        &self.words
    }

    /// How many documents.
    #[cfg(test)]
    pub(super) fn document_count(&self) -> usize {
        self.documents.len() - 1
    }

    /// How many tokens document `at` of these has.
    pub(super) fn length(&self, at: usize) -> u32 {
        self.documents[at + 1] - self.documents[at]
    }

    /// `n_dk` of document `at`; shape `[topics]`.
    #[cfg(test)]
    pub(super) fn of_document(&self, at: usize) -> &[u16] {
        let topics = self.counts.len();
        &self.of_documents[at * topics..][..topics]
    }

    /// Gives every token of word `at` of [`words`](Self::words) its first topic. A document that
    /// `is_counted` has tokens in the table, of topics that nobody knows any more: they are given
    /// topics that are likely by `row`, what the table has of the word. The others' are drawn, and
    /// are added to `delta`; shapes `[topics]`.
    pub(super) fn begin_word(
        &mut self,
        at: usize,
        (row, delta): (&[f32], &mut [f32]),
        is_counted: impl Fn(usize) -> bool,
        priors: Priors,
        random: &mut Random,
    ) {
        self.alias.build(row);
        for &(token, document) in
            &self.by_word[self.word_starts[at] as usize..self.word_starts[at + 1] as usize]
        {
            let topic = if is_counted(document as usize) {
                self.alias.propose(None, row, priors, random)
            } else {
                let topic = random.below(priors.topics as u32);
                delta[topic as usize] += 1.0;
                topic as u16
            };
            self.topics[token as usize] = topic;
            self.of_documents[document as usize * priors.topics + usize::from(topic)] += 1;
        }
    }

    /// Samples every token of word `at` of [`words`](Self::words). `row` is what the table has of
    /// it, and what is to be added to that is added to `delta`; `totals` are the counts of topics,
    /// which move with the tokens. Shapes `[topics]`.
    pub(super) fn pass_word(
        &mut self,
        at: usize,
        (row, delta): (&[f32], &mut [f32]),
        totals: &mut [f32],
        priors: Priors,
        random: &mut Random,
    ) {
        let Priors { topics, alpha, beta, beta_sum, proposals } = priors;
        let Self { before, counts, alias, .. } = self;
        // What others have counted comes in parts, and could be below zero for a while.
        before.iter_mut().zip(row).for_each(|(count, value)| *count = value.max(0.0));
        counts.copy_from_slice(before);
        alias.build(before);
        for &(token, document) in
            &self.by_word[self.word_starts[at] as usize..self.word_starts[at + 1] as usize]
        {
            let first = self.topics[token as usize];
            let of_document = &mut self.of_documents[document as usize * topics..][..topics];
            of_document[usize::from(first)] -= 1;
            counts[usize::from(first)] -= 1.0;
            totals[usize::from(first)] -= 1.0;
            let factors = |topic: u16| {
                let topic = usize::from(topic);
                let word = counts[topic].max(0.0) + beta;
                (f32::from(of_document[topic]) + alpha, word, totals[topic].max(0.0) + beta_sum)
            };
            let proposed_by = |topic: u16| {
                let itself = f32::from(u8::from(topic == first));
                (before[usize::from(topic)] - itself).max(0.0) + beta
            };
            let range =
                self.documents[document as usize] as usize..self.documents[document as usize + 1] as usize;
            let mut topic = first;
            for _ in 0..proposals {
                let to = alias.propose(Some(first), before, priors, random);
                if to != topic {
                    let ((d, w, all), (to_d, to_w, to_all)) = (factors(topic), factors(to));
                    let gain = to_d * to_w * all * proposed_by(topic);
                    let loss = d * w * to_all * proposed_by(to);
                    topic = if random.unit() * loss < gain { to } else { topic };
                }
                let to = propose_by_document(
                    &self.topics[range.clone()],
                    token as usize - range.start,
                    priors,
                    random,
                );
                if to != topic {
                    let ((_, w, all), (_, to_w, to_all)) = (factors(topic), factors(to));
                    topic = if random.unit() * w * to_all < to_w * all { to } else { topic };
                }
            }
            of_document[usize::from(topic)] += 1;
            counts[usize::from(topic)] += 1.0;
            totals[usize::from(topic)] += 1.0;
            if topic != first {
                self.topics[token as usize] = topic;
                delta[usize::from(first)] -= 1.0;
                delta[usize::from(topic)] += 1.0;
            }
        }
    }
}

/// A topic by `n_dk + alpha`, where token `itself` of a document with these topics is left out: that
/// of another token, or any.
fn propose_by_document(topics: &[u16], itself: usize, priors: Priors, random: &mut Random) -> u16 {
    let others = (topics.len() - 1) as f32;
    let place = random.unit() * (others + priors.topics as f32 * priors.alpha);
    if place < others {
        // Rounding may make the place that of the last one's end.
        let other = (place as usize).min(topics.len() - 2);
        topics[other + usize::from(other >= itself)]
    } else {
        random.below(priors.topics as u32) as u16
    }
}

/// Draws topics by their counts in constant time (Walker 1977, as Vose, IEEE TSE 17(9), 1991, builds
/// its table), over those that are not zero.
#[derive(Debug, Default)]
pub(super) struct Alias {
    /// By place: the topic, the part of the place that is its own, and whose the rest is.
    places: Vec<Place>,
    /// The sum of the counts.
    total: f32,
    /// Places with less than their share, and with more.
    small: Vec<u32>,
    large: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    own: f32,
    topic: u16,
    other: u16,
}

impl Alias {
    pub(super) fn build(&mut self, counts: &[f32]) {
        let Self { places, small, large, .. } = self;
        places.clear();
        small.clear();
        large.clear();
        let mut total = 0.0;
        for (topic, &count) in counts.iter().enumerate() {
            if count > 0.0 {
                places.push(Place { own: count, topic: topic as u16, other: topic as u16 });
                total += count;
            }
        }
        self.total = total;
        let scale = places.len() as f32 / total;
        for (at, place) in (0..).zip(places.iter_mut()) {
            place.own *= scale;
            if place.own < 1.0 { small.push(at) } else { large.push(at) }
        }
        while let (Some(&less), Some(&more)) = (small.last(), large.last()) {
            small.pop();
            let (less, more_at) = (less as usize, more as usize);
            places[less].other = places[more_at].topic;
            places[more_at].own -= 1.0 - places[less].own;
            if places[more_at].own < 1.0 {
                large.pop();
                small.push(more);
            }
        }
        // What rounding has left.
        small.iter().chain(large.iter()).for_each(|at| places[*at as usize].own = 1.0);
    }

    /// A topic by its count and `beta`, where one token of topic `without` is left out.
    pub(super) fn propose(
        &self,
        without: Option<u16>,
        counts: &[f32],
        priors: Priors,
        random: &mut Random,
    ) -> u16 {
        let without = without.filter(|topic| counts[usize::from(*topic)] >= 1.0);
        let total = self.total - f32::from(u8::from(without.is_some()));
        let mut draw = random.unit() * (total + priors.topics as f32 * priors.beta);
        // Where nothing is counted but the token itself, this is so for every draw.
        if draw >= total {
            return random.below(priors.topics as u32) as u16;
        }
        let mut places_per_count = self.places.len() as f32 / total;
        loop {
            let place = draw * places_per_count;
            let at = (place as usize).min(self.places.len() - 1);
            let Place { own, topic, other } = self.places[at];
            let topic = if place - (at as f32) < own { topic } else { other };
            // One in as many as there are of its topic is the token itself. There are others.
            let is_itself = without == Some(topic) && random.unit() * counts[usize::from(topic)] < 1.0;
            if !is_itself {
                return topic;
            }
            (draw, places_per_count) = (random.unit(), self.places.len() as f32);
        }
    }
}
