//! Raw settings: a TOML file, over it the environment, over that the flags.
//!
//! Kind: driver. Reads files and the environment, and merges the layers with the `config` crate.
//! Nothing here knows which settings exist. Each value remembers its place (file and line,
//! variable, flag), so that a problem with it can name it.
//!
//! An override reaches into an array by position or by name: `regions.1.workers` and
//! `regions.ireland.workers` are the same key where the second region is called ireland.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::document::Toml;
use super::problem::{ConfigError, Problem};
use crate::settings::paths::tidy;
use config::{Config, Environment, Map, Source, Value, ValueKind};

/// The prefix of environment variables that are settings; levels are separated by two underscores
/// too.
pub const ENVIRONMENT_PREFIX: &str = "GAIA";
pub(crate) const SEPARATOR: &str = "__";

/// Settings from outside the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    environment: Vec<Override>,
    flags: Vec<Override>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Override {
    place: String,
    key: String,
    text: String,
}

impl Overrides {
    /// Takes all `GAIA__...` variables of the process.
    pub fn from_environment() -> Result<Self, ConfigError> {
        Self::from_variables(None)
    }

    /// Takes all `GAIA__...` variables of `variables`, or of the process.
    pub fn from_variables(variables: Option<Map<String, String>>) -> Result<Self, ConfigError> {
        let collected = Environment::with_prefix(ENVIRONMENT_PREFIX)
            .prefix_separator(SEPARATOR)
            .separator(SEPARATOR)
            .source(variables)
            .collect()
            .map_err(|error| Problem {
                place: "environment".to_owned(),
                key: None,
                message: error.to_string(),
            })?;
        // Sorted, since the environment has no order and a later override of the same key wins.
        let collected: BTreeMap<_, _> = collected.into_iter().collect();
        let environment = collected.into_iter().map(|(key, value)| Override {
            place: format!(
                "environment variable {ENVIRONMENT_PREFIX}{SEPARATOR}{}",
                key.replace('.', SEPARATOR).to_uppercase()
            ),
            key,
            text: value.into_string().unwrap_or_default(),
        });
        Ok(Self { environment: environment.collect(), flags: Vec::new() })
    }

    /// Adds a setting from `flag`, as the user wrote it; flags win over the environment, later
    /// flags over earlier ones.
    pub fn flag(&mut self, flag: &str, key: &str, value: &str) {
        self.flags.push(Override { place: flag.to_owned(), key: key.to_owned(), text: value.to_owned() });
    }
}

/// Merged layers, not yet checked.
#[derive(Debug)]
pub(crate) struct Layers {
    /// The merged tree; its root is a table.
    pub(crate) root: Value,
    /// The main file, as the user named it.
    pub(crate) file: String,
    /// Directories of the files, by the file's name as it begins the origin of its values.
    directories: Vec<(String, PathBuf)>,
    /// What is wrong already.
    pub(crate) problems: Vec<Problem>,
}

impl Layers {
    /// Reads `path`, and `overrides` over it. A string at the root key `include` is the path of a
    /// file whose content stands there as a table.
    pub(crate) fn read(path: &Path, overrides: &Overrides, include: &str) -> Result<Self, ConfigError> {
        let mut layers = Self::empty(path);
        let main = layers.read_file(path)?;
        layers.stack(main, overrides, include)
    }

    /// Reads `path` as if its content stood in a table at `key`, and `overrides` over it.
    pub(crate) fn read_as(path: &Path, overrides: &Overrides, key: &str) -> Result<Self, ConfigError> {
        let mut layers = Self::empty(path);
        let table = Value::new(Some(&format!("{}:1", layers.file)), layers.read_file(path)?);
        layers.stack(Map::from([(key.to_owned(), table)]), overrides, key)
    }

    fn empty(path: &Path) -> Self {
        Self {
            root: Value::new(None, Map::<String, Value>::new()),
            file: path.display().to_string(),
            directories: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// The keys of the root table.
    pub(crate) fn root_keys(&self) -> Vec<String> {
        match &self.root.kind {
            ValueKind::Table(table) => table.keys().cloned().collect(),
            _ => Vec::new(),
        }
    }

    fn stack(
        mut self,
        main: Map<String, Value>,
        overrides: &Overrides,
        include: &str,
    ) -> Result<Self, ConfigError> {
        let layers = &mut self;
        let mut sources = vec![Layer(layers.plain_keys(main))];
        let (whole, parts): (Vec<_>, Vec<_>) =
            overrides.environment.iter().chain(&overrides.flags).partition(|each| each.key == include);
        sources.extend(whole.into_iter().map(|each| Layer::of(each.key.clone(), each)));
        layers.merge(&sources)?;
        if let Some(table) = layers.include(include)? {
            sources.push(Layer(Map::from([(include.to_owned(), table)])));
            layers.merge(&sources)?;
        }
        for part in parts {
            match address(&layers.root, &part.key) {
                Ok(key) => sources.push(Layer::of(key, part)),
                Err(message) => layers.problems.push(Problem {
                    place: part.place.clone(),
                    key: Some(part.key.clone()),
                    message,
                }),
            }
        }
        layers.merge(&sources)?;
        Ok(self)
    }

    /// The directory to which a relative path in a value of `origin` is relative: that of its file,
    /// or none where it comes from the environment or a flag, whose paths are relative to the
    /// working directory.
    pub(crate) fn directory(&self, origin: Option<&str>) -> Option<&Path> {
        let (name, _line) = file_and_line(origin?)?;
        self.directories.iter().find(|(file, _)| file == name).map(|(_, directory)| directory.as_path())
    }

    /// Where `value` was said. Merging forgets where a table stands; then it is where its first key
    /// does.
    pub(crate) fn place<'a>(&self, value: &'a Value) -> Option<&'a str> {
        if let Some(origin) = value.origin() {
            return Some(origin);
        }
        let ValueKind::Table(table) = &value.kind else {
            return None;
        };
        let of_files = table
            .values()
            .filter_map(|item| self.place(item))
            .filter(|origin| self.directory(Some(origin)).is_some());
        // The root has values of the included file too, which is not where it stands.
        let is_included = |origin: &&str| file_and_line(origin).is_none_or(|(name, _)| name != self.file);
        of_files.min_by_key(|origin| (is_included(origin), file_and_line(origin)))
    }

    fn merge(&mut self, sources: &[Layer]) -> Result<(), ConfigError> {
        let builder =
            sources.iter().fold(Config::builder(), |builder, source| builder.add_source(source.clone()));
        let merged = builder.build().map_err(|error| Problem {
            place: self.file.clone(),
            key: None,
            message: error.to_string(),
        })?;
        self.root = merged.cache;
        Ok(())
    }

    fn include(&mut self, key: &str) -> Result<Option<Value>, ConfigError> {
        let Some(value) = child(&self.root, key).cloned() else {
            return Ok(None);
        };
        let ValueKind::String(name) = &value.kind else {
            return Ok(None);
        };
        let base = self.directory(value.origin()).map(Path::to_owned).unwrap_or_default();
        let path = tidy(&base.join(name));
        let table = self.read_file(&path).map_err(|mut error| {
            // A file that the user did not name on the command line: say who did.
            let place = value.origin().unwrap_or(&self.file);
            error.problems.iter_mut().for_each(|problem| {
                problem.message.push_str(&format!(" (named by {key} in {place})"));
            });
            error
        })?;
        let origin = format!("{}:1", path.display());
        Ok(Some(Value::new(Some(&origin), table)))
    }

    fn read_file(&mut self, path: &Path) -> Result<Map<String, Value>, ConfigError> {
        let name = path.display().to_string();
        let problem = |message: String| Problem { place: name.clone(), key: None, message };
        let bytes = std::fs::read(path).map_err(|error| problem(format!("cannot be read: {error}")))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()]
                .iter()
                .filter(|b| **b == b'\n')
                .count();
            problem(format!("line {line} is not UTF-8 text"))
        })?;
        self.directories.push((name.clone(), path.parent().map(Path::to_owned).unwrap_or_default()));
        Toml::new(&name, &text).read()
    }

    /// Drops root keys that `config` would take for paths into the tree: no setting has such a
    /// name.
    fn plain_keys(&mut self, table: Map<String, Value>) -> Map<String, Value> {
        let (plain, odd): (Map<_, _>, Map<_, _>) = table.into_iter().partition(|(key, _)| is_plain(key));
        for (key, value) in odd.into_iter().collect::<BTreeMap<_, _>>() {
            let place = value.origin().unwrap_or(&self.file).to_owned();
            self.problems.push(Problem {
                place,
                key: Some(format!("{key:?}")),
                message: "unknown key".to_owned(),
            });
        }
        plain
    }
}

/// One source of the `config` crate.
#[derive(Clone, Debug)]
struct Layer(Map<String, Value>);

impl Layer {
    fn of(key: String, each: &Override) -> Self {
        Self(Map::from([(key, Value::new(Some(&each.place), each.text.clone()))]))
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.0.clone())
    }
}

/// Splits the origin of a file's value, "file:line".
fn file_and_line(origin: &str) -> Option<(&str, usize)> {
    let (name, line) = origin.rsplit_once(':')?;
    Some((name, line.parse().ok()?))
}

/// Turns `regions.ireland.workers` into the `config` crate's `regions[1].workers`.
///
/// Positions are looked up here and not left to `config`, which makes an array as long as the
/// position asks for.
fn address(root: &Value, key: &str) -> Result<String, String> {
    // Deeper than any setting; a tree without a bound would end the program when it is dropped.
    const DEEPEST: usize = 16;
    if key.split('.').count() > DEEPEST {
        return Err(format!("not a key: no setting has more than {DEEPEST} levels"));
    }
    let mut path = String::new();
    let mut here = Some(root);
    for segment in key.split('.') {
        if !is_plain(segment) {
            return Err("not a key: keys are words joined by dots, such as job.clocks".to_owned());
        }
        if let Some(ValueKind::Array(items)) = here.map(|value| &value.kind) {
            let index = position(items, segment).ok_or_else(|| {
                let names: Vec<_> = items.iter().filter_map(name_of).collect();
                format!(
                    "there is no `{segment}` here; there are {} entries ({})",
                    items.len(),
                    names.join(", ")
                )
            })?;
            path.push_str(&format!("[{index}]"));
            here = items.get(index);
        } else {
            if !path.is_empty() {
                path.push('.');
            }
            let segment = here.map_or(segment.to_owned(), |value| spelling(value, segment));
            path.push_str(&segment);
            here = here.and_then(|value| child(value, &segment));
        }
    }
    Ok(path)
}

/// The position of the item that is called `segment` (environment variables write "sao_paulo"), or
/// that position.
fn position(items: &[Value], segment: &str) -> Option<usize> {
    let named = |name: &str| items.iter().position(|item| name_of(item) == Some(name));
    named(segment)
        .or_else(|| named(&segment.replace('_', "-")))
        .or_else(|| segment.parse().ok().filter(|index| *index < items.len()))
}

/// `segment` as the table has it: environment variables write "sao_paulo" for the key `sao-paulo`.
fn spelling(table: &Value, segment: &str) -> String {
    let with_hyphens = segment.replace('_', "-");
    let is_meant = child(table, segment).is_none() && child(table, &with_hyphens).is_some();
    if is_meant { with_hyphens } else { segment.to_owned() }
}

/// The name by which an override can address `item`, if no other of `items` has it.
pub(crate) fn unique_name<'a>(items: &[Value], item: &'a Value) -> Option<&'a str> {
    let name = name_of(item).filter(|name| is_plain(name))?;
    (items.iter().filter(|other| name_of(other) == Some(name)).count() == 1).then_some(name)
}

fn name_of(item: &Value) -> Option<&str> {
    match child(item, "name").map(|name| &name.kind) {
        Some(ValueKind::String(name)) => Some(name),
        _ => None,
    }
}

fn child<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match &value.kind {
        ValueKind::Table(table) => table.get(key),
        _ => None,
    }
}

/// Whether `config` takes `key` for one level of the tree, whatever it says.
fn is_plain(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}
