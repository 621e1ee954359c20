//! The table of a region's links.
//!
//! Kind: time-free.

use ratatui::text::{Line, Span};

use super::History;
use super::paint::{Ink, Palette, flow, item};
use super::region::{Region, regions};
use crate::human::{bit_rate, bytes, percent, seconds, times};
use crate::service::status::{LinkStatus, ServerStatus};

/// Between columns.
const GAP: usize = 2;
/// What is not there.
const NONE: &str = "-";

/// A column of figures.
struct Column {
    title: &'static str,
    /// The widest that its figures usually are, so that columns stay where they are.
    width: usize,
    /// Those with the highest go first where there is no room.
    rank: u8,
    cell: fn(&Row<'_>) -> String,
}

/// A link, and how much it has sent a second lately.
struct Row<'a> {
    link: &'a LinkStatus,
    sending_bytes_per_sec: Option<f64>,
}

/// Shown where there is a budget.
const BUDGET: &str = "of budget";

const COLUMNS: [Column; 12] = [
    Column {
        title: "round trip",
        width: 10,
        rank: 0,
        cell: |row| optional(row.link.round_trip_seconds, round_trip),
    },
    Column { title: "rate", width: 11, rank: 0, cell: |row| optional(row.link.rate_bytes_per_sec, bit_rate) },
    Column {
        title: "sending",
        width: 11,
        rank: 2,
        cell: |row| optional(row.sending_bytes_per_sec, bit_rate),
    },
    Column { title: BUDGET, width: 9, rank: 1, cell: |row| optional(row.link.budget_used, percent) },
    Column { title: "backlog", width: 7, rank: 0, cell: |row| bytes(row.link.backlog_bytes as f64) },
    Column { title: "takes", width: 7, rank: 1, cell: |row| seconds(row.link.backlog_seconds) },
    Column { title: "in flight", width: 9, rank: 4, cell: |row| bytes(row.link.in_flight_bytes as f64) },
    Column { title: "sent", width: 7, rank: 0, cell: |row| bytes(row.link.sent_bytes as f64) },
    Column { title: "again", width: 7, rank: 5, cell: |row| bytes(row.link.repeated_bytes as f64) },
    Column { title: "saved", width: 5, rank: 0, cell: saved },
    Column { title: "received", width: 8, rank: 3, cell: |row| bytes(row.link.received_bytes as f64) },
    Column { title: "rows announced", width: 14, rank: 6, cell: |row| row.link.announced_rows.to_string() },
];

fn optional(value: Option<f64>, show: fn(f64) -> String) -> String {
    value.map_or_else(|| NONE.to_owned(), show)
}

/// In milliseconds, as round trips are known.
fn round_trip(time: f64) -> String {
    if (0.0995..0.9995).contains(&time) { format!("{:.0} ms", time * 1000.0) } else { seconds(time) }
}

/// Below one where the link has sent more than every update would have taken, as one that has just
/// brought a region back.
fn saved(row: &Row<'_>) -> String {
    if row.link.sent_bytes == 0 || row.link.naive_bytes == 0 {
        return NONE.to_owned();
    }
    times(row.link.naive_bytes as f64 / row.link.sent_bytes as f64)
}

/// A head and a line for each link, on lines of `width`; nothing where there are no links.
pub(super) fn links(
    region: &Region<'_>,
    history: &History,
    palette: Palette,
    width: u16,
) -> Vec<Line<'static>> {
    let rows: Vec<_> = region.links().map(|(server, link)| (name(server, link), server, link)).collect();
    if rows.is_empty() {
        return vec![];
    }
    let widest = rows.iter().map(|(name, ..)| Span::raw(name.as_str()).width()).max().unwrap_or(0);
    let has_budget = rows.iter().any(|(_, _, link)| link.budget_used.is_some());
    let columns = columns(usize::from(width).saturating_sub(2 + widest), history.is_live(), has_budget);
    let mut head = Line::from(palette.span(Ink::Label, format!("  {:<widest$}", "link")));
    for column in &columns {
        let text = format!("{}{:>width$}", " ".repeat(GAP), column.title, width = column.width);
        head.push_span(palette.span(Ink::Label, text));
    }
    let mut lines = vec![head];
    for (name, server, link) in rows {
        let padding = " ".repeat(widest - Span::raw(name.as_str()).width());
        if !link.up {
            lines.extend(down(link, format!("  {name}{padding}"), region.is_over(), palette, width));
            continue;
        }
        let row = Row { link, sending_bytes_per_sec: sending(history, region.name, server, link) };
        let mut line = Line::from(palette.span(Ink::Normal, format!("  {name}{padding}")));
        for column in &columns {
            let is_backlog = matches!(column.title, "backlog" | "takes");
            let ink = if is_backlog && link.backlog_seconds >= 1.0 { Ink::Slow } else { Ink::Normal };
            let text = format!("{}{:>width$}", " ".repeat(GAP), (column.cell)(&row), width = column.width);
            line.push_span(palette.span(ink, text));
        }
        lines.push(line);
    }
    lines
}

/// "0 → ireland 1": from which of our servers to which of theirs.
fn name(server: &ServerStatus, link: &LinkStatus) -> String {
    format!("{} → {} {}", server.index, link.datacenter, link.server)
}

/// A link that is down has no figures, but reasons; none are needed where all is over.
fn down(link: &LinkStatus, name: String, is_over: bool, palette: Palette, width: u16) -> Vec<Line<'static>> {
    let indent = Span::raw(name.as_str()).width() + GAP;
    let name = palette.span(Ink::Normal, format!("{name}{}", " ".repeat(GAP)));
    if is_over && link.connects > 0 && link.backlog_bytes == 0 {
        let text = format!("closed   {} sent", bytes(link.sent_bytes as f64));
        return flow(palette, name, indent, &[item(Ink::Label, text)], width);
    }
    let since = if link.connects == 0 { "not up yet" } else { "down" };
    let mut text = vec![(Ink::Bad, format!("{since} for {}", seconds(link.since_seconds)))];
    if let Some(problem) = &link.problem {
        text.push((Ink::Normal, format!(": {problem}")));
    }
    let backlog = item(Ink::Label, format!("{} wait", bytes(link.backlog_bytes as f64)));
    let items = if link.backlog_bytes > 0 { vec![text, backlog] } else { vec![text] };
    flow(palette, name, indent, &items, width)
}

/// Those for which there is room, in their order.
fn columns(room: usize, is_live: bool, has_budget: bool) -> Vec<Column> {
    let is_meant = |title: &str| (is_live || title != "sending") && (has_budget || title != BUDGET);
    let mut columns: Vec<_> = COLUMNS.into_iter().filter(|column| is_meant(column.title)).collect();
    while columns.iter().map(|column| column.width + GAP).sum::<usize>() > room {
        let last = columns.iter().map(|column| column.rank).max();
        let Some(at) = columns.iter().position(|column| Some(column.rank) == last && column.rank > 0) else {
            break;
        };
        columns.remove(at);
    }
    columns
}

/// What the link has sent a second lately; none where that is not known, as after it started again.
fn sending(history: &History, region: &str, server: &ServerStatus, link: &LinkStatus) -> Option<f64> {
    let (moment, seconds) = history.before()?;
    let (regions, _) = regions(moment);
    let earlier = regions.iter().find(|earlier| earlier.name == region)?;
    let (_, before) = earlier.links().find(|(one, other)| {
        one.index == server.index && other.datacenter == link.datacenter && other.server == link.server
    })?;
    Some(link.sent_bytes.checked_sub(before.sent_bytes)? as f64 / seconds)
}
