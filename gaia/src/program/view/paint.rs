//! Styled text: few colours, and lines that are filled without cutting anything.
//!
//! Kind: time-free.

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

/// Which styles are welcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Palette {
    /// All of them.
    Coloured,
    /// None: text for a pipe, or a terminal with `NO_COLOR`.
    Plain,
}

/// What a piece of text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    /// A figure, a word.
    Normal,
    /// What a figure is called.
    Label,
    /// A name that is looked for.
    Name,
    /// All is well.
    Good,
    /// Somebody waits.
    Slow,
    /// Somebody has to do something.
    Bad,
}

impl Palette {
    /// The one that the environment asks for.
    pub fn from_environment() -> Self {
        let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if is_plain { Self::Plain } else { Self::Coloured }
    }

    fn style(self, ink: Ink) -> Style {
        let style = Style::new();
        match (self, ink) {
            (Self::Plain, _) | (_, Ink::Normal) => style,
            (_, Ink::Label) => style.add_modifier(Modifier::DIM),
            (_, Ink::Name) => style.add_modifier(Modifier::BOLD),
            (_, Ink::Good) => style.fg(Color::Green),
            (_, Ink::Slow) => style.fg(Color::Yellow),
            (_, Ink::Bad) => style.fg(Color::Red).add_modifier(Modifier::BOLD),
        }
    }

    pub(super) fn span(self, ink: Ink, text: impl Into<String>) -> Span<'static> {
        Span::styled(text.into(), self.style(ink))
    }
}

/// Some text that stays on one line where it fits on any.
pub(super) type Item = Vec<(Ink, String)>;

/// An item of one ink.
pub(super) fn item(ink: Ink, text: impl Into<String>) -> Item {
    vec![(ink, text.into())]
}

/// The column in which what is said begins, behind its label.
const LABEL: usize = 11;
/// Between two items of a line.
const GAP: usize = 3;

/// A label and items behind it, on as many lines as they need.
pub(super) fn labelled(palette: Palette, label: &str, items: &[Item], width: u16) -> Vec<Line<'static>> {
    let first = palette.span(Ink::Label, format!("  {label:<width$}", width = LABEL - 2));
    flow(palette, first, LABEL, items, width)
}

/// Items on as many lines as they need, behind `first`, all starting at the column `indent`.
pub(super) fn flow(
    palette: Palette,
    first: Span<'static>,
    indent: usize,
    items: &[Item],
    width: u16,
) -> Vec<Line<'static>> {
    let room = usize::from(width).saturating_sub(indent).max(1);
    let mut lines = vec![];
    let mut line = Line::from(first);
    let mut used = 0;
    for item in items {
        let pieces = if width_of(item) <= room { vec![item.clone()] } else { words(item) };
        for (at, piece) in pieces.into_iter().enumerate() {
            let length = width_of(&piece);
            let mut gap = if at == 0 { GAP } else { 1 };
            if used > 0 && used + gap + length > room {
                lines.push(std::mem::replace(&mut line, Line::from(" ".repeat(indent))));
                used = 0;
            }
            if used == 0 {
                gap = 0;
            }
            line.push_span(Span::raw(" ".repeat(gap)));
            piece.into_iter().for_each(|(ink, text)| line.push_span(palette.span(ink, text)));
            used += gap + length;
        }
    }
    lines.push(line);
    lines
}

/// How many characters of a terminal it takes.
fn width_of(item: &Item) -> usize {
    item.iter().map(|(_, text)| Span::raw(text).width()).sum()
}

/// Its words, each an item; a word may change its ink.
fn words(item: &Item) -> Vec<Item> {
    let mut words: Vec<Item> = vec![vec![]];
    for (ink, text) in item {
        for (at, word) in text.split(' ').enumerate() {
            if at > 0 {
                words.push(vec![]);
            }
            if !word.is_empty() {
                words.last_mut().expect("there is one from the start").push((*ink, word.to_owned()));
            }
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// `left` at the left and `right` at the right, and at least a space between; on two lines where
/// that is too much.
pub(super) fn justified(left: Line<'static>, right: Line<'static>, width: u16) -> Vec<Line<'static>> {
    let used = left.width() + right.width();
    let width = usize::from(width);
    if used < width {
        let mut line = left;
        line.push_span(Span::raw(" ".repeat(width - used)));
        line.extend(right);
        vec![line]
    } else {
        vec![left, right]
    }
}

/// Two columns, the left one `width` wide, with `gap` between.
pub(super) fn beside(
    left: Vec<Line<'static>>,
    right: Vec<Line<'static>>,
    width: u16,
    gap: u16,
) -> Vec<Line<'static>> {
    let count = left.len().max(right.len());
    let (mut left, mut right) = (left.into_iter(), right.into_iter());
    let line = |_| {
        let mut line = left.next().unwrap_or_default();
        if let Some(right) = right.next() {
            let missing = usize::from(width + gap).saturating_sub(line.width());
            line.push_span(Span::raw(" ".repeat(missing)));
            line.extend(right);
        }
        line
    };
    (0..count).map(line).collect()
}
