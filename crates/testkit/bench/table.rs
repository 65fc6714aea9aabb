//! The table: one row a measure.

use std::collections::BTreeMap;

/// What is measured.
#[derive(Clone, Debug)]
pub(crate) struct Measure {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) goal: Goal,
}

/// What a number is held against.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    None,
    Under(f64),
    AtLeast(f64),
    /// At least so many times what the reference reaches, but no more than four fifths of what a server that
    /// does nothing does.
    Times(f64),
    /// At most this part of what the reference needs, but no less than a server that does nothing would need if
    /// that one were a fifth slower.
    Part(f64),
}

pub(crate) fn measure(name: impl Into<String>, unit: &'static str, goal: Goal) -> Measure {
    Measure { name: name.into(), unit, goal }
}

/// Whose number it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    Tiphys,
    Reference,
    Nothing,
}

/// What was measured, in the order in which it was first told.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Measure>,
    numbers: BTreeMap<(String, Who), f64>,
    reference: Option<String>,
}

impl Table {
    /// Takes a number; of several of one side the best, since neighbours on the host only take.
    pub(crate) fn tell(&mut self, who: Who, measure: Measure, value: f64) {
        eprintln!("{who:?}: {}: {} {}", measure.name, rounded(value), measure.unit);
        let best = self.numbers.entry((measure.name.clone(), who)).or_insert(value);
        *best = if measure.unit == "/s" { best.max(value) } else { best.min(value) };
        if self.rows.iter().all(|row| row.name != measure.name) {
            self.rows.push(measure);
        }
    }

    /// Says what the reference was.
    pub(crate) fn beside(&mut self, name: String) {
        self.reference = Some(name);
    }

    /// The table in Markdown. The ratio is Tiphys' number over the reference's.
    pub(crate) fn render(&self) -> String {
        let mut out = match &self.reference {
            Some(name) => format!("The reference: {name}.\n\n"),
            None => "No reference is installed (see CONTRIBUTING.md).\n\n".to_owned(),
        };
        out.push_str(
            "| measure | Tiphys | reference | ratio | nothing | goal |\n|---|---|---|---|---|---|\n",
        );
        for Measure { name, unit, goal } in &self.rows {
            let number = |who| self.numbers.get(&(name.clone(), who)).copied();
            let (ours, theirs, nothing) = (number(Who::Tiphys), number(Who::Reference), number(Who::Nothing));
            let shown =
                |value: Option<f64>| value.map_or("–".to_owned(), |v| format!("{} {unit}", rounded(v)));
            let ratio = ours.zip(theirs).map_or("–".to_owned(), |(ours, theirs)| rounded(ours / theirs));
            let goal = ours.map_or("–".to_owned(), |ours| goal.judge(ours, theirs, nothing, unit));
            out.push_str(&format!(
                "| {name} | {} | {} | {ratio} | {} | {goal} |\n",
                shown(ours),
                shown(theirs),
                shown(nothing),
            ));
        }
        out
    }
}

impl Goal {
    fn judge(self, ours: f64, theirs: Option<f64>, nothing: Option<f64>, unit: &str) -> String {
        let verdict = |met: bool| if met { "met" } else { "**missed**" };
        match (self, theirs) {
            (Self::Under(most), _) => format!("under {most} {unit}: {}", verdict(ours < most)),
            (Self::AtLeast(least), _) => format!("at least {least} {unit}: {}", verdict(ours >= least)),
            (Self::Times(times), Some(theirs)) => {
                let least = nothing.map_or(f64::INFINITY, |nothing| nothing * 0.8).min(times * theirs);
                format!("at least {} {unit}: {}", rounded(least), verdict(ours >= least))
            }
            (Self::Part(part), Some(theirs)) => {
                let most = nothing.map_or(0., |nothing| nothing / 0.8).max(part * theirs);
                format!("at most {} {unit}: {}", rounded(most), verdict(ours <= most))
            }
            _ => "–".to_owned(),
        }
    }
}

/// Three digits that count.
fn rounded(value: f64) -> String {
    match value.abs() {
        v if v >= 100. => format!("{value:.0}"),
        v if v >= 10. => format!("{value:.1}"),
        v if v >= 1. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// The middle of some samples; with an even number the upper one of the two.
pub(crate) fn p50(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}
