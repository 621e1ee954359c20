//! The first rows of training data as they are understood: what a user looks at before anything is
//! trained.

use super::csv::{self, Features};
use super::load::{DataError, csv_form, read_file};
use super::{libsvm, movielens};
use crate::learning::data::{DataSettings, DataSource, Outcome};

/// How many rows.
const ROWS: usize = 3;

/// How the training file is read, whose labels are `outcome`, then its first rows; nothing for data
/// that is not text.
///
/// # Errors
///
/// If the file cannot be used.
pub fn preview(data: &DataSettings, outcome: Outcome) -> Result<Vec<String>, DataError> {
    match &data.source {
        source @ DataSource::Csv { train, .. } => {
            let form = csv_form(source, outcome, Features::Times(1.0), None);
            read_file(&data.root.file(train), |source| csv::preview(source, form, ROWS))
        }
        DataSource::Libsvm { train, features, .. } => {
            read_file(&data.root.file(train), |source| libsvm::preview(source, *features, outcome, ROWS))
        }
        DataSource::MovieLens { train, layout, columns, .. } => {
            read_file(&data.root.file(train), |source| movielens::preview(source, *layout, columns, ROWS))
        }
        DataSource::Own
        | DataSource::Idx { .. }
        | DataSource::Planted { .. }
        | DataSource::PlantedLinear { .. }
        | DataSource::Bags { .. }
        | DataSource::PlantedTopics { .. } => Ok(Vec::new()),
    }
}
