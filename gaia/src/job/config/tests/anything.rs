//! Whatever a file says, reading it ends with settings or problems.

use proptest::prelude::*;

use super::*;

/// TOML texts that are mostly well-formed and mostly wrong.
fn any_toml() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        Just("name"),
        Just("seed"),
        Just("regions"),
        Just("link"),
        Just("links"),
        Just("job"),
        Just("job.asp"),
        Just("job.data"),
        Just("job.model"),
        Just("job.asp.tables"),
        Just("job.target"),
        Just("compute"),
        Just("strategies"),
        Just("lan.rate"),
        Just("link.outages"),
        Just("\"odd[77777777777]\""),
        Just("x-y"),
        Just("datacenter"),
        Just("servers"),
        Just("servers.count"),
        Just("servers.addresses"),
        Just("wan.listen"),
        Just("peers"),
        Just("peers.there"),
        Just("peers.there.servers"),
        Just("admin.workers"),
        Just("tls.key"),
        Just("checkpoint"),
        Just("checkpoint.location"),
        Just("checkpoint.every"),
    ];
    let leaf = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| format!("{number:?}").to_lowercase()),
        any::<bool>().prop_map(|flag| flag.to_string()),
        "[ -~]{0,12}".prop_map(|text| format!("{text:?}")),
        Just("\"1 %\"".to_owned()),
        Just("\"a-{index}:1\"".to_owned()),
        Just("[\"a:1\", [\"[::1]:2\"]]".to_owned()),
        Just("{ kind = \"softmax\", format = \"idx\", name = \"a\" }".to_owned()),
    ];
    let value = leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
            ("[a-z_]{1,8}", inner).prop_map(|(key, value)| format!("{{ {key} = {value} }}")),
        ]
    });
    prop::collection::vec((key, value), 0..6)
        .prop_map(|lines| lines.into_iter().map(|(key, value)| format!("{key} = {value}\n")).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_file_makes_the_loader_panic(text in prop_oneof![any_toml(), "(?s).{0,200}"], key in "[a-z.\\[\\]0-9]{0,12}", value in ".{0,12}") {
        let _ = load_with(&text, &overrides(&[], &[(&key, &value), ("regions.0.workers", &value), ("job.asp", &value)]));
    }

    #[test]
    fn no_region_file_makes_the_loader_panic(text in any_toml(), job in any_toml(), value in ".{0,12}") {
        use region_files::{JOB, REGION, load_files};
        let keys = ["peers.there.servers", "peers.there", "servers.addresses", "servers.count", "job.regions"];
        let flags = keys.map(|key| (key, value.as_str()));
        let _ = load_files(&text, &job, &overrides(&[], &flags));
        let _ = load_files(REGION, &job, &overrides(&[], &flags[..2]));
        let _ = load_files(&text, JOB, &Overrides::default());
    }

    #[test]
    fn a_right_file_with_a_wrong_line_has_problems(key in "[a-z_]{3,12}", value in any::<i64>()) {
        prop_assume!(!["seed"].contains(&key.as_str()));
        let text = format!("{key} = {value}\n{SMALLEST}");
        prop_assert!(load(&text).is_err());
    }
}
