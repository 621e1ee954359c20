//! Logs: for people, or as JSON for programs, always on standard error.
//!
//! Kind: driver. A simulation's logs carry no time, as that of the machine says nothing about it.
//! Those of a process carry the time, and on every line the region and role of the process, in
//! whichever task the line was written. What a line is about beyond that comes from its spans and
//! fields, such as `server` for the tasks of one, `shard` and `clock` where they matter.
//!
//! Keys, certificates and what is trained on are never logged.

use std::fmt::{self, Debug, Write as _};
use std::io::{self, IsTerminal};

use datacenter::printable::{self, Escaping};
use serde::Serialize;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use crate::job::region::LogFormat;

/// Which process writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its region.
    pub region: String,
    /// Its role, as in [`Status::role`](crate::service::status::Status::role).
    pub role: String,
}

/// What a process logs unless `RUST_LOG` says otherwise: what it does, and of TLS and QUIC only
/// what went wrong.
const PROCESS_LEVELS: &str = "info,quinn=warn,quinn_proto=warn,rustls=warn,hyper=warn";

/// Sets up the logs of a process that serves or trains. `RUST_LOG` wins over what is logged by
/// default; a part of it that makes no sense is reported and left out.
///
/// # Panics
///
/// If logs were set up before.
pub fn init_process(format: LogFormat, process: &Process) {
    assert!(try_init_process(format, process), "logs are set up once");
}

/// The same for a program that may have set up logs of its own, which stay then; yields whether it
/// had not.
pub fn try_init_process(format: LogFormat, process: &Process) -> bool {
    let levels = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|levels| !levels.is_empty());
    let filter = EnvFilter::builder().parse_lossy(levels.as_deref().unwrap_or(PROCESS_LEVELS));
    let subscriber = process_subscriber(format, process, filter, is_styled(), io::stderr);
    tracing::subscriber::set_global_default(subscriber).is_ok()
}

/// Sets up the logs of commands that show something else: only errors, unless `RUST_LOG` asks for
/// more, and no time.
///
/// # Panics
///
/// If logs were set up before.
pub fn init_command() {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::ERROR.into()).from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(is_styled())
        .fmt_fields(TextFields)
        .without_time()
        .init();
}

/// The last line of a process that ends with an error, as JSON like the others. It does not go
/// through the filter, as somebody has to be told, nor does it need logs to be set up.
pub fn json_error(process: &Process, error: &str) -> String {
    /// In the order of the others.
    #[derive(Serialize)]
    struct Line<'a> {
        timestamp: String,
        region: &'a str,
        role: &'a str,
        level: &'a str,
        fields: Value,
        target: &'a str,
    }
    let Process { region, role } = process;
    let fields = serde_json::json!({ "message": "the process ends with an error", "error": error });
    let line = Line { timestamp: now(), region, role, level: "ERROR", fields, target: module_path!() };
    printable::json(&serde_json::to_string(&line).expect("plain data")).into_owned()
}

/// Whether standard error is a terminal, and may be coloured.
fn is_styled() -> bool {
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stderr().is_terminal() && !is_plain
}

fn process_subscriber<W>(
    format: LogFormat,
    process: &Process,
    filter: EnvFilter,
    is_styled: bool,
    writer: W,
) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(is_styled);
    let Process { region, role } = process;
    match format {
        LogFormat::Text => {
            let inner = tracing_subscriber::fmt::format().without_time();
            let text = Text { process: format!("{region} {role}"), inner };
            Box::new(builder.fmt_fields(TextFields).event_format(text).finish())
        }
        LogFormat::Json => {
            let quoted = |text: &String| serde_json::to_string(text).expect("text is JSON");
            let process = format!("\"region\":{},\"role\":{}", quoted(region), quoted(role));
            let inner = tracing_subscriber::fmt::format().json().without_time().with_current_span(false);
            let json = Json { process, inner };
            Box::new(builder.fmt_fields(JsonFields::new()).event_format(json).finish())
        }
    }
}

/// A line for people: the time, the process, and what happened. A span around everything would not
/// do for the process: tasks that a library starts are outside of it.
struct Text<F> {
    process: String,
    inner: F,
}

impl<S, N, F> FormatEvent<S, N> for Text<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        SystemTime.format_time(&mut writer)?;
        write!(writer, " {} ", self.process)?;
        self.inner.format_event(context, writer, event)
    }
}

/// The same as an object: `inner` writes one without the time.
struct Json<F> {
    /// Members of it, without braces.
    process: String,
    inner: F,
}

impl<S, N, F> FormatEvent<S, N> for Json<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.inner.format_event(context, Writer::new(&mut line), event)?;
        write!(writer, "{{\"timestamp\":\"{}\",{},", now(), self.process)?;
        writer.write_str(&printable::json(line.strip_prefix('{').unwrap_or(&line)))
    }
}

/// Fields as text. Whatever others have written into their values stays on the line, and moves no
/// cursor.
struct TextFields;

impl<'writer> FormatFields<'writer> for TextFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor = TextVisitor { writer, is_first: true, written: Ok(()) };
        fields.record(&mut visitor);
        visitor.written
    }
}

struct TextVisitor<'writer> {
    writer: Writer<'writer>,
    is_first: bool,
    written: fmt::Result,
}

impl TextVisitor<'_> {
    fn write(&mut self, name: &str, value: &dyn Debug) -> fmt::Result {
        if !std::mem::replace(&mut self.is_first, false) {
            self.writer.write_char(' ')?;
        }
        if name != "message" {
            let [italic, dim, plain] = if self.writer.has_ansi_escapes() {
                ["\u{1b}[3m", "\u{1b}[2m", "\u{1b}[0m"]
            } else {
                [""; 3]
            };
            let name = name.strip_prefix("r#").unwrap_or(name);
            write!(self.writer, "{italic}{name}{plain}{dim}={plain}")?;
        }
        write!(Escaping(&mut self.writer), "{value:?}")
    }
}

impl Visit for TextVisitor<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // As the logs of crates that use `log` bring them; they are told elsewhere in the line.
        if self.written.is_ok() && !field.name().starts_with("log.") {
            self.written = self.write(field.name(), value);
        }
    }
}

/// The time, as lines say it.
fn now() -> String {
    let mut timestamp = String::new();
    // Writing to a string does not fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut timestamp));
    timestamp
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged in `format`, from a task inside of a shard's span and from one outside of it.
    fn logged(format: LogFormat) -> String {
        logged_by(format, false, || {
            tracing::warn!(peer = "ireland \"0\"", "link down");
            let span = tracing::info_span!("shard", shard = 3, clock = tracing::field::Empty);
            span.record("clock", 17);
            span.in_scope(|| tracing::info!(rows = 5, "barrier"));
            tracing::debug!("not wanted");
        })
    }

    fn logged_by(format: LogFormat, is_styled: bool, log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let process = Process { region: "virginia".to_owned(), role: "server-0".to_owned() };
        let filter = EnvFilter::new("info");
        let subscriber = process_subscriber(format, &process, filter, is_styled, move || writer.clone());
        tracing::subscriber::with_default(subscriber, log);
        let bytes = lines.0.lock().expect("no panic").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn a_line_for_people_tells_time_process_shard_and_clock() {
        let text = logged(LogFormat::Text);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(
            lines.iter().all(|line| line.starts_with('2') && line.contains("Z virginia server-0 ")),
            "{text}"
        );
        assert!(
            lines[0].contains("WARN") && lines[0].ends_with(r#"link down peer="ireland \"0\"""#),
            "{text}"
        );
        assert!(lines[1].contains("INFO shard{shard=3 clock=17}"), "{text}");
        assert!(lines[1].ends_with("barrier rows=5"), "{text}");
    }

    #[test]
    fn a_line_for_programs_has_the_same_as_json() {
        let text = logged(LogFormat::Json);
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines.len(), 2, "{text}");
        for line in text.lines() {
            assert!(
                line.starts_with("{\"timestamp\":\"2"),
                "programs that cut lines find the time first: {text}"
            );
        }
        for line in &lines {
            assert_eq!((&line["region"], &line["role"]), (&"virginia".into(), &"server-0".into()));
            assert!(line["timestamp"].is_string(), "{text}");
        }
        assert_eq!(lines[0]["level"], "WARN");
        assert_eq!(lines[0]["fields"]["message"], "link down");
        assert_eq!(lines[0]["fields"]["peer"], "ireland \"0\"");
        assert_eq!(lines[1]["fields"]["rows"], 5);
        assert_eq!(lines[1]["spans"][0]["shard"], 3);
        assert_eq!(lines[1]["spans"][0]["clock"], 17);
    }

    /// What a peer may say, with a line that it would like to have been logged.
    const FORGED: &str =
        "x\nvirginia server-0 2026 INFO gaia: forged\r \u{1b}[31mred \u{9b}2J \u{202e}txe \u{2028}";

    #[test]
    fn what_others_have_written_stays_on_its_line_and_moves_no_cursor() {
        for (format, is_styled) in
            [(LogFormat::Text, false), (LogFormat::Text, true), (LogFormat::Json, false)]
        {
            let text = logged_by(format, is_styled, || {
                tracing::warn!(error = %FORGED, quoted = FORGED, debugged = ?[FORGED], "not let in");
                tracing::warn!("not let in: {FORGED}");
                let span = tracing::info_span!("lan", address = %FORGED);
                span.in_scope(|| {
                    tracing::info!(error = &io::Error::other(FORGED) as &dyn std::error::Error, "ended")
                });
            });
            assert_eq!(text.lines().count(), 3, "{text}");
            assert!(text.lines().all(|line| line.contains("forged")), "{text}");
            let mut bare = text.replace('\n', "");
            for ours in ["0", "1", "2", "3", "31", "32", "33"] {
                // What styles are made of; `FORGED` has a red of its own.
                bare = bare
                    .replace(&format!("\u{1b}[{ours}m"), if is_styled && ours != "31" { "" } else { "!" });
            }
            assert!(!bare.contains(printable::is_hidden) && !bare.contains('!'), "{format:?}: {text:?}");
            if format == LogFormat::Json {
                for line in text.lines() {
                    let line: Value = serde_json::from_str(line).expect("JSON");
                    let said = format!("{line}");
                    assert!(said.contains("forged"), "{said}");
                }
            }
        }
        let last = json_error(&Process { region: "a".to_owned(), role: "b".to_owned() }, FORGED);
        assert!(!last.contains(printable::is_hidden), "{last}");
        let read: Value = serde_json::from_str(&last).expect("JSON");
        assert_eq!(read["fields"]["error"], FORGED);
    }

    #[test]
    fn the_last_line_of_a_process_is_like_the_others() {
        let others = logged(LogFormat::Json);
        let other: Value = serde_json::from_str(others.lines().next().expect("a line")).expect("JSON");
        let process = Process { region: "virginia".to_owned(), role: "server-0".to_owned() };
        let text = json_error(&process, "2 problems\n  \"one\"\n  another");
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: Value = serde_json::from_str(&text).expect("JSON");
        let keys = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&line), keys(&other));
        assert_eq!(
            (&line["region"], &line["role"], &line["level"]),
            (&other["region"], &other["role"], &"ERROR".into())
        );
        let length = |line: &Value| line["timestamp"].as_str().expect("text").len();
        assert_eq!(length(&line), length(&other));
        assert_eq!(line["fields"]["error"], "2 problems\n  \"one\"\n  another");
    }
}
