//! `kind = "external"`: a model whose tables stand in the job's file, and whose training is a program
//! of its user's.
//!
//! Regions serve it like any other: its tables and first values go into the digest, so that regions
//! whose shapes differ refuse each other. What it learns from, and what it is judged by, its program
//! alone knows.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::learning::application::{
    Application, BuildError, Evaluation, Input, Learner, Metric, Model, ModelKind, ModelSettings, Rule,
    TableId, TableSpec,
};
use crate::learning::data::normal_row;
use crate::settings::Section;
use crate::settings::kind::{choice, positive, real, whole, word};

/// What refuses to train such a model says: what can be done instead.
pub const EXTERNAL: &str = "job.model.kind: found \"external\", whose training is a program of its own; allowed here: a kind \
                            that Gaia trains. To deploy it: gaia server --config FILE for each server, and gaia worker \
                            --config FILE --index N -- PROGRAM for each worker";

/// The most rows and columns of a table in a file: more would be a slip.
const MOST: u32 = 100_000_000;

/// The tables of a model that is trained by a program of its own.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExternalSettings {
    /// At least one, with distinct names.
    pub tables: Vec<ExternalTable>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExternalTable {
    /// Its name: what the program asks for.
    pub name: String,
    /// How many rows; at least one.
    pub rows: u32,
    /// How many elements in a row; at least one. Default 1.
    pub width: u32,
    /// What servers make of what is added. Default `add`.
    #[serde(serialize_with = "rule_text")]
    pub rule: Rule,
    /// The values at the start. Default zeros.
    pub initial: InitialValues,
}

/// The values of a table at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub enum InitialValues {
    /// All zero.
    #[default]
    Zeros,
    /// All the same.
    Constant {
        /// What they are.
        value: f32,
    },
    /// From a normal distribution around zero.
    Normal {
        /// Its standard deviation; above zero.
        scale: f64,
        /// Of the draw; default the job's own seed.
        seed: Option<u64>,
    },
}

/// `kind = "external"`.
#[derive(Clone, Copy, Debug)]
pub struct ExternalKind;

/// Whether a program of the user's trains this model.
pub fn is_external(model: &ModelSettings) -> bool {
    model.get::<ExternalSettings>().is_some()
}

fn rule_text<S: serde::Serializer>(rule: &Rule, serializer: S) -> Result<S::Ok, S::Error> {
    format!("{rule:?}").serialize(serializer)
}

impl ModelKind for ExternalKind {
    type Settings = ExternalSettings;

    fn name(&self) -> &'static str {
        "external"
    }

    fn settings(&self, s: &Section<'_>) -> Option<ExternalSettings> {
        let tables = s.sections("tables", table);
        if tables.is_empty() {
            let message = "missing; allowed: [[model.tables]], one or more, each with name, rows and width";
            s.problem("tables", message.to_owned());
            return None;
        }
        let tables: Vec<ExternalTable> = tables.into_iter().collect::<Option<_>>()?;
        let mut names = BTreeSet::new();
        if let Some(twice) = tables.iter().find(|table| !names.insert(&table.name)) {
            let message = format!("there are two called {:?}; allowed: distinct names", twice.name);
            s.problem("tables", message);
            return None;
        }
        if tables.len() > usize::from(u16::MAX) {
            s.problem("tables", format!("found {}; allowed: at most {}", tables.len(), u16::MAX));
            return None;
        }
        Some(ExternalSettings { tables })
    }

    fn build(
        &self,
        settings: &ExternalSettings,
        input: &Input<'_>,
    ) -> Result<Box<dyn Application>, BuildError> {
        Ok(Box::new(External { tables: settings.tables.clone(), seed: input.seed() }))
    }
}

fn table(s: &Section<'_>) -> Option<ExternalTable> {
    let printable = |text: &String| text.len() <= 200 && !text.chars().any(|c| c.is_control());
    let name = s.required("name", word().only(" of at most 200 bytes", printable));
    let rows = s.required("rows", whole(1..=MOST));
    let width = s.or("width", 1, whole(1..=MOST));
    let (rule, initial) = (rule(s), initial(s));
    Some(ExternalTable { name: name?, rows: rows?, width, rule: rule?, initial: initial? })
}

fn rule(s: &Section<'_>) -> Option<Rule> {
    #[derive(Clone, Copy)]
    enum Name {
        Add,
        Sgd,
        Momentum,
        Adagrad,
        Adarevision,
    }
    const NAMES: &[(&str, Name)] = &[
        ("add", Name::Add),
        ("sgd", Name::Sgd),
        ("momentum", Name::Momentum),
        ("adagrad", Name::Adagrad),
        ("adarevision", Name::Adarevision),
    ];
    let Some(name) = s.chosen("rule", Name::Add, choice(NAMES)) else {
        s.undecided(&["rate", "momentum"]);
        return None;
    };
    if !matches!(name, Name::Momentum) {
        s.only_with("rule = \"momentum\"", &["momentum"]);
    }
    if matches!(name, Name::Add) {
        s.only_with("a rule that makes steps, such as \"sgd\"", &["rate"]);
        return Some(Rule::Add);
    }
    let rate = s.required("rate", positive().map(|rate| rate as f32));
    match name {
        Name::Add => None,
        Name::Sgd => Some(Rule::Sgd { rate: rate? }),
        Name::Momentum => {
            let below_one = real(0.0..=1.0).only(", below 1", |momentum| *momentum < 1.0);
            let momentum = s.required("momentum", below_one.map(|momentum| momentum as f32));
            Some(Rule::Momentum { rate: rate?, momentum: momentum? })
        }
        Name::Adagrad => Some(Rule::Adagrad { rate: rate? }),
        Name::Adarevision => Some(Rule::Adarevision { rate: rate? }),
    }
}

fn initial(s: &Section<'_>) -> Option<InitialValues> {
    #[derive(Clone, Copy, PartialEq)]
    enum Name {
        Zeros,
        Constant,
        Normal,
    }
    const KINDS: &[(&str, Name)] =
        &[("zeros", Name::Zeros), ("constant", Name::Constant), ("normal", Name::Normal)];
    let Some(name) = s.chosen("initial", Name::Zeros, choice(KINDS)) else {
        s.undecided(&["value", "scale", "seed"]);
        return None;
    };
    if name != Name::Constant {
        s.only_with("initial = \"constant\"", &["value"]);
    }
    if name != Name::Normal {
        s.only_with("initial = \"normal\"", &["scale", "seed"]);
    }
    match name {
        Name::Zeros => Some(InitialValues::Zeros),
        Name::Constant => {
            let value = real(f64::from(f32::MIN)..=f64::from(f32::MAX)).map(|value| value as f32);
            s.required("value", value).map(|value| InitialValues::Constant { value })
        }
        Name::Normal => {
            let (scale, seed) = (s.required("scale", positive()), s.optional("seed", whole(0..=u64::MAX)));
            Some(InitialValues::Normal { scale: scale?, seed })
        }
    }
}

/// The tables, for servers and for the connections of workers.
struct External {
    tables: Vec<ExternalTable>,
    seed: u64,
}

impl Application for External {
    fn tables(&self) -> Vec<TableSpec> {
        let spec = |table: &ExternalTable| {
            TableSpec::new(&table.name, table.rows, table.width).with_rule(table.rule)
        };
        self.tables.iter().map(spec).collect()
    }

    fn initialise(&self, table: TableId, row: u32, out: &mut [f32]) {
        match self.tables[table.index()].initial {
            InitialValues::Zeros => {}
            InitialValues::Constant { value } => out.fill(value),
            InitialValues::Normal { scale, seed } => {
                normal_row(seed.unwrap_or(self.seed), table, row, scale, out);
            }
        }
    }

    fn partition(&self, parts: usize) -> Vec<Vec<u32>> {
        vec![Vec::new(); parts]
    }

    /// # Panics
    ///
    /// Always: who trains asks [`is_external`] before.
    fn learner(&self, _examples: Vec<u32>, _share: f64, _seed: u64) -> Box<dyn Learner + '_> {
        panic!("{EXTERNAL}")
    }

    /// Nothing is known of how good it is.
    fn evaluate(&self, _model: &Model) -> Evaluation {
        let metric = Metric { name: "unknown", value: f64::NAN, larger_is_better: true, best: None };
        Evaluation { objective: f64::NAN, metric }
    }
}
