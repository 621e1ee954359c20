//! Writes a model.
//!
//! Kind: driver. Files appear whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

use super::{Table, Trained};
use crate::learning::data::Vocabulary;
use crate::service::checkpoint::{Tensor, write_beside};

/// How tables are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// All tables in one file, with the job, the region and the clock in its metadata.
    Safetensors,
    /// NumPy's format, one table in a file: `<f4`, shape `[rows, width]`.
    Npy,
    /// Text, one table in a file: a line for each row, with its number and its elements, under a
    /// header.
    Csv,
}

/// A file name that does not say how its content is to be written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("found {found:?}; allowed: a file name that ends in .safetensors, .npy or .csv")]
pub struct FormatError {
    found: String,
}

/// Why a model could not be written.
#[derive(Debug, Error)]
pub enum WriteError {
    /// A table that is not there.
    #[error("there is no table {name}; there is {}", found.join(", "))]
    NoTable {
        /// Its name.
        name: String,
        /// Those that are.
        found: Vec<String>,
    },
    /// What the system says.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl FromStr for Format {
    type Err = FormatError;

    /// Goes by how the name of a file ends.
    fn from_str(name: &str) -> Result<Self, FormatError> {
        let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
        match extension {
            Some("safetensors") => Ok(Self::Safetensors),
            Some("npy") => Ok(Self::Npy),
            Some("csv") => Ok(Self::Csv),
            _ => Err(FormatError { found: name.to_owned() }),
        }
    }
}

/// Writes `model`, or one table of it, to `path`; yields the files. In a format that has one table
/// in a file, several are written to files of their own, with their names before the ending:
/// `model-users.npy`. What rows and columns stand for, and how features are scaled, is in the
/// metadata of safetensors, and beside other formats in a file `model-vocabulary.json`.
///
/// # Errors
///
/// If there is no such table, and whatever the system says.
pub fn write(
    model: &Trained,
    format: Format,
    path: &Path,
    only: Option<&str>,
) -> Result<Vec<PathBuf>, WriteError> {
    let tables: Vec<_> =
        model.tables.iter().filter(|table| only.is_none_or(|only| table.name == only)).collect();
    if let (Some(name), true) = (only, tables.is_empty()) {
        let found = model.tables.iter().map(|table| table.name.clone()).collect();
        return Err(WriteError::NoTable { name: name.to_owned(), found });
    }
    let mut files = match format {
        Format::Safetensors => {
            let bytes = safetensors(model, &tables);
            return file(path, |out| out.write_all(&bytes)).map(|path| vec![path]);
        }
        Format::Npy => each(path, &tables, npy)?,
        Format::Csv => each(path, &tables, csv)?,
    };
    if let Some(vocabulary) = &model.vocabulary {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let beside = path.with_file_name(format!("{stem}-vocabulary.json"));
        files.push(file(&beside, |out| out.write_all(vocabulary.to_json().as_bytes()))?);
    }
    Ok(files)
}

/// Writes each table to a file of its own.
fn each(
    path: &Path,
    tables: &[&Table],
    fill: fn(&Table, &mut dyn Write) -> io::Result<()>,
) -> Result<Vec<PathBuf>, WriteError> {
    let named = |table: &Table| match tables {
        [_] => path.to_owned(),
        _ => {
            let part =
                |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
            path.with_file_name(format!(
                "{}-{}.{}",
                part(path.file_stem()),
                table.name,
                part(path.extension())
            ))
        }
    };
    tables.iter().map(|table| file(&named(table), |out| fill(table, out))).collect()
}

fn file(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<PathBuf, WriteError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let written = write_beside(directory, &name, |file: &mut File| {
        let mut out = BufWriter::with_capacity(1 << 20, file);
        fill(&mut out)?;
        out.flush()
    });
    written.map(|()| path.to_owned()).map_err(|source| WriteError::Write { path: path.to_owned(), source })
}

fn safetensors(model: &Trained, tables: &[&Table]) -> Vec<u8> {
    let names: Vec<_> = tables.iter().map(|table| &table.name).collect();
    let regions = serde_json::to_string(&model.regions).expect("names are text");
    let texts = [
        ("job", model.job.clone()),
        ("digest", model.digest.clone()),
        ("region", model.region.clone()),
        ("clock", model.clock.to_string()),
        ("tables", serde_json::to_string(&names).expect("names are text")),
    ];
    let regions = (!model.regions.is_empty()).then_some(("regions", regions));
    let left_out = serde_json::to_string(&model.left_out).expect("names are text");
    let left_out = (!model.left_out.is_empty()).then_some(("left_out", left_out));
    let vocabulary = model.vocabulary.as_ref().and_then(Vocabulary::to_metadata);
    let texts =
        texts.into_iter().chain(regions).chain(left_out).chain(vocabulary.map(|text| ("vocabulary", text)));
    let texts = texts.map(|(key, text)| (key.to_owned(), text)).collect();
    let tensors = tables
        .iter()
        .map(|table| (table.name.clone(), Tensor::floats(vec![table.rows, table.width], &table.values)));
    safetensors::serialize(tensors, Some(texts)).expect("the values of a table fill it")
}

/// Version 1.0 of NumPy's format (NEP 1): a magic number, a line of text that is padded to a
/// multiple of 64, and the values. With one type and one order there is nothing in it that would
/// earn a dependency.
fn npy(table: &Table, out: &mut dyn Write) -> io::Result<()> {
    let mut header =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}", table.rows, table.width);
    const FIXED: usize = 10;
    let padding = (FIXED + header.len() + 1).next_multiple_of(64) - (FIXED + header.len() + 1);
    header.push_str(&" ".repeat(padding));
    header.push('\n');
    out.write_all(b"\x93NUMPY\x01\x00")?;
    out.write_all(&(header.len() as u16).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    for value in &table.values {
        out.write_all(&value.to_le_bytes())?;
    }
    Ok(())
}

/// Numbers as short as they can be while they are read back as the same.
fn csv(table: &Table, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "row")?;
    for column in 0..table.width {
        write!(out, ",{column}")?;
    }
    writeln!(out)?;
    for (index, row) in table.values.chunks_exact(table.width.max(1)).enumerate() {
        write!(out, "{index}")?;
        for value in row {
            write!(out, ",{value}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}
