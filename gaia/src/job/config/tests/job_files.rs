//! Jobs in files of their own.

use super::*;

#[test]
fn a_job_may_stand_in_a_file_of_its_own() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name);
    let (world, job) = SMALLEST.split_once("[job]\n").expect("a job");
    let write = |job: &str| {
        fs::create_dir_all(at("jobs")).expect("a directory");
        fs::create_dir_all(at("simulations")).expect("a directory");
        fs::write(at("jobs/j.toml"), job.replace("[job.", "[")).expect("a file");
        let world = world.replace("[[regions]]", "job = \"../jobs/j.toml\"\n[[regions]]");
        fs::write(at("simulations/x.toml"), world).expect("a file");
    };
    let file = at("simulations/x.toml");
    write(job);
    let simulation = load_simulation(&file, &Overrides::default()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(simulation.job.clocks, 3);
    assert_eq!(simulation.job.data.root, at("jobs/data").into());
    // Its keys can be overridden like all others, and its problems name it.
    let overrides = overrides(&[], &[("job.clocks", "5")]);
    assert_eq!(load_simulation(&file, &overrides).expect("it is right").job.clocks, 5);
    write(&job.replace("clocks = 3", "clocks = 0"));
    let error = load_simulation(&file, &Overrides::default()).unwrap_err().to_string();
    assert!(error.contains("jobs/j.toml:1: job.clocks: found 0"), "{error}");
    write(&job.replace("clocks = 3", "shards = 1"));
    let error = load_simulation(&file, &Overrides::default()).unwrap_err().to_string();
    assert!(error.contains("jobs/j.toml:1: job.clocks: missing"), "{error}");
    fs::remove_file(at("jobs/j.toml")).expect("it was there");
    let error = load_simulation(&file, &Overrides::default()).unwrap_err().to_string();
    assert!(error.contains("j.toml: cannot be read: ") && error.contains("(named by job in "), "{error}");
}

#[test]
fn a_job_file_stands_alone_if_it_has_a_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("j.toml");
    let job = SMALLEST.split_once("[job]\n").expect("a job").1.replace("[job.", "[");
    let read = |text: &str| {
        fs::write(&path, text).expect("a file");
        let layers = Layers::read(&path, &Overrides::default(), job::KEY).expect("TOML");
        Reader::new(&layers).read(|s| job::job(s, None, &models::kinds())).map_err(|error| error.to_string())
    };
    assert_eq!(read(&format!("name = \"alone\"\n{job}")).expect("it is right").name, "alone");
    assert!(read(&job).unwrap_err().contains("name: missing; allowed: a name"));
}
