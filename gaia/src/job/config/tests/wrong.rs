//! What is wrong, with its place and what is allowed.

use super::*;

#[test]
fn everything_wrong_is_reported_at_once_with_its_line() {
    let text = SMALLEST
        .replace("clocks = 3", "cloks = 3\nshards = 0\nstaleness = \"lots\"")
        .replace("examples_per_second = 10", "examples_per_second = \"10\"\noverhead = 5")
        .replace("batch = 4", "batch = 4.5");
    assert_eq!(
        problems(&text),
        [
            r#"x.toml:6: compute.examples_per_second: found "10"; allowed: a number from 0.001 to 1000000000000"#,
            "x.toml:7: compute.overhead: found 5; allowed: a duration such as \"80ms\" or \"1.5 s\" (ns, us, ms, s, min, h); did you mean \"5ms\"?",
            "x.toml:9: job.clocks: missing; allowed: a whole number from 1 to 1000000",
            "x.toml:11: job.staleness: found \"lots\"; allowed: a whole number, at least 0, or \"async\"",
            "x.toml:10: job.shards: found 0; allowed: a whole number from 1 to 1024",
            "x.toml:18: job.model.batch: found 4.5; allowed: a whole number from 1 to 10000000",
            "x.toml:9: job.cloks: unknown key; did you mean `clocks`?",
        ]
    );
}

#[test]
fn one_wrong_value_gives_one_problem() {
    let with = |line: &str| format!("{line}\n{SMALLEST}");
    let in_job = |line: &str| SMALLEST.replace("clocks = 3", &format!("clocks = 3\n{line}"));
    let in_data = |line: &str| SMALLEST.replace("format = \"csv\"", line);
    let in_asp = |line: &str| SMALLEST.replace("[job.data]", &format!("[job.asp]\n{line}\n[job.data]"));
    let perceptron = |line: &str| SMALLEST.replace("kind = \"softmax\"", &format!("kind = \"mlp\"\n{line}"));
    for (text, expected) in [
        (
            in_asp("budget = \"5 Mbit\""),
            "job.asp.budget: found \"5 Mbit\"; allowed: a budget such as \"5 Mbit/s\", \"2 MB/clock\" or \"$40/day\"",
        ),
        (in_asp("budget = \"1 kbit/s\""), "job.asp.budget: found 125 B/s; allowed: at least 1000 B/s"),
        (
            in_asp("budget = \"$40/day\""),
            "job.asp.egress_price: missing beside a budget in dollars; allowed: a price such as \"$0.09/GB\"",
        ),
        (
            in_asp("budget = \"$0.1/month\"\negress_price = \"$0.09/GB\""),
            "job.asp.egress_price: makes the budget too small: found 429 B/s; allowed: at least 1000 B/s",
        ),
        (in_asp("budget_of = \"link\""), "job.asp.budget_of: is used with budget only"),
        (
            perceptron(""),
            "job.model.hidden: missing; allowed: an array; each entry: a whole number from 1 to 65536; 1 to 64 layers",
        ),
        (
            perceptron("hidden = []"),
            "job.model.hidden: found []; allowed: an array; each entry: a whole number from 1 to 65536; 1 to 64 layers",
        ),
        (
            perceptron("hidden = [32, 0]"),
            "job.model.hidden: found [32, 0]; allowed: an array; each entry: a whole number from 1 to 65536; 1 to 64 layers",
        ),
        (
            perceptron("hidden = [32]\nadagrad = true"),
            "job.model.adagrad: is used with kind = \"softmax\" or \"factorisation\" only",
        ),
        (
            perceptron("hidden = [32]\nbatches = 300_000"),
            "job.model.batches: found 300000, which makes 1200000 examples a clock; allowed: 1, or batch * batches at most 1000000",
        ),
        (
            SMALLEST.replace("\"softmax\"", "\"mpl\""),
            "job.model.kind: found \"mpl\"; allowed: one of \"softmax\", \"mlp\", \"factorisation\", \"linear\", \"logistic\", \"k-means\"; did you mean \"mlp\"?",
        ),
        (
            SMALLEST.replace("[[regions]]\nname = \"here\"", ""),
            "regions: missing; allowed: at least one [[regions]] table",
        ),
        (
            SMALLEST.replace("[[regions]]\nname = \"here\"", "regions = []"),
            "x.toml:3: regions: found 0 regions; allowed: 1 to 64",
        ),
        (
            SMALLEST.replace("[[regions]]", "[[regions]]\nname = \"here\"\n[[regions]]"),
            "x.toml:6: regions[1].name: found \"here\" a second time; allowed: a name that no other region has",
        ),
        (
            SMALLEST.replace("\"here\"", "\"here\"\nworkers = 0"),
            "x.toml:5: regions.here.workers: found 0; allowed: a whole number from 1 to 128",
        ),
        (
            SMALLEST.replace("\"here\"", "\"Here!\""),
            "x.toml:4: regions[0].name: found \"Here!\"; allowed: a name of lower-case letters, digits and hyphens, at most 63",
        ),
        (
            in_job("evaluate_every = 1").replace("clocks = 3", "clocks = 4_000_000_000"),
            "x.toml:8: job.clocks: found 4000000000; allowed: a whole number from 1 to 1000000",
        ),
        (
            in_job("shards = 65535"),
            "x.toml:9: job.shards: found 65535; allowed: a whole number from 1 to 1024",
        ),
        (
            SMALLEST.replace("batch = 4", "batch = 4_000_000_000"),
            "x.toml:15: job.model.batch: found 4000000000; allowed: a whole number from 1 to 10000000",
        ),
        (
            SMALLEST.replace("batch = 4", "batch = 4\nbatches = 4_000_000_000"),
            "x.toml:16: job.model.batches: found 4000000000, which makes 16000000000 examples a clock; allowed: 1, or batch * batches at most 1000000",
        ),
        (
            with("lan.rate = \"2 TB/s\""),
            "x.toml:1: lan.rate: found \"2 TB/s\"; allowed: a rate such as \"100 Mbit/s\" or \"2 MB/s\" (bit/s, B/s with k, M, G, T or Ki, Mi, Gi, Ti), above 0 and at most 1 TB/s",
        ),
        (
            with("link.one_way_delay = \"2 h\""),
            "x.toml:1: link.one_way_delay: found \"2 h\"; allowed: a duration such as \"80ms\" or \"1.5 s\" (ns, us, ms, s, min, h), at most 1 min",
        ),
        (with("seed = -1"), "x.toml:1: seed: found -1; allowed: a whole number, at least 0"),
        (with("seed = \"1\""), "x.toml:1: seed: found \"1\"; allowed: a whole number, at least 0"),
        (with("region = 3"), "x.toml:1: region: unknown key; did you mean `regions`?"),
        (with("\"a[9999999999]\" = 3"), "x.toml:1: \"a[9999999999]\": unknown key"),
        (with("link = 3"), "x.toml:1: link: found 3; allowed: a table"),
        (
            with("link.rate = \"100 Mbit\""),
            "x.toml:1: link.rate: found \"100 Mbit\"; allowed: a rate such as \"100 Mbit/s\" or \"2 MB/s\" (bit/s, B/s with k, M, G, T or Ki, Mi, Gi, Ti), above 0 and at most 1 TB/s, at least 1 kbit/s",
        ),
        (
            with("link.jitter = \"80\""),
            "x.toml:1: link.jitter: found \"80\"; allowed: a duration such as \"80ms\" or \"1.5 s\" (ns, us, ms, s, min, h), at most 1 h; did you mean \"80ms\"?",
        ),
        (
            with("link.queue = 1.5"),
            "x.toml:1: link.queue: found 1.5; allowed: a size such as \"2.5 MB\" or \"64 KiB\" (B with k, M, G, T or Ki, Mi, Gi, Ti), or a number of bandwidth-delay products such as \"1 bdp\"; above 0; did you mean \"1.5 bdp\"?",
        ),
        (
            with("lan.rate = 100"),
            "x.toml:1: lan.rate: found 100; allowed: a rate such as \"100 Mbit/s\" or \"2 MB/s\" (bit/s, B/s with k, M, G, T or Ki, Mi, Gi, Ti), above 0 and at most 1 TB/s; did you mean \"100 Mbit/s\"?",
        ),
        (
            with("link.loss = 1.0"),
            "x.toml:1: link.loss: found 1.0; allowed: a probability from 0 to below 1, such as 0.001 or \"0.1 %\"",
        ),
        (
            with("link.outages = [{ start = \"1s\" }]"),
            "x.toml:1: link.outages[0].length: missing; allowed: a duration such as \"80ms\" or \"1.5 s\" (ns, us, ms, s, min, h)",
        ),
        (
            with("link.outages = [{ start = \"1s\", length = \"2s\" }, { start = \"2s\", length = \"2s\" }]"),
            "x.toml:1: link.outages: the outage at 2s begins before an earlier one has ended",
        ),
        (
            with("strategies = [\"asp\", \"bps\"]"),
            "x.toml:1: strategies: found [\"asp\", \"bps\"]; allowed: an array; each entry: one of \"lan\", \"asp\", \"bsp\", \"ssp\", \"async\", \"isolated\", \"stretched\", \"asp-no-barrier\", \"asp-no-anticipation\", \"asp-no-mirror-clock\", \"asp-unguarded\"; at least one; did you mean \"bsp\"?",
        ),
        (
            with("strategies = [\"asp\", \"asp\"]"),
            "x.toml:1: strategies: names asp twice; allowed: each strategy once",
        ),
        (
            with("transport.congestion = \"Cubic\""),
            "x.toml:1: transport.congestion: found \"Cubic\"; allowed: one of \"steady\", \"cubic\", \"newreno\", \"bbr\"; did you mean \"cubic\"?",
        ),
        (
            in_job("dirichlet_alpha = 0.5"),
            "x.toml:9: job.dirichlet_alpha: is used with partition = \"dirichlet\" only",
        ),
        (
            in_job("partition = \"dirichlet\""),
            "x.toml:8: job.dirichlet_alpha: missing; allowed: a number above 0",
        ),
        (in_job("asp.factors = [1]"), "x.toml:9: job.asp.factors: is used with schedule = \"list\" only"),
        (
            in_job("asp.threshold = nan"),
            "x.toml:9: job.asp.threshold: found NaN; allowed: a number such as 0.01 or a percentage such as \"1 %\", at least 0",
        ),
        (
            in_job("max_delta = 0"),
            "x.toml:9: job.max_delta: found 0; allowed: a number above 0, or a multiple of at least 10 such as \"1000 times the usual\", or \"off\"",
        ),
        (
            in_job("tables.w.max_delta = \"5 times the usual\""),
            "x.toml:9: job.tables.w.max_delta: found \"5 times the usual\"; allowed: a number above 0, or a multiple of at least 10 such as \"1000 times the usual\", or \"off\"",
        ),
        (
            in_job("asp.tables.w.treshold = 1"),
            "x.toml:9: job.asp.tables.w.treshold: unknown key; did you mean `threshold`?",
        ),
        (
            in_job("asp.preset = \"paper\"\nasp.function = \"absolute\""),
            "x.toml:9: job.asp.preset: stands beside function; allowed: one or the other",
        ),
        (
            in_job("asp.goal = \"quality\"\nasp.threshold = 3"),
            "x.toml:9: job.asp.goal: stands beside threshold; allowed: one or the other",
        ),
        (
            in_job("asp.tables.w = { function = \"row-rms\", values = \"int8\" }"),
            "x.toml:9: job.asp.tables.w.values: found \"int8\" beside a function that bounds each element or row by itself; \
             allowed there: \"auto\", \"bf16\", \"f32\"",
        ),
        (
            in_job("asp.goal = \"fastest\""),
            "x.toml:9: job.asp.goal: found \"fastest\"; allowed: one of \"quality\", \"balanced\", \"cheapest\"",
        ),
        (
            in_job("asp.function = \"absolute\"\nasp.goal = \"cheapest\""),
            "x.toml:10: job.asp.goal: is used with function = \"usual-update\" only",
        ),
        (in_job("target.metric = \"objective\""), "x.toml:9: job.target.value: missing; allowed: a number"),
        (
            in_job("target = { within = 0.1, metric = \"objective\", value = 1 }"),
            "x.toml:9: job.target.within: stands beside metric or value; allowed: one or the other",
        ),
        (
            in_data("format = \"csv\"\nscale = \"standard\"\nscope = \"own\""),
            "x.toml:11: job.data.scale: found \"standard\" with scope = \"own\", where every region would scale by figures of its own; allowed: a number, or scope = \"shared\"",
        ),
        (
            in_data("format = \"csv\"\nlabels = [1, 2, 1]"),
            "x.toml:11: job.data.labels: found [1, 2, 1]; allowed: an array; each entry: a whole number, or a text of at most 256 bytes; 2 to 65536, each once",
        ),
        (
            in_data("format = \"csv\"\nlabels = [1, 2]\nnames = \"n.json\""),
            "x.toml:11: job.data.labels: stands beside names, which has labels too; allowed: one or the other",
        ),
        (
            in_data("format = \"csv\"\nlabel = 0"),
            "x.toml:11: job.data.label: found 0; allowed: the name of a column, or its number counted from 1, or \"last\", or \"none\"",
        ),
        (
            in_data("format = \"csv\"\nheader = \"yes\""),
            "x.toml:11: job.data.header: found \"yes\"; allowed: true or false, or \"auto\"",
        ),
        (
            in_data("format = \"csv\"\ndelimiter = \"|\""),
            "x.toml:11: job.data.delimiter: found \"|\"; allowed: one of \"auto\", \",\", \";\", \"tab\", \"blanks\", \"::\"",
        ),
        (
            in_data("format = \"movielens\"")
                .replace("clocks = 3", "clocks = 3\npartition = \"label-skewed\""),
            "x.toml:9: job.partition: found \"label-skewed\" for ratings, which have no labels; allowed: \"by-key\", which keeps the ratings of a user together, \"random\", \"contiguous\" or \"dirichlet\"",
        ),
        (
            in_data("format = \"csv\"\nids = \"hashed\""),
            "x.toml:11: job.data.ids: is used with format = \"movielens\" only",
        ),
        (
            in_data("format = \"movielens\"\nids = \"hash\"\nusers = 5"),
            "x.toml:11: job.data.ids: found \"hash\"; allowed: one of \"named\", \"hashed\"; did you mean \"hashed\"?",
        ),
        (
            in_data("format = \"movielens\"\nusers = 5"),
            "x.toml:11: job.data.users: is used with ids = \"hashed\" only",
        ),
        (
            in_data("format = \"movielens\"\nids = \"hashed\"\nusers = 0\nitems = 5\nrange = [1, 5]"),
            "x.toml:12: job.data.users: found 0; allowed: a whole number from 1 to 10000000",
        ),
        (
            in_data("format = \"movielens\"\nids = \"hashed\"\nusers = 5\nitems = 5\nrange = [5, 1]"),
            "x.toml:14: job.data.range: found [5, 1]; allowed: an array; each entry: a number from -1000000000 to 1000000000; two: the lowest and the highest rating",
        ),
        (
            in_data(
                "format = \"movielens\"\nids = \"hashed\"\nusers = 5\nitems = 5\nrange = [1, 5]\nnames = \"n.json\"",
            ),
            "x.toml:15: job.data.names: stands beside ids = \"hashed\", which needs no names; allowed: one or the other",
        ),
        // What a choice decides on is not blamed when the choice is wrong.
        (
            SMALLEST.replace("\"softmax\"", "\"forest\""),
            "job.model.kind: found \"forest\"; allowed: one of \"softmax\", \"mlp\", \"factorisation\", \"linear\", \"logistic\", \"k-means\"",
        ),
        (
            in_job("partition = \"dirichle\"\ndirichlet_alpha = 1"),
            "job.partition: found \"dirichle\"; allowed: one of \"random\", \"contiguous\", \"by-key\", \"label-skewed\", \"dirichlet\"; did you mean \"dirichlet\"?",
        ),
        (
            in_job("asp = { schedule = \"liste\", factors = [1] }"),
            "job.asp.schedule: found \"liste\"; allowed: one of \"inverse-sqrt\", \"constant\", \"list\", \"linear\", \"learning-rate\"; did you mean \"list\"?",
        ),
        (
            SMALLEST.replace(
                "learning_rate.initial = 0.1",
                "learning_rate = { initial = 0.1, decay = \"exp\", every = 3 }",
            ),
            "job.model.learning_rate.decay: found \"exp\"; allowed: one of \"constant\", \"exponential\", \"inverse-sqrt\", \"inverse\"; did you mean \"exponential\"?",
        ),
        (
            in_data("format = \"cvs\""),
            "x.toml:10: job.data.format: found \"cvs\"; allowed: one of \"idx\", \"libsvm\", \"csv\", \"movielens\", \"planted\", \"planted-linear\", \"own\"; did you mean \"csv\"?",
        ),
    ] {
        let found = problems(&text);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].ends_with(expected), "{} is not\n{expected}", found[0]);
    }
}

#[test]
fn syntax_errors_name_their_lines() {
    let found = problems("name = \"x\nseed = 3\n[job\nclocks = = 3\n");
    assert!(found.len() >= 2, "{found:#?}");
    assert!(found[0].starts_with("x.toml:1: not TOML: "), "{found:#?}");
    assert!(found.iter().any(|problem| problem.starts_with("x.toml:3: not TOML: ")), "{found:#?}");
    let found = problems("seed = 99999999999999999999\nname = 'x'\n");
    assert!(found[0].starts_with("x.toml:1: 99999999999999999999: number too large"), "{found:#?}");
    assert!(problems("a = 1\na = 2\n")[0].starts_with("x.toml:2: not TOML: duplicate key"));
}

#[test]
fn a_value_that_is_missing_is_missing() {
    let expected = "not TOML: `count` has no value: write one behind the equals sign";
    for text in
        ["[servers]\ncount =\nname = 'x'\n", "[servers]\ncount =   # how many?\n", "[servers]\n  count = "]
    {
        assert_eq!(problems(text), [format!("x.toml:2: {expected}")], "{text}");
    }
    // Here something is, and it is not right.
    for text in ["count = two\n", "count = =\n"] {
        assert!(!problems(text)[0].contains("no value"), "{text}");
    }
}

#[test]
fn a_file_of_another_kind_is_named_as_that_and_not_taken_apart() {
    let shipped = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs").join(name);
    let none = Overrides::default();
    let files = [
        ("simulations/three-regions.toml", "a simulation file"),
        ("regions/virginia.toml", "a region file"),
        ("jobs/digits.toml", "a job file"),
        ("links/three-regions.toml", "a file of links"),
    ];
    for (name, found) in files {
        let path = shipped(name);
        let errors = [
            ("a simulation file", load_simulation(&path, &none).err()),
            ("a region file", load_region(&path, &none).err()),
            ("a file of links", load_link_file(&path, &none).err()),
        ];
        for (wanted, error) in errors {
            if wanted == found {
                assert_eq!(error, None);
                continue;
            }
            let error = error.expect("it is another kind").to_string();
            let start = format!("{}: this is {found}; {wanted} is asked for, such as ", path.display());
            let example = error.strip_prefix(&start).unwrap_or_else(|| panic!("{error}"));
            assert!(example.starts_with("configs/") && !error.contains('\n'), "{error}");
            let example = shipped(example.strip_prefix("configs/").expect("seen above"));
            assert!(example.exists(), "{} is shipped", example.display());
        }
    }
}

#[test]
fn depth_is_bounded() {
    let deep = 50_000;
    for text in [
        format!("a = {}", "[".repeat(deep)),
        format!("job = {}", "{a=".repeat(deep)),
        format!("{}a = 1", "a.".repeat(deep)),
    ] {
        let found = problems(&text);
        assert!(found.len() <= 8 && found[0].contains("recursion"), "{found:#?}");
    }
    let key = format!("{}a", "a.".repeat(deep));
    let error = load_with(SMALLEST, &overrides(&[], &[(&key, "1")])).unwrap_err();
    assert!(error.contains("no setting has more than 16 levels"), "it is refused");
    let error = load_with(SMALLEST, &overrides(&[], &[("regions", &"[".repeat(deep))])).unwrap_err();
    assert!(error.contains("allowed: an array of tables"), "it is refused");
}

#[test]
fn a_missing_file_is_named() {
    let error = load_simulation(Path::new("no/such.toml"), &Overrides::default()).unwrap_err();
    assert!(error.to_string().starts_with("no/such.toml: cannot be read: "), "{error}");
}
