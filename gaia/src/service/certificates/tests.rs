//! Directories as operators use them, at a date of the test's choice.

use std::fs;

use datacenter::identity::{Cause, Date, Dates};
use tempfile::TempDir;

use super::*;

/// The start of 2026.
pub(super) const NOW: Date = Date(1_767_225_600);

pub(super) fn later(days: i64, valid: u32) -> Validity {
    Validity { now: Date(NOW.0 + days * Date::DAY_SECONDS), days: valid }
}

pub(super) fn process(name: &str) -> ProcessName {
    name.parse().unwrap()
}

/// An authority with two servers and a worker of virginia.
pub(super) fn region() -> (TempDir, Directory) {
    let temporary = tempfile::tempdir().unwrap();
    let directory = Directory::new(temporary.path().join("certs"));
    directory.init(later(0, 3650), false).unwrap();
    let names = ["virginia-server-0", "virginia-server-1", "virginia-worker-0"];
    directory.issue(&names.map(process), later(0, 90), false).unwrap();
    (temporary, directory)
}

fn load(directory: &Directory, name: &str, days: i64) -> Result<Loaded, FilesError> {
    let process = process(name);
    load_as(directory, name, process.peer(), days)
}

fn load_as(
    directory: &Directory,
    name: &str,
    expected: &datacenter::identity::PeerName,
    days: i64,
) -> Result<Loaded, FilesError> {
    let files = TlsFiles::in_directory(directory.path(), &process(name));
    files.load(expected, Dates::Fixed(later(days, 0).now.0.unsigned_abs()))
}

fn message(directory: &Directory, result: Result<Loaded, FilesError>) -> String {
    let error = crate::human::with_causes(&result.expect_err("it cannot be used"));
    error.replace(&directory.path().display().to_string(), "certs")
}

#[test]
fn what_is_issued_can_be_used() {
    let (_temporary, directory) = region();
    let loaded = load(&directory, "virginia-server-0", 0).unwrap();
    assert_eq!(loaded.warnings, []);
    let certificate = loaded.identity.certificate();
    assert_eq!(certificate.common_name, "virginia server 0");
    assert_eq!(certificate.dns_names, ["virginia.server.gaia", "0.virginia.server.gaia"]);
    assert_eq!(certificate.indexes(), [0]);
    assert!(certificate.issuer.starts_with("Gaia authority "));
    assert!(certificate.not_before < NOW, "clocks differ");
    assert_eq!(certificate.serial.len(), 16);
    assert_eq!(certificate.not_after.days_since(NOW), 90);
    let soon = load(&directory, "virginia-server-0", 80).unwrap();
    let [Warning::ExpiresSoon { .. }] = soon.warnings.as_slice() else { panic!("{:?}", soon.warnings) };
    assert!(soon.warnings[0].to_string().ends_with("expires on 2026-04-01, in 10 days; `gaia certs renew`"));
}

#[test]
fn files_are_found_by_the_settings_of_a_region() {
    let settings = crate::job::region::TlsSettings {
        directory: "certs".into(),
        certificate: "{datacenter}-{role}-{index}.pem".into(),
        key: "{datacenter}/{role}.{index}.key".into(),
        plaintext_lan: false,
    };
    let name = process("us-east-1-worker-12");
    let files = TlsFiles::of(&settings, &name);
    assert_eq!(files.key, std::path::Path::new("certs/us-east-1/worker.12.key"));
    assert_eq!(TlsFiles { key: "certs/us-east-1-worker-12.key".into(), ..files }, {
        TlsFiles::in_directory("certs".as_ref(), &name)
    });
}

#[cfg(unix)]
#[test]
fn keys_are_for_their_owner() {
    use std::os::unix::fs::PermissionsExt;
    let (_temporary, directory) = region();
    let key = directory.key(&process("virginia-server-0"));
    for path in [&key, &directory.path().join("ca.key")] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
    }
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let loaded = load(&directory, "virginia-server-0", 0).unwrap();
    let [warning] = loaded.warnings.as_slice() else { panic!("{:?}", loaded.warnings) };
    assert!(warning.to_string().contains("private key that everybody can read (mode 0644); `chmod 600 "));
}

#[test]
fn nothing_is_overwritten_unasked() {
    let (_temporary, directory) = region();
    let key = fs::read(directory.key(&process("virginia-server-1"))).unwrap();
    let again =
        directory.issue(&["virginia-worker-1", "virginia-server-1"].map(process), later(1, 90), false);
    assert!(matches!(again, Err(CertsError::Exists { .. })));
    assert!(!directory.certificate(&process("virginia-worker-1")).exists(), "all or none");
    assert!(matches!(directory.init(later(1, 90), false), Err(CertsError::Exists { .. })));
    assert_eq!(fs::read(directory.key(&process("virginia-server-1"))).unwrap(), key);
    load(&directory, "virginia-server-1", 0).unwrap();
    directory.init(later(1, 90), true).unwrap();
    let text = message(&directory, load(&directory, "virginia-server-1", 1));
    assert!(text.contains("is not a trusted authority; certs/ca.pem must be of the authority"), "{text}");
}

#[test]
fn errors_name_the_file_the_certificate_and_the_date() {
    let (_temporary, directory) = region();
    let serial = load(&directory, "virginia-server-0", 0).unwrap().identity.certificate().serial;
    let certificate = format!("virginia.server.gaia (virginia server 0, serial {serial})");
    assert_eq!(
        message(&directory, load(&directory, "virginia-server-0", 109)),
        format!(
            "certificate {certificate} in certs/virginia-server-0.pem cannot be used: it expired on 2026-04-01, \
             19 days ago; renew it with `gaia certs renew virginia-server-0`"
        )
    );
    assert_eq!(
        message(&directory, load(&directory, "virginia-server-0", -2)),
        format!(
            "certificate {certificate} in certs/virginia-server-0.pem cannot be used: it is valid from 2025-12-31 \
             on, in 1 day; is a clock wrong?; set the clock of this machine"
        )
    );
    let worker = process("virginia-worker-0");
    assert_eq!(
        message(&directory, load_as(&directory, "virginia-server-0", worker.peer(), 0)),
        "the certificate in certs/virginia-server-0.pem is for virginia.server.gaia, and this process is \
         virginia.worker.gaia"
    );
    assert_eq!(
        message(&directory, load(&directory, "ireland-server-0", 0)),
        "certs/ireland-server-0.pem is missing; `gaia certs issue` makes ireland-server-0.pem and .key for \
         ireland.server.gaia"
    );
    fs::copy(directory.key(&worker), directory.key(&process("virginia-server-0"))).unwrap();
    assert_eq!(
        message(&directory, load(&directory, "virginia-server-0", 0)),
        format!(
            "the key in certs/virginia-server-0.key does not fit the certificate {certificate} in \
             certs/virginia-server-0.pem; they are issued together"
        )
    );
    fs::write(directory.list(), "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n").unwrap();
    let text = message(&directory, load(&directory, "virginia-server-1", 0));
    assert!(text.starts_with("certs/crl.pem cannot be used: the revocation list cannot be used: "), "{text}");
    fs::remove_file(directory.list()).unwrap();
    load(&directory, "virginia-server-1", 0).expect("without a list, nothing is revoked");
}

#[test]
fn what_is_revoked_stays_revoked() {
    let (_temporary, directory) = region();
    let first = load(&directory, "virginia-server-0", 0).unwrap().identity.certificate().serial;
    directory.issue(&[process("virginia-server-0")], later(1, 90), true).unwrap();
    let second = load(&directory, "virginia-server-0", 1).unwrap().identity.certificate().serial;
    let path = directory.certificate(&process("virginia-server-0")).display().to_string();
    let revoked = directory.revoke(&[path], later(2, 0).now).unwrap();
    assert_eq!(revoked[0].serials, [first, second], "also what was replaced");
    let text = message(&directory, load(&directory, "virginia-server-0", 2));
    assert!(text.ends_with("it is revoked; renew it with `gaia certs renew virginia-server-0`"), "{text}");
    directory.issue(&[process("virginia-server-0")], later(3, 90), true).unwrap();
    let renewed = load(&directory, "virginia-server-0", 3).unwrap();
    assert_eq!(renewed.identity.check_own().map(|refused| refused.cause), None::<Cause>);

    let serial = load(&directory, "virginia-worker-0", 3).unwrap().identity.certificate().serial;
    directory.revoke(&[serial.to_uppercase()], later(3, 0).now).unwrap();
    let states = states(&directory, 3);
    assert_eq!(states, ["ok", "ok", "ok", "revoked"]);
    let unknown = directory.revoke(&["virginia-sever-0".into()], NOW).unwrap_err().to_string();
    assert_eq!(
        unknown,
        "\"virginia-sever-0\" is neither a name nor a serial number of an issued certificate; did you mean \
         \"virginia-server-0\"?"
    );
    fs::remove_file(directory.path().join("issued.json")).unwrap();
    assert!(matches!(directory.revoke(&["virginia-server-1".into()], NOW), Err(CertsError::NoRecord { .. })));
}

fn states(directory: &Directory, days: i64) -> Vec<&'static str> {
    let (certificates, _) = directory.show(later(days, 0).now).unwrap();
    certificates.iter().map(|one| one.state.as_str()).collect()
}

#[test]
fn what_ends_soon_is_due() {
    let (_temporary, directory) = region();
    let due = |days: i64| {
        let due = directory.due(30 * 24 * 60 * 60, later(days, 0).now).unwrap();
        due.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert!(due(59).is_empty());
    let all = ["virginia-server-0", "virginia-server-1", "virginia-worker-0"];
    assert_eq!(due(60), all);
    directory.issue(&[process(all[1])], later(60, 90), true).unwrap();
    directory.revoke(&[all[2].into()], later(60, 90).now).unwrap();
    assert_eq!(due(60), [all[0]]);
    assert_eq!(due(100), [all[0]], "also what has ended");
    assert_eq!(states(&directory, 80), ["ok", "expires soon", "ok", "revoked"]);
    assert_eq!(states(&directory, 100), ["ok", "expired", "ok", "revoked"]);
}
