//! The log, in the two forms that Kubernetes has for it (KEP-1602): klog's structured text, in UTC, and JSON.

use std::fmt::{self, Debug, Write as _};
use std::io::stderr;
use std::path::Path;

use jiff::Timestamp;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, format::Writer};
use tracing_subscriber::registry::LookupSpan;

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Form {
    /// klog's: severity, date, time, process, place, message and keys.
    Text,
    /// A line of JSON for programs.
    Json,
}

/// What the flags say of the log.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Flags {
    /// How the log on standard error is written.
    #[arg(long, value_enum, default_value = "text", global = true)]
    logging_format: Form,
    /// How much of it is written: from 1 on what happens, from 4 on details, from 8 on all. `TIPHYS_LOG` says more
    /// exactly what (`info`, or `tiphys_node=debug`), and goes over this.
    #[arg(short = 'v', long = "v", default_value_t = 0, global = true, value_name = "LEVEL")]
    verbosity: u8,
}

/// Details are of this verbosity, as upstream counts, and all that is finer of that.
const DEBUG: u8 = 4;
const TRACE: u8 = 8;

impl Flags {
    /// Writes the log of this process from now on.
    pub(crate) fn init(self) {
        let filter = EnvFilter::try_from_env("TIPHYS_LOG").unwrap_or_else(|_| EnvFilter::new(self.filter()));
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(stderr)
            // Standard error may be a file on a full disk, where complaining about it would panic.
            .log_internal_errors(false)
            .event_format(self.logging_format)
            .init();
    }

    fn filter(self) -> &'static str {
        match self.verbosity {
            0 => "warn,kube_runtime=error",
            1..DEBUG => "info,kube_runtime=error",
            DEBUG..TRACE => "debug",
            _ => "trace",
        }
    }
}

/// A line before it is written.
struct Line<'a> {
    level: Level,
    time: Timestamp,
    /// File and line.
    place: (&'a str, u32),
    message: String,
    fields: Map<String, Value>,
}

impl<S, N> FormatEvent<S, N> for Form
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let file = metadata.file().unwrap_or_else(|| metadata.target());
        let place = Path::new(file).file_name().and_then(|name| name.to_str()).unwrap_or(file);
        let mut line = Line {
            level: *metadata.level(),
            time: Timestamp::now(),
            place: (place, metadata.line().unwrap_or(1)),
            message: String::new(),
            fields: Map::new(),
        };
        event.record(&mut line);
        writeln!(writer, "{}", line.written(*self, std::process::id()))
    }
}

impl Line<'_> {
    fn written(&self, form: Form, process: u32) -> String {
        match form {
            Form::Text => self.text(process),
            Form::Json => self.json(),
        }
    }

    /// `I1121 23:51:54.123456    1234 file.rs:12] "message" key="value"`
    fn text(&self, process: u32) -> String {
        let severity = match self.level {
            Level::ERROR => 'E',
            Level::WARN => 'W',
            _ => 'I',
        };
        let (file, line) = self.place;
        let time = self.time.strftime("%m%d %H:%M:%S%.6f");
        let message = Value::from(&*self.message);
        let mut text = format!("{severity}{time} {process:>7} {file}:{line}] {message}");
        for (key, value) in &self.fields {
            // Writing to a String cannot fail.
            let _ = write!(text, " {key}={value}");
        }
        text
    }

    /// `{"ts":1580306777047.28,"caller":"file.rs:12","msg":"message","v":0,"key":"value"}`. As upstream does, time is in
    /// milliseconds, and errors have no verbosity.
    fn json(&self) -> String {
        let (file, line) = self.place;
        let mut object = Map::new();
        let microseconds = self.time.as_microsecond();
        object.insert("ts".to_owned(), (microseconds as f64 / 1e3).into());
        object.insert("caller".to_owned(), format!("{file}:{line}").into());
        object.insert("msg".to_owned(), (&*self.message).into());
        let verbosity = match self.level {
            Level::ERROR => None,
            Level::WARN | Level::INFO => Some(0),
            Level::DEBUG => Some(DEBUG),
            Level::TRACE => Some(TRACE),
        };
        if let Some(verbosity) = verbosity {
            object.insert("v".to_owned(), verbosity.into());
        }
        for (key, value) in &self.fields {
            object.entry(key).or_insert_with(|| value.clone());
        }
        Value::Object(object).to_string()
    }

    fn keep(&mut self, field: &Field, value: Value) {
        let key = match field.name() {
            "error" => "err",
            name => name,
        };
        self.fields.insert(key.to_owned(), value);
    }
}

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text,
            _ => self.keep(field, text.into()),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            _ => self.keep(field, value.into()),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.keep(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.keep(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.keep(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.keep(field, value.into());
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
