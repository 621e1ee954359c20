//! Reads a step size and how it falls.

use super::kind::{choice, positive, real, whole};
use super::reader::Section;
use crate::job::{Decay, LearningRate};

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
