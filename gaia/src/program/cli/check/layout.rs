//! How findings are laid out.
//!
//! Kind: time-free.

use crate::service::preflight::Finding;

/// Where lines end; what an operator reads goes into tickets and mails.
const WIDTH: usize = 80;
const VERDICT: usize = 7;
/// Subjects are at least this wide, so that most files look alike.
const SUBJECT: usize = 9;

/// `findings` under the name of their `file`.
pub(super) fn shown(file: &str, findings: &[Finding]) -> String {
    let width =
        findings.iter().map(|finding| finding.subject.chars().count()).max().unwrap_or(0).max(SUBJECT);
    let indent = 2 + VERDICT + 1 + width + 1;
    let mut text = format!("{file}\n");
    for Finding { subject, found } in findings {
        let (verdict, message) = match found {
            Ok(message) => ("ok", message),
            Err(message) => ("failed", message),
        };
        let mut start = format!("  {verdict:<VERDICT$} {subject:<width$} ");
        for line in wrapped(message, WIDTH.saturating_sub(indent).max(WIDTH / 2)) {
            text.push_str(&format!("{start}{line}\n"));
            start = " ".repeat(indent);
        }
    }
    text
}

/// Breaks a message between words; one that is longer than a line stands alone.
fn wrapped(message: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in message.split_whitespace() {
        let line = lines.last_mut().expect("there is one");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_aligned_within_80_columns() {
        let findings = [
            Finding::ok("settings", "digits: 100 clocks of asp"),
            Finding::failed(
                "virginia-server-0",
                "certs/virginia-server-0.pem is missing; `gaia certs issue` makes virginia-server-0.pem and .key for \
                 virginia.server.gaia",
            ),
        ];
        let expected = "\
x.toml
  ok      settings          digits: 100 clocks of asp
  failed  virginia-server-0 certs/virginia-server-0.pem is missing; `gaia certs
                            issue` makes virginia-server-0.pem and .key for
                            virginia.server.gaia
";
        assert_eq!(shown("x.toml", &findings), expected);
        let long = "x".repeat(200);
        assert!(shown("x.toml", &[Finding::ok("a", &long)]).contains(&long));
    }
}
