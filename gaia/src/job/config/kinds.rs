//! The kinds of values that jobs and regions have beside those of [`kind`](crate::settings::kind).

use std::collections::BTreeSet;

use crate::job::DeltaBound;
use crate::learning::data::classification::MAX_CLASSES;
use crate::learning::data::names::MAX_NAME_BYTES;
use crate::learning::data::{Column, DataRoot, Name, Names};
use crate::settings::kind::{Kind, list};
use crate::settings::units;

/// The largest delta that may be: a number, or a multiple of what deltas usually are.
pub(super) fn delta_bound() -> Kind<DeltaBound> {
    /// The largest of a thousand numbers that are normally distributed is four times the usual, and
    /// gradients are wilder.
    const LEAST_TIMES: f64 = 10.0;
    let allowed =
        format!("a number above 0, or a multiple of at least {LEAST_TIMES} such as \"1000 times the usual\"");
    Kind::new(allowed, |raw| {
        let fixed = raw.real().map(|most| most as f32).filter(|most| *most > 0.0).map(DeltaBound::Magnitude);
        fixed.or_else(|| {
            let times = units::times_the_usual(raw.text()?).filter(|times| *times >= LEAST_TIMES)?;
            Some(times as f32).filter(|times| times.is_finite()).map(DeltaBound::TimesTheUsual)
        })
    })
}

/// A column of a table: its name, or its number.
pub(super) fn column() -> Kind<Column> {
    Kind::new("the name of a column, or its number counted from 1", |raw| {
        if let Some(number) = raw.whole() {
            return u32::try_from(number).ok().filter(|number| *number > 0).map(Column::Number);
        }
        raw.text().map(str::trim).filter(|name| !name.is_empty()).map(|name| Column::Named(name.to_owned()))
    })
}

/// The labels of all classes, in any order.
pub(super) fn labels() -> Kind<Names> {
    let label = Kind::new(format!("a whole number, or a text of at most {MAX_NAME_BYTES} bytes"), |raw| {
        let number = raw.whole().and_then(|number| i64::try_from(number).ok()).map(Name::Number);
        number.or_else(|| Name::read_label(raw.text()?.trim()).ok())
    });
    let condition = format!("; 2 to {MAX_CLASSES}, each once");
    let is_sound = |labels: &Vec<Name>| {
        (2..=MAX_CLASSES).contains(&labels.len())
            && labels.iter().collect::<BTreeSet<_>>().len() == labels.len()
    };
    list(label).only(&condition, is_sound).map(Names::from_iter)
}

/// Where data lies. A relative path is relative to the file that says it, or to the working
/// directory where no file does; a URL stands for itself.
pub(super) fn data_root() -> Kind<DataRoot> {
    let allowed = "a path, or a URL of a store such as \"s3://bucket/prefix\" (s3, gs, az, http, https), without password \
                   and query";
    Kind::new(allowed, |raw| DataRoot::parse(raw.text()?, raw.directory))
}

/// Where files can be written: a [`data_root`] that is no web address, which is for reading.
pub(super) fn writable_root() -> Kind<DataRoot> {
    let allowed =
        "a path, or a URL of a store such as \"s3://bucket/prefix\" (s3, gs, az), without password and query";
    let is_writable = |root: &DataRoot| match root {
        DataRoot::Directory(_) => true,
        DataRoot::Store(url) => !matches!(url.scheme(), "http" | "https"),
    };
    data_root().only("", is_writable).called(allowed)
}
