//! The tables in a file of a shard, or of a whole model, whatever else is in it.
//!
//! Kind: time-free.

use super::content::{Content, ContentError, wrong};
use super::format::VERSION;
use super::seal::is_intact;

/// A file with tables.
pub(crate) struct Shard<'a> {
    content: Content<'a>,
    is_damaged: bool,
}

impl<'a> Shard<'a> {
    /// Opens a checkpoint, or what a server has left at the end of a job, or an exported model.
    pub(crate) fn open(file: &'a [u8]) -> Result<Self, ContentError> {
        let content = Content::open(file)?;
        let version = content.text("checkpoint").ok();
        if let Some(version) = version.filter(|version| *version != VERSION) {
            return Err(wrong("checkpoint", version, VERSION));
        }
        // A checkpoint has a checksum, and the others have none.
        let is_damaged = !is_intact(file).unwrap_or(version.is_none());
        Ok(Self { content, is_damaged })
    }

    /// Whether its content is not what its checksum says.
    pub(crate) fn is_damaged(&self) -> bool {
        self.is_damaged
    }

    /// The names of its tables: in the job's order where the file says so, else in that of the
    /// alphabet.
    pub(crate) fn tables(&self) -> Result<Vec<String>, ContentError> {
        match self.content.text("tables") {
            Ok(_) => self.content.json("tables", "an array of names", |_| true),
            Err(_) => Ok(self.content.names().into_iter().collect()),
        }
    }

    /// The rows, the width and the values of a table.
    pub(crate) fn table(&self, name: &str) -> Result<(usize, usize, Vec<f32>), ContentError> {
        let (rows, width) = match self.content.shape(name)? {
            [rows, width] => (*rows, *width),
            // Asked for as what it is not, so that the error says what it is.
            _ => (0, 0),
        };
        Ok((rows, width, self.content.floats(name, &[rows, width])?))
    }
}
