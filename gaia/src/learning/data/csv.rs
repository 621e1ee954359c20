//! CSV of examples, one a line: numbers, and a class label in one of the columns.
//!
//! A feature is a row of the model. Which column it stands in is told by the header, where the file
//! has one and the names of the model's features are known; else by the order of columns.

use std::collections::{BTreeMap, VecDeque};
use std::io::BufRead;

use super::classification::{Keep, Labelled};
use super::lines::{FINITE, excerpt, parse_finite};
use super::names::{NotAName, Scaling};
use super::table::{Header, MAX_COLUMNS, Table, TableError, quoted};
use crate::learning::data::{Column, Layout, Outcome};

/// Why a file is not usable CSV.
#[derive(Debug, thiserror::Error)]
pub enum CsvError {
    /// It is no table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The column of labels.
    #[error(
        "line {line}, column {column}: label `{found}` is {why}; a whole number or a text is allowed, since each label is a class; job.data.label says which column it is"
    )]
    Label {
        /// Counted from one.
        line: u64,
        /// Counted from one.
        column: usize,
        /// The field.
        found: String,
        /// What it is.
        why: NotAName,
    },
    /// Texts among numbers: a header that was taken for data, or something that is missing there.
    #[error(
        "line {line}: label `{found}`, and `{first}` in line {first_line}: labels are all whole numbers or all texts; if the first \
         line is a header, say so with job.data.header = true"
    )]
    Mixed {
        /// Counted from one.
        line: u64,
        /// The label.
        found: String,
        /// The first label, which is of the other kind.
        first: String,
        /// Where it is.
        first_line: u64,
    },
    /// The column of quantities.
    #[error(
        "line {line}, column {column}: quantity `{found}`, {FINITE}; job.data.label says which column it is"
    )]
    Quantity {
        /// Counted from one.
        line: u64,
        /// Counted from one.
        column: usize,
        /// The field.
        found: String,
    },
    /// A feature of the model that has no column.
    #[error("line {line}: no column of the feature `{wanted}` in the header {found}")]
    Missing {
        /// Counted from one.
        line: u64,
        /// The first of those that have none.
        wanted: String,
        /// The header.
        found: String,
    },
    /// A column that is no feature of the model.
    #[error("line {line}, column {column}: `{found}` is none of the features that are known: {known}")]
    Unknown {
        /// Counted from one.
        line: u64,
        /// Counted from one.
        column: usize,
        /// What the header calls it.
        found: String,
        /// The features.
        known: String,
    },
    /// Any other column.
    #[error("line {line}, column {column}: `{found}`, {FINITE}")]
    Value {
        /// Counted from one.
        line: u64,
        /// Counted from one.
        column: usize,
        /// The field.
        found: String,
    },
}

/// How a file of examples is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form<'a> {
    pub(crate) layout: Layout,
    pub(crate) label: &'a Column,
    /// What the label is.
    pub(crate) outcome: Outcome,
    pub(crate) features: Features<'a>,
    /// What the model calls its features, in order.
    pub(crate) names: Option<&'a [String]>,
}

/// What becomes of features.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Features<'a> {
    /// They are multiplied.
    Times(f64),
    /// They stay as they are, and their moments are found.
    Measured,
    /// They are standardised.
    Standardised(&'a Scaling),
}

/// Reads all records, and keeps the features of some.
pub(crate) fn read(input: impl BufRead, form: Form<'_>, keep: Keep<'_>) -> Result<Labelled, CsvError> {
    let mut records = Records::open(input, form)?;
    let mut file = Labelled { header: records.feature_names(), ..Labelled::default() };
    let mut moments = Vec::new();
    while records.next_example(&mut file)?.is_some() {
        if matches!(form.features, Features::Measured) {
            moments.resize(records.entries.len(), Moment::default());
            moments.iter_mut().zip(&records.entries).for_each(|(moment, (_, value))| moment.add(*value));
        }
        file.features = records.entries.len() as u32;
        file.push(keep, records.entries.iter().copied());
    }
    if matches!(form.features, Features::Measured) {
        file.scaling = Some(scaling(&moments));
    }
    Ok(file)
}

/// The first records as they are understood, for people.
pub(crate) fn preview(input: impl BufRead, form: Form<'_>, count: usize) -> Result<Vec<String>, CsvError> {
    let mut records = Records::open(input, form)?;
    let mut file = Labelled::default();
    let header = match records.table.header() {
        Some(header) => format!("header {}", quoted(header.names.iter().map(String::as_str))),
        None => "no header".to_owned(),
    };
    let delimiter = records.table.delimiter();
    let label = match (records.label, form.outcome) {
        (Some(label), Outcome::Class) => format!("the class in column {}", label + 1),
        (Some(label), Outcome::Quantity) => format!("the quantity in column {}", label + 1),
        (Some(label), Outcome::Ignored) => format!("without column {}", label + 1),
        (None, _) => "all of them features".to_owned(),
    };
    let mut shown = vec![format!("columns between {delimiter}, {header}, {label}")];
    for _ in 0..count {
        let Some(line) = records.next_example(&mut file)? else { break };
        const SHOWN: usize = 5;
        let mut values: Vec<_> =
            records.entries.iter().take(SHOWN).map(|(_, value)| value.to_string()).collect();
        if let Some(more @ 1..) = records.entries.len().checked_sub(SHOWN) {
            values.push(format!("{more} more"));
        }
        let label = match form.outcome {
            Outcome::Class => format!("class {} of ", excerpt(&records.found)),
            Outcome::Quantity => format!("{} of ", excerpt(&records.found)),
            Outcome::Ignored => String::new(),
        };
        shown.push(format!("line {line}: {label}{}", values.join(", ")));
    }
    Ok(shown)
}

struct Records<'a, R> {
    table: Table<R>,
    form: Form<'a>,
    /// The place of the label, where there is one.
    label: Option<usize>,
    /// The place of each feature.
    places: Vec<usize>,
    /// The features of the record that was read last, and its label.
    entries: Vec<(u32, f32)>,
    found: String,
    /// The first label: its line, and whether it is a text.
    first: Option<(u64, String, bool)>,
}

impl<'a, R: BufRead> Records<'a, R> {
    fn open(input: R, form: Form<'a>) -> Result<Self, CsvError> {
        let named = matches!(form.label, Column::Named(_));
        let table = Table::open(input, form.layout, named)?;
        let has_label = !matches!((form.label, form.outcome), (Column::Absent, Outcome::Ignored));
        if table.columns() == 1 && has_label {
            let allowed = format!("2 to {MAX_COLUMNS} are allowed: features and a class");
            return Err(table.wrong_columns(table.first_line(), 1, allowed).into());
        }
        let label = match table.columns() {
            0 => Some(0),
            _ if has_label => Some(table.place(form.label)?),
            _ => None,
        };
        let places = match table.header().zip(form.names) {
            Some((header, names)) => places_by_name(header, label, names)?,
            None => (0..table.columns()).filter(|place| Some(*place) != label).collect(),
        };
        Ok(Self { table, form, label, places, entries: Vec::new(), found: String::new(), first: None })
    }

    /// What the header calls the features.
    fn feature_names(&self) -> Option<Vec<String>> {
        let names = &self.table.header()?.names;
        Some(self.places.iter().map(|place| names[*place].clone()).collect())
    }

    /// Reads a record; its label goes to those of `file` as well.
    fn next_example(&mut self, file: &mut Labelled) -> Result<Option<u64>, CsvError> {
        let Some((line, record)) = self.table.next_record()? else { return Ok(None) };
        self.entries.clear();
        for (feature, &place) in self.places.iter().enumerate() {
            let text = &record[place];
            let value = value(text, self.form.features, feature).ok_or_else(|| CsvError::Value {
                line,
                column: place + 1,
                found: excerpt(text),
            })?;
            self.entries.push((feature as u32, value));
        }
        let Some(label) = self.label else { return Ok(Some(line)) };
        let text = &record[label];
        match self.form.outcome {
            Outcome::Class => {}
            Outcome::Quantity => {
                let wrong = || CsvError::Quantity { line, column: label + 1, found: excerpt(text) };
                file.quantities.push(parse_finite(text).ok_or_else(wrong)?);
                text.clone_into(&mut self.found);
                return Ok(Some(line));
            }
            Outcome::Ignored => return Ok(Some(line)),
        }
        let wrong = |why| CsvError::Label { line, column: label + 1, found: excerpt(text), why };
        let is_text = file.labels.push_label(text).map_err(wrong)?;
        let (first_line, first, first_is_text) =
            self.first.get_or_insert_with(|| (line, excerpt(text), is_text));
        if is_text != *first_is_text {
            let (first, first_line) = (first.clone(), *first_line);
            return Err(CsvError::Mixed { line, found: excerpt(text), first, first_line });
        }
        self.found.clear();
        self.found.push_str(text);
        Ok(Some(line))
    }
}

/// The columns of the features that are called `names`. Of several features that are called the
/// same, each has a column in the order of both.
fn places_by_name(header: &Header, label: Option<usize>, names: &[String]) -> Result<Vec<usize>, CsvError> {
    let Header { line, names: found } = header;
    let line = *line;
    let mut by_name: BTreeMap<&str, VecDeque<usize>> = BTreeMap::new();
    for (place, name) in found.iter().enumerate().filter(|(place, _)| Some(*place) != label) {
        by_name.entry(name).or_default().push_back(place);
    }
    let mut places = Vec::with_capacity(names.len());
    for name in names {
        let place = by_name.get_mut(name.as_str()).and_then(VecDeque::pop_front);
        places.push(place.ok_or_else(|| CsvError::Missing {
            line,
            wanted: excerpt(name),
            found: quoted(found.iter().map(String::as_str)),
        })?);
    }
    match by_name.into_values().flatten().min() {
        Some(place) => Err(CsvError::Unknown {
            line,
            column: place + 1,
            found: excerpt(&found[place]),
            known: quoted(names.iter().map(String::as_str)),
        }),
        None => Ok(places),
    }
}

fn value(text: &str, features: Features<'_>, feature: usize) -> Option<f32> {
    let value = parse_finite(text)?;
    let value = match features {
        Features::Times(factor) => (f64::from(value) * factor) as f32,
        Features::Measured => value,
        // A record that is longer than the training file's is refused as such.
        Features::Standardised(scaling) => {
            match scaling.means.get(feature).zip(scaling.deviations.get(feature)) {
                Some((mean, deviation)) => {
                    ((f64::from(value) - f64::from(*mean)) / f64::from(*deviation)) as f32
                }
                None => value,
            }
        }
    };
    value.is_finite().then_some(value)
}

/// The mean and the sum of squared deviations from it, kept up to date value by value (Welford,
/// Technometrics 4(3), 1962).
#[derive(Clone, Copy, Debug, Default)]
struct Moment {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moment {
    fn add(&mut self, value: f32) {
        let value = f64::from(value);
        self.count += 1.0;
        let before = value - self.mean;
        self.mean += before / self.count;
        self.squares += before * (value - self.mean);
    }
}

fn scaling(moments: &[Moment]) -> Scaling {
    let deviation = |moment: &Moment| {
        let deviation = (moment.squares / moment.count).sqrt() as f32;
        if deviation > 0.0 && deviation.is_finite() { deviation } else { 1.0 }
    };
    Scaling {
        means: moments.iter().map(|moment| moment.mean as f32).collect(),
        deviations: moments.iter().map(deviation).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::names::{Name, Names};
    use super::*;

    fn form(features: Features<'_>) -> Form<'_> {
        let outcome = Outcome::Class;
        Form { layout: Layout::default(), label: &Column::Last, outcome, features, names: None }
    }

    fn labels(file: &Labelled) -> Vec<String> {
        let names: Names = file.labels.names().collect();
        let places = file.labels.places(&names);
        places.iter().map(|place| names.all()[place.expect("it is there") as usize].to_string()).collect()
    }

    #[test]
    fn examples_are_read_with_and_without_a_header() {
        let times = |factor| form(Features::Times(factor));
        let file = read("x,y,class\n1, 0,3\r\n\n-2,4e0,5.0\n".as_bytes(), times(0.5), Keep::All).unwrap();
        assert_eq!((file.features, labels(&file)), (2, vec!["3".to_owned(), "5".to_owned()]));
        assert_eq!((file.rows.row(0).features, file.rows.row(0).values), (&[0][..], &[0.5][..]));
        assert_eq!(file.rows.row(1).values, [-1.0, 2.0]);
        assert_eq!(labels(&read("1,2\n".as_bytes(), times(1.0), Keep::All).unwrap()), ["2"]);
        assert!(read("".as_bytes(), times(1.0), Keep::All).unwrap().labels.is_empty());
        assert!(read("x,class\n".as_bytes(), times(1.0), Keep::All).unwrap().labels.is_empty());
    }

    #[test]
    fn the_class_stands_in_any_column_and_may_be_a_text() {
        let first = Column::Number(1);
        let form = Form { label: &first, ..form(Features::Times(1.0)) };
        let file = read("setosa 5.1 3.5\nversicolor 4.9 3\n".as_bytes(), form, Keep::All).unwrap();
        assert_eq!(labels(&file), ["setosa", "versicolor"]);
        assert_eq!((file.rows.row(0).features, file.rows.row(0).values), (&[0, 1][..], &[5.1, 3.5][..]));
        let named = Column::Named("species".into());
        let form = Form { label: &named, ..form };
        let file = read("a;species;b\n1;x;2\n3;y;4\n".as_bytes(), form, Keep::All).unwrap();
        assert_eq!((labels(&file), file.rows.row(1).values), (vec!["x".into(), "y".into()], &[3.0, 4.0][..]));
        let names: Names = file.labels.names().collect();
        assert_eq!(names.all(), [Name::Text("x".into()), Name::Text("y".into())]);
    }

    #[test]
    fn columns_are_found_by_the_names_of_the_features() {
        let names = ["height", "weight", "x", "x"].map(str::to_owned);
        let form =
            Form { names: Some(&names), label: &Column::Named("class".into()), ..form(Features::Times(1.0)) };
        let same =
            ["height,weight,x,x,class\n1,2,3,4,0\n", "x,weight,class,height,x\n3,2,0,1,4\n", "1,2,3,4,0\n"];
        for text in same {
            let form = if text.starts_with('1') { Form { label: &Column::Last, ..form } } else { form };
            let file = read(text.as_bytes(), form, Keep::All).expect(text);
            assert_eq!(
                (file.rows.row(0).values, labels(&file)),
                (&[1.0, 2.0, 3.0, 4.0][..], vec!["0".into()])
            );
            assert!(file.header.is_none_or(|header| header == names), "{text}");
        }
        let table = [
            (
                "height,x,class,x\n1,2,0,3\n",
                "line 1: no column of the feature `weight` in the header `height`, `x`, `class`, `x`",
            ),
            (
                "# a\nheight,age,weight,x,x,class\n1,2,3,4,5,0\n",
                "line 2, column 2: `age` is none of the features that are known: `height`, `weight`, `x`, `x`",
            ),
        ];
        for (text, message) in table {
            assert_eq!(read(text.as_bytes(), form, Keep::All).expect_err(text).to_string(), message);
        }
    }

    #[test]
    fn features_are_standardised_by_the_figures_of_all_records() {
        let text = "1,7,0,0\n3,7,0,1\n8,7,9,1\n";
        let measured = read(text.as_bytes(), form(Features::Measured), Keep::Those(&[])).unwrap();
        let scaling = measured.scaling.expect("they were measured");
        assert_eq!(scaling.means, [4.0, 7.0, 3.0]);
        let deviation = (26.0f64 / 3.0).sqrt() as f32;
        assert_eq!(scaling.deviations, [deviation, 1.0, 18.0f64.sqrt() as f32]);
        let file = read(text.as_bytes(), form(Features::Standardised(&scaling)), Keep::All).unwrap();
        assert_eq!(file.rows.row(0).features, [0, 2], "what is the same everywhere becomes zero");
        assert_eq!(file.rows.row(2).values, [4.0 / deviation, 6.0 / 18.0f64.sqrt() as f32]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_column() {
        let number = "a number from -3.4e38 to 3.4e38 is allowed";
        let label = "a whole number or a text is allowed, since each label is a class; job.data.label says which column it is";
        let table = [
            ("1,2,0\n1,0\n", "line 2: 2 columns between `,`, 3 as in line 1".to_owned()),
            ("7\n", "line 1: 1 columns between `,`, 2 to 1048576 are allowed: features and a class".to_owned()),
            ("1,x,0\n", format!("line 1, column 2: `x`, {number}")),
            ("1,,0\n", format!("line 1, column 2: ``, {number}")),
            ("1,2,0\nNaN,2,0\n", format!("line 2, column 1: `NaN`, {number}")),
            ("1,inf,0\n", format!("line 1, column 2: `inf`, {number}")),
            ("1,1e38,0\n", format!("line 1, column 2: `1e38`, {number}")),
            ("1,2,0.5\n", format!("line 1, column 3: label `0.5` is a number with a fraction; {label}")),
            ("1,2,\n", format!("line 1, column 3: label `` is nothing; {label}")),
            ("1,\u{1b}[1m,2\n", format!("line 1, column 2: `\\u{{1b}}[1m`, {number}")),
            (
                "0,1,class\n1,2,0\n2,3,1\n",
                "line 2: label `0`, and `class` in line 1: labels are all whole numbers or all texts; if the first line is \
                 a header, say so with job.data.header = true"
                    .to_owned(),
            ),
        ];
        for (text, message) in table {
            let error = read(text.as_bytes(), form(Features::Times(1000.0)), Keep::All).expect_err(text);
            assert_eq!(error.to_string(), message, "{text}");
        }
    }
}
