use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::*;

/// A log that is kept.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn written(form: Form, what: impl FnOnce()) -> Vec<String> {
    let kept = Kept::default();
    let writer = kept.clone();
    let log = tracing_subscriber::fmt()
        .with_max_level(Level::DEBUG)
        .event_format(form)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(log, what);
    let text = String::from_utf8(kept.0.lock().clone()).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn events() {
    tracing::warn!(pod = "a/b", count = 3, fits = true, error = %"it \"broke\"\nbadly", "look {}", 7);
    tracing::error!("over");
    tracing::debug!(v = "mine", "details");
}

#[test]
fn text_is_klogs() {
    let lines = written(Form::Text, events);
    let process = std::process::id();
    let line = |severity: char, line: &str, rest: &str| {
        let (head, told) = line.split_once("] ").unwrap();
        let parts: Vec<&str> = head.split_whitespace().collect();
        let [date, time, id, place] = *parts else { panic!("{head}") };
        assert!(date.starts_with(severity) && date.len() == 5, "{head}");
        assert!(date[1..].bytes().all(|b| b.is_ascii_digit()), "{head}");
        let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!((&*shape, id), ("00:00:00.000000", &*process.to_string()));
        assert!(place.starts_with("log_tests.rs:"), "{place}");
        assert_eq!(told, rest);
    };
    assert_eq!(lines.len(), 3);
    line('W', &lines[0], r#""look 7" count=3 err="it \"broke\"\nbadly" fits=true pod="a/b""#);
    line('E', &lines[1], r#""over""#);
    line('I', &lines[2], r#""details" v="mine""#);
}

#[test]
fn json_has_the_keys_of_the_kep() {
    let before = Timestamp::now().as_millisecond() as f64;
    let lines = written(Form::Json, events);
    let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &lines {
        let time = line["ts"].as_f64().unwrap();
        assert!((before..before + 3.6e6).contains(&time), "{time}");
        assert!(line["caller"].as_str().unwrap().starts_with("log_tests.rs:"));
    }
    let told = |line: &Value, keys: &[&str]| keys.iter().map(|key| line[*key].clone()).collect::<Vec<_>>();
    assert_eq!(
        told(&lines[0], &["msg", "v", "pod", "count", "fits", "err"]),
        [Value::from("look 7"), 0.into(), "a/b".into(), 3.into(), true.into(), "it \"broke\"\nbadly".into()]
    );
    assert_eq!(told(&lines[1], &["msg", "v"]), [Value::from("over"), Value::Null]);
    assert_eq!(
        told(&lines[2], &["msg", "v"]),
        [Value::from("details"), DEBUG.into()],
        "a key is not taken over"
    );
}

#[test]
fn verbosity_is_as_upstream_counts_it() {
    let filter = |verbosity| Flags { logging_format: Form::Text, verbosity }.filter();
    let levels = [0, 1, 3, 4, 7, 8, 10].map(|v| filter(v).split(',').next().unwrap());
    assert_eq!(levels, ["warn", "info", "info", "debug", "debug", "trace", "trace"]);
}
