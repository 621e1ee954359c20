//! Text that others have written, as it may be logged and shown.
//!
//! A certificate's name, the reason for which a peer hangs up, the name of an object in a store:
//! all of it is chosen by somebody else. Written raw, a line break in it begins a line of the log
//! that nobody has logged, an escape sequence moves the cursor of whoever reads it, and a
//! bidirectional override shows one name as another. So such text is [escaped to one line](line())
//! where it enters; and what is written to logs and terminals is [escaped once more](lines()), as
//! it may have come by a way that nobody thought of. Escaping twice changes nothing.
//!
//! Kind: time-free.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// Characters of a text from outside that are kept: more than any reason of ours has.
pub const MAX_CHARACTERS: usize = 1000;

/// Whether a character is shown as something else than itself, or changes how others are shown.
pub fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}'
            // Of no width, and directions of writing.
            | '\u{200b}'..='\u{200f}'
            // Separators of lines and paragraphs; embeddings and overrides of direction.
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            // Tags: a whole alphabet that is not seen.
            | '\u{e0000}'..='\u{e007f}')
}

/// What somebody else has written, as one line of at most [`MAX_CHARACTERS`].
pub fn line(text: &str) -> Cow<'_, str> {
    // Nothing gets shorter: what is behind so many characters is not looked at.
    let end = text.char_indices().nth(MAX_CHARACTERS).map_or(text.len(), |(end, _)| end);
    let kept = escaped(&text[..end], is_hidden);
    if end == text.len() && kept.chars().count() <= MAX_CHARACTERS {
        return kept;
    }
    Cow::Owned(kept.chars().take(MAX_CHARACTERS - 1).chain(['…']).collect())
}

/// The same of text that is ours already.
pub fn line_of(text: String) -> String {
    match line(&text) {
        Cow::Borrowed(kept) if kept.len() == text.len() => text,
        changed => changed.into_owned(),
    }
}

/// What we have written, as it may be shown: lines stay lines, and whatever it quotes does no harm.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |character| is_hidden(character) && character != '\n' && character != '\t')
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_escaped(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// Writes on what it is given, escaped to one line.
#[derive(Debug)]
pub struct Escaping<W>(pub W);

impl<W: Write> Write for Escaping<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write_str(&escaped(text, is_hidden))
    }
}

/// JSON with every such character inside its strings as JSON escapes it. JSON itself asks that of
/// few of them.
pub fn json(text: &str) -> Cow<'_, str> {
    // Outside of strings there is only white space of these.
    let is_escaped = |character| is_hidden(character) && !matches!(character, '\n' | '\r' | '\t');
    if !text.contains(is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_escaped(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_is_written_out() {
        for (text, expected) in [
            ("virginia server 0", "virginia server 0"),
            ("Zürich, 東京, \"quoted\" \\ back", "Zürich, 東京, \"quoted\" \\ back"),
            ("a\nvirginia INFO forged\r\n", "a\\nvirginia INFO forged\\r\\n"),
            ("\u{1b}[31mred\u{1b}[0m\u{7}", "\\u{1b}[31mred\\u{1b}[0m\\u{7}"),
            // The same escape sequence as one character of C1, and DEL.
            ("\u{9b}2J\u{7f}", "\\u{9b}2J\\u{7f}"),
            ("safe\u{202e}gpj.exe\u{2066}", "safe\\u{202e}gpj.exe\\u{2066}"),
            ("a\u{2028}b\u{200b}c\u{feff}", "a\\u{2028}b\\u{200b}c\\u{feff}"),
        ] {
            assert_eq!(line(text), expected);
            assert_eq!(line(&line(text)), expected, "escaped twice");
            assert_eq!(line_of(text.to_owned()), expected);
            let mut written = String::new();
            write!(Escaping(&mut written), "{text}").unwrap();
            assert_eq!(written, expected);
        }
        assert_eq!(lines("one\n\ttwo\u{1b}c\rthree"), "one\n\ttwo\\u{1b}c\\rthree");
    }

    #[test]
    fn it_ends_somewhere() {
        let long = "é".repeat(MAX_CHARACTERS + 1);
        assert_eq!(line(&long), "é".repeat(MAX_CHARACTERS - 1) + "…");
        assert_eq!(line(&long[2..]), &long[2..]);
        for long in [long, "\u{1b}".repeat(1 << 20), "\u{1b}".repeat(MAX_CHARACTERS)] {
            let kept = line(&long).into_owned();
            assert_eq!(kept.chars().count(), MAX_CHARACTERS);
            assert_eq!(line(&kept), kept, "cut twice");
        }
    }

    #[test]
    fn json_stays_the_same_json() {
        assert_eq!(
            json("{\"a\":\"\u{9b}x\u{202e}\u{e0041}\\n\"}\n"),
            "{\"a\":\"\\u009bx\\u202e\\udb40\\udc41\\n\"}\n"
        );
    }
}
