//! Keeps the page on a terminal.
//!
//! Kind: driver. The terminal is given back as it was, whatever happens: on return, on an error,
//! when the future is dropped, and when something panics.

use std::io::{self, Stdout, Write};
use std::time::Duration;

use crossterm::event::{Event, EventStream, KeyCode, KeyEventKind, KeyModifiers};
use futures_util::stream::{Stream, StreamExt};
use ratatui::Terminal;
use ratatui::backend::{Backend, CrosstermBackend};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::Widget;
use tokio::time::Instant;

use super::paint::{Ink, justified};
use super::{History, Page, Palette, page, text};
use crate::service::status::fetch::Fetched;

/// How often processes are asked.
const EVERY: Duration = Duration::from_secs(1);

/// Why a view ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended<T> {
    /// Somebody pressed a key for it.
    Quit,
    /// What it was to wait for has come.
    Done(T),
}

/// Shows what `source` fetches, every second, until `until` is ready or somebody quits. What was
/// shown last stays on the terminal, as plain text.
///
/// `source` is called for each round; a round that takes long delays the next, but not the keys. To
/// go on with `until` after somebody has quit, pass it by `&mut`.
///
/// # Errors
///
/// If the terminal cannot be set up, or goes away.
pub async fn run<S, F, U>(source: S, until: U) -> io::Result<Ended<U::Output>>
where
    S: FnMut() -> F,
    F: Future<Output = Vec<Fetched>>,
    U: Future,
{
    let mut screen = Screen::open()?;
    let (events, mut history) = (EventStream::new(), History::default());
    let ended = show(&mut screen.0, events, Palette::from_environment(), &mut history, source, until).await;
    let width = screen.0.size().map_or(NARROWEST_LEFT, |size| size.width);
    drop(screen);
    if ended.is_ok() {
        // A terminal that has gone away shows nothing any more.
        let _ = io::stdout().write_all(left_behind(&history, width).as_bytes());
    }
    ended
}

/// The width where the terminal does not say.
const NARROWEST_LEFT: u16 = 80;

/// What stays on the terminal: nothing where nobody has been asked yet.
pub(super) fn left_behind(history: &History, width: u16) -> String {
    if history.now().is_none() { String::new() } else { text(history, width) }
}

/// The terminal while it is ours.
struct Screen(Terminal<CrosstermBackend<Stdout>>);

impl Screen {
    fn open() -> io::Result<Self> {
        // Sets a hook that gives the terminal back before a panic writes to it.
        let opened = ratatui::try_init();
        if opened.is_err() {
            ratatui::restore();
        }
        opened.map(Self)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Unlike `ratatui::restore`, it says nothing where that fails: the terminal is gone then.
        let _ = ratatui::try_restore();
    }
}

/// [`run`] on any terminal and with any keys.
pub(super) async fn show<B, E, S, F, U>(
    terminal: &mut Terminal<B>,
    mut events: E,
    palette: Palette,
    history: &mut History,
    mut source: S,
    until: U,
) -> io::Result<Ended<U::Output>>
where
    B: Backend<Error: Send + Sync + 'static>,
    E: Stream<Item = io::Result<Event>> + Unpin,
    S: FnMut() -> F,
    F: Future<Output = Vec<Fetched>>,
    U: Future,
{
    let start = Instant::now();
    let mut until = std::pin::pin!(until);
    let mut view = View { history, offset: 0, palette };
    let mut round = std::pin::pin!(later(start, source()));
    let mut asked = start;
    loop {
        terminal.draw(|frame| view.draw(frame.area(), frame.buffer_mut())).map_err(io::Error::other)?;
        tokio::select! {
            biased;
            done = &mut until => return Ok(Ended::Done(done)),
            event = events.next() => match event {
                Some(event) => {
                    if view.handle_event(&event?, terminal.size().map_err(io::Error::other)?.height).is_break() {
                        return Ok(Ended::Quit);
                    }
                }
                // Nobody can press a key any more.
                None => return Ok(Ended::Quit),
            },
            fetched = &mut round => {
                view.history.push(start.elapsed(), fetched);
                asked = (asked + EVERY).max(Instant::now());
                round.set(later(asked, source()));
            }
        }
    }
}

/// `future`, started at `time`.
async fn later<F: Future>(time: Instant, future: F) -> F::Output {
    tokio::time::sleep_until(time).await;
    future.await
}

/// What is on the screen.
struct View<'a> {
    history: &'a mut History,
    /// How many lines of the body are above the screen.
    offset: usize,
    palette: Palette,
}

impl View<'_> {
    /// Breaks if it is time to quit.
    fn handle_event(&mut self, event: &Event, height: u16) -> std::ops::ControlFlow<()> {
        let Event::Key(key) = event else {
            // Whatever it is, the screen is drawn again: it may have another size.
            return std::ops::ControlFlow::Continue(());
        };
        if key.kind == KeyEventKind::Release {
            return std::ops::ControlFlow::Continue(());
        }
        let leaf = usize::from(height.saturating_sub(4)).max(1);
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return std::ops::ControlFlow::Break(()),
            KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                return std::ops::ControlFlow::Break(());
            }
            KeyCode::Down | KeyCode::Char('j') => self.offset = self.offset.saturating_add(1),
            KeyCode::Up | KeyCode::Char('k') => self.offset = self.offset.saturating_sub(1),
            KeyCode::PageDown | KeyCode::Char(' ') => self.offset = self.offset.saturating_add(leaf),
            KeyCode::PageUp => self.offset = self.offset.saturating_sub(leaf),
            KeyCode::Home => self.offset = 0,
            // Drawing brings it back to what there is.
            KeyCode::End => self.offset = usize::MAX,
            _ => {}
        }
        std::ops::ControlFlow::Continue(())
    }

    /// The head at the top, keys at the bottom, and between them what fits of the body. Where the
    /// screen is so low that nothing of the body would fit, the body is all that is shown.
    fn draw(&mut self, area: Rect, buffer: &mut Buffer) {
        let Page { head, body } = page(self.history, area.width, self.palette);
        let height = usize::from(area.height);
        let (head, foot) = if height >= head.len() + 4 { (head, 1) } else { (vec![], 0) };
        let room = height.saturating_sub(head.len() + foot);
        self.offset = self.offset.min(body.len().saturating_sub(room));
        let above = self.offset;
        let hidden = body.len().saturating_sub(above + room);
        let lines = head.into_iter().chain(body.into_iter().skip(above).take(room));
        for (row, line) in lines.enumerate() {
            line.render(Rect { y: area.y + row as u16, height: 1, ..area }, buffer);
        }
        if foot == 1 {
            let foot = Rect { y: area.bottom() - 1, height: 1, ..area };
            for line in self.foot(above, hidden, area.width).into_iter().take(1) {
                line.render(foot, buffer);
            }
        }
    }

    fn foot(&self, above: usize, hidden: usize, width: u16) -> Vec<Line<'static>> {
        let ink = |text: String| Line::from(self.palette.span(Ink::Label, text));
        let more = match (above, hidden) {
            (0, 0) => String::new(),
            (0, _) => format!("{hidden} lines below"),
            (_, 0) => format!("{above} lines above"),
            (_, _) => format!("{above} lines above, {hidden} below"),
        };
        let keys = if above + hidden > 0 { "q quit   ↑ ↓ scroll" } else { "q quit" };
        justified(ink(keys.to_owned()), ink(more), width)
    }
}
