//! Links between regions.

use std::time::Duration;

use super::*;

#[test]
fn links_are_defaults_and_then_what_differs() {
    let links = load(&format!("{SMALLEST}{TRIANGLE}")).expect("it is right").links;
    let (here, there, far) = (0, 1, 2);
    assert_eq!(links.get(here, there), links.get(there, here));
    assert_eq!(links.get(here, there).rate_bytes_per_sec, 1_000_000);
    assert_eq!(links.get(here, there).loss, 0.01);
    // 1 MB/s x 20 ms is less than the least default.
    assert_eq!(links.get(here, there).queue_bytes, 200_000);
    assert_eq!(links.get(there, far).queue_bytes, 4_000_000);
    assert_eq!(links.get(far, there).outages.len(), 1);
    assert_eq!(links.get(here, far).rate_bytes_per_sec, 2_000_000);
    assert_eq!(links.get(here, far).one_way_delay, Duration::from_millis(300));
    assert_eq!(links.get(far, here).rate_bytes_per_sec, 1_000_000);
    assert_eq!(links.get(far, here).one_way_delay, Duration::from_millis(100));
    assert_eq!(links.get(far, here).queue_bytes, 65_536);
}

#[test]
fn links_must_be_complete_and_between_regions() {
    let text = format!("{SMALLEST}{TRIANGLE}");
    for (from, to, expected) in [
        (
            "\"there\", \"far-away\"",
            "\"there\", \"far-awy\"",
            "links[1].between: found \"far-awy\", which is no region; did you mean \"far-away\"?",
        ),
        (
            "\"there\", \"far-away\"",
            "\"there\"",
            "links[1].between: found 1 names; allowed: the names of two regions",
        ),
        (
            "\"there\", \"far-away\"",
            "\"there\", \"there\"",
            "links[1].between: found \"there\" twice; allowed: two regions",
        ),
        (
            "from = \"here\"\n",
            "",
            "links[3].from: missing; allowed: a name of lower-case letters, digits and hyphens, at most 63",
        ),
        (
            "from = \"here\"\nto = \"far-away\"\n",
            "",
            "links[3].between: allowed: either between = [\"a\", \"b\"] (both ways) or from and to (one way)",
        ),
        (
            "rate = \"8 Mbit/s\"\n",
            "",
            "links: here -> there has no rate, there -> here has no rate, there -> far-away has no rate, far-away -> here has no rate and 1 more; allowed: every link has both, from [link] or from [[links]]",
        ),
        (
            "one_way_delay = \"10 ms\"\n",
            "",
            "links: here -> there has no one_way_delay, there -> here has no one_way_delay; allowed: every link has both, from [link] or from [[links]]",
        ),
    ] {
        let found = problems(&text.replacen(from, to, 1));
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].ends_with(expected), "{}\nis not {expected}", found[0]);
    }
}
