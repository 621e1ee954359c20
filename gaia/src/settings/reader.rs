//! From raw values to checked ones, gathering every problem on the way.
//!
//! Kind: time-free. A [`Section`] is a table that is being read: each key is asked for with the
//! [`Kind`] of value that is allowed there, and what nobody asked for is an unknown key. A value
//! that is wrong yields `None` and a problem; reading goes on, so that a user sees all problems at
//! once.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use config::{Map, Value, ValueKind};

use super::document::inline;
use super::kind::{Kind, Raw, describe};
use super::layers::{Layers, unique_name};
use super::problem::{ConfigError, Problem};
use super::suggest::nearest;

/// Reads one configuration.
pub(crate) struct Reader<'a> {
    layers: &'a Layers,
    problems: RefCell<Vec<Problem>>,
    asked: RefCell<BTreeSet<String>>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(layers: &'a Layers) -> Self {
        Self { layers, problems: RefCell::new(layers.problems.clone()), asked: RefCell::default() }
    }

    /// Reads the root table; the result is there only if there was no problem.
    pub(crate) fn read<T>(self, read: impl FnOnce(&Section<'_>) -> Option<T>) -> Result<T, ConfigError> {
        let result = self.section(&self.layers.root, String::new(), String::new(), read);
        let problems = self.problems.into_inner();
        match result {
            Some(result) if problems.is_empty() => Ok(result),
            _ => {
                assert!(!problems.is_empty(), "what cannot be read has a problem");
                Err(ConfigError { problems })
            }
        }
    }

    /// Reads the root table for the sake of the keys that are asked for, such as
    /// `regions[].workers`.
    #[cfg(test)]
    pub(crate) fn keys_asked<T>(self, read: impl FnOnce(&Section<'_>) -> Option<T>) -> BTreeSet<String> {
        self.section(&self.layers.root, String::new(), String::new(), read);
        assert_eq!(self.problems.into_inner(), []);
        self.asked.into_inner()
    }

    fn section<T>(
        &self,
        value: &Value,
        key: String,
        pattern: String,
        read: impl FnOnce(&Section<'_>) -> Option<T>,
    ) -> Option<T> {
        let raw = self.raw(value);
        let parsed = raw.text().filter(|_| raw.loose).and_then(|text| inline(text, raw.origin()));
        let ValueKind::Table(table) = &parsed.as_ref().unwrap_or(value).kind else {
            // Every key of it is missing too, but this one problem says enough.
            self.problem(value, &key, format!("found {}; allowed: a table", describe(value)));
            return None;
        };
        let section = Section { reader: self, value, table, key, pattern, names: RefCell::default() };
        let result = read(&section);
        section.report_unknown();
        result
    }

    fn raw<'v>(&'v self, value: &'v Value) -> Raw<'v> {
        let directory = self.layers.directory(value.origin());
        let from_file = directory.is_some() || value.origin().is_none();
        Raw { value, loose: !from_file, directory }
    }

    fn problem(&self, value: &Value, key: &str, message: String) {
        let place = self.layers.place(value).unwrap_or(&self.layers.file).to_owned();
        self.problems.borrow_mut().push(Problem { place, key: Some(key.to_owned()), message });
    }
}

/// A table that is being read: each key is asked for with what is allowed there, and what nobody
/// has asked for is an unknown key. Problems are gathered; a key with one reads as `None`.
pub struct Section<'a> {
    reader: &'a Reader<'a>,
    value: &'a Value,
    table: &'a Map<String, Value>,
    /// Its dotted key as the user would write it; empty at the root.
    key: String,
    /// The same with `[]` for positions and `<name>` for free names, as the documentation lists it.
    pattern: String,
    /// The keys asked for.
    names: RefCell<BTreeSet<String>>,
}

impl Section<'_> {
    /// Reads a key that must be there.
    pub fn required<T>(&self, name: &str, kind: Kind<T>) -> Option<T> {
        if !self.has(name) {
            self.ask(name);
            self.problem(name, format!("missing; allowed: {}", kind.allowed()));
            return None;
        }
        self.optional(name, kind)
    }

    /// Reads a key that may be missing.
    pub fn optional<T>(&self, name: &str, kind: Kind<T>) -> Option<T> {
        self.ask(name);
        let value = self.find(name)?;
        let raw = self.reader.raw(value);
        match kind.read(&raw) {
            Ok(value) => Some(value),
            Err(hint) => {
                let mut message = format!("found {}; allowed: {}", describe(value), kind.allowed());
                if let Some(hint) = hint {
                    message.push_str(&format!("; {hint}"));
                }
                self.problem(name, message);
                None
            }
        }
    }

    /// Reads a key that may be missing and has a default.
    pub fn or<T>(&self, name: &str, default: T, kind: Kind<T>) -> T {
        self.optional(name, kind).unwrap_or(default)
    }

    /// Reads a key that decides which other keys there are: the default if it is missing, nothing
    /// if it is wrong. Then the keys of all choices are to be called
    /// [`undecided`](Self::undecided), so that one mistake is one problem.
    pub fn chosen<T>(&self, name: &str, default: T, kind: Kind<T>) -> Option<T> {
        let found = self.optional(name, kind);
        if self.has(name) { found } else { Some(default) }
    }

    /// Says that `names` are no unknown keys: some choice has them, and which one it is could not
    /// be read.
    pub fn undecided(&self, names: &[&str]) {
        self.names.borrow_mut().extend(names.iter().map(|name| (*name).to_owned()));
    }

    /// Reads a table. One that is missing reads as an empty one, so that its defaults hold and what
    /// it must have is reported.
    pub fn section<T>(&self, name: &str, read: impl FnOnce(&Section<'_>) -> Option<T>) -> Option<T> {
        self.ask(name);
        let empty = Value::new(None, Map::<String, Value>::new());
        let value = self.find(name).unwrap_or(&empty);
        self.reader.section(value, join(&self.key, name), join(&self.pattern, name), read)
    }

    /// Reads a table that may be missing, and then has no defaults.
    pub fn section_if_there<T>(&self, name: &str, read: impl FnOnce(&Section<'_>) -> Option<T>) -> Option<T> {
        self.ask(name);
        self.has(name).then(|| self.section(name, read))?
    }

    /// Reads an array of tables; one that is missing is empty.
    pub(crate) fn sections<T>(
        &self,
        name: &str,
        mut read: impl FnMut(&Section<'_>) -> Option<T>,
    ) -> Vec<Option<T>> {
        self.ask(name);
        let Some(value) = self.find(name) else {
            return Vec::new();
        };
        let raw = self.reader.raw(value);
        let parsed = raw.text().filter(|_| raw.loose).and_then(|text| inline(text, raw.origin()));
        let ValueKind::Array(items) = &parsed.as_ref().unwrap_or(value).kind else {
            self.problem(name, format!("found {}; allowed: an array of tables", describe(value)));
            return Vec::new();
        };
        let key = join(&self.key, name);
        let pattern = format!("{}[]", join(&self.pattern, name));
        let item = |(index, item)| {
            let key = match unique_name(items, item) {
                Some(name) => format!("{key}.{name}"),
                None => format!("{key}[{index}]"),
            };
            self.reader.section(item, key, pattern.clone(), &mut read)
        };
        items.iter().enumerate().map(item).collect()
    }

    /// Reads a table of tables with free names, in the order of the names; `any` stands for them in
    /// the documentation.
    pub(crate) fn entries<T>(
        &self,
        name: &str,
        any: &str,
        mut read: impl FnMut(&str, &Section<'_>) -> Option<T>,
    ) -> Vec<Option<T>> {
        let mut entries = Vec::new();
        self.section(name, |section| {
            let names: BTreeSet<_> = section.table.keys().cloned().collect();
            for name in names {
                section.names.borrow_mut().insert(name.clone());
                let value = section.find(&name)?;
                let (key, pattern) = (join(&section.key, &name), join(&section.pattern, any));
                entries.push(self.reader.section(value, key, pattern, |entry| read(&name, entry)));
            }
            Some(())
        });
        entries
    }

    /// Says that keys which are known elsewhere mean nothing here, unless `condition` holds (it
    /// does not).
    pub fn only_with(&self, condition: &str, names: &[&str]) {
        for name in names.iter().filter(|name| self.has(name)) {
            self.names.borrow_mut().insert((*name).to_owned());
            self.problem(name, format!("is used with {condition} only"));
        }
    }

    /// Reads something ahead of its turn: its problems are reported behind those of the rest.
    pub(crate) fn ahead<T, U>(
        &self,
        first: impl FnOnce(&Self) -> T,
        rest: impl FnOnce(&Self, &T) -> U,
    ) -> (T, U) {
        let count = || self.reader.problems.borrow().len();
        let start = count();
        let found = first(self);
        let of_first = count() - start;
        let others = rest(self, &found);
        self.reader.problems.borrow_mut()[start..].rotate_left(of_first);
        (found, others)
    }

    /// A path beside the main file, where one that this file says would be relative to.
    pub(crate) fn beside_the_file(&self, name: &str) -> PathBuf {
        Path::new(&self.reader.layers.file).with_file_name(name)
    }

    /// Whether the key is there.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Reports that something is wrong with `name`.
    pub fn problem(&self, name: &str, message: String) {
        let value = self.find(name).unwrap_or(self.value);
        let key = join(&self.key, name);
        self.reader.problem(value, &key, message);
    }

    /// Reports that something is wrong with the table itself.
    pub(crate) fn problem_of_all(&self, message: String) {
        self.reader.problem(self.value, &self.key, message);
    }

    /// The keys that have been asked for.
    pub(crate) fn asked(&self) -> BTreeSet<String> {
        self.names.borrow().clone()
    }

    pub(crate) fn table(&self) -> &Map<String, Value> {
        self.table
    }

    pub(crate) fn value(&self) -> &Value {
        self.value
    }

    pub(crate) fn raw<'v>(&'v self, value: &'v Value) -> Raw<'v> {
        self.reader.raw(value)
    }

    /// Reports that something is wrong at the end of `path`, a key below this table, and so on;
    /// `[2]` is the third item of an array.
    pub(crate) fn problem_at(&self, path: &[String], message: &str) {
        let (mut value, mut key) = (self.value, self.key.clone());
        let mut is_there = true;
        for part in path {
            let index = part.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')?.parse::<usize>().ok());
            let next = match (&value.kind, index) {
                (ValueKind::Table(table), _) => table.get(part),
                (ValueKind::Array(items), Some(index)) => items.get(index),
                _ => None,
            };
            match next.filter(|_| is_there) {
                Some(next) => value = next,
                None => is_there = false,
            }
            key = if index.is_some() { format!("{key}{part}") } else { join(&key, part) };
        }
        self.reader.problem(value, &key, message.to_owned());
    }

    /// Takes all keys for known ones, where it cannot be told which are.
    pub(crate) fn accept_all(&self) {
        self.names.borrow_mut().extend(self.table.keys().cloned());
    }

    pub(crate) fn ask(&self, name: &str) {
        self.names.borrow_mut().insert(name.to_owned());
        self.reader.asked.borrow_mut().insert(join(&self.pattern, name));
    }

    fn find(&self, name: &str) -> Option<&Value> {
        self.table.get(name).filter(|value| value.kind != ValueKind::Nil)
    }

    fn report_unknown(&self) {
        let names = self.names.borrow();
        let unknown: BTreeSet<_> = self.table.keys().filter(|name| !names.contains(*name)).collect();
        for name in unknown {
            let known = names.iter().map(String::as_str);
            let hint = match nearest(name, known.clone()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("known here: {}", known.collect::<Vec<_>>().join(", ")),
            };
            self.problem(name, format!("unknown key; {hint}"));
        }
    }
}

fn join(key: &str, name: &str) -> String {
    if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") }
}
