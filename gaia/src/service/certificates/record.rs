//! What an authority has issued and revoked: `issued.json`.
//!
//! Kind: time-free.
//!
//! A certificate file is overwritten when it is renewed, but what was in it stays valid until its
//! end. To revoke all that a process ever had, somebody must remember their serial numbers.

use std::str::FromStr;

use datacenter::identity::Date;
use serde::{Deserialize, Serialize};

use super::ProcessName;

/// Everything that one authority has done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The number of the newest revocation list.
    pub(super) list_number: u64,
    pub(super) certificates: Vec<Entry>,
}

/// One certificate. Dates are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) serial: String,
    pub(super) not_after: i64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) revoked: Option<i64>,
}

impl Record {
    /// What is revoked, since when. Also what has expired since then: a list may only grow, and
    /// stays short.
    pub(super) fn revoked(&self) -> Vec<(String, Date)> {
        let since = |entry: &Entry| Some((entry.serial.clone(), Date(entry.revoked?)));
        self.certificates.iter().filter_map(since).collect()
    }

    /// Revokes all certificates of that name or serial number. Answers the serial numbers that are
    /// now revoked and were not before, or nothing if none is known by that name.
    pub(super) fn revoke(&mut self, name_or_serial: &str, now: Date) -> Option<Vec<String>> {
        let is_it = |entry: &&mut Entry| entry.name == name_or_serial || entry.serial == name_or_serial;
        let mut known = self.certificates.iter_mut().filter(is_it).peekable();
        known.peek()?;
        let mut revoked = Vec::new();
        for entry in known.filter(|entry| entry.revoked.is_none() && entry.not_after > now.0) {
            entry.revoked = Some(now.0);
            revoked.push(entry.serial.clone());
        }
        Some(revoked)
    }

    /// The last that was issued to a process.
    pub(super) fn newest(&self, process: &ProcessName) -> Option<&Entry> {
        let name = process.to_string();
        self.certificates.iter().rfind(|entry| entry.name == name)
    }

    /// The processes that something was issued to, each once, in order of their names.
    pub(super) fn processes(&self) -> Vec<ProcessName> {
        let names = self.certificates.iter().filter_map(|entry| ProcessName::from_str(&entry.name).ok());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names.dedup();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_of_a_name_is_revoked_once() {
        let entry = |name: &str, serial: &str, not_after| Entry {
            name: name.into(),
            serial: serial.into(),
            not_after,
            revoked: None,
        };
        let certificates = vec![
            entry("virginia-server-0", "4a", 100),
            entry("virginia-server-0", "4b", 300),
            entry("virginia-server-0", "4c", 400),
            entry("virginia-worker-0", "4d", 400),
        ];
        let mut record = Record { list_number: 1, certificates };
        assert_eq!(record.revoke("virginia-server-1", Date(200)), None);
        assert_eq!(record.revoke("virginia-server-0", Date(200)), Some(vec!["4b".into(), "4c".into()]));
        assert_eq!(record.revoke("virginia-server-0", Date(201)), Some(vec![]));
        assert_eq!(record.revoke("4d", Date(202)), Some(vec!["4d".into()]));
        let since: Vec<_> = record.revoked().iter().map(|(_, since)| since.0).collect();
        assert_eq!(since, [200, 200, 202]);
        let names: Vec<_> = record.processes().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["virginia-server-0", "virginia-worker-0"]);
    }
}
