//! Blocks of a document that a command has printed.
//!
//! A comment names the command, and what it printed follows, fenced or as a table:
//!
//! ```text
//! <!-- from: gaia compare configs/simulations/three-regions.toml -->
//! <!-- slowly from: sweep configs/simulations/two-regions-thin.toml --vary seed=1,2,3 -->
//! <!-- from: sweep configs/simulations/mnist-softmax.toml --data-path DATA/mnist -->
//! ```
//!
//! The first word is the program; `DATA` stands for a directory with the public data sets; `slowly`
//! is said of what takes more than seconds.

use std::ops::Range;

/// A block that a command has printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// Of the comment, counted from one.
    pub line: usize,
    pub is_slow: bool,
    pub command: String,
    /// What it printed, each line with its end.
    pub text: String,
    /// Where `text` is in the document.
    span: Range<usize>,
}

/// The blocks of a document, in their order.
///
/// # Errors
///
/// If a comment is followed by neither a fence nor a table, with the line.
pub(crate) fn blocks(document: &str) -> Result<Vec<Block>, String> {
    let mut starts = vec![0];
    starts.extend(document.match_indices('\n').map(|(at, _)| at + 1));
    let lines: Vec<&str> = document.lines().collect();
    let mut blocks = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some((is_slow, command)) = command(line) else { continue };
        let Some(skipped) = lines[at + 1..].iter().position(|line| !line.is_empty()) else {
            return Err(format!("line {}: nothing follows", at + 1));
        };
        let next = at + 1 + skipped;
        let (first, is_inside): (usize, fn(&str) -> bool) = match lines[next] {
            fence if fence.starts_with("```") => (next + 1, |line| !line.starts_with("```")),
            row if row.starts_with('|') => (next, |line| line.starts_with('|')),
            other => return Err(format!("line {}: neither a fence nor a table: {other}", next + 1)),
        };
        let count = lines[first..].iter().take_while(|line| is_inside(line)).count();
        let span = starts[first]..starts.get(first + count).copied().unwrap_or(document.len());
        let text = document[span.clone()].to_owned();
        blocks.push(Block { line: at + 1, is_slow, command: command.to_owned(), text, span });
    }
    Ok(blocks)
}

/// The command that a comment names, and whether it is slow.
fn command(line: &str) -> Option<(bool, &str)> {
    let inner = line.strip_prefix("<!-- ")?.strip_suffix(" -->")?;
    match inner.strip_prefix("slowly from: ") {
        Some(command) => Some((true, command)),
        None => Some((false, inner.strip_prefix("from: ")?)),
    }
}

/// The document with another text in each of these blocks, which are in their order.
pub(crate) fn replaced(document: &str, texts: &[(Block, String)]) -> String {
    let mut result = String::new();
    let mut from = 0;
    for (block, text) in texts {
        result.push_str(&document[from..block.span.start]);
        result.push_str(text);
        from = block.span.end;
    }
    result + &document[from..]
}
