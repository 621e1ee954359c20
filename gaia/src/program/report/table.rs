//! Tables for a terminal: one where there is room, two where there is not.

use comfy_table::{
    Attribute, Cell, CellAlignment, ColumnConstraint, ContentArrangement, Table, TableComponent, Width,
    presets,
};

use super::reading::{bound, reading, words};
use super::tuning::tuning;
use super::{FASTEST, NAIVE, held, run_of, saving, time_ratio};
use crate::human::{bytes, figure, percent, seconds, times};
use crate::job::TargetSettings;
use crate::job::strategy::Strategy;
use crate::simulator::results::{Comparison, Run, Target};

/// How much room there is, and whether it may be bold.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Characters in a line.
    pub width: u16,
    /// Whether escape codes are welcome.
    pub styled: bool,
}

/// From this width on, all columns stand in one table.
const ROOM_FOR_ONE: u16 = 140;
/// What is not there.
const NONE: &str = "-";

/// Shows a comparison: its tables, and what they mean.
pub fn comparison(comparison: &Comparison, target: &TargetSettings, style: Style) -> String {
    let columns = columns(comparison);
    let (to_target, whole): (Vec<_>, Vec<_>) =
        columns.into_iter().partition(|column| column.part == Part::ToTarget);
    let mut blocks = vec![format!("{}, seed {}", comparison.job, comparison.seed)];
    if comparison.runs.is_empty() {
        // There is nothing to show but why.
    } else if style.width >= ROOM_FOR_ONE {
        let all: Vec<_> = to_target.into_iter().chain(whole).collect();
        blocks.push(table(comparison, &all, style));
    } else {
        blocks.push(table(comparison, &to_target, style));
        blocks.push(format!("The whole run\n\n{}", table(comparison, &whole, style)));
    }
    let sentences: Vec<_> = reading(comparison, target)
        .iter()
        .map(|sentence| wrap(sentence, usize::from(style.width.min(100))))
        .collect();
    blocks.push(sentences.join("\n"));
    // Reasons have lines of their own making.
    blocks.extend(comparison.failed.iter().map(|f| format!("No result for {}: {}", f.strategy, f.reason)));
    blocks.join("\n\n") + "\n"
}

/// Shows one run, and how it stands to the job's target.
pub fn run(run: &Run, target: &TargetSettings, style: Style) -> String {
    let mut table = frame(style);
    let mut row = |name: &str, value: String| {
        table.add_row([Cell::new(name), Cell::new(value)]);
    };
    row("objective", figure(run.objective));
    row(&words(&run.metric.name), figure(run.metric.value));
    row(
        "virtual time",
        format!("{} for {} clocks of {}", seconds(run.seconds), run.clocks, seconds(run.clock_seconds)),
    );
    row("target", reached(run, target));
    row("WAN", bytes(run.wan_bytes as f64));
    if let Some(naive) = run.naive_wan_bytes.filter(|_| run.wan_bytes > 0) {
        let ratio = naive as f64 / run.wan_bytes as f64;
        row("shipping every update", format!("{} ({})", bytes(naive as f64), times(ratio)));
    }
    if let Some(share) = run.filter_hit_rate {
        row("updates shipped", percent(share));
    }
    if let Some(tuning) = tuning(run) {
        row("tuned by itself", tuning);
    }
    row("reads held", holds(run));
    let mut blocks = vec![format!("{}\n\n{}", run.strategy, trimmed(&table))];
    if !run.links.is_empty() {
        blocks.push(links(run, style));
    }
    blocks.join("\n\n") + "\n"
}

/// Shows `rows` of a name and its figures under `header`.
pub fn figures<const COUNT: usize>(
    header: &[&str],
    rows: impl Iterator<Item = (String, [String; COUNT])>,
    style: Style,
) -> String {
    let mut table = frame(style);
    let title = |(index, title)| if index == 0 { Cell::new(title) } else { right(String::from(title)) };
    table.set_header(header.iter().copied().enumerate().map(title));
    for (name, figures) in rows {
        table.add_row(std::iter::once(Cell::new(name)).chain(figures.map(|figure| right(hard(&figure)))));
    }
    trimmed(&table) + "\n"
}

/// "objective at most 0.1500: reached after 66.4 s and 1.20 MB".
fn reached(run: &Run, target: &TargetSettings) -> String {
    let (metric, value) = match target {
        TargetSettings::Value { metric, value } => (metric, *value),
        TargetSettings::WithinLan(share) => {
            return format!(
                "within {} of what {FASTEST} ends with, which takes a `gaia compare` to know",
                percent(*share)
            );
        }
    };
    let target = Target { metric: metric.clone(), value };
    let outcome = match run.seconds_to_target.zip(run.wan_bytes_to_target) {
        Some((0.0, _)) => "met before training began".to_owned(),
        Some((time, sent)) => format!("reached after {} and {}", seconds(time), bytes(sent as f64)),
        None => "not reached".to_owned(),
    };
    format!("{} {} {}: {outcome}", words(metric), bound(&target, run), figure(value))
}

fn links(run: &Run, style: Style) -> String {
    let mut table = frame(style);
    table.set_header(["link", "payload", "framing", "again", "total"]);
    for link in &run.links {
        let figures = [link.payload, link.framing, link.retransmitted, link.total];
        let name = Cell::new(format!("{} -> {}", link.from, link.to));
        let figures = figures.map(|figure| right(bytes(figure as f64)));
        table.add_row(std::iter::once(name).chain(figures));
    }
    trimmed(&table)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    ToTarget,
    Whole,
}

struct Column<'a> {
    part: Part,
    title: String,
    /// Words read from the left, figures from the right.
    is_text: bool,
    cell: Box<dyn Fn(&Run) -> String + 'a>,
}

impl<'a> Column<'a> {
    fn figures(part: Part, title: &str, cell: impl Fn(&Run) -> String + 'a) -> Self {
        Self { part, title: title.to_owned(), is_text: false, cell: Box::new(cell) }
    }
}

fn columns(comparison: &Comparison) -> Vec<Column<'_>> {
    let or_none = |text: Option<String>| text.unwrap_or_else(|| NONE.to_owned());
    let metric = comparison.runs.first().map_or_else(|| "metric".to_owned(), |run| words(&run.metric.name));
    let mut columns = vec![
        Column::figures(Part::ToTarget, "objective", |run| figure(run.objective)),
        Column::figures(Part::ToTarget, &metric, |run| figure(run.metric.value)),
        Column::figures(Part::ToTarget, "time to target", |run| {
            run.seconds_to_target.map_or_else(|| "never".to_owned(), seconds)
        }),
    ];
    if run_of(comparison, FASTEST).is_some() {
        let cell = move |run: &Run| or_none(time_ratio(comparison, run).map(times));
        columns.push(Column::figures(Part::ToTarget, "of LAN time", cell));
    }
    let cell = move |run: &Run| or_none(run.wan_bytes_to_target.map(|count| bytes(count as f64)));
    columns.push(Column::figures(Part::ToTarget, "WAN to target", cell));
    if run_of(comparison, NAIVE).is_some() {
        let cell = move |run: &Run| or_none(saving(comparison, run).map(fewer));
        columns.push(Column::figures(Part::ToTarget, &format!("WAN bytes against {NAIVE}"), cell));
    }
    columns.extend([
        Column::figures(Part::Whole, "time in all", |run| seconds(run.seconds)),
        Column::figures(Part::Whole, "a clock", |run| seconds(run.clock_seconds)),
        Column::figures(Part::Whole, "WAN in all", |run| bytes(run.wan_bytes as f64)),
        Column::figures(Part::Whole, "updates shipped", move |run| or_none(run.filter_hit_rate.map(percent))),
        Column {
            part: Part::Whole,
            title: "reads held per worker, and why".to_owned(),
            is_text: true,
            cell: Box::new(holds),
        },
    ]);
    columns
}

fn table(comparison: &Comparison, columns: &[Column<'_>], style: Style) -> String {
    let mut table = frame(style);
    let title = |column: &Column<'_>| {
        let cell = Cell::new(&column.title);
        if column.is_text { cell } else { cell.set_alignment(CellAlignment::Right) }
    };
    table.set_header(std::iter::once(Cell::new("strategy")).chain(columns.iter().map(title)));
    for run in &comparison.runs {
        let cells = columns.iter().map(|column| {
            let cell = Cell::new((column.cell)(run));
            if column.is_text { cell } else { cell.set_alignment(CellAlignment::Right) }
        });
        let row = std::iter::once(Cell::new(strategy_name(run))).chain(cells);
        if style.styled && run.strategy == Strategy::Asp.name() {
            table.add_row(row.map(|cell| cell.add_attribute(Attribute::Bold)));
        } else {
            table.add_row(row);
        }
    }
    // Titles and reasons may be broken between words; words and figures may not.
    let names = comparison
        .runs
        .iter()
        .flat_map(|run| strategy_name(run).split('\n').map(str::len).collect::<Vec<_>>());
    let mut widths = vec![names.max().unwrap_or(0).max("strategy".len())];
    widths.extend(columns.iter().map(|column| {
        let cells: Vec<_> = comparison.runs.iter().map(|run| (column.cell)(run)).collect();
        let unbroken = |text: &str| text.split(' ').map(|word| word.chars().count()).max().unwrap_or(0);
        let widest = |cell: &String| {
            if column.is_text { unbroken(cell) } else { cell.chars().count() }
        };
        cells.iter().map(widest).max().unwrap_or(0).max(unbroken(&column.title))
    }));
    let padding = 2;
    for (column, width) in table.column_iter_mut().zip(widths) {
        column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed((width + padding) as u16)));
    }
    trimmed(&table)
}

/// The strategy's name, in two lines if it is long.
fn strategy_name(run: &Run) -> String {
    const LONG: usize = 14;
    let name = &run.strategy;
    match name.get(..LONG).and_then(|start| start.rfind('-')) {
        Some(hyphen) if name.len() > LONG => format!("{}\n{}", &name[..=hyphen], &name[hyphen + 1..]),
        _ => name.clone(),
    }
}

/// "22.1x fewer", or "2.27x more".
fn fewer(saving: f64) -> String {
    const SAME: f64 = 0.005;
    if (saving - 1.0).abs() < SAME {
        "the same".to_owned()
    } else if saving > 1.0 {
        format!("{} fewer", times(saving))
    } else {
        format!("{} more", times(1.0 / saving))
    }
}

/// A table with a line under its header and no other.
fn frame(style: Style) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(style.width);
    table.set_style(TableComponent::HeaderLines, '─');
    // Blanks beside the columns' own padding would cost a wide table ten characters.
    for component in [TableComponent::LeftBorder, TableComponent::VerticalLines, TableComponent::RightBorder]
    {
        table.remove_style(component);
    }
    if style.styled {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table
}

/// Stands for a blank at which no line may break, until the table is laid out.
const HARD_BLANK: &str = "\u{a0}";

/// The table without blanks at the ends of its lines, which show when they are copied.
fn trimmed(table: &Table) -> String {
    table
        .lines()
        .map(|line| line.replace(HARD_BLANK, " ").trim_end().to_owned())
        .collect::<Vec<_>>()
        .join("\n")
}

fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// "12.3 s: barrier 8.1 s, mirror clock 4.2 s", the longest first; what is too short to matter is
/// left out.
fn holds(run: &Run) -> String {
    const SHORTEST: f64 = 1e-4;
    let mut holds: Vec<_> = run.holds.iter().filter(|(_, seconds)| **seconds >= SHORTEST).collect();
    holds.sort_by(|a, b| b.1.total_cmp(a.1));
    match holds.as_slice() {
        [] => NONE.to_owned(),
        [(reason, time)] => format!("{}: {}", hard(&seconds(**time)), hard(&words(reason))),
        several => {
            let reasons: Vec<_> = several
                .iter()
                .map(|(reason, time)| hard(&format!("{} {}", words(reason), seconds(**time))))
                .collect();
            format!("{}: {}", hard(&seconds(held(run))), reasons.join(", "))
        }
    }
}

fn hard(text: &str) -> String {
    text.replace(' ', HARD_BLANK)
}

/// Breaks a sentence into lines; those after the first are indented.
fn wrap(sentence: &str, width: usize) -> String {
    let mut lines = vec![String::new()];
    for word in sentence.split(' ') {
        let line = lines.last_mut().expect("there is always a line");
        if line.chars().count() + 1 + word.chars().count() > width && !line.trim().is_empty() {
            lines.push(format!("  {word}"));
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n")
}
