//! The arithmetic of a perceptron: its layers, a pass forward, a pass backward.
//!
//! Examples go through in pieces of a few hundred, so that a layer is one product of matrices, and
//! so that memory does not grow with the mini-batch. Sums over examples go on from piece to piece
//! in the order of the examples: how they are cut changes no bit.
//!
//! Widths are padded to whole blocks of `lanes` in memory. What is beyond a width is zero, and
//! stays zero by itself: a unit without weights has an activation of zero and passes nothing back.

use std::ops::Range;

use datacenter::{TableId, TableSpec};
use ndarray::ArrayView2;

use crate::learning::application::Tables;
use crate::learning::data::{Examples, SparseRow};
use crate::learning::linalg::{Matrix, Products};
use crate::learning::models::classes::softmax;
use crate::learning::models::lanes::{add_outer, axpy, padded, sparse_product};

/// The most examples that go through at a time: enough for products to be fast, few enough for
/// their activations to stay in a processor's cache.
const MOST_EXAMPLES: usize = 128;

/// The most values of the examples that go through at a time, where they are dense: 16 MiB.
const MOST_INPUTS: usize = 1 << 22;

/// The shape of a perceptron, and how its values lie in memory.
///
/// Table `2 l` has the weights of layer `l`, shape `[out, in]`, and table `2 l + 1` its biases,
/// shape `[1, out]`. In memory weights have shape `[padded(out), padded(in)]` and biases
/// `[padded(out)]`, but for the first layer: its inputs are not padded, and where they are sparse
/// its weights are kept by input, shape `[in, padded(out)]`.
#[derive(Debug)]
pub(super) struct Network {
    /// Of the input, of each hidden layer, and of the output; at least two.
    widths: Vec<usize>,
    /// Whether examples have so few non-zeros that the first layer goes through these alone.
    is_sparse: bool,
}

/// What a table holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The weights of a layer with so many inputs.
    Weights {
        /// How many.
        inputs: usize,
    },
    /// The biases of a layer.
    Biases,
}

impl Network {
    /// The network with layers of these widths, input and output included.
    pub(super) fn new(widths: Vec<usize>, is_sparse: bool) -> Self {
        debug_assert!(widths.len() >= 2, "an input and an output");
        Self { widths, is_sparse }
    }

    /// How many layers of weights.
    fn layers(&self) -> usize {
        self.widths.len() - 1
    }

    /// The width of a layer's input (of layer 0, the example's) in memory.
    fn stride(&self, layer: usize) -> usize {
        if layer == 0 { self.widths[0] } else { padded(self.widths[layer]) }
    }

    /// The number of classes.
    pub(super) fn classes(&self) -> usize {
        self.widths[self.layers()]
    }

    /// The tables, named as PyTorch names the parameters of a list of linear layers.
    pub(super) fn tables(&self) -> Vec<TableSpec> {
        let pair = |layer: usize| {
            let [width, rows] = [self.widths[layer], self.widths[layer + 1]].map(|width| width as u32);
            [
                TableSpec::new(format!("layers.{layer}.weight"), rows, width),
                TableSpec::new(format!("layers.{layer}.bias"), 1, rows),
            ]
        };
        (0..self.layers()).flat_map(pair).collect()
    }

    /// What `table` holds.
    pub(super) fn part(&self, table: usize) -> Part {
        match table % 2 {
            0 => Part::Weights { inputs: self.widths[table / 2] },
            _ => Part::Biases,
        }
    }

    /// Memory for all values of the network, zero; by table.
    pub(super) fn zeros(&self) -> Vec<Vec<f32>> {
        let layer = |layer| {
            let outputs = self.stride(layer + 1);
            [vec![0.0; outputs * self.stride(layer)], vec![0.0; outputs]]
        };
        (0..self.layers()).flat_map(layer).collect()
    }

    /// Where a row of a table lies in memory: the element in column 0, and the distance to the
    /// next.
    fn place(&self, table: usize, row: usize) -> (usize, usize) {
        match self.part(table) {
            Part::Biases => (0, 1),
            Part::Weights { .. } if self.has_weights_by_input(table / 2) => (row, self.stride(1)),
            Part::Weights { .. } => (row * self.stride(table / 2), 1),
        }
    }

    fn has_weights_by_input(&self, layer: usize) -> bool {
        layer == 0 && self.is_sparse
    }

    /// Copies all tables to where they lie in memory.
    pub(super) fn load<'r>(
        &self,
        table_of: impl Fn(TableId) -> ArrayView2<'r, f32>,
        values: &mut [Vec<f32>],
    ) {
        for (table, values) in values.iter_mut().enumerate() {
            for (row, read) in table_of(TableId(table as u16)).rows().into_iter().enumerate() {
                let (start, step) = self.place(table, row);
                let out = values[start..].iter_mut().step_by(step);
                out.zip(read).for_each(|(out, value)| *out = *value);
            }
        }
    }

    /// Writes how far all tables have changed, times `scale`, into their deltas.
    pub(super) fn write_changes(&self, [before, now]: [&[Vec<f32>]; 2], scale: f32, tables: &mut dyn Tables) {
        for (table, (before, now)) in before.iter().zip(now).enumerate() {
            let mut deltas = tables.deltas(TableId(table as u16));
            for (row, deltas) in deltas.rows_mut().into_iter().enumerate() {
                let (start, step) = self.place(table, row);
                let [before, now] = [before, now].map(|values| values[start..].iter().step_by(step));
                for (delta, (now, before)) in deltas.into_iter().zip(now.zip(before)) {
                    *delta = scale * (now - before);
                }
            }
        }
    }

    /// How many examples go through at a time.
    pub(super) fn piece(&self) -> usize {
        let inputs = if self.is_sparse { 1 } else { self.widths[0].max(1) };
        (MOST_INPUTS / inputs).clamp(1, MOST_EXAMPLES)
    }

    /// Sends examples forward; `values` are those of the network. Their logits are in
    /// [`Passes::logits`].
    pub(super) fn forward(
        &self,
        values: &[Vec<f32>],
        examples: &Examples,
        indexes: &[u32],
        passes: &mut Passes,
    ) {
        let Passes { inputs, products, .. } = passes;
        inputs.resize_with(self.widths.len(), Vec::new);
        if !self.is_sparse {
            self.fill_inputs(examples, indexes, &mut inputs[0]);
        }
        for layer in 0..self.layers() {
            let (weights, biases) = (&values[2 * layer], &values[2 * layer + 1]);
            let (before, after) = inputs.split_at_mut(layer + 1);
            let out = &mut after[0];
            out.clear();
            indexes.iter().for_each(|_| out.extend_from_slice(biases));
            if self.has_weights_by_input(layer) {
                for (index, out) in indexes.iter().zip(out.chunks_exact_mut(biases.len())) {
                    let SparseRow { features, values } = examples.rows.row(*index as usize);
                    sparse_product(features, values, weights, out);
                }
            } else {
                let width = self.stride(layer);
                let input = Matrix::new(&before[layer], indexes.len(), width);
                products.add(input, Matrix::new(weights, biases.len(), width).transposed(), out);
            }
            if layer + 1 < self.layers() {
                // Not `max`, which would make a zero of a NaN: who diverges shall be seen to.
                out.iter_mut().filter(|value| **value < 0.0).for_each(|value| *value = 0.0);
            }
        }
    }

    /// The examples as rows of shape `[features]`.
    fn fill_inputs(&self, examples: &Examples, indexes: &[u32], inputs: &mut Vec<f32>) {
        let width = self.widths[0];
        inputs.clear();
        inputs.resize(indexes.len() * width, 0.0);
        for (place, index) in indexes.iter().enumerate() {
            let row = examples.rows.row(*index as usize);
            let out = &mut inputs[place * width..][..width];
            row.features.iter().zip(row.values).for_each(|(feature, value)| out[*feature as usize] = *value);
        }
    }

    /// Adds the summed gradient of the loss of the examples that went forward last to `gradient`.
    pub(super) fn backward(
        &self,
        values: &[Vec<f32>],
        examples: &Examples,
        indexes: &[u32],
        passes: &mut Passes,
        gradient: &mut Gradient,
    ) {
        let Passes { inputs, errors: [error, passed], products } = passes;
        let classes = self.stride(self.layers());
        error.clone_from(&inputs[self.layers()]);
        for (index, error) in indexes.iter().zip(error.chunks_exact_mut(classes)) {
            softmax(&mut error[..self.classes()]);
            error[examples.classes[*index as usize] as usize] -= 1.0;
        }
        for layer in (0..self.layers()).rev() {
            let (width, outputs) = (self.stride(layer), self.stride(layer + 1));
            let [weights, biases] = &mut gradient.sums[2 * layer..][..2] else {
                unreachable!("two tables a layer")
            };
            error.chunks_exact(outputs).for_each(|error| axpy(1.0, error, biases));
            if self.has_weights_by_input(layer) {
                for (index, error) in indexes.iter().zip(error.chunks_exact(outputs)) {
                    let SparseRow { features, values } = examples.rows.row(*index as usize);
                    add_outer(features, values, error, weights);
                    gradient.touched.extend(features);
                }
                continue;
            }
            let out = Matrix::new(error, indexes.len(), outputs);
            products.add(out.transposed(), Matrix::new(&inputs[layer], indexes.len(), width), weights);
            if layer > 0 {
                passed.clear();
                passed.resize(indexes.len() * width, 0.0);
                products.add(out, Matrix::new(&values[2 * layer], outputs, width), passed);
                let closed = passed.iter_mut().zip(&inputs[layer]).filter(|(_, input)| **input == 0.0);
                closed.for_each(|(passed, _)| *passed = 0.0);
                std::mem::swap(error, passed);
            }
        }
    }

    /// Takes a step of `rate` down the mean gradient of `examples` examples and the penalty, and
    /// clears the gradient.
    pub(super) fn descend(
        &self,
        values: &mut [Vec<f32>],
        gradient: &mut Gradient,
        examples: usize,
        rate: f32,
        l2: f32,
    ) {
        let mean = 1.0 / examples as f32;
        // As in softmax regression, the penalty's step is implicit: no penalty is too large for it.
        let shrink = 1.0 / (1.0 + rate * l2);
        let step = |values: &mut [f32], sums: &mut [f32], shrink: f32| {
            for (value, sum) in values.iter_mut().zip(&mut *sums) {
                *value = (*value - rate * mean * *sum) * shrink;
            }
            sums.fill(0.0);
        };
        for (table, (values, sums)) in values.iter_mut().zip(&mut gradient.sums).enumerate() {
            match self.part(table) {
                Part::Biases => step(values, sums, 1.0),
                Part::Weights { .. } if self.has_weights_by_input(table / 2) && l2 == 0.0 => {
                    let stride = self.stride(1);
                    // A feature that has been seen to already has a gradient of zero.
                    for feature in gradient.touched.drain(..) {
                        let row = feature as usize * stride..(feature as usize + 1) * stride;
                        step(&mut values[row.clone()], &mut sums[row], 1.0);
                    }
                }
                Part::Weights { .. } => step(values, sums, shrink),
            }
        }
        gradient.touched.clear();
    }
}

/// The summed gradient of a mini-batch, in memory as the network's values are.
#[derive(Debug)]
pub(super) struct Gradient {
    /// By table.
    sums: Vec<Vec<f32>>,
    /// Features with a gradient, where the first layer's weights are kept by input; more than once
    /// each.
    touched: Vec<u32>,
}

impl Gradient {
    /// None yet.
    pub(super) fn new(network: &Network) -> Self {
        Self { sums: network.zeros(), touched: Vec::new() }
    }
}

/// What passes leave behind; memory that is kept between them.
#[derive(Debug, Default)]
pub(super) struct Passes {
    /// What goes into each layer, and last the logits; shape `[examples, stride]` each. Sparse
    /// examples are not copied.
    inputs: Vec<Vec<f32>>,
    /// The gradient of the loss by what comes out of a layer, before ReLU, and that of the layer
    /// below.
    errors: [Vec<f32>; 2],
    products: Products,
}

impl Passes {
    /// The logits of the examples that went forward last, each of shape `[classes]`; they may be
    /// written over.
    pub(super) fn logits(&mut self, network: &Network) -> impl Iterator<Item = &mut [f32]> {
        let classes: Range<usize> = 0..network.classes();
        let logits = self.inputs.last_mut().map(Vec::as_mut_slice).unwrap_or_default();
        logits.chunks_exact_mut(padded(classes.end)).map(move |logits| &mut logits[classes.clone()])
    }
}
