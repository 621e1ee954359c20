//! "Did you mean ...?": the nearest of the names that would have been right.

use std::fmt;

/// A name that is none of those allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotOneOf {
    /// What was given.
    pub found: String,
    /// What would have been right.
    pub allowed: Vec<&'static str>,
}

impl NotOneOf {
    /// Finds the item of `items` whose name is `name`.
    pub fn find<T: Copy>(
        name: &str,
        items: impl IntoIterator<Item = T>,
        name_of: impl Fn(T) -> &'static str,
    ) -> Result<T, Self> {
        let mut allowed = Vec::new();
        for item in items {
            if name_of(item) == name {
                return Ok(item);
            }
            allowed.push(name_of(item));
        }
        Err(Self { found: name.to_owned(), allowed })
    }
}

impl fmt::Display for NotOneOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not one of {}", self.found, self.allowed.join(", "))?;
        if let Some(meant) = nearest(&self.found, self.allowed.iter().copied()) {
            write!(f, "; did you mean `{meant}`?")?;
        }
        Ok(())
    }
}

impl std::error::Error for NotOneOf {}

/// The one of `allowed` that looks most like `found`, if any looks like it at all.
///
/// Ties go to the first, so that messages are the same on every run.
pub fn nearest<'a>(found: &str, allowed: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Below this, Jaro-Winkler pairs up words that no typing error connects.
    const ALIKE: f64 = 0.8;
    const ONE_SLIP: f64 = 0.9;
    let mut best = (ALIKE, None);
    for name in allowed {
        let found = found.to_lowercase();
        // In short words, Jaro-Winkler misses two letters that changed places.
        let one_slip = found.len() > 1 && strsim::damerau_levenshtein(&found, name) == 1;
        let likeness = strsim::jaro_winkler(&found, name).max(if one_slip { ONE_SLIP } else { 0.0 });
        if likeness > best.0 {
            best = (likeness, Some(name));
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested() {
        let keys = ["clocks", "staleness", "shards", "evaluate_every"];
        for (found, meant) in [
            ("cloks", Some("clocks")),
            ("clock", Some("clocks")),
            ("Shards", Some("shards")),
            ("evaluate-every", Some("evaluate_every")),
            ("shrads", Some("shards")),
            ("banana", None),
            ("", None),
        ] {
            assert_eq!(nearest(found, keys), meant, "{found}");
        }
        assert_eq!(nearest("bps", ["asp", "bsp"]), Some("bsp"));
    }
}
