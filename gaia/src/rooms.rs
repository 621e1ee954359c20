//! The walls between the rooms of this crate: which of them may know of which. docs/ARCHITECTURE.md
//! draws the same arrows.

use std::fs;
use std::path::{Path, PathBuf};

/// Each room, which is a folder or a file of `src`, with those that it may name.
const ROOMS: [(&str, &[&str]); 9] = [
    ("human", &[]),
    ("seeds", &[]),
    ("filters", &[]),
    ("settings", &["human"]),
    ("learning", &["settings", "human"]),
    ("job", &["learning", "settings", "human"]),
    ("simulator", &["job", "learning", "settings", "filters", "human", "seeds"]),
    ("service", &["job", "learning", "settings", "filters", "human", "seeds"]),
    ("program", &["service", "simulator", "job", "learning", "settings", "filters", "human", "seeds"]),
];

fn sources(of: &Path) -> Vec<PathBuf> {
    if of.is_file() {
        return vec![of.to_owned()];
    }
    let entries = fs::read_dir(of).expect("a folder of this crate");
    let mut all: Vec<_> = entries.flat_map(|entry| sources(&entry.expect("an entry").path())).collect();
    all.sort();
    all
}

/// The names behind `crate::` in a line of code.
fn named(line: &str) -> impl Iterator<Item = &str> {
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    line.split("crate::").skip(1).map(move |rest| rest.split(|c| !is_name(c)).next().unwrap_or_default())
}

#[test]
fn rooms_know_of_others_only_what_they_may() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut seen = 0;
    for path in sources(&source) {
        let inside = path.strip_prefix(&source).expect("it is in there");
        let first = inside.components().next().expect("a name").as_os_str().to_string_lossy();
        let room = first.trim_end_matches(".rs");
        // Tests may look over walls; the rest of the crate's own root puts rooms together.
        let is_test = inside.components().any(|part| part.as_os_str().to_string_lossy().starts_with("tests"));
        if is_test || ["lib", "main", "rooms"].contains(&room) {
            continue;
        }
        let (_, known) = ROOMS.iter().find(|(name, _)| *name == room).expect("every folder is a room");
        let text = fs::read_to_string(&path).expect("text");
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for name in named(line).filter(|name| ROOMS.iter().any(|(room, _)| room == name)) {
                seen += 1;
                let is_allowed = name == room || known.contains(&name);
                assert!(is_allowed, "{}: {room} must not know of {name}: {}", inside.display(), line.trim());
            }
        }
    }
    assert!(seen > 300, "{seen} names were looked at");
}

#[test]
fn who_learns_knows_nothing_of_networks() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/learning");
    for path in sources(&source) {
        let text = fs::read_to_string(&path).expect("text");
        // The store of objects has an asynchronous client, which reading from it has to wait for.
        let is_store = path.ends_with("data/store.rs") || path.ends_with("store/tests.rs");
        for word in ["tokio::", "quinn::", "async fn", "wan::driver", "wan::transport"] {
            assert!(is_store || !text.contains(word), "{} has {word}", path.display());
        }
    }
}
