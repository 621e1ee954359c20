//! Files of links between real processes.

use std::time::Duration;

use wan::relay::Direction;

use super::*;

const FILE: &str = r#"
[link]
rate = "8 Mbit/s"
loss = "1 %"
[[links]]
name = "near"
between = ["here", "there"]
one_way_delay = "10 ms"
routes = [
    { listen = "127.0.0.1:9001", target = "there-0:7200" },
    { listen = "[::1]:9001", target = "[::1]:7200", from = "there" },
]
[[links]]
name = "far"
between = ["here", "far-away"]
rate = "16 Mbit/s"
backward = { rate = "4 Mbit/s", one_way_delay = "1 s", queue = "0.5 bdp" }
forward = { one_way_delay = "3 s" }
"#;

fn load_with(text: &str, overrides: &Overrides) -> Result<LinkFile, String> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.toml");
    fs::write(&path, text).expect("a file");
    let prefix = format!("{}/", directory.path().display());
    load_link_file(&path, overrides).map_err(|error| error.to_string().replace(&prefix, ""))
}

#[test]
fn the_shipped_file_has_the_links_of_its_simulation() {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    let load = |path: &str| configs.join(path);
    let file = load_link_file(&load("links/three-regions.toml"), &Overrides::default());
    let file = file.unwrap_or_else(|error| panic!("{error}"));
    let simulation = load_simulation(&load("simulations/three-regions.toml"), &Overrides::default());
    let simulation = simulation.unwrap_or_else(|error| panic!("{error}"));
    let mut pairs = 0;
    for link in &file.links {
        let [one, other] = link.ends.each_ref().map(|end| {
            let found = simulation.regions.iter().position(|region| region.name == *end);
            found.unwrap_or_else(|| panic!("{end} is no region"))
        });
        assert_eq!(&link.forward, simulation.links.get(one, other));
        assert_eq!(&link.backward, simulation.links.get(other, one));
        assert!(!link.routes.is_empty());
        pairs += 2;
    }
    assert_eq!(pairs, simulation.links.iter().count());
}

#[test]
fn a_direction_goes_over_its_link_and_that_over_all() {
    let file = load_with(FILE, &overrides(&[], &[("links.far.loss", "2 %")])).expect("it is right");
    assert_eq!(file.seed, 1);
    let [near, far] = file.links.as_slice() else { panic!("{file:?}") };
    assert_eq!(near.forward, near.backward);
    assert_eq!((near.forward.loss, far.forward.loss), (0.01, 0.02));
    assert_eq!((far.forward.rate_bytes_per_sec, far.backward.rate_bytes_per_sec), (2_000_000, 500_000));
    assert_eq!(far.forward.one_way_delay, Duration::from_secs(3));
    // The round trip takes 4 s.
    assert_eq!((far.forward.queue_bytes, far.backward.queue_bytes), (8_000_000, 1_000_000));
    let routes: Vec<_> = near.routes.iter().map(|route| (route.listen.is_ipv6(), route.direction)).collect();
    assert_eq!(routes, [(false, Direction::Forward), (true, Direction::Backward)]);
    assert_eq!(near.routes[0].target, "there-0:7200");
}

#[test]
fn what_is_wrong_is_named() {
    for (from, to, expected) in [
        ("[[links]]\nname = \"near\"", "[[links]]", "links[0].name: missing; allowed: a name of lower-case"),
        (
            "name = \"far\"",
            "name = \"near\"",
            "links[1].name: found \"near\" a second time; allowed: a name that no other link has",
        ),
        ("\"there\"]", "\"here\"]", "links.near.between: found \"here\" twice; allowed: two regions"),
        ("\"here\", \"there\"", "\"here\"", "links.near.between: found 1 names; allowed: the names of two"),
        ("rate = \"8 Mbit/s\"\n", "", "links.near.rate: missing; allowed: said here, in [link], or in both"),
        ("forward = {", "forwards = {", "links.far.forwards: unknown key; did you mean `forward`?"),
        ("one_way_delay = \"3 s\"", "delay = \"3 s\"", "links.far.forward.delay: unknown key"),
        (
            "\"127.0.0.1:9001\"",
            "\"localhost:9001\"",
            "links.near.routes[0].listen: found \"localhost:9001\"; allowed: an IP address and a port",
        ),
        (
            "[::1]:9001",
            "127.0.0.1:9001",
            "links.near.routes[1].listen: found \"127.0.0.1:9001\" a second time",
        ),
        ("there-0:7200", "there-0", "routes[0].target: found \"there-0\"; allowed: a host and a port"),
        ("there-0:7200", "there-0:0", "routes[0].target: found \"there-0:0\"; allowed: a host and a port"),
        ("there-0:7200", "127.0.0.1:9001", "routes[0].target: is the address that the route listens on"),
        (
            "from = \"there\"",
            "from = \"ther\"",
            "routes[1].from: found \"ther\"; allowed: \"here\" or \"there\", as in between",
        ),
        ("loss = \"1 %\"", "loss = 2", "link.loss: found 2; allowed: a probability"),
        (
            "loss = \"1 %\"",
            "outages = [{ start = \"1s\", length = \"5s\" }, { start = \"2s\", length = \"1s\" }]",
            "outages: the outage at 2s begins before an earlier one has ended",
        ),
    ] {
        let text = FILE.replacen(from, to, 1);
        assert_ne!(text, FILE, "{from}");
        let error = load_with(&text, &Overrides::default()).expect_err(expected);
        assert!(error.contains(expected), "{error}\nis not {expected}");
        // A key that is mistyped is missing too.
        assert!(error.lines().count() <= 3, "{error}");
    }
    for (text, expected) in [
        ("seed = 1", "links: missing; allowed: at least one [[links]] table"),
        ("links = 3", "links: found 3; allowed: an array of tables"),
    ] {
        let error = load_with(text, &Overrides::default()).expect_err(expected);
        assert!(error.contains(expected), "{error}");
    }
    let unrouted = &FILE[..FILE.find("routes").expect("routes")];
    let error = load_with(unrouted, &Overrides::default()).expect_err("nobody can dial");
    assert!(error.ends_with("links: found 0 routes in all; allowed: 1 to 4096"), "{error}");
}
