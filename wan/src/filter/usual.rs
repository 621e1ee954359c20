//! The usual update: how much one clock changes what it changes (time-free).
//!
//! The problem: which threshold saves much and costs nothing depends on the model, its learning rate, its batches and how far
//! training has come, and whoever sets one has to find it by sweeps. All of these show in the size of the updates
//! themselves. So a threshold may be a multiple of
//!
//! ```text
//! u_t = sqrt(mean of d_i^2 over the elements that clock t has updated)        d: this datacenter's update of clock t, in sum
//! ```
//!
//! as an average over clocks. It is measured over a [sample](crate::sample) of the table.

use crate::sample::Sample;

/// Weight of the clocks before in the average.
const MEMORY: f64 = 0.9;

/// The usual update of one table.
#[derive(Debug)]
pub(super) struct UsualUpdate {
    sample: Sample,
    /// What had accumulated when the clock before ended, or has remained of it, by place in the sample.
    before: Vec<f32>,
    average: Option<f64>,
    /// Of this clock: the sum of the squares, and of how many.
    squares: f64,
    count: u64,
}

impl UsualUpdate {
    /// Of a table with so many elements, none of which has been updated.
    pub(super) fn new(elements: usize) -> Self {
        let sample = Sample::of(elements);
        Self { before: vec![0.0; sample.len()], sample, average: None, squares: 0.0, count: 0 }
    }

    /// The average over the clocks that have updated something; none before the first.
    pub(super) fn average(&self) -> Option<f64> {
        self.average
    }

    /// Takes in what has accumulated of the `touched` elements of a block.
    pub(super) fn observe(&mut self, block: usize, touched: u64, accumulated: &[f32]) {
        let Some(place) = self.sample.block(block) else { return };
        let first = block * 64;
        for position in super::bits::positions(touched) {
            let a = accumulated[first + position];
            let update = f64::from(a) - f64::from(self.before[place + position]);
            self.before[place + position] = a;
            // What is no number says nothing of the others.
            if update.is_finite() && update != 0.0 {
                self.squares += update * update;
                self.count += 1;
            }
        }
    }

    /// All of the clock has been taken in.
    pub(super) fn end_clock(&mut self) {
        let (squares, count) = (std::mem::take(&mut self.squares), std::mem::take(&mut self.count));
        if count > 0 {
            let now = (squares / count as f64).sqrt();
            self.average = Some(self.average.map_or(now, |average| MEMORY * average + (1.0 - MEMORY) * now));
        }
    }

    /// An element has so much more than before, and not by an update.
    pub(super) fn shift(&mut self, index: u32, more: f32) {
        if let Some(place) = self.sample.element(index as usize) {
            self.before[place] += more;
        }
    }

    /// A block has other remainders than before, and not by updates.
    pub(super) fn reset(&mut self, block: usize, accumulated: &[f32]) {
        let Some(place) = self.sample.block(block) else { return };
        let first = block * 64;
        let end = accumulated.len().min(first + 64);
        self.before[place..place + end - first].copy_from_slice(&accumulated[first..end]);
    }
}
