//! Step sizes, how they fall, and how a job's file says so.

use serde::Serialize;

use crate::settings::Section;
use crate::settings::kind::{choice, positive, real, whole};

/// A step size and how it falls.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LearningRate {
    /// At the first clock.
    pub initial: f64,
    /// How it falls.
    pub decay: Decay,
}

impl LearningRate {
    /// By what `initial` is multiplied at `clock`, counted from zero.
    pub fn factor(&self, clock: u32) -> f64 {
        let clocks = f64::from(clock);
        match self.decay {
            Decay::Constant => 1.0,
            Decay::Exponential { factor, every } => libm::pow(factor, f64::from(clock / every)),
            Decay::InverseSqrt { every } => 1.0 / (1.0 + clocks / f64::from(every)).sqrt(),
            Decay::Inverse { every } => 1.0 / (1.0 + clocks / f64::from(every)),
        }
    }

    /// The rate at `clock`, counted from zero.
    pub fn at(&self, clock: u32) -> f64 {
        self.initial * self.factor(clock)
    }
}

/// How a learning rate falls with the clock, counted from zero.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Decay {
    /// It does not.
    Constant,
    /// `factor ^ (clock / every)`, with `clock / every` rounded down.
    Exponential {
        /// Between zero and one.
        factor: f64,
        /// In clocks, at least one.
        every: u32,
    },
    /// `1 / sqrt(1 + clock / every)`, with an exact quotient.
    InverseSqrt {
        /// In clocks, at least one.
        every: u32,
    },
    /// `1 / (1 + clock / every)`, with an exact quotient.
    Inverse {
        /// In clocks, at least one.
        every: u32,
    },
}

impl LearningRate {
    /// Reads one from its table: `initial`, `decay`, and what that decay needs.
    pub fn read(s: &Section<'_>) -> Option<Self> {
        #[derive(Clone, Copy)]
        enum Kind {
            Constant,
            Exponential,
            InverseSqrt,
            Inverse,
        }
        const DECAYS: &[(&str, Kind)] = &[
            ("constant", Kind::Constant),
            ("exponential", Kind::Exponential),
            ("inverse-sqrt", Kind::InverseSqrt),
            ("inverse", Kind::Inverse),
        ];
        let initial = s.required("initial", positive());
        let every = |s: &Section<'_>| s.required("every", whole(1..=u32::MAX));
        let no_factor = |s: &Section<'_>| s.only_with("decay = \"exponential\"", &["factor"]);
        let Some(decay) = s.chosen("decay", Kind::Constant, choice(DECAYS)) else {
            s.undecided(&["factor", "every"]);
            return None;
        };
        let decay = match decay {
            Kind::Constant => {
                s.only_with("a decay other than \"constant\"", &["factor", "every"]);
                Some(Decay::Constant)
            }
            Kind::Exponential => {
                let factor = s.required("factor", real(0.0..=1.0));
                let every = every(s);
                factor.zip(every).map(|(factor, every)| Decay::Exponential { factor, every })
            }
            Kind::InverseSqrt => {
                no_factor(s);
                every(s).map(|every| Decay::InverseSqrt { every })
            }
            Kind::Inverse => {
                no_factor(s);
                every(s).map(|every| Decay::Inverse { every })
            }
        };
        Some(Self { initial: initial?, decay: decay? })
    }
}
