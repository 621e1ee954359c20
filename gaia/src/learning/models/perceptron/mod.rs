//! A multi-layer perceptron for classification.
//!
//! Softmax regression draws one plane between two classes; classes that no plane parts need units
//! between input and output. With `n_0` features, hidden layers of `n_1 .. n_{L-1}` units and `n_L`
//! classes, an example `x` of shape `[n_0]` becomes
//!
//! ```text
//! h_0     = x                                       [n_0]
//! h_{l+1} = max(0, W_l h_l + b_l)    l < L - 1      [n_{l+1}]      ReLU
//! z       = W_{L-1} h_{L-1} + b_{L-1}               [n_L]          logits, in nats
//! ```
//!
//! and the objective over all examples, with `y` an example's class, is `mean(-ln softmax(z)[y]) +
//! (l2 / 2) sum_l |W_l|^2`; biases are not penalised. With `e_L = softmax(z) - onehot(y)` and `e_l
//! = (W_l^T e_{l+1}) * [h_l > 0]`, the gradient of an example's loss is `e_{l+1} h_l^T` by `W_l`
//! and `e_{l+1}` by `b_l` (Rumelhart, Hinton and Williams, Nature 323, 1986). At a unit's kink its
//! slope is taken to be zero.
//!
//! Tables `layers.l.weight` of shape `[n_{l+1}, n_l]` and `layers.l.bias` of shape `[1, n_{l+1}]`:
//! a row is a unit with all its incoming weights, as `torch.nn.Linear` has it. All biases of a
//! layer are one row, since rows of one element would cost more in what is kept about a row than in
//! values. Weights begin as He et al. (ICCV 2015, equation 10) draw them for ReLU, normal with a
//! variance of `2 / n_l`, each row from a stream of the job's seed alone; biases begin with zero.
//!
//! A worker takes `batches` steps of SGD a clock, each on `batch` examples of its own, on a copy of
//! what it has read. Its delta is the sum of these steps, times its share of all examples: together
//! the workers move the model by the mean of what they would do alone, so that one step size suits
//! any number of workers (as in softmax regression).

mod kind;
mod learner;
mod network;

use std::sync::Arc;

use datacenter::{TableId, TableSpec};

use self::learner::PerceptronLearner;
use self::network::{Network, Part, Passes};
use super::classes::{self, Score};
use crate::learning::application::{Application, Evaluation, Judgement, Learner, Model};
use crate::learning::data::Partition;
use crate::learning::data::{Classification, DataError, Examples, Names, Vocabulary, check_size, normal_row};

pub use self::kind::{PerceptronKind, PerceptronSettings};

/// The first layer goes through non-zeros alone where fewer than one value in so many is one: dense
/// products are about as much faster for each value that they touch.
const SPARSE: u64 = 8;

/// A multi-layer perceptron on a data set.
pub struct Perceptron {
    settings: PerceptronSettings,
    data: Classification,
    partition: Partition,
    seed: u64,
    network: Network,
}

impl Perceptron {
    /// The application; `seed` decides the partition and the initial weights.
    ///
    /// # Errors
    ///
    /// If a layer has too many weights.
    pub fn new(
        settings: PerceptronSettings,
        data: Classification,
        partition: Partition,
        seed: u64,
    ) -> Result<Self, DataError> {
        let hidden = settings.hidden.iter().map(|&width| width as usize);
        let widths: Vec<_> =
            [data.features as usize].into_iter().chain(hidden).chain([data.labels.len()]).collect();
        widths.windows(2).try_for_each(|pair| check_size(pair[1] as u64, pair[0] as u64))?;
        // Of the whole data set, also where only a part is kept: all processes sum in the same
        // order.
        let non_zeros: u64 = data.occurrences().into_iter().map(u64::from).sum();
        let is_sparse = non_zeros.saturating_mul(SPARSE) < u64::from(data.features) * data.train.len() as u64;
        Ok(Self { settings, data, partition, seed, network: Network::new(widths, is_sparse) })
    }

    /// All values, as the network lays them out.
    fn gathered(&self, model: &Model) -> Vec<Vec<f32>> {
        let mut values = self.network.zeros();
        self.network.load(|table| model.table(table), &mut values);
        values
    }

    /// Tells `each` the class and the logits of the examples with these indexes, in their order.
    fn logits(
        &self,
        values: &[Vec<f32>],
        examples: &Examples,
        mut indexes: &mut dyn Iterator<Item = usize>,
        mut each: impl FnMut(u32, &mut [f32]),
    ) {
        let mut passes = Passes::default();
        let mut piece = Vec::new();
        loop {
            piece.clear();
            piece.extend((&mut indexes).take(self.network.piece()).map(|index| index as u32));
            if piece.is_empty() {
                return;
            }
            self.network.forward(values, examples, &piece, &mut passes);
            for (index, logits) in piece.iter().zip(passes.logits(&self.network)) {
                each(examples.classes[*index as usize], logits);
            }
        }
    }

    fn score(
        &self,
        values: &[Vec<f32>],
        examples: &Examples,
        indexes: &mut dyn Iterator<Item = usize>,
    ) -> Score {
        let mut score = Score::default();
        self.logits(values, examples, indexes, |class, logits| classes::add_score(class, logits, &mut score));
        score
    }

    /// `(l2 / 2) sum_l |W_l|^2`.
    fn penalty(&self, values: &[Vec<f32>]) -> f64 {
        let is_penalised = |table: &usize| matches!(self.network.part(*table), Part::Weights { .. });
        let weights = (0..values.len()).filter(is_penalised).flat_map(|table| &values[table]);
        0.5 * self.settings.l2 * weights.map(|&w| f64::from(w) * f64::from(w)).sum::<f64>()
    }
}

impl Application for Perceptron {
    fn tables(&self) -> Vec<TableSpec> {
        self.network.tables()
    }

    fn initialise(&self, table: TableId, row: u32, out: &mut [f32]) {
        let Part::Weights { inputs } = self.network.part(table.index()) else { return };
        let deviation = (2.0 / inputs as f64).sqrt();
        normal_row(self.seed, table, row, deviation, out);
    }

    fn partition(&self, parts: usize) -> Vec<Vec<u32>> {
        self.data.train.deal(self.partition, parts, self.seed)
    }

    /// # Panics
    ///
    /// If an example's features were not kept.
    fn learner(&self, examples: Vec<u32>, share: f64, seed: u64) -> Box<dyn Learner + '_> {
        classes::assert_kept(&self.data, &examples);
        Box::new(PerceptronLearner::new(self, examples, share, seed))
    }

    /// Of the training data, what was kept is scored.
    fn evaluate(&self, model: &Model) -> Evaluation {
        let values = self.gathered(model);
        let penalty = self.penalty(&values);
        classes::evaluate(&self.data, penalty, |examples, indexes| self.score(&values, examples, indexes))
    }

    fn judge(&self, model: &Model) -> Option<Judgement> {
        let values = self.gathered(model);
        let penalty = self.penalty(&values);
        classes::judge(&self.data, penalty, |examples, indexes| self.score(&values, examples, indexes))
    }

    fn predicted(&self) -> Vec<String> {
        classes::predicted(&self.data.labels)
    }

    fn predicted_names(&self, column: usize) -> Option<&Names> {
        (column < 2).then_some(&self.data.labels)
    }

    /// The label, the label with the largest probability, and the probabilities of all labels.
    fn predict(&self, model: &Model, each: &mut dyn FnMut(&[f64])) {
        let values = self.gathered(model);
        let examples = self.data.test.as_ref().unwrap_or(&self.data.train);
        let mut figures = Vec::with_capacity(2 + self.network.classes());
        self.logits(&values, examples, &mut (0..examples.len()), |class, logits| {
            classes::figures(class, logits, &mut figures);
            each(&figures);
        });
    }

    fn vocabulary(&self) -> Option<Arc<Vocabulary>> {
        Some(Arc::new(self.data.vocabulary()))
    }

    fn remarks(&self) -> Vec<String> {
        classes::remarks(&self.data.labels, &self.data.train.classes)
    }
}
