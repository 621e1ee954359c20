//! Numeric CSV, one example a line, its class label in the last column.

use std::io::Read;

use ::csv::{ReaderBuilder, StringRecord};

use super::classification::{Keep, Labelled, MAX_FEATURES};
use super::lines::{excerpt, parse_finite, parse_label};

/// Why a file is not usable CSV.
#[derive(Debug, thiserror::Error)]
pub enum CsvError {
    /// The file cannot be read on, its gzip stream is damaged, or a record is not text.
    #[error("line {line}: cannot be read")]
    Read {
        /// Counted from one.
        line: u64,
        /// The cause.
        source: ::csv::Error,
    },
    /// A record that is longer or shorter than the first, or too short for any.
    #[error("line {line}: {found} columns, {allowed} are allowed")]
    Columns {
        /// Counted from one.
        line: u64,
        /// How many.
        found: usize,
        /// How many there should be.
        allowed: String,
    },
    /// The last column.
    #[error("line {line}, column {column}: label `{found}`, an integer is allowed")]
    Label {
        /// Counted from one.
        line: u64,
        /// Counted from one.
        column: usize,
        /// The field.
        found: String,
    },
    /// Any other column.
    #[error("line {line}, column {column}: `{found}`, a finite number is allowed")]
    Value {
        /// Counted from one.
        line: u64,
        /// Counted from one.
        column: usize,
        /// The field.
        found: String,
    },
}

/// Reads all records, and keeps the features of some; features are multiplied by `scale`.
pub(crate) fn read(input: impl Read, header: bool, scale: f64, keep: Keep<'_>) -> Result<Labelled, CsvError> {
    // Lengths are compared here, with a message that has the same form as the others.
    let mut reader = ReaderBuilder::new()
        .has_headers(header)
        .flexible(true)
        .trim(::csv::Trim::All)
        .buffer_capacity(1 << 16)
        .from_reader(input);
    let mut file = Labelled::default();
    let mut record = StringRecord::new();
    let mut entries = Vec::new();
    loop {
        let next = reader.read_record(&mut record);
        let line = record.position().map_or_else(|| reader.position().line(), ::csv::Position::line);
        if !next.map_err(|source| CsvError::Read { line, source })? {
            return Ok(file);
        }
        check_columns(line, record.len(), &file)?;
        let features = record.len() - 1;
        entries.clear();
        for (index, text) in record.iter().take(features).enumerate() {
            let value = scaled(text, scale).ok_or_else(|| CsvError::Value {
                line,
                column: index + 1,
                found: excerpt(text),
            })?;
            entries.push((index as u32, value));
        }
        let text = &record[features];
        let label = parse_label(text).ok_or_else(|| CsvError::Label {
            line,
            column: features + 1,
            found: excerpt(text),
        })?;
        file.features = features as u32;
        file.push(keep, entries.iter().copied());
        file.labels.push(label);
    }
}

fn check_columns(line: u64, found: usize, file: &Labelled) -> Result<(), CsvError> {
    let allowed = match file.features as usize {
        0 if (2..=MAX_FEATURES as usize + 1).contains(&found) => return Ok(()),
        0 => format!("2 to {}", MAX_FEATURES + 1),
        features if found == features + 1 => return Ok(()),
        features => (features + 1).to_string(),
    };
    Err(CsvError::Columns { line, found, allowed })
}

fn scaled(text: &str, scale: f64) -> Option<f32> {
    let value = (f64::from(parse_finite(text)?) * scale) as f32;
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_read_with_and_without_a_header() {
        let file = read("x,y,class\n1, 0,3\r\n\n-2,4e0,5.0\n".as_bytes(), true, 0.5, Keep::All).unwrap();
        assert_eq!((file.features, &file.labels[..]), (2, &[3, 5][..]));
        assert_eq!((file.rows.row(0).features, file.rows.row(0).values), (&[0][..], &[0.5][..]));
        assert_eq!(file.rows.row(1).values, [-1.0, 2.0]);
        assert_eq!(read("1,2\n".as_bytes(), false, 1.0, Keep::All).unwrap().labels, [2]);
        assert!(read("".as_bytes(), false, 1.0, Keep::All).unwrap().labels.is_empty());
        assert!(read("x,class\n".as_bytes(), true, 1.0, Keep::All).unwrap().labels.is_empty());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_column() {
        let table = [
            ("1,2,0\n1,0\n", "line 2: 2 columns, 3 are allowed"),
            ("1,2,0\n1,2,3,0\n", "line 2: 4 columns, 3 are allowed"),
            ("7\n", "line 1: 1 columns, 2 to 67108865 are allowed"),
            ("1,x,0\n", "line 1, column 2: `x`, a finite number is allowed"),
            ("1,,0\n", "line 1, column 2: ``, a finite number is allowed"),
            ("1,2,0\nNaN,2,0\n", "line 2, column 1: `NaN`, a finite number is allowed"),
            ("1,inf,0\n", "line 1, column 2: `inf`, a finite number is allowed"),
            ("1,1e38,0\n", "line 1, column 2: `1e38`, a finite number is allowed"),
            ("1,2,0.5\n", "line 1, column 3: label `0.5`, an integer is allowed"),
            ("1,2,\n", "line 1, column 3: label ``, an integer is allowed"),
        ];
        for (text, message) in table {
            assert_eq!(
                read(text.as_bytes(), false, 1000.0, Keep::All).unwrap_err().to_string(),
                message,
                "{text}"
            );
        }
        assert!(matches!(read(&b"1,\xff\n"[..], false, 1.0, Keep::All), Err(CsvError::Read { line: 1, .. })));
    }
}
