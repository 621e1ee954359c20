//! In which order a worker goes through its examples.

use rand::seq::SliceRandom;

use super::draw::{Purpose, stream};

/// A worker's examples, shuffled anew for every pass (epoch).
///
/// The order of an epoch follows from the seed and the epoch's number alone, so that a worker that
/// starts again at some clock goes on exactly as it would have.
#[derive(Clone, Debug)]
pub struct Epochs {
    examples: Vec<u32>,
    seed: u64,
    /// The order of `epoch`.
    order: Vec<u32>,
    epoch: Option<u64>,
}

impl Epochs {
    /// Those of a worker with these examples; `seed` decides their orders.
    pub fn new(examples: Vec<u32>, seed: u64) -> Self {
        Self { examples, seed, order: Vec::new(), epoch: None }
    }

    /// How many examples there are.
    pub fn len(&self) -> usize {
        self.examples.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.examples.is_empty()
    }

    /// All examples, in the order of `epoch`.
    pub fn order(&mut self, epoch: u64) -> &[u32] {
        if self.epoch != Some(epoch) {
            self.order.clone_from(&self.examples);
            self.order.shuffle(&mut stream(self.seed, Purpose::Order, epoch));
            self.epoch = Some(epoch);
        }
        &self.order
    }

    /// The examples of `clock`, where each has `count` of them, or all if there are fewer.
    pub fn batch(&mut self, clock: u32, count: usize) -> Vec<u32> {
        let count = count.min(self.len());
        let mut batch = Vec::with_capacity(count);
        self.take(u64::from(clock).saturating_mul(count as u64), count, &mut batch);
        batch
    }

    /// Appends `count` examples from position `start` of the endless sequence of epochs to `out`.
    pub fn take(&mut self, start: u64, count: usize, out: &mut Vec<u32>) {
        let length = self.len() as u64;
        if length == 0 {
            return;
        }
        let (mut epoch, mut position) = (start / length, (start % length) as usize);
        let mut left = count;
        while left > 0 {
            let order = &self.order(epoch)[position..];
            let part = &order[..left.min(order.len())];
            out.extend_from_slice(part);
            left -= part.len();
            (epoch, position) = (epoch + 1, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_has_every_example_in_an_order_of_its_own() {
        let mut epochs = Epochs::new((10..60).collect(), 4);
        let (first, second) = (epochs.order(0).to_vec(), epochs.order(1).to_vec());
        assert_ne!(first, second);
        for mut order in [first.clone(), second] {
            order.sort_unstable();
            assert!(order.into_iter().eq(10..60));
        }
        assert_eq!(epochs.order(0), first, "an epoch can be had again");
    }

    #[test]
    fn taking_in_pieces_gives_the_same_sequence() {
        let mut epochs = Epochs::new((0..7).collect(), 4);
        let (mut whole, mut pieces) = (Vec::new(), Vec::new());
        epochs.take(0, 30, &mut whole);
        for start in (0..30).step_by(5) {
            epochs.take(start, 5, &mut pieces);
        }
        assert_eq!(whole, pieces);
        assert_eq!(whole[..7], *epochs.order(0));
        Epochs::new(Vec::new(), 4).take(0, 5, &mut whole);
        assert_eq!(whole.len(), 30, "no examples, nothing taken");
    }
}
