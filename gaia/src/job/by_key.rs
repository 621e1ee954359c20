//! The settings that regions must agree on, each by its key, as they are told to a region whose job
//! is another one.
//!
//! They are the same values that the [digest](super::Job::digest) is made of, so nothing can differ
//! that is not among them; the keys are those of the job's file, as far as one can be told from how
//! the settings are kept.
//!
//! Kind: time-free.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// How the fields of a job are called in its file, where that is not what they are called in code;
/// the first that fits.
const NAMES: [(&str, &str); 7] = [
    ("model.settings.", "model."),
    ("data.source.", "data."),
    ("data.source", "data.format"),
    ("data_scope", "data.scope"),
    ("asp.filter.", "asp."),
    ("asp.barrier_max_delay", "asp.barrier.max_delay"),
    ("asp.lead", "asp.mirror_clock.lead"),
];

/// All values in `job`, by their keys, such as `job.model.l2`.
pub fn by_key(job: &impl Serialize) -> BTreeMap<String, String> {
    let job = serde_json::to_value(job).expect("settings are plain data");
    let mut found = BTreeMap::new();
    flatten("", &job, &mut found);
    let named = |(path, value): (String, String)| {
        let name = NAMES.iter().find_map(|(path_of, name)| {
            let is_whole = !path_of.ends_with('.');
            let rest = path.strip_prefix(path_of).filter(|rest| !is_whole || rest.is_empty())?;
            Some(format!("{name}{rest}"))
        });
        (format!("job.{}", name.unwrap_or(path)), value)
    };
    found.into_iter().map(named).collect()
}

fn flatten(path: &str, value: &Value, found: &mut BTreeMap<String, String>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(fields) => match fields.iter().next() {
            // A variant of an enum with settings of its own.
            Some((variant, settings)) if fields.len() == 1 && starts_large(variant) => {
                found.insert(path.to_owned(), variant.to_lowercase());
                flatten(path, settings, found);
            }
            _ => fields.iter().for_each(|(key, value)| flatten(&below(key), value, found)),
        },
        Value::String(text) => {
            let text = if starts_large(text) { text.to_lowercase() } else { text.clone() };
            found.entry(path.to_owned()).or_insert(text);
        }
        // That of a variant would hide which one it is.
        value if found.contains_key(path) => _ = found.insert(below("value"), value.to_string()),
        value => _ = found.insert(path.to_owned(), value.to_string()),
    }
}

fn starts_large(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Job;
    use crate::job::tests::job;
    use crate::learning::application::ModelSettings;
    use crate::learning::data::DataScope;
    use crate::learning::models::{SoftmaxKind, SoftmaxSettings};

    #[test]
    fn settings_are_called_as_in_the_jobs_file() {
        let settings = by_key(&job());
        for (key, value) in [
            ("job.clocks", "10"),
            ("job.model.kind", "softmax"),
            ("job.model.batch", "8"),
            ("job.model.learning_rate.initial", "0.5"),
            ("job.data.format", "csv"),
            ("job.data.train", "digits-train.csv.gz"),
            ("job.asp.threshold", "0.01"),
            ("job.asp.mirror_clock.lead", "derived"),
        ] {
            assert_eq!(settings.get(key).map(String::as_str), Some(value), "{key}: {settings:#?}");
        }
    }

    #[test]
    fn what_changes_the_digest_is_among_them() {
        let changes: [fn(&mut Job); 6] = [
            |job| job.clocks = 11,
            |job| job.data_scope = DataScope::Own,
            |job| job.staleness = None,
            |job| job.asp.barrier_max_delay = None,
            |job| job.asp.lead = wan::policy::Lead::Limit(3),
            |job| {
                let mut softmax = job.model.get::<SoftmaxSettings>().expect("that is its kind").clone();
                softmax.learning_rate.decay = crate::learning::Decay::Constant;
                job.model = ModelSettings::new(SoftmaxKind, softmax);
            },
        ];
        for change in changes {
            let mut changed = job();
            change(&mut changed);
            assert_ne!(by_key(&changed), by_key(&job()), "{changed:?}");
        }
    }
}
