//! What is wrong with an expression, and where.

use std::fmt;

/// A mistake in a source. Lines and columns count from one, columns in code points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    pub line: u32,
    pub column: u32,
    pub message: String,
}

/// The mistakes of a source; at most [`Errors::MOST`] are kept. Written as upstream writes them: each with its line
/// and a mark below its column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors {
    lines: Vec<String>,
    issues: Vec<Issue>,
}

impl Errors {
    pub const MOST: usize = 100;

    pub(crate) fn of(source: &str) -> Self {
        Self { lines: source.split('\n').map(str::to_owned).collect(), issues: Vec::new() }
    }

    /// Notes a mistake at a place that is counted in code points from the start.
    pub(crate) fn add(&mut self, at: u32, message: String) {
        let (mut line, mut column) = (0, at);
        for text in &self.lines {
            let length = text.chars().count() as u32;
            if column <= length {
                break;
            }
            column -= length + 1;
            line += 1;
        }
        let issue = Issue { line: line + 1, column: column + 1, message };
        if self.issues.len() < Self::MOST && !self.issues.contains(&issue) {
            self.issues.push(issue);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.issues.is_empty()
    }

    /// By their places.
    pub fn issues(&self) -> &[Issue] {
        &self.issues
    }

    pub(crate) fn sorted(mut self) -> Self {
        self.issues.sort_by_key(|issue| (issue.line, issue.column));
        self
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, issue) in self.issues.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "ERROR: <input>:{}:{}: {}", issue.line, issue.column, issue.message)?;
            if let Some(line) = self.lines.get(issue.line as usize - 1) {
                let dots = ".".repeat(issue.column as usize - 1);
                write!(f, "\n | {}\n | {dots}^", line.replace('\t', " "))?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// The expression itself went wrong; worded as upstream words it.
    #[error("{0}")]
    Failed(String),
    /// It is dearer than one expression may be.
    #[error("operation cancelled: actual cost limit exceeded")]
    TooDear,
    /// What was given for all expressions together is spent.
    #[error("validation failed due to running out of cost budget, no further validation rules will be run")]
    BudgetSpent,
}

impl EvalError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    pub(crate) fn no_overload() -> Self {
        Self::new("no such overload")
    }
}
