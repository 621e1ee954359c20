//! Documents drawn from planted topics, for simulations at any size without a licence.
//!
//! Each topic has a ranking of the words of its own, drawn at random, and the word at place `r`, from
//! zero, has weight `(r + 2) ^ -1.5`: the ten words on top are six tenths of it. A document has a main
//! topic, from which seven in ten of its tokens come, and a second one with two; the others come
//! from any.

use rand::{Rng, RngExt, seq::SliceRandom};

use super::documents::{Corpus, Documents};
use super::draw::{Purpose, stream};

const MAIN: f64 = 0.7;
const SECOND: f64 = 0.2;
const EXPONENT: f64 = -1.5;

/// What to plant; every count is at least one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Training documents; a tenth of that many test documents come on top.
    pub(crate) documents: u32,
    pub(crate) words: u32,
    pub(crate) topics: u32,
    /// Tokens of each document.
    pub(crate) length: u32,
}

/// Draws training and test documents; the same seed gives the same on every machine.
pub(crate) fn draw(plan: Plan, seed: u64) -> Corpus {
    let topics = topics(plan, seed);
    let mut sum = 0.0;
    let sums: Vec<f64> = (0..plan.words)
        .map(|place| {
            sum += libm::pow(f64::from(place) + 2.0, EXPONENT);
            sum
        })
        .collect();
    let draw = |count: u32, purpose| {
        let mut random = stream(seed, purpose, 1);
        let mut documents = Documents::default();
        (0..count).for_each(|_| documents.push(document(plan, &topics, &sums, &mut random)));
        documents
    };
    Corpus {
        train: draw(plan.documents, Purpose::PlantedTraining),
        test: Some(draw((plan.documents / 10).max(1), Purpose::PlantedTest)),
        words: plan.words,
        vocabulary: None,
    }
}

/// The words of each topic, by how often they occur.
pub(crate) fn topics(plan: Plan, seed: u64) -> Vec<Vec<u32>> {
    let ranking = |topic: u32| {
        let mut words: Vec<u32> = (0..plan.words).collect();
        words.shuffle(&mut stream(seed, Purpose::PlantedTopics, topic.into()));
        words
    };
    (0..plan.topics).map(ranking).collect()
}

fn document(plan: Plan, topics: &[Vec<u32>], sums: &[f64], random: &mut impl Rng) -> Vec<(u32, u32)> {
    let [main, second] = [0, 1].map(|_| random.random_range(0..plan.topics));
    let total = sums.last().copied().unwrap_or_default();
    let mut words: Vec<u32> = (0..plan.length)
        .map(|_| {
            let share: f64 = random.random();
            let topic = match share {
                share if share < MAIN => main,
                share if share < MAIN + SECOND => second,
                _ => random.random_range(0..plan.topics),
            };
            let quantile = random.random::<f64>() * total;
            let place = sums.partition_point(|sum| *sum <= quantile).min(sums.len() - 1);
            topics[topic as usize][place]
        })
        .collect();
    words.sort_unstable();
    words.chunk_by(|a, b| a == b).map(|same| (same[0], same.len() as u32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_have_their_length_and_repeat() {
        let plan = Plan { documents: 50, words: 100, topics: 5, length: 30 };
        let corpus = draw(plan, 1);
        let test = corpus.test.as_ref().expect("some are for tests");
        assert_eq!((corpus.train.len(), corpus.train.tokens(), test.len()), (50, 1500, 5));
        assert_eq!(corpus, draw(plan, 1));
        assert_ne!(corpus.train, draw(plan, 2).train);
        let words = (0..50).flat_map(|at| corpus.train.document(at));
        let (mut seen, mut of_top) = (0, 0);
        let top: Vec<u32> = topics(plan, 1).iter().flat_map(|words| words[..5].to_vec()).collect();
        for (word, count) in words {
            seen += count;
            of_top += if top.contains(&word) { count } else { 0 };
        }
        assert!(of_top * 2 > seen, "{of_top} of {seen} tokens are among the five on top of some topic");
    }
}
