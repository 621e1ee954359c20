//! Training and test data: file formats, one planted generator, and how examples are dealt out to
//! workers.
//!
//! A loader turns bytes into one of four data sets, [`Classification`] (sparse rows with a class
//! each), [`Observations`] (sparse rows with a quantity each, or alone), [`Ratings`] (user, item,
//! value) or a [`Corpus`] (documents as bags of words). What a file claims about itself is never
//! believed: sizes are compared with limits before anything is allocated for them, and every
//! complaint names the file, the place in it, what was found and what is allowed. Files are plain or
//! gzip-compressed, told by their first bytes, and lie on disk or in an object store, from which
//! they are read as they come.
//!
//! What the rows and columns of a model stand for is a value of its own, a [`Vocabulary`]: loaders
//! make one of what they read, or read by one that is known.
//!
//! Read [`load_classification`] and [`load_ratings`] first, then [`partition`].

mod bags;
pub mod classification;
mod csv;
pub mod declared;
pub mod documents;
mod draw;
mod epochs;
mod idx;
mod judging;
mod libsvm;
mod lines;
mod load;
mod location;
mod movielens;
pub mod names;
mod observations;
pub mod partition;
mod planted;
pub(crate) mod planted_topics;
mod preview;
pub mod ratings;
mod settings;
mod source;
pub(crate) mod store;
mod table;

pub use self::bags::BagError;
pub use self::classification::{ClassesError, Classification, Examples, Slice, SparseRow, SparseRows};
pub use self::csv::CsvError;
pub use self::documents::{Corpus, Documents};
#[cfg(test)]
pub(crate) use self::draw::gaussian;
pub use self::draw::normal_row;
pub(crate) use self::draw::{Purpose, stream};
pub use self::epochs::Epochs;
pub use self::idx::IdxError;
pub(crate) use self::judging::{
    classification_to_judge, documents_to_judge, observations_to_judge, ratings_to_judge,
};
pub use self::libsvm::LibsvmError;
pub use self::lines::LineError;
pub(crate) use self::load::check_size;
pub use self::load::{
    DataError, FileError, Known, load_classification, load_classification_slice, load_documents,
    load_observations, load_observations_slice, load_ratings,
};
pub use self::location::{DataFile, DataRoot};
pub use self::movielens::MovieLensError;
pub use self::names::{Name, Names, Scaling, Vocabulary};
pub use self::observations::{Observations, Outcome, Samples};
pub(crate) use self::observations::{draw_sample, tenths};
pub use self::preview::preview;
pub use self::ratings::Ratings;
pub use self::settings::{
    BagFormat, Column, DataScope, DataSettings, DataSource, Declared, Delimiter, HashedIds, Layout,
    Partition, RatingColumns, Scale,
};
pub(crate) use self::source::look;
pub use self::table::TableError;
