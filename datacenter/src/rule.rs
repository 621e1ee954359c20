//! What a server makes of what workers push to a table.
//!
//! Workers may push changes, which are added; or gradients, of which the server makes changes by a
//! rule that remembers what came before. A rule belongs to a table, and its memory to the shard: it
//! goes into checkpoints, and to nobody else. What others hear of, the filter above all, is the
//! change that was made.
//!
//! In what follows `x` is an element's value, and `g` what one worker's flush has for it. Elements
//! that a flush does not name are left alone, and so is what a rule remembers of them.
//!
//! | rule | what it does |
//! | --- | --- |
//! | [`Add`](Rule::Add) | `x += g` |
//! | [`Sgd`](Rule::Sgd) | `x -= rate g` |
//! | [`Momentum`](Rule::Momentum) | `v = momentum v + g`, `x -= rate v` (Polyak 1964, as Sutskever et al., ICML 2013, equation 1 to 2, writes it) |
//! | [`Adagrad`](Rule::Adagrad) | `s += g^2`, `x -= rate g / sqrt(s)` (Duchi, Hazan and Singer, JMLR 12, 2011) |
//! | [`Adarevision`](Rule::Adarevision) | AdaGrad that takes back what steps made in ignorance of each other: McMahan and Streeter, NIPS 2014, algorithm 1 |
//!
//! Kind: time-free.

use crate::{Elements, WorkerId};

/// What becomes of what workers push to a table.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Rule {
    /// Changes, which are added.
    #[default]
    Add,
    /// Gradients, against which a step is made.
    Sgd {
        /// The step size; above zero.
        rate: f32,
    },
    /// Gradients that give a velocity.
    Momentum {
        /// The step size; above zero.
        rate: f32,
        /// Which part of the velocity stays at each flush; from zero to below one.
        momentum: f32,
    },
    /// Gradients whose steps become smaller the more there have been.
    Adagrad {
        /// The step size of the first gradient, whatever its size; above zero.
        rate: f32,
    },
    /// The same for workers that read late: what has come between a worker's read and its flush is
    /// taken into account.
    Adarevision {
        /// The step size; above zero.
        rate: f32,
    },
}

impl Rule {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Sgd { .. } => "sgd",
            Self::Momentum { .. } => "momentum",
            Self::Adagrad { .. } => "adagrad",
            Self::Adarevision { .. } => "adarevision",
        }
    }

    /// Whether workers push changes, which they see at once; else gradients, of which they see what
    /// came of them when they read the row again.
    pub fn takes_changes(self) -> bool {
        self == Self::Add
    }

    /// What it remembers of each element, by name.
    pub fn memory(self) -> &'static [&'static str] {
        match self {
            Self::Add | Self::Sgd { .. } => &[],
            Self::Momentum { .. } => &["velocity"],
            Self::Adagrad { .. } => &["squares"],
            Self::Adarevision { .. } => &["gradients", "squares", "most-squares"],
        }
    }

    /// Whether its figures make sense.
    pub fn is_sound(self) -> bool {
        let is_rate = |rate: f32| rate.is_finite() && rate > 0.0;
        match self {
            Self::Add => true,
            Self::Sgd { rate } | Self::Adagrad { rate } | Self::Adarevision { rate } => is_rate(rate),
            Self::Momentum { rate, momentum } => is_rate(rate) && (0.0..1.0).contains(&momentum),
        }
    }
}

/// A rule with what it remembers of one shard's part of a table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RuleState {
    rule: Rule,
    /// By what [`Rule::memory`] names, `[slots * width]` each.
    memory: Vec<Vec<f32>>,
    /// Of AdaRevision, by worker: the sum of gradients of each element when it last read it.
    seen: Vec<Vec<f32>>,
}

/// What AdaRevision begins with in the place of squared gradients (algorithm 1, line 1).
const FIRST_SQUARES: f32 = 1.0;

impl RuleState {
    /// The rule of a table of so many elements here, for so many workers.
    pub(crate) fn new(rule: Rule, elements: usize, workers: usize) -> Self {
        let first = |name: &&str| match (rule, *name) {
            (Rule::Adarevision { .. }, "squares" | "most-squares") => FIRST_SQUARES,
            _ => 0.0,
        };
        let memory = rule.memory().iter().map(|name| vec![first(name); elements]).collect();
        let seen = match rule {
            Rule::Adarevision { .. } => vec![Vec::new(); workers],
            _ => Vec::new(),
        };
        Self { rule, memory, seen }
    }

    pub(crate) fn rule(&self) -> Rule {
        self.rule
    }

    /// What it remembers, by name.
    pub(crate) fn memory(&self) -> impl Iterator<Item = (&'static str, &[f32])> {
        self.rule.memory().iter().copied().zip(self.memory.iter().map(Vec::as_slice))
    }

    /// Remembers something else, if there is something of that name and size.
    pub(crate) fn remember(&mut self, name: &str, values: &[f32]) -> bool {
        let place = self.rule.memory().iter().position(|known| *known == name);
        match place.map(|place| &mut self.memory[place]) {
            Some(memory) if memory.len() == values.len() => memory.copy_from_slice(values),
            Some(_) | None => return false,
        }
        true
    }

    /// `worker` is told these rows, which have `width` elements each.
    pub(crate) fn read(&mut self, worker: WorkerId, width: usize, slots: impl IntoIterator<Item = u32>) {
        let (Some(seen), [gradients, ..]) = (self.seen.get_mut(worker.index()), self.memory.as_slice())
        else {
            return;
        };
        if seen.is_empty() {
            seen.resize(gradients.len(), 0.0);
        }
        for slot in slots {
            let row = slot as usize * width..(slot as usize + 1) * width;
            seen[row.clone()].copy_from_slice(&gradients[row]);
        }
    }

    /// Makes changes of what `worker` has pushed.
    pub(crate) fn apply(&mut self, worker: WorkerId, pushed: &mut Elements) {
        let elements = pushed.indexes.iter().map(|index| *index as usize).zip(&mut pushed.values);
        match (self.rule, self.memory.as_mut_slice()) {
            (Rule::Sgd { rate }, _) => {
                elements.for_each(|(_, value)| *value = bounded(-f64::from(rate) * f64::from(*value)));
            }
            (Rule::Momentum { rate, momentum }, [velocity]) => {
                for (index, value) in elements {
                    let velocity = &mut velocity[index];
                    *velocity = bounded(f64::from(momentum) * f64::from(*velocity) + f64::from(*value));
                    *value = bounded(-f64::from(rate) * f64::from(*velocity));
                }
            }
            (Rule::Adagrad { rate }, [squares]) => {
                for (index, value) in elements {
                    let (square, gradient) = (&mut squares[index], f64::from(*value));
                    *square = bounded(f64::from(*square) + gradient * gradient);
                    // Of nothing but zeros there is no root to divide by.
                    *value = match *square == 0.0 {
                        true => 0.0,
                        false => bounded(-f64::from(rate) * gradient / f64::from(*square).sqrt()),
                    };
                }
            }
            (Rule::Adarevision { rate }, [gradients, squares, most]) => {
                let seen = self.seen.get_mut(worker.index());
                let mut seen = seen.filter(|seen| !seen.is_empty());
                for (index, value) in elements {
                    let gradient = f64::from(*value);
                    let (sum, square, most) = (&mut gradients[index], &mut squares[index], &mut most[index]);
                    let missed = match &seen {
                        Some(seen) => f64::from(*sum) - f64::from(seen[index]),
                        // It has read nothing since this shard began.
                        None => 0.0,
                    };
                    let before = f64::from(rate) / f64::from(*most).sqrt();
                    *square = bounded(f64::from(*square) + gradient * gradient + 2.0 * gradient * missed);
                    *most = most.max(*square);
                    let after = f64::from(rate) / f64::from(*most).sqrt();
                    *sum = bounded(f64::from(*sum) + gradient);
                    if let Some(seen) = &mut seen {
                        // It knows its own.
                        seen[index] = bounded(f64::from(seen[index]) + gradient);
                    }
                    *value = bounded(-after * gradient + (before - after) * missed);
                }
            }
            (Rule::Add, _) | (Rule::Momentum { .. } | Rule::Adagrad { .. } | Rule::Adarevision { .. }, _) => {
            }
        }
    }
}

/// As an f32, within what f32 holds; what is no number stays so.
fn bounded(value: f64) -> f32 {
    value.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TableId;

    const ALL: [Rule; 5] = [
        Rule::Add,
        Rule::Sgd { rate: 0.5 },
        Rule::Momentum { rate: 0.5, momentum: 0.75 },
        Rule::Adagrad { rate: 0.5 },
        Rule::Adarevision { rate: 0.5 },
    ];

    fn pushed(values: &[f32]) -> Elements {
        let mut elements = Elements::new(TableId(0));
        (0..).zip(values).for_each(|(index, value)| elements.push(index, *value));
        elements
    }

    /// What a rule makes of one element's gradients of one worker, which reads after each.
    fn changes(rule: Rule, gradients: &[f32]) -> Vec<f32> {
        let mut state = RuleState::new(rule, 1, 1);
        let change = |gradient: &f32| {
            let mut elements = pushed(&[*gradient]);
            state.apply(WorkerId(0), &mut elements);
            state.read(WorkerId(0), 1, [0]);
            elements.values[0]
        };
        gradients.iter().map(change).collect()
    }

    #[test]
    fn rules_do_what_they_say() {
        let gradients = [3.0, 4.0, 0.0];
        assert_eq!(changes(ALL[0], &gradients), gradients);
        assert_eq!(changes(ALL[1], &gradients), [-1.5, -2.0, 0.0]);
        // Velocities 3, 2.25 + 4, 0.75 of that.
        assert_eq!(changes(ALL[2], &gradients), [-1.5, -3.125, -2.34375]);
        // Squares 9, 25.
        assert_eq!(changes(ALL[3], &gradients), [-0.5, -0.4, 0.0]);
        // Nothing is missed: AdaGrad that begins with a square of one.
        let step = |gradient: f64, squares: f64| (-0.5 * gradient / squares.sqrt()) as f32;
        let expected = [step(3.0, 10.0), step(4.0, 26.0), 0.0];
        let found = changes(ALL[4], &gradients);
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-7), "{found:?}");
        assert_eq!(changes(ALL[3], &[0.0, 2.0]), [0.0, -0.5]);
    }

    /// Two workers that both read before either flushes. With gradients of one sign the second step
    /// is smaller than AdaGrad's, and the first is taken back in part, as if they had come one
    /// after the other with larger squares; the figures are those of algorithm 1 by hand.
    #[test]
    fn what_a_worker_did_not_know_of_is_revised() {
        let rule = Rule::Adarevision { rate: 1.0 };
        let mut state = RuleState::new(rule, 1, 2);
        let [one, two] = [WorkerId(0), WorkerId(1)];
        [one, two].iter().for_each(|worker| state.read(*worker, 1, [0]));
        let mut first = pushed(&[2.0]);
        state.apply(one, &mut first);
        let mut second = pushed(&[2.0]);
        state.apply(two, &mut second);
        // z = 1 + 4 = 5; then 5 + 4 + 2 * 2 * 2 = 17.
        let (eta, later) = (1.0 / 5f64.sqrt(), 1.0 / 17f64.sqrt());
        assert_eq!(first.values, [(-eta * 2.0) as f32]);
        let expected = -later * 2.0 + (eta - later) * 2.0;
        assert!((f64::from(second.values[0]) - expected).abs() < 1e-7, "{second:?}");
        // Both have come to where one step of 4 with the last rate is.
        let sum = f64::from(first.values[0] + second.values[0]);
        assert!((sum + later * 4.0).abs() < 1e-6, "{sum}");
        // A worker knows its own: after a read of nobody else's it misses nothing.
        let missed = |state: &RuleState, worker: WorkerId| state.memory[0][0] - state.seen[worker.index()][0];
        assert_eq!((missed(&state, one), missed(&state, two)), (2.0, 2.0));
        state.read(one, 1, [0]);
        assert_eq!(missed(&state, one), 0.0);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_can_be_kept() {
        for rule in ALL {
            assert!(rule.is_sound());
            let mut state = RuleState::new(rule, 2, 1);
            for value in [f32::MAX, f32::MIN, f32::MAX, 1.0] {
                let mut elements = pushed(&[value, 1.0]);
                state.apply(WorkerId(0), &mut elements);
                assert!(elements.values.iter().all(|value| value.is_finite()), "{rule:?}: {elements:?}");
            }
            let kept: Vec<_> = state.memory().map(|(name, values)| (name, values.to_vec())).collect();
            assert!(kept.iter().flat_map(|(_, values)| values).all(|value| value.is_finite()), "{kept:?}");
            let mut again = RuleState::new(rule, 2, 1);
            assert!(kept.iter().all(|(name, values)| again.remember(name, values)));
            assert_eq!(again.memory, state.memory);
            assert!(!again.remember("what", &[0.0, 0.0]) && !again.remember("velocity", &[0.0]));
            let broken = &mut pushed(&[f32::NAN]);
            again.apply(WorkerId(0), broken);
            assert!(broken.values[0].is_nan() || !rule.takes_changes(), "who diverges shall be seen to");
        }
        for rule in [
            Rule::Sgd { rate: 0.0 },
            Rule::Adagrad { rate: f32::NAN },
            Rule::Momentum { rate: 0.1, momentum: 1.0 },
            Rule::Adarevision { rate: f32::INFINITY },
        ] {
            assert!(!rule.is_sound(), "{rule:?}");
        }
    }
}
