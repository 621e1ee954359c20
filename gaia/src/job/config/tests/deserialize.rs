//! A model of one's own reads its settings as a type of serde's.

use serde::{Deserialize, Serialize};

use super::*;
use crate::learning::application::{Application, BuildError, Input, ModelKind};
use crate::settings::Section;

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Activation {
    Relu,
    Tanh,
    Leaky { slope: f64 },
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Layer {
    width: u32,
    #[serde(default)]
    dropout: f32,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Settings {
    batch: u32,
    rate: f64,
    activation: Activation,
    layers: Vec<Layer>,
    #[serde(default)]
    nesterov: bool,
    momentum: Option<f64>,
    #[serde(deserialize_with = "even")]
    heads: u8,
    note: String,
}

/// Refuses odd numbers in its own words.
fn even<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    let number = u8::deserialize(deserializer)?;
    match number % 2 {
        0 => Ok(number),
        _ => Err(serde::de::Error::invalid_value(
            serde::de::Unexpected::Unsigned(number.into()),
            &"an even number",
        )),
    }
}

#[derive(Debug)]
struct OwnKind;

impl ModelKind for OwnKind {
    type Settings = Settings;

    fn name(&self) -> &'static str {
        "own"
    }

    fn version(&self) -> u32 {
        7
    }

    fn settings(&self, section: &Section<'_>) -> Option<Settings> {
        section.deserialize()
    }

    fn build(&self, _: &Settings, _: &Input<'_>) -> Result<Box<dyn Application>, BuildError> {
        Err(BuildError::of_model("nothing is trained here"))
    }
}

const JOB: &str = r#"
name = "tiny"
[[regions]]
name = "here"
[compute]
examples_per_second = 10
[job]
clocks = 3
[job.data]
format = "own"
[job.model]
kind = "own"
"#;

fn load(model: &str, overrides: &Overrides) -> Result<Simulation, Vec<String>> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.toml");
    fs::write(&path, format!("{JOB}{model}")).expect("a file");
    super::super::load_simulation(&path, overrides, &models::kinds().with(OwnKind)).map_err(|error| {
        error.problems.into_iter().map(|p| format!("{}: {}", p.key.unwrap_or_default(), p.message)).collect()
    })
}

const GOOD: &str = r#"
batch = 8
rate = 1
activation = { leaky = { slope = 0.1 } }
layers = [{ width = 4 }, { width = 2, dropout = 0.5 }]
heads = 2
note = "7"
"#;

fn settings(model: &str, overrides: &Overrides) -> Settings {
    let simulation = load(model, overrides).unwrap_or_else(|problems| panic!("{problems:#?}"));
    simulation.job.model.get::<Settings>().expect("they are of its type").clone()
}

#[test]
fn settings_of_ones_own_are_read_as_others_are() {
    let good = Settings {
        batch: 8,
        rate: 1.0,
        activation: Activation::Leaky { slope: 0.1 },
        layers: vec![Layer { width: 4, dropout: 0.0 }, Layer { width: 2, dropout: 0.5 }],
        nesterov: false,
        momentum: None,
        heads: 2,
        note: "7".to_owned(),
    };
    assert_eq!(settings(GOOD, &Overrides::default()), good);
    // Flags and the environment have texts without types.
    let flags = overrides(
        &[("GAIA__JOB__MODEL__NESTEROV", "true")],
        &[("job.model.batch", "16"), ("job.model.layers", "[{ width = 9 }]"), ("job.model.momentum", "0.9")],
    );
    let expected = Settings {
        batch: 16,
        layers: vec![Layer { width: 9, dropout: 0.0 }],
        nesterov: true,
        momentum: Some(0.9),
        ..good
    };
    assert_eq!(settings(GOOD, &flags), expected);
}

#[test]
fn everything_that_is_wrong_with_them_is_said_at_once() {
    let wrong = r#"
batch = -1
rate = "fast"
activation = "rlu"
layers = [{ width = 4 }, { widht = 2, dropout = "x" }]
heads = 3
momentun = 0.9
"#;
    let problems = load(wrong, &Overrides::default()).expect_err("much is wrong");
    let expected = [
        "job.model.batch: found -1; allowed: a whole number, at least 0",
        "job.model.rate: found \"fast\"; allowed: a number",
        "job.model.activation: found \"rlu\"; allowed: one of \"relu\", \"tanh\", \"leaky\"; did you mean \"relu\"?",
        "job.model.layers[1].widht: unknown key; did you mean `width`?",
        "job.model.layers[1].width: missing; allowed: a whole number, at least 0",
        "job.model.layers[1].dropout: found \"x\"; allowed: a number",
        "job.model.heads: found 3; allowed: an even number",
        "job.model.note: missing; allowed: a text",
        "job.model.momentun: unknown key; did you mean `momentum`?",
    ];
    let (mut found, mut wanted) = (problems.clone(), expected.map(str::to_owned).to_vec());
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted, "{problems:#?}");
    // Where the kind is unknown, which keys there are is too.
    let unknown = load("", &overrides(&[], &[("job.model.kind", "onw")])).expect_err("there is none");
    assert_eq!(
        unknown,
        [
            "job.model.kind: found \"onw\"; allowed: one of \"softmax\", \"mlp\", \"factorisation\", \"linear\", \"logistic\", \"k-means\", \"lda\", \"external\", \"own\"; did you mean \"own\"?"
        ]
    );
}

#[test]
fn a_kind_with_its_version_and_settings_is_what_regions_agree_on() {
    let job = |model: &str| load(model, &Overrides::default()).expect("it is right").job;
    let (one, same) = (job(GOOD), job(GOOD));
    let other = job(&GOOD.replace("batch = 8", "batch = 9"));
    assert_eq!(one.digest(1, "asp"), same.digest(1, "asp"));
    assert_ne!(one.digest(1, "asp"), other.digest(1, "asp"));
    let told = crate::job::by_key(&one);
    let value = |key: &str| told.get(key).map(String::as_str);
    assert_eq!((value("job.model.kind"), value("job.model.version")), (Some("own"), Some("7")));
    assert_eq!(value("job.model.batch"), Some("8"));
    let error = one.input(1).application().err().expect("it says so");
    assert_eq!(error.to_string(), "the model cannot be made: nothing is trained here");
}

#[test]
#[should_panic(expected = "two kinds of models called \"own\"")]
fn two_kinds_have_two_names() {
    let _ = models::kinds().with(OwnKind).with(OwnKind);
}
