//! Which data a job trains on: checked settings, in code's units.
//!
//! They are written (by `serde`) for the job's digest alone.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{DataRoot, Names};

/// Where training and test data come from. Files are relative to `root`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DataSettings {
    /// Where the files are (`data.path`); each region's own business.
    #[serde(skip)]
    pub root: DataRoot,
    /// The format and the files.
    pub source: DataSource,
    /// The names that the model has, where they do not follow from the files.
    #[serde(flatten)]
    pub declared: Declared,
}

impl DataSettings {
    /// Data whose names follow from the files.
    pub fn new(root: impl Into<DataRoot>, source: DataSource) -> Self {
        Self { root: root.into(), source, declared: Declared::default() }
    }
}

/// The names of a model that the job says, so that they mean the same whatever the files of a
/// region have.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Declared {
    /// The labels of classes; at least two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<Names>,
    /// A file of names. Where it lies is each region's own business: what stands in it is compared
    /// with the names that follow from data, as part of the model's vocabulary.
    #[serde(skip)]
    pub file: Option<PathBuf>,
    /// That the rows of users and items follow from their ids alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hashed: Option<HashedIds>,
}

/// Rows of users and items that follow from their ids, and figures that would else follow from the
/// ratings of all regions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HashedIds {
    /// How many rows there are for users; at least one.
    pub users: u32,
    /// How many for items; at least one.
    pub items: u32,
    /// From which predictions start.
    pub mean: f32,
    /// The lowest and the highest rating that there may be.
    pub range: (f32, f32),
}

/// A file format and its files, each plain or gzip-compressed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum DataSource {
    /// The application has its data already.
    Own,
    /// IDX images and labels, pixels scaled by 1/255.
    Idx {
        /// Training images and labels.
        train: [PathBuf; 2],
        /// Test images and labels.
        test: Option<[PathBuf; 2]>,
    },
    /// LIBSVM text: `label index:value ...`, indexes from one.
    Libsvm {
        /// Training file.
        train: PathBuf,
        /// Test file.
        test: Option<PathBuf>,
        /// How many features; found from the files where it is not given.
        features: Option<u32>,
    },
    /// CSV of numbers, with a class label in one of the columns.
    Csv {
        /// Training file.
        train: PathBuf,
        /// Test file.
        test: Option<PathBuf>,
        /// The dialect.
        layout: Layout,
        /// Where the class is. Default the last column.
        label: Column,
        /// What becomes of features. Default `Times(1.0)`.
        scale: Scale,
    },
    /// Ratings: MovieLens `u.data` (and the folds `u1.base`, `u1.test`), `ratings.dat` or
    /// `ratings.csv`, and other tables of a user, an item and a rating in each line.
    MovieLens {
        /// Training ratings.
        train: PathBuf,
        /// Test ratings.
        test: Option<PathBuf>,
        /// The dialect.
        layout: Layout,
        /// Where users, items and ratings are, as far as the header does not say so in words that
        /// are known.
        columns: RatingColumns,
    },
    /// Ratings drawn from a planted low-rank truth; every count is at least one.
    Planted {
        /// How many users.
        users: u32,
        /// How many items.
        items: u32,
        /// Rank of the truth.
        rank: u32,
        /// How many training ratings; a tenth of that many test ratings come on top.
        ratings: u32,
        /// Standard deviation of the noise on each rating.
        noise: f64,
    },
    /// Quantities drawn as a planted linear function of features, with noise; every count is at
    /// least one.
    PlantedLinear {
        /// How many training examples; a tenth of that many test examples come on top.
        examples: u32,
        /// How many features.
        features: u32,
        /// Standard deviation of the noise on each quantity.
        noise: f64,
    },
    /// Documents as bags of words.
    Bags {
        /// Which.
        format: BagFormat,
        /// Training file.
        train: PathBuf,
        /// Test file.
        test: Option<PathBuf>,
        /// The words, one in a line.
        vocabulary: PathBuf,
    },
    /// Documents drawn from planted topics; every count is at least one.
    PlantedTopics {
        /// How many training documents; a tenth of that many test documents come on top.
        documents: u32,
        /// How many words there are.
        words: u32,
        /// How many topics.
        topics: u32,
        /// How many tokens each document has; at most 65,535.
        length: u32,
    },
}

/// How documents are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum BagFormat {
    /// `document word count` in a line each, after three lines of sizes; ids from one.
    Uci,
    /// `words word:count ...`, a document in a line; ids from zero.
    LdaC,
}

impl DataSource {
    /// CSV as most people have it: the class last, features as they are, the dialect found in the
    /// file.
    pub fn csv(train: impl Into<PathBuf>, test: Option<&str>) -> Self {
        Self::Csv {
            train: train.into(),
            test: test.map(PathBuf::from),
            layout: Layout::default(),
            label: Column::default(),
            scale: Scale::default(),
        }
    }

    /// The same with features that are multiplied by `factor`.
    pub fn scaled_csv(train: impl Into<PathBuf>, test: Option<&str>, factor: f64) -> Self {
        let mut source = Self::csv(train, test);
        if let Self::Csv { scale, .. } = &mut source {
            *scale = Scale::Times(factor);
        }
        source
    }

    /// Ratings whose dialect and columns are found in the file.
    pub fn ratings(train: impl Into<PathBuf>, test: Option<&str>) -> Self {
        Self::MovieLens {
            train: train.into(),
            test: test.map(PathBuf::from),
            layout: Layout::default(),
            columns: RatingColumns::default(),
        }
    }

    /// Whether it has documents, which have neither classes nor ratings.
    pub fn has_documents(&self) -> bool {
        matches!(self, Self::Bags { .. } | Self::PlantedTopics { .. })
    }

    /// Whether it has ratings.
    pub fn has_ratings(&self) -> bool {
        matches!(self, Self::MovieLens { .. } | Self::Planted { .. })
    }
}

/// The dialect of a table of text; what is not said is found in its first line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Layout {
    /// What stands between fields.
    pub delimiter: Option<Delimiter>,
    /// Whether the first line is a header.
    pub header: Option<bool>,
    /// Whether fields may stand in double quotes. Where it is not said they may, and a quote that
    /// seems to have been left open is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quotes: Option<bool>,
}

/// What stands between the fields of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Delimiter {
    /// `,`
    Comma,
    /// `;`
    Semicolon,
    /// A tab.
    Tab,
    /// Any number of blanks.
    Blanks,
    /// `::`, as MovieLens has it.
    DoubleColon,
}

impl fmt::Display for Delimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Comma => "`,`",
            Self::Semicolon => "`;`",
            Self::Tab => "tabs",
            Self::Blanks => "blanks",
            Self::DoubleColon => "`::`",
        })
    }
}

/// A column of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Column {
    /// The last one.
    #[default]
    Last,
    /// Counted from one.
    Number(u32),
    /// As the header calls it.
    Named(String),
    /// There is none.
    Absent,
}

/// The columns of a table of ratings; none where the header says it, or the order of columns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RatingColumns {
    /// Who rated.
    pub user: Option<Column>,
    /// What was rated.
    pub item: Option<Column>,
    /// How.
    pub rating: Option<Column>,
}

/// What becomes of features.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum Scale {
    /// They are multiplied by this; above zero.
    Times(f64),
    /// They are standardised by the mean and the deviation of the training data.
    Standard,
}

impl Default for Scale {
    fn default() -> Self {
        Self::Times(1.0)
    }
}

/// Whose training data the files of a region hold. A simulation has one set of files, and deals it
/// out to all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum DataScope {
    /// The job's: every region sees the same files, and their examples are dealt out to the workers
    /// of all regions.
    #[default]
    Shared,
    /// The region's own, dealt out to its own workers. Its weight in the job is that of its workers
    /// among all.
    Own,
}

/// How training examples are dealt out to workers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum Partition {
    /// Shuffled, then cut.
    Random,
    /// Cut in file order.
    Contiguous,
    /// All examples of a key (a user, in ratings; a label, in classification) go to one worker.
    ByKey,
    /// Sorted by label (by item, in ratings), then cut: as skewed as it gets.
    LabelSkewed,
    /// For each label, shares drawn from a Dirichlet distribution with this concentration; above
    /// zero.
    Dirichlet(f64),
}

impl DataSource {
    /// What it has: examples with classes, ratings or documents.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Own => "data of its own",
            Self::Idx { .. } | Self::Libsvm { .. } | Self::Csv { .. } => "classes",
            Self::MovieLens { .. } | Self::Planted { .. } => "ratings",
            Self::PlantedLinear { .. } => "quantities",
            Self::Bags { .. } | Self::PlantedTopics { .. } => "documents",
        }
    }
}
