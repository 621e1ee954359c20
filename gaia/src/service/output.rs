//! The trained tables as files, one for each shard of each region, in safetensors.
//!
//! A tensor is named after its table and has shape `[slots, width]`; slot `i` of shard `s` of `n` is row `i * n + s`.
//! The metadata says which shard of how many it is, at which clock, and up to which clock of its own each region took part.
//! That of shard 0 also says what rows and columns stand for ([`crate::data::Vocabulary`], as JSON), so that the model can be
//! used without the data that it was trained on.
//!
//! Kind: driver.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use datacenter::Clock;
use safetensors::tensor::{Dtype, TensorView};

use super::ServiceError;
use super::setup::Setup;
use crate::model::ShardValues;
use crate::participation::Participation;

/// Makes `directory`, and sees that a file can be written there: a result that is lost for it would show only at the end.
pub(crate) fn prepare(directory: &Path) -> Result<(), ServiceError> {
    let tried = std::fs::create_dir_all(directory).and_then(|()| tempfile::tempfile_in(directory));
    tried
        .map(drop)
        .map_err(|source| ServiceError::OutputDirectory { path: directory.display().to_string(), source })
}

/// Writes a shard's tables into `directory`, whole or not at all; yields the file.
pub(super) fn write_shard(
    setup: &Setup,
    participation: &Participation,
    directory: &Path,
    shard: u16,
    clock: Clock,
    tables: &ShardValues,
) -> Result<PathBuf, ServiceError> {
    let region = &setup.region;
    let path = directory.join(format!("{}-{}-shard-{shard}.safetensors", region.job.name, region.name));
    let failed = |source| ServiceError::Output { path: path.display().to_string(), source };
    let bytes: Vec<Vec<u8>> =
        tables.iter().map(|values| values.iter().flat_map(|value| value.to_le_bytes()).collect()).collect();
    let shapes = &setup.shapes.0[usize::from(shard)];
    let views = setup.specs.iter().zip(shapes).zip(&bytes).map(|((spec, shape), bytes)| {
        let shape = vec![shape.slots as usize, shape.width as usize];
        let view = TensorView::new(Dtype::F32, shape, bytes).expect("a shard's values fill its tables");
        (spec.name.clone(), view)
    });
    let mut metadata = BTreeMap::from([
        ("job", region.job.name.clone()),
        ("digest", super::report::short(&setup.digest)),
        ("region", region.name.clone()),
        ("shard", shard.to_string()),
        ("shards", region.job.shards.to_string()),
        ("clock", clock.0.to_string()),
        ("regions", serde_json::to_string(&participation.by_region()).expect("plain data")),
    ]);
    // Once for a model is enough.
    if let Some(vocabulary) = setup.vocabulary().filter(|_| shard == 0) {
        metadata.insert("vocabulary", vocabulary);
    }
    let metadata = metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let file = safetensors::serialize(views, Some(metadata))
        .map_err(|error| failed(io::Error::other(error.to_string())))?;
    let write = || {
        let mut beside = tempfile::NamedTempFile::new_in(directory)?;
        io::Write::write_all(&mut beside, &file)?;
        beside.persist(&path)?;
        Ok(())
    };
    write().map_err(failed)?;
    Ok(path)
}
