//! The settings of a job as two regions tell them to each other when their digests differ, so that either can say what has to be
//! put right.
//!
//! Whose digests agree never send them. They are lines `key = value`, ascending by key; a peer's may be anything, and are shown
//! escaped and cut short.
//!
//! Kind: time-free.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use bytes::Bytes;
use datacenter::printable;

/// A frame of settings has at most so many bytes; a longer one is cut at the end of a line.
pub const MAX_JOB_SETTINGS_BYTES: usize = 64 * 1024;

/// So many differences are named, and the others counted.
const MOST_NAMED: usize = 4;
/// So many characters are shown of a key, and of a value.
const MOST_SHOWN: usize = 48;

/// JobSettings by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobSettings(BTreeMap<String, String>);

impl FromIterator<(String, String)> for JobSettings {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(settings: T) -> Self {
        Self(settings.into_iter().collect())
    }
}

impl JobSettings {
    /// As a frame. Of lines that are too many the last are left out.
    pub fn encode(&self) -> Bytes {
        let mut text = String::new();
        for (key, value) in &self.0 {
            let line = format!("{} = {}\n", printable::line(key), printable::line(value));
            if text.len() + line.len() > MAX_JOB_SETTINGS_BYTES {
                break;
            }
            text += &line;
        }
        text.into()
    }

    /// What a peer has sent; lines that say nothing are passed over.
    pub fn decode(frame: &[u8]) -> Self {
        let text = String::from_utf8_lossy(frame);
        let settings = text.lines().filter_map(|line| line.split_once(" = "));
        settings.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    /// What differs between these, which are those of region `here`, and those of region `there`, in words that mean the same on
    /// either side; none where nothing does that is said here.
    pub fn differences(&self, here: &str, theirs: &Self, there: &str) -> Option<String> {
        if self.0.is_empty() || theirs.0.is_empty() {
            return None;
        }
        let keys: BTreeSet<_> = self.0.keys().chain(theirs.0.keys()).collect();
        let differing = keys.into_iter().filter(|key| self.0.get(*key) != theirs.0.get(*key));
        let (mut text, mut count) = (String::new(), 0);
        for key in differing {
            count += 1;
            if count <= MOST_NAMED {
                let of = |settings: &Self| settings.0.get(key).map_or("nothing".into(), |value| shown(value));
                let comma = if count > 1 { "; " } else { "" };
                let (key, ours, theirs) = (shown(key), of(self), of(theirs));
                // A string takes whatever is written to it.
                let _ = write!(text, "{comma}{key} is {theirs} in {there}, {ours} in {here}");
            }
        }
        if count > MOST_NAMED {
            let _ = write!(text, "; and {} more", count - MOST_NAMED);
        }
        (count > 0).then_some(text)
    }
}

/// Somebody else's words, as they may stand in a log.
fn shown(text: &str) -> String {
    let text = printable::line(text);
    let mut shown: String = text.chars().take(MOST_SHOWN).collect();
    if text.chars().nth(MOST_SHOWN).is_some() {
        shown += "...";
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> JobSettings {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_differs_is_named_with_both_values() {
        let ours = settings(&[("job.clocks", "20"), ("job.name", "digits"), ("seed", "1")]);
        let theirs = settings(&[("job.clocks", "21"), ("job.name", "digits"), ("job.new", "a = b")]);
        let told = JobSettings::decode(&theirs.encode());
        assert_eq!(told, theirs);
        let expected = "job.clocks is 21 in oslo, 20 in rome; job.new is a = b in oslo, nothing in rome; seed is nothing in \
                        oslo, 1 in rome";
        assert_eq!(ours.differences("rome", &told, "oslo").as_deref(), Some(expected));
        assert_eq!(ours.differences("rome", &ours, "oslo"), None);
        assert_eq!(ours.differences("rome", &JobSettings::default(), "oslo"), None, "it said nothing");
    }

    #[test]
    fn whatever_a_peer_says_is_short_and_harmless() {
        let ours = settings(&[("job.name", "digits")]);
        let hostile: String =
            (0..9).map(|n| format!("\u{1b}[31m{n}{} = \u{1b}]0;x\u{7}\n", "k".repeat(500))).collect();
        let said = ours
            .differences("rome", &JobSettings::decode(hostile.as_bytes()), "oslo")
            .expect("all of it differs");
        assert!(said.len() < 1000 && said.ends_with("; and 6 more"), "{said}");
        assert!(!said.contains(printable::is_hidden), "{said}");
        let turned = "job.name = safe\u{202e}gpj.exe\u{200b}\n";
        let said =
            ours.differences("rome", &JobSettings::decode(turned.as_bytes()), "oslo").expect("it differs");
        assert!(said.contains("safe\\u{202e}gpj.exe\\u{200b} in oslo"), "{said}");
        // Nor do our own data's words begin a line of the frame.
        let forged = settings(&[("job.name", "digits\njob.clocks = 9\u{2028}")]).encode();
        assert_eq!(JobSettings::decode(&forged).0.len(), 1);
        // Not even text.
        assert_eq!(ours.differences("rome", &JobSettings::decode(&[0xff; 100]), "oslo"), None);
        let long: JobSettings = (0..10_000).map(|n| (format!("{n:05}"), "x".repeat(50))).collect();
        assert!(long.encode().len() <= MAX_JOB_SETTINGS_BYTES && long.encode().ends_with(b"x\n"));
    }
}
