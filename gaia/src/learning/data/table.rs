//! Tables of text: lines of fields between delimiters, in the dialects that people have.
//!
//! The delimiter and whether there is a header are found in the first line that is no comment,
//! unless the settings say them. Fields may stand in quotes, lines that begin with `#` are
//! comments, and blank lines mean nothing. The `csv` crate takes lines apart; what is here bounds
//! what a line may cost and finds the dialect.
//!
//! Between quotes a field goes on over the ends of lines, as prose may. A quote that was not meant
//! as one does the same, and whole rows are gone inside of a field: so no field that is used has a
//! line break, and none that looks as if it had swallowed a row, unless the settings say that
//! quotes are what they seem.

use std::io::{self, BufRead, Cursor, Read};

use ::csv::{ErrorKind, Reader, ReaderBuilder, StringRecord};

use super::lines::{LineError, Lines, MAX_LINE_BYTES, excerpt};
use crate::learning::data::{Column, Delimiter, Layout};

/// The most columns of a table: 2^20. A line of delimiters must not become a gigabyte of empty
/// fields.
pub(super) const MAX_COLUMNS: usize = 1 << 20;

/// Why a file is not usable as a table.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// A line cannot be had.
    #[error(transparent)]
    Line(#[from] LineError),
    /// A record that is longer or shorter than it should be.
    #[error("line {line}: {found} columns between {delimiter}, {allowed}")]
    Columns {
        /// Counted from one.
        line: u64,
        /// How many.
        found: usize,
        /// What columns are separated by in this file.
        delimiter: Delimiter,
        /// How many there should be, in words.
        allowed: String,
    },
    /// A quoted field that goes on over the end of a line.
    #[error(
        "line {line}, column {column}: a quote begins a field that goes on in the next line, and may hide rows; \
         job.data.quotes = false takes quotes as any other character{otherwise}"
    )]
    LineBreak {
        /// Where the record begins; counted from one.
        line: u64,
        /// Counted from one.
        column: usize,
        /// What else can be done.
        otherwise: &'static str,
    },
    /// A column that the settings name, and the file has not.
    #[error("line {line}: there is no column {wanted}; {allowed}")]
    NoColumn {
        /// Counted from one.
        line: u64,
        /// Which one.
        wanted: String,
        /// Which ones there are.
        allowed: String,
    },
}

/// The records of a file.
pub(super) struct Table<R> {
    reader: Reader<Bounded<io::Chain<Cursor<Vec<u8>>, R>>>,
    delimiter: Delimiter,
    /// Lines before the part that `reader` sees.
    skipped: u64,
    /// The first line, if it is a header.
    header: Option<Header>,
    /// How many fields the first record has; zero in an empty file.
    columns: usize,
    /// The first record, which was read to see whether it is a header, until it is asked for.
    first: Option<u64>,
    record: StringRecord,
    /// Whether the last field of `record` began with a quote, and went on to the end of the file.
    is_open: bool,
    /// Whether quotes are trusted, also where it looks as if one had been left open.
    trusts_quotes: bool,
    /// The columns that somebody looks at; none where all are.
    used: Option<Vec<usize>>,
}

/// The line that names the columns.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) line: u64,
    pub(super) names: Vec<String>,
}

impl<R: BufRead> Table<R> {
    /// Looks at the first line of `input`. A table whose columns are `named` in the settings has a
    /// header unless they say otherwise.
    pub(super) fn open(input: R, layout: Layout, named: bool) -> Result<Self, TableError> {
        let mut lines = Lines::new(input);
        let start = loop {
            match lines.next_whole()? {
                Some((_, text)) if text.starts_with(COMMENT) => {}
                Some((line, text)) => break Some((line, text.to_owned())),
                None => break None,
            }
        };
        let (line, mut text) = start.unwrap_or((1, String::new()));
        let has_quotes = layout.quotes != Some(false);
        let delimiter = layout.delimiter.unwrap_or_else(|| recognised(&text, has_quotes));
        text.push('\n');
        let input = Cursor::new(text.into_bytes()).chain(lines.into_inner());
        let reader = ReaderBuilder::new()
            .has_headers(false)
            // Lengths are compared here, with a message that has the same form as the others.
            .flexible(true)
            .delimiter(byte(delimiter))
            .quoting(has_quotes)
            .comment(Some(COMMENT as u8))
            .buffer_capacity(1 << 16)
            .from_reader(Bounded { input, used: 0, last: b'\n', is_over: false });
        let mut table = Self {
            reader,
            delimiter,
            skipped: line - 1,
            header: None,
            columns: 0,
            first: None,
            record: StringRecord::new(),
            is_open: false,
            trusts_quotes: layout.quotes == Some(true),
            used: None,
        };
        let Some(line) = table.read()? else { return Ok(table) };
        table.columns = table.record.len();
        table.first = Some(line);
        if table.columns == 1 {
            // The delimiter was looked for outside of quotes.
            table.without_line_breaks(line)?;
        }
        if layout.header.unwrap_or_else(|| named || has_no_number(&table.record)) {
            table.without_line_breaks(line)?;
            let names = table.record.iter().map(str::to_owned).collect();
            table.header = Some(Header { line, names });
            table.first = None;
        }
        Ok(table)
    }

    /// Says which columns somebody looks at: prose in others may go on over several lines.
    pub(super) fn uses(&mut self, places: &[usize]) {
        self.used = Some(places.to_vec());
    }

    pub(super) fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    pub(super) fn delimiter(&self) -> Delimiter {
        self.delimiter
    }

    /// How many columns the first line has.
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// The line that tells the columns: the header, or the first record.
    pub(super) fn first_line(&self) -> u64 {
        self.header.as_ref().map_or(self.skipped + 1, |header| header.line)
    }

    /// The next record, which has as many fields as the first line, with the number of its line.
    pub(super) fn next_record(&mut self) -> Result<Option<(u64, &StringRecord)>, TableError> {
        let line = match self.first.take() {
            Some(line) => Some(line),
            None => self.read()?,
        };
        let Some(line) = line else { return Ok(None) };
        self.without_line_breaks(line)?;
        if self.record.len() != self.columns {
            let allowed = match &self.header {
                Some(header) => format!("{} as in the header in line {}", self.columns, header.line),
                None => format!("{} as in line {}", self.columns, self.first_line()),
            };
            return Err(self.wrong_columns(line, self.record.len(), allowed));
        }
        Ok(Some((line, &self.record)))
    }

    /// Refuses the record that begins in `line` if a field of it is used and goes on over the end
    /// of a line, or if one looks as if it had swallowed a row.
    fn without_line_breaks(&self, line: u64) -> Result<(), TableError> {
        let is_whole = self.record.len() == self.columns && self.columns > 1;
        for (place, field) in self.record.iter().enumerate().filter(|(_, field)| field.contains('\n')) {
            let is_used = self.used.as_ref().is_none_or(|used| used.contains(&place));
            let otherwise = match (is_used || !is_whole, self.trusts_quotes) {
                (true, _) => "",
                (false, false) if self.has_row(place, field) => ", and true takes them for what they are",
                (false, _) => continue,
            };
            return Err(TableError::LineBreak { line, column: place + 1, otherwise });
        }
        match self.is_open {
            true => Err(TableError::LineBreak { line, column: self.record.len(), otherwise: "" }),
            false => Ok(()),
        }
    }

    /// Whether a line inside of `field`, which is at `place`, has as many columns as a row.
    fn has_row(&self, place: usize, field: &str) -> bool {
        let count = |text: &str| match self.delimiter {
            Delimiter::Blanks => text.split_whitespace().count(),
            Delimiter::DoubleColon => text.split("::").count(),
            delimiter => text.split(char::from(byte(delimiter))).count(),
        };
        // The first line of the field ends that of the record.
        let columns = |(at, text)| count(text) + if at == 0 { place } else { 0 };
        field.lines().enumerate().map(columns).any(|columns| columns == self.columns)
    }

    pub(super) fn wrong_columns(&self, line: u64, found: usize, allowed: String) -> TableError {
        TableError::Columns { line, found, delimiter: self.delimiter, allowed }
    }

    /// The place of `column`, from zero.
    pub(super) fn place(&self, column: &Column) -> Result<usize, TableError> {
        let missing = |wanted: String, allowed: String| TableError::NoColumn {
            line: self.first_line(),
            wanted,
            allowed,
        };
        match (column, &self.header) {
            (Column::Absent, _) => Err(missing("`none`".to_owned(), "one of labels is needed".to_owned())),
            (Column::Last, _) => Ok(self.columns.saturating_sub(1)),
            (Column::Number(number), _) => {
                let place = (*number as usize).checked_sub(1).filter(|place| *place < self.columns);
                place.ok_or_else(|| missing(number.to_string(), format!("1 to {} are there", self.columns)))
            }
            (Column::Named(name), None) => {
                Err(missing(format!("`{}`", excerpt(name)), "the file has no header".to_owned()))
            }
            (Column::Named(name), Some(Header { names, .. })) => {
                let exact = names.iter().position(|other| other == name);
                let place = exact.or_else(|| names.iter().position(|other| other.eq_ignore_ascii_case(name)));
                let allowed = || format!("{} are there", quoted(names.iter().map(String::as_str)));
                place.ok_or_else(|| missing(format!("`{}`", excerpt(name)), allowed()))
            }
        }
    }

    /// Reads a record that is not empty; yields its line.
    fn read(&mut self) -> Result<Option<u64>, TableError> {
        loop {
            self.reader.get_mut().used = 0;
            let next = self.reader.read_record(&mut self.record);
            let line = self.reader.position().line() + self.skipped;
            // Unless the reading broke off, a record and the end of its line have just been read.
            // (The position of the record itself is that of comments and blank lines before it.)
            let line = if matches!(&next, Err(error) if error.is_io_error()) { line } else { line - 1 };
            if !next.map_err(|error| self.why(line, error))? {
                return Ok(None);
            }
            // All lines end, the last one too: a record that goes on to the end of the file has a
            // quote that was left open.
            self.is_open = self.reader.get_ref().is_over;
            // Before blanks around fields are taken away, and line breaks among them.
            let breaks = self.record.as_slice().bytes().filter(|byte| *byte == b'\n').count() as u64;
            let line = (line + u64::from(self.is_open)).saturating_sub(breaks);
            self.record.trim();
            self.compact(line)?;
            if self.record.len() > MAX_COLUMNS {
                let allowed = format!("at most {MAX_COLUMNS} are allowed");
                return Err(self.wrong_columns(line, self.record.len(), allowed));
            }
            if self.record.iter().any(|field| !field.is_empty()) {
                return Ok(Some(line));
            }
        }
    }

    /// Takes out the empty fields that delimiters of several bytes leave behind.
    fn compact(&mut self, line: u64) -> Result<(), TableError> {
        match self.delimiter {
            Delimiter::Comma | Delimiter::Semicolon | Delimiter::Tab => {}
            Delimiter::Blanks => {
                self.record = self.record.iter().filter(|field| !field.is_empty()).collect();
            }
            Delimiter::DoubleColon => {
                if self.record.iter().skip(1).step_by(2).any(|field| !field.is_empty()) {
                    let allowed = "a single colon stands between two of them".to_owned();
                    return Err(self.wrong_columns(line, self.record.len(), allowed));
                }
                self.record = self.record.iter().step_by(2).collect();
            }
        }
        Ok(())
    }

    fn why(&self, line: u64, error: ::csv::Error) -> TableError {
        let is_long = self.reader.get_ref().used > MAX_LINE_BYTES;
        let error = match error.into_kind() {
            ErrorKind::Io(_) if is_long => LineError::TooLong { line },
            ErrorKind::Io(source) => LineError::Io { line, source },
            ErrorKind::Utf8 { .. } => LineError::NotText { line },
            other => LineError::Io { line, source: io::Error::other(format!("{other:?}")) },
        };
        error.into()
    }
}

/// What a line begins with that is a comment.
const COMMENT: char = '#';

fn byte(delimiter: Delimiter) -> u8 {
    match delimiter {
        Delimiter::Comma => b',',
        Delimiter::Semicolon => b';',
        Delimiter::Tab => b'\t',
        Delimiter::Blanks => b' ',
        Delimiter::DoubleColon => b':',
    }
}

/// The delimiter of a file that begins with `line`: the first of them that is in it, outside of
/// quotes if it `has_quotes`. Those that hardly occur inside of fields come first; a comma comes
/// after a semicolon, beside which it is in numbers.
fn recognised(line: &str, has_quotes: bool) -> Delimiter {
    // Quotes in pairs alone are quotes.
    let is_quoted = has_quotes && line.matches('"').count().is_multiple_of(2);
    let bare = if is_quoted { line.split('"').step_by(2).collect() } else { line.to_owned() };
    let kinds = [
        ("::", Delimiter::DoubleColon),
        ("\t", Delimiter::Tab),
        (";", Delimiter::Semicolon),
        (",", Delimiter::Comma),
        (" ", Delimiter::Blanks),
    ];
    let found = kinds.into_iter().find(|(text, _)| bare.contains(text));
    found.map_or(Delimiter::Comma, |(_, delimiter)| delimiter)
}

/// Whether no field of a first line is a number, as in a header.
fn has_no_number(record: &StringRecord) -> bool {
    record.iter().all(|field| field.parse::<f64>().is_err())
}

/// Names in a message, the first of many.
pub(super) fn quoted<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 8;
    let more = names.len().saturating_sub(SHOWN);
    let shown: Vec<_> = names.take(SHOWN).map(|name| format!("`{}`", excerpt(name))).collect();
    if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
}

/// Counts what is read for one record, and ends the reading where that is more than any sane one
/// has: the `csv` crate holds a whole record in memory. Lines end with a line feed alone here, the
/// last one too, so that counting them is simple.
struct Bounded<R> {
    input: R,
    used: u64,
    last: u8,
    /// Whether the reader has been told that there is no more.
    is_over: bool,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.used > MAX_LINE_BYTES {
            return Err(io::Error::other("the record is too long"));
        }
        loop {
            let count = self.input.read(out)?;
            self.used += count as u64;
            if count == 0 {
                let is_open = self.last != b'\n';
                self.last = b'\n';
                return match out.first_mut().filter(|_| is_open) {
                    Some(byte) => {
                        *byte = b'\n';
                        Ok(1)
                    }
                    None => {
                        self.is_over = true;
                        Ok(0)
                    }
                };
            }
            let kept = without_returns(&mut out[..count]);
            if kept > 0 {
                self.last = out[kept - 1];
                return Ok(kept);
            }
        }
    }
}

/// Takes carriage returns out of `bytes`; yields how many bytes are left, at the beginning.
fn without_returns(bytes: &mut [u8]) -> usize {
    let Some(first) = bytes.iter().position(|byte| *byte == b'\r') else { return bytes.len() };
    let mut kept = first;
    for at in first..bytes.len() {
        if bytes[at] != b'\r' {
            bytes[kept] = bytes[at];
            kept += 1;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(text: &str, layout: Layout) -> Result<Vec<Vec<String>>, String> {
        let mut table = Table::open(text.as_bytes(), layout, false).map_err(|error| error.to_string())?;
        let mut all = Vec::new();
        while let Some((_, record)) = table.next_record().map_err(|error| error.to_string())? {
            all.push(record.iter().map(str::to_owned).collect());
        }
        Ok(all)
    }

    #[test]
    fn dialects_read_alike() {
        for text in [
            "1,2 b,3\n4,5,6\n",
            "\u{feff}1;2 b;3\r\n4;5;6\r\n",
            "# why\n\n1\t2 b\t3\n# more\n4\t5\t6",
            "1::2 b::3\n\n4::5::6\n",
            "\"1\",\"2 b\",\"3\"\n\"4\",5,6\n",
            "1  \"2 b\"   3  \n 4 5 6\n",
            "a,b,c\n1,2 b,3\n4,5,6\n",
        ] {
            let found = records(text, Layout::default()).expect(text);
            assert_eq!(found, [["1", "2 b", "3"], ["4", "5", "6"]], "{text}");
        }
        let semicolons = Layout { delimiter: Some(Delimiter::Semicolon), ..Layout::default() };
        assert_eq!(records("1,5;2\n", semicolons).expect("it is sound"), [["1,5", "2"]]);
    }

    #[test]
    fn only_a_line_without_numbers_is_taken_for_a_header() {
        let layout = |header| Layout { header, ..Layout::default() };
        assert_eq!(records("AX,B7,5.0\n", layout(None)).expect("it is sound").len(), 1);
        assert_eq!(records("x,y\n1,2\n", layout(None)).expect("it is sound").len(), 1);
        assert_eq!(records("a,b\n", layout(Some(false))).expect("it is sound").len(), 1);
        assert_eq!(records("1,2\n3,4\n", layout(Some(true))).expect("it is sound"), [["3", "4"]]);
        assert_eq!(records("", layout(None)).expect("it is sound").len(), 0);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_the_delimiter() {
        let table = [
            ("# x\n1,2\n\n1,2,3\n", "line 4: 3 columns between `,`, 2 as in line 2"),
            ("# x\r\n1,2\r\n\r\n# y\r\n1,2,3", "line 5: 3 columns between `,`, 2 as in line 2"),
            ("a;b\n1;2;3\n", "line 2: 3 columns between `;`, 2 as in the header in line 1"),
            ("1\t2\n1,2\n", "line 2: 1 columns between tabs, 2 as in line 1"),
            ("1::2\n1:2\n", "line 2: 2 columns between `::`, a single colon stands between two of them"),
        ];
        for (text, message) in table {
            assert_eq!(records(text, Layout::default()).expect_err(text), message);
        }
        let not_text = Table::open(&b"1,2\n1,\xff\n"[..], Layout::default(), false);
        let mut not_text = not_text.expect("the first line is text");
        not_text.next_record().expect("the first line is text");
        assert_eq!(not_text.next_record().expect_err("it is none").to_string(), "line 2: is not UTF-8 text");
    }

    #[test]
    fn an_endless_record_ends_the_reading_not_the_memory() {
        for start in ["1,2\n", "1,2\n\"", ""] {
            for byte in *b"x,\n" {
                let input = io::BufReader::new(start.as_bytes().chain(io::repeat(byte)).take(1 << 30));
                // Blank lines are no record.
                if byte == b'\n' && !start.ends_with('"') {
                    continue;
                }
                let read = Table::open(input, Layout::default(), false).and_then(|mut table| {
                    while table.next_record()?.is_some() {}
                    Ok(())
                });
                assert!(matches!(read, Err(TableError::Line(LineError::TooLong { .. }))), "{read:?}");
            }
        }
        let wide = format!("{}1\n", "1,".repeat(MAX_COLUMNS));
        let message = records(&wide, Layout::default()).expect_err("it is too wide");
        assert_eq!(message, "line 1: 1048577 columns between `,`, at most 1048576 are allowed");
    }

    #[test]
    fn no_row_is_hidden_by_a_quote() {
        let hidden = "a quote begins a field that goes on in the next line, and may hide rows; job.data.quotes = false \
                      takes quotes as any other character";
        let table = [
            ("\"a\t1\t5\nb\t2\t4\nc\"\t3\t3\n", "line 1, column 1"),
            ("x\t1\t5\n\"a\t1\t5\nb\t2\t4\nc\"\t3\t3\n", "line 2, column 1"),
            ("x,y\n# why\n\n1,\"2\n3,4\n", "line 4, column 2"),
            ("x,y\n1,2\n3,\"4\n\n5,6\",\n", "line 3, column 2"),
            ("\"x,y\n1,2\n", "line 1, column 1"),
            ("x,\"y\nz\"\n1,2\n", "line 1, column 2"),
        ];
        for (text, place) in table {
            for quotes in [None, Some(true)] {
                let layout = Layout { quotes, ..Layout::default() };
                assert_eq!(records(text, layout).expect_err(text), format!("{place}: {hidden}"), "{text}");
            }
        }
        let layout = Layout { quotes: Some(false), ..Layout::default() };
        let rows = records(table[0].0, layout).expect("quotes mean nothing");
        assert_eq!(rows, [["\"a", "1", "5"], ["b", "2", "4"], ["c\"", "3", "3"]]);
    }

    #[test]
    fn prose_that_is_not_used_may_have_lines() {
        let read = |text: &str, quotes| {
            let layout = Layout { quotes, ..Layout::default() };
            let mut table = Table::open(text.as_bytes(), layout, false).map_err(|error| error.to_string())?;
            table.uses(&[0, 1]);
            let mut lines = Vec::new();
            while let Some((line, _)) = table.next_record().map_err(|error| error.to_string())? {
                lines.push(line);
            }
            Ok::<_, String>(lines)
        };
        let prose = "user,item,why\n1,2,\"well,\nnot bad\n\"\n3,4,short\n";
        assert_eq!(read(prose, None), Ok(vec![2, 5]));
        // The last field of the first row holds the second row.
        let hides = "user,item,why\n1,2,\"well\n3,4,short\n5,6,\"\n";
        let message = read(hides, None).expect_err("it may hide a row");
        assert!(
            message.starts_with("line 2, column 3: a quote begins") && message.ends_with("what they are"),
            "{message}"
        );
        assert_eq!(read(hides, Some(true)), Ok(vec![2]));
        assert_eq!(read(hides, Some(false)), Ok(vec![2, 3, 4]));
        let open = "user,item,why\n1,2,\"well\n3,4,short\n5,6,short\n";
        for quotes in [None, Some(true)] {
            let message = read(open, quotes).expect_err("a quote is left open");
            assert!(message.starts_with("line 2, column 3: a quote begins"), "{message}");
            assert!(read("user,item,why\n1,2,\"well", quotes).is_err());
            assert_eq!(read("user,item,why\n1,2,\"well\"", quotes), Ok(vec![2]));
        }
    }

    #[test]
    fn columns_are_found_by_name_and_by_number() {
        let table =
            Table::open("user,Class\n1,2\n".as_bytes(), Layout::default(), false).expect("it is sound");
        let place = |column: Column| table.place(&column).map_err(|error| error.to_string());
        assert_eq!(place(Column::Named("class".into())), Ok(1));
        assert_eq!((place(Column::Number(1)), place(Column::Last)), (Ok(0), Ok(1)));
        let no_name = place(Column::Named("klass".into())).expect_err("there is none");
        assert_eq!(no_name, "line 1: there is no column `klass`; `user`, `Class` are there");
        let no_number = place(Column::Number(3)).expect_err("there is none");
        assert_eq!(no_number, "line 1: there is no column 3; 1 to 2 are there");
    }
}
