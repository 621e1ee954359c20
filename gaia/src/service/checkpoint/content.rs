//! Safetensors, as far as checkpoints go: texts by key, and tensors of 32-bit numbers by name.
//!
//! Kind: time-free. What a file says of itself is compared with what is expected before anything is
//! allocated for it.

use std::collections::{BTreeMap, BTreeSet};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, Metadata, SafeTensorError};
use serde::de::DeserializeOwned;
use thiserror::Error;

/// The most that the texts and the list of tensors may take. 64 regions with ten tables make 130
/// kB, and the names of two million users and items 24 MB, which are written as a text inside a
/// text, where quotes take twice their place.
pub(crate) const MAX_HEADER_BYTES: u64 = 64 << 20;

/// Why a file is not what it should be.
#[derive(Debug, Error)]
pub enum ContentError {
    /// No safetensors file at all.
    #[error("is no safetensors file")]
    Format(#[source] SafeTensorError),
    /// A header that is too long.
    #[error("has a header of {found} bytes; allowed: at most {MAX_HEADER_BYTES}")]
    Header {
        /// How long.
        found: u64,
    },
    /// A text that is not there.
    #[error("has no `{key}` in its metadata")]
    NoText {
        /// Its key.
        key: &'static str,
    },
    /// A text that says something else than it should.
    #[error("has {found:?} at `{key}` in its metadata; allowed: {allowed}")]
    Text {
        /// Its key.
        key: &'static str,
        /// What it says, shortened.
        found: String,
        /// What it may say.
        allowed: String,
    },
    /// A tensor that is not there.
    #[error("has no tensor `{name}`")]
    NoTensor {
        /// Its name.
        name: String,
    },
    /// A tensor of another type or shape.
    #[error("has a tensor `{name}` of {found}; expected: {expected}")]
    Tensor {
        /// Its name.
        name: String,
        /// What it is.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// A tensor that has no business there.
    #[error("has a tensor `{name}`, which nothing is known of")]
    Unknown {
        /// Its name, shortened.
        name: String,
    },
}

/// A file that has been opened.
#[derive(Debug)]
pub(crate) struct Content<'a> {
    header: Metadata,
    texts: BTreeMap<String, String>,
    data: &'a [u8],
}

impl<'a> Content<'a> {
    /// Opens `file`.
    pub(crate) fn open(file: &'a [u8]) -> Result<Self, ContentError> {
        let too_short = || ContentError::Format(SafeTensorError::HeaderTooSmall);
        let length = u64::from_le_bytes(*file.first_chunk().ok_or_else(too_short)?);
        if length > MAX_HEADER_BYTES {
            return Err(ContentError::Header { found: length });
        }
        let (length, header) = SafeTensors::read_metadata(file).map_err(ContentError::Format)?;
        let texts = header.metadata().iter().flatten();
        let texts = texts.map(|(key, text)| (key.clone(), text.clone())).collect();
        Ok(Self { texts, header, data: &file[8 + length..] })
    }

    /// The text at `key`.
    pub(crate) fn text(&self, key: &'static str) -> Result<&str, ContentError> {
        self.texts.get(key).map(String::as_str).ok_or(ContentError::NoText { key })
    }

    /// What JSON the text at `key` is, where `holds` says that it may be.
    pub(crate) fn json<T: DeserializeOwned>(
        &self,
        key: &'static str,
        allowed: &str,
        holds: impl FnOnce(&T) -> bool,
    ) -> Result<T, ContentError> {
        let text = self.text(key)?;
        let read = serde_json::from_str(text).ok().filter(holds);
        read.ok_or_else(|| wrong(key, text, allowed))
    }

    /// The names of all tensors.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.header.offset_keys().into_iter().collect()
    }

    /// The shape of a tensor.
    pub(crate) fn shape(&self, name: &str) -> Result<&[usize], ContentError> {
        let info = self.header.info(name);
        info.map(|info| info.shape.as_slice()).ok_or_else(|| ContentError::NoTensor { name: name.to_owned() })
    }

    /// A tensor of numbers with a fraction.
    pub(crate) fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ContentError> {
        let words = self.words(name, Dtype::F32, shape)?;
        Ok(words.iter().map(|word| f32::from_le_bytes(*word)).collect())
    }

    /// A tensor of whole numbers.
    pub(crate) fn counts(&self, name: &str, shape: &[usize]) -> Result<Vec<u32>, ContentError> {
        let words = self.words(name, Dtype::U32, shape)?;
        Ok(words.iter().map(|word| u32::from_le_bytes(*word)).collect())
    }

    fn words(&self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<&'a [[u8; 4]], ContentError> {
        let info = self.header.info(name).ok_or_else(|| ContentError::NoTensor { name: name.to_owned() })?;
        if info.dtype != dtype || info.shape != shape {
            return Err(ContentError::Tensor {
                name: name.to_owned(),
                found: described(info.dtype, &info.shape),
                expected: described(dtype, shape),
            });
        }
        // The reader has compared shapes, places and the length of the file.
        let bytes = &self.data[info.data_offsets.0..info.data_offsets.1];
        Ok(bytes.as_chunks().0)
    }
}

/// Says that the text at `key` is not one of those that are `allowed`.
pub(super) fn wrong(key: &'static str, found: &str, allowed: &str) -> ContentError {
    ContentError::Text { key, found: excerpt(found), allowed: allowed.to_owned() }
}

fn described(dtype: Dtype, shape: &[usize]) -> String {
    format!("{dtype} {shape:?}")
}

/// The beginning of a text, for messages.
pub(super) fn excerpt(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}...", &text[..end]),
    }
}
