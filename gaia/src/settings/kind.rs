//! The kinds of values that settings have: what is allowed, in words and in code.

mod addresses;

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use config::{Value, ValueKind};

pub(crate) use self::addresses::{Processes, alternatives, host_and_port, listen_address, socket_address};

use super::document::inline;
use super::units::{self, BudgetText};
use crate::settings::paths::tidy;
use crate::settings::suggest::{NotOneOf, nearest};

/// A value as it was found.
pub(crate) struct Raw<'a> {
    pub(crate) value: &'a Value,
    /// Whether it comes from a text without types (the environment, a flag), where "50" may be a
    /// number.
    pub(crate) loose: bool,
    /// The directory to which a relative path is relative; `None` is the working directory.
    pub(crate) directory: Option<&'a Path>,
}

impl<'a> Raw<'a> {
    pub(crate) fn text(&self) -> Option<&'a str> {
        match &self.value.kind {
            ValueKind::String(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn origin(&self) -> &'a str {
        self.value.origin().unwrap_or_default()
    }

    pub(crate) fn loose_text(&self) -> Option<&'a str> {
        self.text().filter(|_| self.loose).map(str::trim)
    }

    pub(crate) fn real(&self) -> Option<f64> {
        let number = match &self.value.kind {
            ValueKind::I64(number) => *number as f64,
            ValueKind::Float(number) => *number,
            _ => self.loose_text()?.parse().ok()?,
        };
        Some(number).filter(|number| number.is_finite())
    }

    pub(crate) fn whole(&self) -> Option<i128> {
        match &self.value.kind {
            ValueKind::I64(number) => Some(i128::from(*number)),
            _ => self.loose_text()?.parse().ok(),
        }
    }
}

/// `Err` is a hint about what may have been meant, if there is one.
type Read<T> = Box<dyn Fn(&Raw<'_>) -> Result<T, Option<String>>>;

/// What is allowed for a setting, and how to read it.
pub struct Kind<T> {
    allowed: String,
    read: Read<T>,
}

impl<T> Kind<T> {
    /// What is allowed, in words.
    pub(crate) fn allowed(&self) -> &str {
        &self.allowed
    }

    /// Reads a value.
    pub(crate) fn read(&self, raw: &Raw<'_>) -> Result<T, Option<String>> {
        (self.read)(raw)
    }
}

impl<T: 'static> Kind<T> {
    pub(crate) fn new(allowed: impl Into<String>, read: impl Fn(&Raw<'_>) -> Option<T> + 'static) -> Self {
        Self { allowed: allowed.into(), read: Box::new(move |raw| read(raw).ok_or(None)) }
    }

    /// What `word` stands for, or else what this kind allows.
    pub fn or_word(self, word: &'static str, stands_for: T) -> Self
    where
        T: Clone,
    {
        let allowed = format!("{}, or \"{word}\"", self.allowed);
        let read: Read<T> = Box::new(move |raw| match raw.text() {
            Some(text) if text.trim() == word => Ok(stands_for.clone()),
            _ => (self.read)(raw),
        });
        Self { allowed, read }
    }

    /// The same in other words.
    pub(crate) fn called(self, allowed: &str) -> Self {
        Self { allowed: allowed.to_owned(), ..self }
    }

    /// The same, turned into something else.
    pub fn map<U: 'static>(self, turn: impl Fn(T) -> U + 'static) -> Kind<U> {
        Kind { allowed: self.allowed, read: Box::new(move |raw| (self.read)(raw).map(&turn)) }
    }

    /// The same with a condition, which is put into words behind the others.
    pub fn only(self, condition: &str, holds: impl Fn(&T) -> bool + 'static) -> Self {
        let allowed = format!("{}{condition}", self.allowed);
        Self {
            allowed,
            read: Box::new(move |raw| {
                (self.read)(raw).and_then(|v| if holds(&v) { Ok(v) } else { Err(None) })
            }),
        }
    }
}

impl<T: 'static> Kind<T> {
    /// The same, with a hint where a number stands alone: `unit` is what may have been meant.
    fn with_unit(self, unit: &'static str) -> Self {
        let read: Read<T> = Box::new(move |raw| {
            (self.read)(raw).map_err(|hint| {
                let number = match raw.text() {
                    Some(text) => {
                        Some(text.trim()).filter(|text| text.parse::<f64>().is_ok()).map(str::to_owned)
                    }
                    None => raw.real().map(|number| number.to_string()),
                };
                hint.or_else(|| Some(format!("did you mean \"{}{unit}\"?", number?)))
            })
        });
        Self { allowed: self.allowed, read }
    }
}

/// A whole number.
pub fn whole<T>(range: RangeInclusive<T>) -> Kind<T>
where
    T: TryFrom<i128> + PartialOrd + Display + Copy + Bounded + 'static,
{
    let allowed = if *range.end() == T::MOST {
        format!("a whole number, at least {}", range.start())
    } else {
        format!("a whole number from {} to {}", range.start(), range.end())
    };
    Kind::new(allowed, move |raw| T::try_from(raw.whole()?).ok().filter(|number| range.contains(number)))
}

/// Integers that know their largest value, so that messages do not have to speak of it.
pub trait Bounded {
    /// It.
    const MOST: Self;
}

macro_rules! bounded {
    ($($int:ty),*) => { $(impl Bounded for $int { const MOST: Self = <$int>::MAX; })* };
}
bounded!(u16, u32, u64);

/// A number in a range.
pub fn real(range: RangeInclusive<f64>) -> Kind<f64> {
    let (least, most) = (*range.start(), *range.end());
    let allowed = match (least, most) {
        (f64::NEG_INFINITY, f64::INFINITY) => "a number".to_owned(),
        (least, f64::INFINITY) => format!("a number, at least {least}"),
        (least, most) => format!("a number from {least} to {most}"),
    };
    Kind::new(allowed, move |raw| raw.real().filter(|number| range.contains(number)))
}

/// A number above zero.
pub fn positive() -> Kind<f64> {
    Kind::new("a number above 0", |raw| raw.real().filter(|number| *number > 0.0))
}

/// A share at or above zero, as a number or in per cent.
pub fn share() -> Kind<f64> {
    Kind::new("a number such as 0.01 or a percentage such as \"1 %\", at least 0", |raw| {
        raw.real().or_else(|| units::share(raw.text()?)).filter(|share| *share >= 0.0)
    })
}

/// A probability, as a number or in per cent.
pub fn probability() -> Kind<f64> {
    Kind::new("a probability from 0 to below 1, such as 0.001 or \"0.1 %\"", |raw| {
        raw.real().or_else(|| units::share(raw.text()?)).filter(|share| (0.0..1.0).contains(share))
    })
}

/// True or false.
pub fn flag() -> Kind<bool> {
    Kind::new("true or false", |raw| match &raw.value.kind {
        ValueKind::Boolean(flag) => Some(*flag),
        _ => raw.loose_text()?.to_lowercase().parse().ok(),
    })
}

/// A name: what people, files and metrics can all carry.
pub(crate) fn name() -> Kind<String> {
    const ALLOWED: &str = "a name of lower-case letters, digits and hyphens, at most 63";
    Kind::new(ALLOWED, |raw| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let text = raw.text().filter(|text| (1..64).contains(&text.len()) && text.bytes().all(plain))?;
        Some(text.to_owned())
    })
}

/// A word: a name that may have underscores too, such as a metric's.
pub fn word() -> Kind<String> {
    Kind::new("a word", |raw| raw.text().filter(|text| !text.trim().is_empty()).map(str::to_owned))
}

/// A duration.
pub fn duration() -> Kind<Duration> {
    Kind::new(units::DURATION, |raw| units::duration(raw.text()?)).with_unit("ms")
}

/// How long a message may be on its way: an hour is beyond the inner planets, and its products with
/// rates are numbers.
pub(crate) fn delay() -> Kind<Duration> {
    const MOST: Duration = Duration::from_secs(3600);
    duration().only(", at most 1 h", |delay| *delay <= MOST)
}

/// Of a link between regions: a handshake over a longer one takes many minutes, and so does each
/// clock that waits for others.
pub(crate) fn link_delay() -> Kind<Duration> {
    const MOST: Duration = Duration::from_secs(60);
    duration().only(", at most 1 min", |delay| *delay <= MOST)
}

/// Of a link between regions: on a slower one the packets of a handshake take more than 10 s each.
pub(crate) fn link_rate() -> Kind<u64> {
    const LEAST: u64 = 125;
    rate().only(", at least 1 kbit/s", |rate| *rate >= LEAST)
}

/// How long something is waited for.
pub(crate) fn patience() -> Kind<Duration> {
    const ALLOWED: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
    duration().only(", from 1 s to 1 h", |patience| ALLOWED.contains(patience))
}

/// How often something is done.
pub(crate) fn interval() -> Kind<Duration> {
    const ALLOWED: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(7 * 86_400);
    duration().only(", from 1 s to 7 days", |interval| ALLOWED.contains(interval))
}

/// A rate above zero and within reason, in bytes a second.
pub fn rate() -> Kind<u64> {
    const MOST: u64 = 1_000_000_000_000;
    Kind::new(units::RATE, |raw| units::rate(raw.text()?))
        .with_unit(" Mbit/s")
        .only(", above 0 and at most 1 TB/s", |rate| (1..=MOST).contains(rate))
}

/// What a region may send in all.
pub(crate) fn budget() -> Kind<BudgetText> {
    Kind::new(units::BUDGET, |raw| units::budget(raw.text()?)).with_unit(" Mbit/s")
}

/// What a byte costs, in dollars.
pub(crate) fn price() -> Kind<f64> {
    Kind::new(units::PRICE, |raw| units::price(raw.text()?)).only(", above 0", |price| *price > 0.0)
}

/// How long a link's queue may grow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Queue {
    /// In bandwidth-delay products of the link.
    BandwidthDelayProducts(f64),
    /// In bytes.
    Bytes(u64),
}

/// A queue: a size or a number of bandwidth-delay products.
pub(crate) fn queue() -> Kind<Queue> {
    let allowed =
        format!("{}, or a number of bandwidth-delay products such as \"1 bdp\"; above 0", units::SIZE);
    Kind::new(allowed, |raw| {
        let text = raw.text()?;
        let products = units::bandwidth_delay_products(text).filter(|products| *products > 0.0);
        let bytes = || units::size(text).filter(|bytes| *bytes > 0);
        products.map(Queue::BandwidthDelayProducts).or_else(|| bytes().map(Queue::Bytes))
    })
    .with_unit(" bdp")
}

/// A path; a relative one is relative to the file that says it, or to the working directory where
/// no file does.
pub(crate) fn path() -> Kind<PathBuf> {
    Kind::new("a path", |raw| {
        let text = raw.text().filter(|text| !text.is_empty() && !text.contains('\0'))?;
        Some(raw.directory.map_or_else(|| PathBuf::from(text), |directory| tidy(&directory.join(text))))
    })
}

/// A path inside the data directory, as it stands.
pub fn file() -> Kind<PathBuf> {
    Kind::new("a file name", |raw| {
        raw.text().filter(|text| !text.is_empty() && !text.contains('\0')).map(PathBuf::from)
    })
}

/// A file name with `{datacenter}`, `{role}` and `{index}` to be filled in.
pub(crate) fn file_template() -> Kind<String> {
    const PARTS: [&str; 3] = ["{datacenter}", "{role}", "{index}"];
    Kind::new("a file name, in which {datacenter}, {role} and {index} are filled in", |raw| {
        let text = raw.text().filter(|text| !text.is_empty() && !text.contains('\0'))?;
        let rest = PARTS.iter().fold(text.to_owned(), |rest, part| rest.replace(part, ""));
        (!rest.contains(['{', '}'])).then(|| text.to_owned())
    })
}

/// One of a few names.
pub fn choice<T: Clone + 'static>(items: &'static [(&'static str, T)]) -> Kind<T> {
    let names = || items.iter().map(|(name, _)| *name);
    named(names().collect(), move |text| {
        items.iter().find(|(name, _)| *name == text).map(|(_, item)| item.clone())
    })
}

/// One of the names that a type can be parsed from.
pub(crate) fn parsed<T: FromStr<Err = NotOneOf> + 'static>(
    names: impl Iterator<Item = &'static str>,
) -> Kind<T> {
    named(names.collect(), |text| text.parse().ok())
}

/// One of a few names, as it stands.
pub(crate) fn one_of(names: impl Iterator<Item = &'static str>) -> Kind<&'static str> {
    let names: Vec<_> = names.collect();
    let known = names.clone();
    named(names, move |text| known.iter().copied().find(|name| *name == text))
}

fn named<T: 'static>(names: Vec<&'static str>, find: impl Fn(&str) -> Option<T> + 'static) -> Kind<T> {
    let quoted: Vec<_> = names.iter().map(|name| format!("\"{name}\"")).collect();
    let allowed = format!("one of {}", quoted.join(", "));
    let read: Read<T> = Box::new(move |raw| {
        let text = raw.text().ok_or(None)?.trim();
        find(text).ok_or_else(|| {
            nearest(text, names.iter().copied()).map(|meant| format!("did you mean \"{meant}\"?"))
        })
    });
    Kind { allowed, read }
}

/// An array, or, from the environment or a flag, a list with commas; problems of items are those of
/// the whole.
pub fn list<T: 'static>(item: Kind<T>) -> Kind<Vec<T>> {
    let allowed = format!("an array; each entry: {}", item.allowed);
    let read: Read<Vec<T>> = Box::new(move |raw| {
        let read = |value: &Value| item.read(&Raw { value, loose: raw.loose, directory: raw.directory });
        match (&raw.value.kind, raw.loose_text()) {
            (ValueKind::Array(items), _) => items.iter().map(read).collect(),
            (_, Some(text)) => {
                if let Some(Value { kind: ValueKind::Array(items), .. }) = inline(text, raw.origin()) {
                    return items.iter().map(read).collect();
                }
                let origin = raw.origin().to_owned();
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                items.map(|item| read(&Value::new(Some(&origin), item))).collect()
            }
            _ => Err(None),
        }
    });
    Kind { allowed, read }
}

/// The same with at least one entry.
pub fn not_empty<T: 'static>(kind: Kind<Vec<T>>) -> Kind<Vec<T>> {
    kind.only("; at least one", |items| !items.is_empty())
}

/// A value in a message: as TOML would write it, and not at length.
pub(crate) fn describe(value: &Value) -> String {
    match &value.kind {
        ValueKind::Nil => "nothing".to_owned(),
        ValueKind::String(text) => {
            const LONGEST: usize = 60;
            match text.char_indices().nth(LONGEST) {
                None => format!("{text:?}"),
                Some((end, _)) => format!("{:?}...", &text[..end]),
            }
        }
        ValueKind::Float(number) => format!("{number:?}"),
        ValueKind::Table(_) => "a table".to_owned(),
        ValueKind::Array(items) if items.is_empty() => "[]".to_owned(),
        ValueKind::Array(items) if items.iter().all(|item| matches!(item.kind, ValueKind::Table(_))) => {
            format!("an array of {} tables", items.len())
        }
        ValueKind::Array(items) if items.len() > 8 => format!("an array of {}", items.len()),
        ValueKind::Array(items) => format!("[{}]", items.iter().map(describe).collect::<Vec<_>>().join(", ")),
        ValueKind::Boolean(_)
        | ValueKind::I64(_)
        | ValueKind::I128(_)
        | ValueKind::U64(_)
        | ValueKind::U128(_) => value.to_string(),
    }
}
