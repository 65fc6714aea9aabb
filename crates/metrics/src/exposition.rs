//! What was counted, as text.

use std::fmt::Write as _;

use crate::Histogram;

/// The two texts that Prometheus reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `text/plain; version=0.0.4`.
    Text,
    /// `application/openmetrics-text; version=1.0.0`.
    OpenMetrics,
}

impl Format {
    /// The better of the two that an `Accept` header names; plain text for everybody who names neither.
    pub fn accept(accept: &str) -> Self {
        let weight = |media: &str| {
            let fits = |part: &&str| part.split(';').next().is_some_and(|name| name.trim() == media);
            let part = accept.split(',').find(fits)?;
            let weight = part.split(';').find_map(|parameter| parameter.trim().strip_prefix("q="));
            Some(weight.map_or(1.0, |q| q.parse().unwrap_or(0.0f32)))
        };
        match (weight("application/openmetrics-text"), weight("text/plain")) {
            (Some(open), text) if open > 0.0 && text.is_none_or(|text| text <= open) => Self::OpenMetrics,
            _ => Self::Text,
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What the samples of a family mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// The labels of a sample: pairs of name and value.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// A text in the making: families, each followed by its samples.
#[derive(Debug)]
pub struct Exposition {
    format: Format,
    text: String,
    /// What samples of the current family are called.
    sample: String,
}

impl Exposition {
    pub fn new(format: Format) -> Self {
        Self { format, text: String::new(), sample: String::new() }
    }

    /// Begins a family, whose name is the one that Prometheus shows: a counter's ends with `_total`, or is given that
    /// ending where OpenMetrics insists on it.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let open = self.format == Format::OpenMetrics;
        let family = match kind {
            Kind::Counter if open => name.strip_suffix("_total").unwrap_or(name),
            _ => name,
        };
        self.sample.clear();
        self.sample.push_str(family);
        if open && kind == Kind::Counter {
            self.sample.push_str("_total");
        }
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.text.push_str("# HELP ");
        self.text.push_str(family);
        self.text.push(' ');
        escape(&mut self.text, help, open);
        self.text.push_str("\n# TYPE ");
        self.text.push_str(family);
        self.text.push(' ');
        self.text.push_str(kind);
        self.text.push('\n');
    }

    /// A sample of the current family.
    pub fn sample(&mut self, labels: Labels<'_>, value: f64) {
        self.line("", labels, None, value);
    }

    /// A family that has one sample without labels.
    pub fn single(&mut self, name: &str, kind: Kind, help: &str, value: f64) {
        self.family(name, kind, help);
        self.sample(&[], value);
    }

    /// The samples of a histogram of the current family.
    pub fn histogram(&mut self, labels: Labels<'_>, histogram: &Histogram) {
        let mut count = 0;
        for (bound, up_to) in histogram.cumulative() {
            let bound = bound.map_or_else(|| "+Inf".to_owned(), |bound| self.number(bound));
            self.line("_bucket", labels, Some(&bound), up_to as f64);
            count = up_to;
        }
        self.line("_sum", labels, None, histogram.sum());
        self.line("_count", labels, None, count as f64);
    }

    /// The whole text.
    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    /// OpenMetrics writes bounds of buckets with a point.
    fn number(&self, value: f64) -> String {
        match self.format {
            Format::Text => value.to_string(),
            Format::OpenMetrics => format!("{value:?}"),
        }
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, bound: Option<&str>, value: f64) {
        self.text.push_str(&self.sample);
        self.text.push_str(suffix);
        let labels = labels.iter().copied().chain(bound.map(|bound| ("le", bound)));
        let mut separator = '{';
        for (name, value) in labels {
            self.text.push(separator);
            self.text.push_str(name);
            self.text.push_str("=\"");
            escape(&mut self.text, value, true);
            self.text.push('"');
            separator = ',';
        }
        if separator == ',' {
            self.text.push('}');
        }
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, " {value}");
    }
}

fn escape(text: &mut String, value: &str, quotes: bool) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '"' if quotes => text.push_str("\\\""),
            c => text.push(c),
        }
    }
}

#[cfg(test)]
#[path = "exposition_tests.rs"]
mod tests;
