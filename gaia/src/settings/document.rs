//! TOML as values of the `config` crate that remember their lines.
//!
//! Kind: time-free.

use std::borrow::Cow;

use config::{Map, Value, ValueKind};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{ConfigError, Problem};

/// A TOML text on its way to `config`'s values, which get "file:line" for their origin.
///
/// `config`'s own reader keeps the name of the file alone, and stops at the first syntax error.
pub(crate) struct Toml<'a> {
    name: &'a str,
    text: &'a str,
    /// Where lines begin.
    lines: Vec<usize>,
    problems: Vec<Problem>,
}

impl<'a> Toml<'a> {
    pub(crate) fn new(name: &'a str, text: &'a str) -> Self {
        // A byte-order mark, as some editors leave it.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { name, text, lines, problems: Vec::new() }
    }

    /// The root table, or everything that is wrong with the text.
    pub(crate) fn read(mut self) -> Result<Map<String, Value>, ConfigError> {
        let (table, mut errors) = DeTable::parse_recoverable(self.text);
        errors.sort_by_key(|error| error.span().map_or(0, |span| span.start));
        // The first ones are the cause of the others.
        const SHOWN: usize = 8;
        for error in errors.into_iter().take(SHOWN) {
            let place = match error.span() {
                Some(span) => self.place(span.start),
                None => self.name.to_owned(),
            };
            let message = match error.span().and_then(|span| self.key_without_value(span.start)) {
                Some(key) => format!("`{key}` has no value: write one behind the equals sign"),
                None => error.message().replace('\n', "; "),
            };
            let message = format!("not TOML: {message}");
            // The parser may stumble over the same thing twice.
            if self.problems.last().is_none_or(|last| last.place != place || last.message != message) {
                self.problem(place, message);
            }
        }
        let table = if self.problems.is_empty() { self.table(table.get_ref()) } else { Map::new() };
        if self.problems.is_empty() { Ok(table) } else { Err(ConfigError { problems: self.problems }) }
    }

    fn place(&self, offset: usize) -> String {
        let line = self.lines.partition_point(|start| *start <= offset);
        format!("{}:{line}", self.name)
    }

    /// The key of the line at `offset`, if nothing but a comment is behind its equals sign. The
    /// parser takes what is missing there for a string without quotes.
    fn key_without_value(&self, offset: usize) -> Option<&'a str> {
        let line = self.lines.partition_point(|start| *start <= offset).checked_sub(1)?;
        let text = self.text[self.lines[line]..].lines().next()?;
        let (key, value) = text.split_once('=')?;
        let value = value.trim_start();
        (value.is_empty() || value.starts_with('#')).then(|| key.trim())
    }

    fn problem(&mut self, place: String, message: String) {
        self.problems.push(Problem { place, key: None, message });
    }

    fn table(&mut self, table: &DeTable<'_>) -> Map<String, Value> {
        let entry = |(key, value): (&Spanned<_>, &Spanned<_>)| {
            let key: &Spanned<Cow<'_, str>> = key;
            let place = self.place(key.span().start);
            (key.get_ref().clone().into_owned(), self.value(value.get_ref(), place))
        };
        table.iter().map(entry).collect()
    }

    fn value(&mut self, value: &DeValue<'_>, place: String) -> Value {
        let kind = match value {
            DeValue::String(text) => ValueKind::String(text.clone().into_owned()),
            DeValue::Boolean(flag) => ValueKind::Boolean(*flag),
            DeValue::Datetime(time) => ValueKind::String(time.to_string()),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => ValueKind::I64(number),
                Err(error) => {
                    self.problem(place.clone(), format!("{number}: {error}"));
                    ValueKind::Nil
                }
            },
            DeValue::Float(number) => match number.as_str().parse() {
                Ok(number) => ValueKind::Float(number),
                Err(error) => {
                    self.problem(place.clone(), format!("{number}: {error}"));
                    ValueKind::Nil
                }
            },
            DeValue::Table(table) => ValueKind::Table(self.table(table)),
            DeValue::Array(items) => {
                let item = |item: &Spanned<DeValue<'_>>| {
                    let place = self.place(item.span().start);
                    self.value(item.get_ref(), place)
                };
                ValueKind::Array(items.iter().map(item).collect())
            }
        };
        Value::new(Some(&place), kind)
    }
}

/// Parses what an override says where a table or an array is asked for: TOML as it stands behind an
/// equals sign.
pub(crate) fn inline(text: &str, origin: &str) -> Option<Value> {
    let value = DeValue::parse(text.trim()).ok()?;
    let mut toml = Toml::new(origin, text);
    let value = toml.value(value.get_ref(), origin.to_owned());
    toml.problems.is_empty().then(|| relocate(value, origin))
}

/// Gives everything inside `value` the same origin: an override has no lines.
fn relocate(value: Value, origin: &str) -> Value {
    let kind = match value.kind {
        ValueKind::Array(items) => {
            ValueKind::Array(items.into_iter().map(|item| relocate(item, origin)).collect())
        }
        ValueKind::Table(table) => {
            ValueKind::Table(table.into_iter().map(|(key, item)| (key, relocate(item, origin))).collect())
        }
        kind => kind,
    };
    Value::new(Some(&origin.to_owned()), kind)
}
