//! Reads a table of settings into a type of serde's, with the manners of all other settings: every
//! problem at once, each with its key, what was found and what is allowed.
//!
//! Kind: time-free. serde stops at the first thing that is wrong. So what is wrong is noted, a
//! value that fits stands in for it, and the type is read again, until nothing is: the result
//! counts only if nothing ever was.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};

use config::{Map, Value, ValueKind};
use serde::de::value::StringDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error, Expected, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::document::inline;
use super::kind::{Raw, describe};
use super::reader::Section;
use crate::settings::suggest::nearest;

impl Section<'_> {
    /// Reads all of the table but what has been asked for before (of a model: its `kind`) into a
    /// type of serde's: fields are keys, defaults are serde's, and what `deserialize_with` refuses
    /// is told as it says it. Problems are noted; `None` if there are any.
    pub fn deserialize<T: DeserializeOwned>(&self) -> Option<T> {
        let state = State::default();
        let asked = self.asked();
        let own: Map<String, Value> =
            self.table().iter().filter(|(key, _)| !asked.contains(*key)).map(pair).collect();
        let table = Value::new(self.value().origin().map(str::to_owned).as_ref(), own);
        loop {
            let known = state.problems.borrow().len();
            let node = Node { source: Source::Found(&table), path: Vec::new(), state: &state, section: self };
            let outcome = T::deserialize(node);
            let problem = match outcome {
                Ok(settings) => {
                    self.note(&state);
                    return state.problems.borrow().is_empty().then_some(settings);
                }
                Err(problem) => problem,
            };
            let tries_another = state.note(problem);
            // Whoever takes nothing of what may stand in cannot be read further.
            if !tries_another && state.problems.borrow().len() == known {
                self.note(&state);
                return None;
            }
        }
    }

    /// Reports what was found, and that the keys which the type has are known.
    fn note(&self, state: &State) {
        if state.takes_any_key.take() {
            self.accept_all();
        }
        for name in state.keys.borrow().iter() {
            self.ask(name);
        }
        for (path, message) in state.problems.borrow().iter() {
            self.problem_at(path, message);
        }
    }
}

fn pair((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), value.clone())
}

/// What has been found so far.
#[derive(Default)]
struct State {
    /// In the order in which they were found, with the keys that lead to them.
    problems: RefCell<Vec<(Vec<String>, String)>>,
    /// Where something stands in for what is wrong or missing, and which of what may.
    replaced: RefCell<BTreeMap<Vec<String>, usize>>,
    /// What stands in where a key is missing: its table, and its name.
    missing: RefCell<BTreeMap<Vec<String>, BTreeSet<String>>>,
    /// The keys of the root.
    keys: RefCell<BTreeSet<String>>,
    takes_any_key: std::cell::Cell<bool>,
}

/// What stands in for a number or the length of an array, one after the other: a type may refuse
/// some.
const STAND_INS: [u8; 5] = [1, 2, 0, 10, 100];

impl State {
    /// Notes a problem. Where something stands in already, and that is refused, yields whether
    /// something else may.
    fn note(&self, problem: Problem) -> bool {
        let Problem { mut path, message, missing } = problem;
        if let Some(name) = missing {
            self.missing.borrow_mut().entry(path.clone()).or_default().insert(name.to_owned());
            path.push(name.to_owned());
        }
        let mut replaced = self.replaced.borrow_mut();
        let inside = |known: &Vec<String>| path.starts_with(known);
        if let Some(known) =
            replaced.keys().filter(|known| inside(known)).max_by_key(|known| known.len()).cloned()
        {
            let turn = replaced.entry(known).or_default();
            *turn += 1;
            return *turn < STAND_INS.len();
        }
        replaced.insert(path.clone(), 0);
        self.problems.borrow_mut().push((path, message));
        false
    }

    /// What stands in at `path` now.
    fn stand_in(&self, path: &[String]) -> u8 {
        let replaced = self.replaced.borrow();
        let turn =
            replaced.iter().filter(|(known, _)| path.starts_with(known)).max_by_key(|(known, _)| known.len());
        STAND_INS[turn.map_or(0, |(_, turn)| *turn).min(STAND_INS.len() - 1)]
    }

    /// Says of a key that is missing what is allowed there, which is known once something stands in
    /// for it.
    fn complete(&self, path: &[String], allowed: &str) {
        let mut problems = self.problems.borrow_mut();
        let found = problems.iter_mut().find(|(of, message)| of == path && message == MISSING);
        if let Some((_, message)) = found {
            *message = format!("{MISSING}; allowed: {allowed}");
        }
    }
}

const MISSING: &str = "missing";

/// What is wrong, on its way to where it is noted.
#[derive(Debug)]
struct Problem {
    path: Vec<String>,
    message: String,
    /// The key that is missing in the table at `path`.
    missing: Option<&'static str>,
}

impl Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl Error for Problem {
    fn custom<T: Display>(message: T) -> Self {
        Self { path: Vec::new(), message: message.to_string(), missing: None }
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("{ALLOWED}{expected}"))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("{ALLOWED}{expected}"))
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("{ALLOWED}{expected}"))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let names: Vec<_> = expected.iter().map(|name| format!("{name:?}")).collect();
        let hint = nearest(variant, expected.iter().copied());
        let hint = hint.map_or(String::new(), |meant| format!("; did you mean {meant:?}?"));
        Self::custom(format_args!("{ALLOWED}one of {}{hint}", names.join(", ")))
    }

    fn missing_field(field: &'static str) -> Self {
        Self { missing: Some(field), ..Self::custom(MISSING) }
    }
}

/// Begins a message that lacks what was found, which is known where the value is.
const ALLOWED: &str = "allowed: ";

/// A value that is being read.
#[derive(Clone)]
struct Node<'a> {
    source: Source<'a>,
    path: Vec<String>,
    state: &'a State,
    section: &'a Section<'a>,
}

#[derive(Clone, Copy)]
enum Source<'a> {
    Found(&'a Value),
    /// Something has to stand in.
    StandIn,
}

impl<'a> Node<'a> {
    /// The value, or none where something stands in for it.
    fn value(&self) -> Option<&'a Value> {
        match self.source {
            Source::Found(value) if !self.state.replaced.borrow().contains_key(&self.path) => Some(value),
            Source::Found(_) | Source::StandIn => None,
        }
    }

    fn raw(&self, value: &'a Value) -> Raw<'a> {
        self.section.raw(value)
    }

    /// What may be written into a text without types, where a table or an array is wanted.
    fn structured(&self, value: &'a Value) -> Value {
        let raw = self.raw(value);
        let parsed = raw.text().filter(|_| raw.loose).and_then(|text| inline(text, raw.origin()));
        parsed.unwrap_or_else(|| value.clone())
    }

    fn wrong(&self, value: &Value, allowed: &str) -> Problem {
        let message = format!("found {}; allowed: {allowed}", describe(value));
        Problem { path: self.path.clone(), message, missing: None }
    }

    /// Gives a problem of the type its place.
    fn placed<T>(&self, result: Result<T, Problem>) -> Result<T, Problem> {
        result.map_err(|problem| {
            if !problem.path.is_empty() || self.path.is_empty() {
                return problem;
            }
            let message = match self.source {
                Source::Found(value) if problem.missing.is_none() => {
                    format!("found {}; {}", describe(value), problem.message)
                }
                Source::Found(_) | Source::StandIn => problem.message,
            };
            Problem { path: self.path.clone(), message, ..problem }
        })
    }

    fn below(&self, key: &str, source: Source<'a>) -> Self {
        let mut path = self.path.clone();
        path.push(key.to_owned());
        Self { source, path, ..self.clone() }
    }

    /// Reads a value of `read`'s kind (a number, a flag, a text), or what stands in for one.
    fn scalar<T>(
        self,
        allowed: &str,
        read: impl Fn(&Raw<'_>) -> Option<T>,
        visit: impl FnOnce(T) -> Result<(), Problem>,
        stand_in: T,
    ) -> Result<(), Problem> {
        match self.value() {
            Some(value) => {
                let scalar = read(&self.raw(value)).ok_or_else(|| self.wrong(value, allowed))?;
                self.placed(visit(scalar))
            }
            None => {
                self.state.complete(&self.path, allowed);
                visit(stand_in)
            }
        }
    }
}

/// Whole numbers of all sizes: read as one, checked against the size, and given to the visitor.
macro_rules! whole_numbers {
    ($($method:ident, $int:ty, $visit:ident;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
            let allowed = match <$int>::MIN {
                0 => "a whole number, at least 0",
                _ => "a whole number",
            };
            let mut result = None;
            let read = |raw: &Raw<'_>| <$int>::try_from(raw.whole()?).ok();
            let visit = |number| visitor.$visit(number).map(|value| result = Some(value));
            let stand_in = <$int>::try_from(self.state.stand_in(&self.path)).unwrap_or(1);
            self.scalar(allowed, read, visit, stand_in)?;
            Ok(result.expect("a number was visited"))
        })*
    };
}

impl<'de> Deserializer<'de> for Node<'_> {
    type Error = Problem;

    whole_numbers! {
        deserialize_i8, i8, visit_i8;
        deserialize_i16, i16, visit_i16;
        deserialize_i32, i32, visit_i32;
        deserialize_i64, i64, visit_i64;
        deserialize_u8, u8, visit_u8;
        deserialize_u16, u16, visit_u16;
        deserialize_u32, u32, visit_u32;
        deserialize_u64, u64, visit_u64;
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        let mut result = None;
        let visit = |number| visitor.visit_f64(number).map(|value| result = Some(value));
        let stand_in = self.state.stand_in(&self.path).into();
        self.scalar("a number", |raw| raw.real(), visit, stand_in)?;
        Ok(result.expect("a number was visited"))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        let mut result = None;
        let read = |raw: &Raw<'_>| super::kind::flag().read(raw).ok();
        let visit = |flag| visitor.visit_bool(flag).map(|value| result = Some(value));
        let stand_in = self.state.stand_in(&self.path) == 2;
        self.scalar("true or false", read, visit, stand_in)?;
        Ok(result.expect("a flag was visited"))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        self.deserialize_string(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        let mut result = None;
        let read = |raw: &Raw<'_>| raw.text().map(str::to_owned);
        let visit = |text| visitor.visit_string(text).map(|value| result = Some(value));
        self.scalar("a text", read, visit, "x".to_owned())?;
        Ok(result.expect("a text was visited"))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.value() {
            Some(value) if value.kind != ValueKind::Nil => visitor.visit_some(self),
            Some(_) | None => visitor.visit_none(),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Problem> {
        let place = self.clone();
        place.placed(visitor.visit_newtype_struct(self))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        let Some(value) = self.value() else {
            self.state.complete(&self.path, "an array");
            let items = vec![Source::StandIn; self.state.stand_in(&self.path).into()].into_iter();
            return visitor.visit_seq(Items { node: &self, items, next: 0 });
        };
        let structured = self.structured(value);
        let commas: Vec<Value>;
        let items = match (&structured.kind, self.raw(value).loose_text()) {
            (ValueKind::Array(items), _) => items,
            (_, Some(text)) => {
                let origin = value.origin().map(str::to_owned);
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                commas = items.map(|item| Value::new(origin.as_ref(), item)).collect();
                &commas
            }
            _ => return Err(self.wrong(value, "an array")),
        };
        let node = Node { source: Source::Found(value), path: self.path.clone(), ..self };
        let sources = items.iter().map(Source::Found).collect::<Vec<_>>();
        node.placed(visitor.visit_seq(Items { node: &node, items: sources.into_iter(), next: 0 }))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Problem> {
        match self.value() {
            Some(_) => self.deserialize_seq(visitor),
            None => {
                let items = vec![Source::StandIn; len].into_iter();
                visitor.visit_seq(Items { node: &self, items, next: 0 })
            }
        }
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Problem> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        if self.path.is_empty() {
            self.state.keys.borrow_mut().extend(fields.iter().map(|field| (*field).to_owned()));
        }
        let Some(value) = self.value() else {
            self.state.complete(&self.path, "a table");
            let entries = fields.iter().map(|field| ((*field).to_owned(), Source::StandIn)).collect();
            return visitor.visit_map(Entries::new(&self, entries));
        };
        let structured = self.structured(value);
        let ValueKind::Table(table) = &structured.kind else {
            return Err(self.wrong(value, "a table"));
        };
        if !self.path.is_empty() {
            let unknown: BTreeSet<_> = table.keys().filter(|key| !fields.contains(&key.as_str())).collect();
            for key in unknown {
                self.note_unknown(key, fields);
            }
        }
        let entries = table.iter().filter(|(key, _)| fields.contains(&key.as_str()));
        self.visit_table(entries, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        if self.path.is_empty() {
            self.state.takes_any_key.set(true);
        }
        let Some(value) = self.value() else {
            self.state.complete(&self.path, "a table");
            return visitor.visit_map(Entries::new(&self, Vec::new()));
        };
        let structured = self.structured(value);
        let ValueKind::Table(table) = &structured.kind else {
            return Err(self.wrong(value, "a table"));
        };
        self.visit_table(table.iter(), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        let names: Vec<_> = variants.iter().map(|name| format!("{name:?}")).collect();
        let allowed = format!("one of {}", names.join(", "));
        let Some(value) = self.value() else {
            self.state.complete(&self.path, &allowed);
            let variant = variants.first().copied().unwrap_or_default().to_owned();
            return visitor.visit_enum(Variant { variant, content: self.below("", Source::StandIn) });
        };
        let structured = self.structured(value);
        let (variant, content) = match &structured.kind {
            ValueKind::String(text) => (text.trim().to_owned(), None),
            ValueKind::Table(table) if table.len() == 1 => {
                let (name, content) = table.iter().next().expect("there is one");
                (name.clone(), Some(content))
            }
            _ => return Err(self.wrong(value, &allowed)),
        };
        let content = match content {
            Some(content) => self.below(&variant, Source::Found(content)),
            None => self.below(&variant, Source::StandIn),
        };
        let place = Node { source: Source::Found(value), path: self.path.clone(), ..self.clone() };
        place.placed(visitor.visit_enum(Variant { variant, content }))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        self.deserialize_string(visitor)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Problem> {
        visitor.visit_unit()
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_unit()
    }

    /// For types that look at a value before they know what it is: those that are flattened, or
    /// told by a tag.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        let Some(value) = self.value() else { return visitor.visit_u64(1) };
        match &self.structured(value).kind {
            ValueKind::Table(_) => self.deserialize_map(visitor),
            ValueKind::Array(_) => self.deserialize_seq(visitor),
            ValueKind::Boolean(_) => self.deserialize_bool(visitor),
            ValueKind::Float(_) => self.deserialize_f64(visitor),
            ValueKind::I64(number) if *number < 0 => self.deserialize_i64(visitor),
            ValueKind::I64(_) => self.deserialize_u64(visitor),
            _ => self.deserialize_string(visitor),
        }
    }

    forward_to_deserialize_any! { char bytes byte_buf }
}

impl Node<'_> {
    fn note_unknown(&self, key: &str, fields: &[&str]) {
        let hint = match nearest(key, fields.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("known here: {}", fields.join(", ")),
        };
        let path = self.below(key, Source::StandIn).path;
        let message = format!("unknown key; {hint}");
        let mut problems = self.state.problems.borrow_mut();
        if problems.iter().all(|(known, _)| *known != path) {
            problems.push((path, message));
        }
    }

    /// Visits a table's entries, and what stands in for those that are missing.
    fn visit_table<'de, 't, V: Visitor<'de>>(
        &self,
        entries: impl Iterator<Item = (&'t String, &'t Value)>,
        visitor: V,
    ) -> Result<V::Value, Problem> {
        let mut all: Vec<_> = entries
            .filter(|(_, value)| value.kind != ValueKind::Nil)
            .map(|(key, value)| (key.clone(), Source::Found(value)))
            .collect();
        // In an order that does not depend on how the table is kept.
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        if let Some(missing) = self.state.missing.borrow().get(&self.path) {
            all.extend(missing.iter().map(|name| (name.clone(), Source::StandIn)));
        }
        let place = Node { source: Source::StandIn, path: self.path.clone(), ..self.clone() };
        let result = visitor.visit_map(Entries::new(&place, all));
        result.map_err(|problem| match problem.path.is_empty() {
            true => Problem { path: self.path.clone(), ..problem },
            false => problem,
        })
    }
}

/// The items of an array.
struct Items<'n, 'a, I> {
    node: &'n Node<'a>,
    items: I,
    next: usize,
}

impl<'de, 'i, I: Iterator<Item = Source<'i>>> SeqAccess<'de> for Items<'_, '_, I> {
    type Error = Problem;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Problem> {
        let Some(source) = self.items.next() else { return Ok(None) };
        let mut path = self.node.path.clone();
        path.push(format!("[{}]", self.next));
        self.next += 1;
        let Node { state, section, .. } = *self.node;
        seed.deserialize(Node { source, path, state, section }).map(Some)
    }
}

/// The entries of a table.
struct Entries<'n, 'a, 'e> {
    node: &'n Node<'a>,
    entries: std::vec::IntoIter<(String, Source<'e>)>,
    value: Option<(String, Source<'e>)>,
}

impl<'n, 'a, 'e> Entries<'n, 'a, 'e> {
    fn new(node: &'n Node<'a>, entries: Vec<(String, Source<'e>)>) -> Self {
        Self { node, entries: entries.into_iter(), value: None }
    }
}

impl<'de> MapAccess<'de> for Entries<'_, '_, '_> {
    type Error = Problem;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Problem> {
        self.value = self.entries.next();
        let Some((key, _)) = &self.value else { return Ok(None) };
        let key: StringDeserializer<Problem> = key.clone().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Problem> {
        let (key, source) = self.value.take().expect("serde asks for a key first");
        let mut path = self.node.path.clone();
        path.push(key);
        let Node { state, section, .. } = *self.node;
        let node = Node { source, path, state, section };
        node.placed(seed.deserialize(node.clone()))
    }
}

/// A variant of an enum, with what it holds.
struct Variant<'a> {
    variant: String,
    content: Node<'a>,
}

impl<'de, 'a> EnumAccess<'de> for Variant<'a> {
    type Error = Problem;
    type Variant = Node<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Node<'a>), Problem> {
        let variant: StringDeserializer<Problem> = self.variant.into_deserializer();
        Ok((seed.deserialize(variant)?, self.content))
    }
}

impl<'de> VariantAccess<'de> for Node<'_> {
    type Error = Problem;

    fn unit_variant(self) -> Result<(), Problem> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Problem> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Problem> {
        self.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        self.deserialize_struct("", fields, visitor)
    }
}
