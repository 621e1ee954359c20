//! Whether the files of a job are there: asked before anything runs, so that the answer can name
//! the key.

use std::path::Path;

use crate::job::Job;
use crate::learning::data::look;
use crate::learning::data::{DataFile, DataRoot, DataSource};
use crate::settings::Problem;

/// The job's files that are not there, or are no files; `file` is where the job was read from.
pub(super) fn problems(job: &Job, file: &Path) -> Vec<Problem> {
    let problem = |key: &str, what: String| Problem {
        place: file.display().to_string(),
        key: Some(format!("job.data.{key}")),
        message: format!("{what}; say where the data is with --data-path PLACE or GAIA__JOB__DATA__PATH"),
    };
    let files = files(&job.data.source);
    if let DataRoot::Directory(path) = &job.data.root
        && !files.is_empty()
        && !path.is_dir()
    {
        return vec![problem("path", format!("{} is no directory", path.display()))];
    }
    let missing = |(key, name): &(&'static str, &Path)| {
        let file = job.data.root.file(name);
        let error = look(&file).err()?;
        Some(problem(key, format!("{file} cannot be read: {error}")))
    };
    let names = job.data.declared.file.as_ref().and_then(|path| {
        let path = DataFile::Path(path.clone());
        let error = look(&path).err()?;
        let message = format!("{path} cannot be read: {error}; `gaia names` makes it");
        Some(Problem { place: file.display().to_string(), key: Some("job.data.names".to_owned()), message })
    });
    files.iter().filter_map(missing).chain(names).collect()
}

/// The files of a source, with their keys.
fn files(source: &DataSource) -> Vec<(&'static str, &Path)> {
    fn some<'a>(key: &'static str, path: Option<&'a Path>) -> impl Iterator<Item = (&'static str, &'a Path)> {
        path.map(|path| (key, path)).into_iter()
    }
    match source {
        DataSource::Idx { train: [images, labels], test } => {
            let test = test.as_ref().map(|[images, labels]| (images.as_path(), labels.as_path()));
            some("train_images", Some(images.as_path()))
                .chain(some("train_labels", Some(labels.as_path())))
                .chain(some("test_images", test.map(|(images, _)| images)))
                .chain(some("test_labels", test.map(|(_, labels)| labels)))
                .collect()
        }
        DataSource::Libsvm { train, test, .. }
        | DataSource::Csv { train, test, .. }
        | DataSource::MovieLens { train, test, .. } => {
            some("train", Some(train.as_path())).chain(some("test", test.as_deref())).collect()
        }
        DataSource::Bags { train, test, vocabulary, .. } => some("train", Some(train.as_path()))
            .chain(some("test", test.as_deref()))
            .chain(some("vocabulary", Some(vocabulary.as_path())))
            .collect(),
        DataSource::Own
        | DataSource::Planted { .. }
        | DataSource::PlantedLinear { .. }
        | DataSource::PlantedTopics { .. } => Vec::new(),
    }
}
