//! Label selectors, from text and from `LabelSelector` objects, and field selectors.

use std::fmt;

use serde_json::{Map, Value};

use crate::field::{self, Path};
use crate::{meta, names};

/// Why a selector cannot be read; worded as upstream words it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("unable to parse requirement: {0}")]
    Requirement(String),
    #[error("found '{found}', expected: {expected}")]
    Syntax { found: String, expected: &'static str },
    #[error("found '{0}' expected: '('")]
    Unopened(String),
    #[error("{0}")]
    Invalid(String),
    #[error("{0:?} is not a valid label selector operator")]
    Operator(String),
    #[error("invalid selector: '{selector}'; can't understand '{term}'")]
    FieldTerm { selector: String, term: String },
    #[error("invalid field selector: invalid escape sequence: {0}")]
    FieldEscape(String),
    #[error("invalid field selector: unescaped character in value: {0}")]
    FieldUnescaped(u32),
}

/// What a label has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan(i64),
    LessThan(i64),
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    /// Sorted; for `In` and `NotIn` only.
    pub values: Vec<String>,
}

impl Requirement {
    /// Whether a label with this value, or its absence, satisfies the condition.
    pub fn matches(&self, value: Option<&str>) -> bool {
        let among = |v: &str| self.values.iter().any(|x| x == v);
        let number = |v: &str| v.parse::<i64>().ok();
        match self.operator {
            Operator::In => value.is_some_and(among),
            Operator::NotIn => !value.is_some_and(among),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan(n) => value.and_then(number).is_some_and(|v| v > n),
            Operator::LessThan(n) => value.and_then(number).is_some_and(|v| v < n),
        }
    }

    fn new(key: &str, operator: Operator, mut values: Vec<String>) -> Result<Self, Error> {
        check_key(key)?;
        let set = matches!(operator, Operator::In | Operator::NotIn);
        if set && values.is_empty() {
            let detail = "for 'in', 'notin' operators, values set can't be empty";
            return Err(invalid("values", Value::Array(Vec::new()), detail));
        }
        for (i, value) in values.iter().enumerate() {
            let wrong = names::label_value(value);
            if !wrong.is_empty() {
                let at = format!("values[{i}][{key}]");
                return Err(invalid(&at, value.as_str().into(), &wrong.join("; ")));
            }
        }
        values.sort_unstable();
        values.dedup();
        Ok(Self { key: key.to_owned(), operator, values })
    }
}

fn invalid(path: &str, value: Value, detail: &str) -> Error {
    Error::Invalid(field::Error::invalid(&Path::new(path), value, detail).to_string())
}

fn check_key(key: &str) -> Result<(), Error> {
    let wrong = names::label_key(key);
    if wrong.is_empty() { Ok(()) } else { Err(invalid("key", key.into(), &wrong.join("; "))) }
}

/// Every requirement has to hold. Without any, everything matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// `None` matches nothing: the selector that is absent.
    requirements: Option<Vec<Requirement>>,
}

impl LabelSelector {
    pub fn everything() -> Self {
        Self { requirements: Some(Vec::new()) }
    }

    pub fn nothing() -> Self {
        Self { requirements: None }
    }

    /// Reads `a=b,c in (d,e),!f`.
    ///
    /// # Errors
    /// The text is no selector, or a key or value in it is no label.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut requirements = Parser::new(text).parse()?;
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements: Some(requirements) })
    }

    /// Reads a `meta/v1.LabelSelector`. Null or absent matches nothing, an empty one everything.
    ///
    /// # Errors
    /// An operator is unknown, or a key or value is no label.
    pub fn from_value(selector: &Value) -> Result<Self, Error> {
        if selector.is_null() {
            return Ok(Self::nothing());
        }
        let mut requirements = equalities(selector["matchLabels"].as_object())?;
        for expression in meta::items(selector, &["matchExpressions"]) {
            let operator = match meta::text(expression, &["operator"]) {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(Error::Operator(other.to_owned())),
            };
            let values = meta::items(expression, &["values"]);
            let values: Vec<String> = values.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            if matches!(operator, Operator::Exists | Operator::DoesNotExist) && !values.is_empty() {
                let detail = "values set must be empty for exists and does not exist";
                return Err(invalid("values", values.into(), detail));
            }
            requirements.push(Requirement::new(meta::text(expression, &["key"]), operator, values)?);
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements: Some(requirements) })
    }

    /// Reads a map of labels that must all be there: the selector of a Service.
    ///
    /// # Errors
    /// A key or value is no label.
    pub fn from_map(labels: Option<&Map<String, Value>>) -> Result<Self, Error> {
        Ok(Self { requirements: Some(equalities(labels)?) })
    }

    pub fn matches(&self, labels: Option<&Map<String, Value>>) -> bool {
        self.matches_by(|key| labels.and_then(|l| l.get(key)).and_then(Value::as_str))
    }

    /// As [`Self::matches`], with labels that are looked up otherwise.
    pub fn matches_by<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.as_ref().is_some_and(|all| all.iter().all(|r| r.matches(label(&r.key))))
    }

    /// It matches whatever there is.
    pub fn is_everything(&self) -> bool {
        self.requirements.as_ref().is_some_and(Vec::is_empty)
    }

    pub fn requirements(&self) -> &[Requirement] {
        self.requirements.as_deref().unwrap_or_default()
    }
}

fn equalities(labels: Option<&Map<String, Value>>) -> Result<Vec<Requirement>, Error> {
    labels
        .into_iter()
        .flatten()
        .map(|(k, v)| Requirement::new(k, Operator::In, vec![v.as_str().unwrap_or_default().to_owned()]))
        .collect()
}

/// As `kubectl` shows it, and as [`LabelSelector::parse`] reads it back.
impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, r) in self.requirements().iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            let key = &r.key;
            let values = r.values.join(",");
            match r.operator {
                Operator::In if r.values.len() == 1 => write!(f, "{key}={values}")?,
                Operator::In => write!(f, "{key} in ({values})")?,
                Operator::NotIn if r.values.len() == 1 => write!(f, "{key}!={values}")?,
                Operator::NotIn => write!(f, "{key} notin ({values})")?,
                Operator::Exists => f.write_str(key)?,
                Operator::DoesNotExist => write!(f, "!{key}")?,
                Operator::GreaterThan(n) => write!(f, "{key}>{n}")?,
                Operator::LessThan(n) => write!(f, "{key}<{n}")?,
            }
        }
        Ok(())
    }
}

/// A piece of a selector's text. `in` and `notin` are words like any other; only their place makes them
/// operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Symbol(&'a str),
    End,
}

impl<'a> Token<'a> {
    fn text(self) -> &'a str {
        match self {
            Self::Word(t) | Self::Symbol(t) => t,
            Self::End => "",
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text }
    }

    fn peek(&self) -> (Token<'a>, usize) {
        let blank = |c| matches!(c, ' ' | '\t' | '\r' | '\n');
        let text = self.rest.trim_start_matches(blank);
        let skipped = self.rest.len() - text.len();
        let two = text.get(..2).filter(|t| matches!(*t, "==" | "!="));
        let one = text.get(..1).filter(|t| "=!(),><".contains(t));
        let token = match two.or(one) {
            Some(symbol) => Token::Symbol(symbol),
            None => {
                let end = text.find(|c| blank(c) || "=!(),><".contains(c)).unwrap_or(text.len());
                if end == 0 { Token::End } else { Token::Word(&text[..end]) }
            }
        };
        (token, skipped + token.text().len())
    }

    fn next(&mut self) -> Token<'a> {
        let (token, length) = self.peek();
        self.rest = &self.rest[length..];
        token
    }

    fn syntax(found: Token<'_>, expected: &'static str) -> Error {
        Error::Syntax { found: found.text().to_owned(), expected }
    }

    fn parse(&mut self) -> Result<Vec<Requirement>, Error> {
        let mut requirements = Vec::new();
        if self.peek().0 == Token::End {
            return Ok(requirements);
        }
        loop {
            match self.peek().0 {
                Token::Word(_) | Token::Symbol("!") => {}
                other if requirements.is_empty() => {
                    return Err(Self::syntax(other, "!, identifier, or 'end of string'"));
                }
                other => return Err(Self::syntax(other, "identifier after ','")),
            }
            let requirement = self.requirement().map_err(|e| Error::Requirement(e.to_string()))?;
            requirements.push(requirement);
            match self.next() {
                Token::End => return Ok(requirements),
                Token::Symbol(",") => {}
                other => return Err(Self::syntax(other, "',' or 'end of string'")),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, Error> {
        let mut token = self.next();
        let absent = token == Token::Symbol("!");
        if absent {
            token = self.next();
        }
        let Token::Word(key) = token else { return Err(Self::syntax(token, "identifier")) };
        check_key(key)?;
        if absent {
            return Requirement::new(key, Operator::DoesNotExist, Vec::new());
        }
        if matches!(self.peek().0, Token::End | Token::Symbol(",")) {
            return Requirement::new(key, Operator::Exists, Vec::new());
        }
        match self.next() {
            Token::Word("in") => Requirement::new(key, Operator::In, self.values()?),
            Token::Word("notin") => Requirement::new(key, Operator::NotIn, self.values()?),
            Token::Symbol("=" | "==") => Requirement::new(key, Operator::In, vec![self.value()?]),
            Token::Symbol("!=") => Requirement::new(key, Operator::NotIn, vec![self.value()?]),
            Token::Symbol(">") => Requirement::new(key, Operator::GreaterThan(self.number()?), Vec::new()),
            Token::Symbol("<") => Requirement::new(key, Operator::LessThan(self.number()?), Vec::new()),
            other => Err(Self::syntax(other, "in, notin, =, ==, !=, gt, lt")),
        }
    }

    fn value(&mut self) -> Result<String, Error> {
        match self.peek().0 {
            Token::End | Token::Symbol(",") => Ok(String::new()),
            Token::Word(value) => {
                self.next();
                Ok(value.to_owned())
            }
            other => Err(Self::syntax(other, "identifier")),
        }
    }

    fn number(&mut self) -> Result<i64, Error> {
        let value = self.value()?;
        value.parse().map_err(|_| {
            let detail = "for 'Gt', 'Lt' operators, the value must be an integer";
            invalid("values[0]", value.as_str().into(), detail)
        })
    }

    /// `(a,b)`; a gap between commas is the empty value.
    fn values(&mut self) -> Result<Vec<String>, Error> {
        let open = self.next();
        if open != Token::Symbol("(") {
            return Err(Error::Unopened(open.text().to_owned()));
        }
        let mut values = Vec::new();
        loop {
            let value = match self.peek().0 {
                Token::Word(value) => {
                    self.next();
                    value
                }
                Token::Symbol("," | ")") => "",
                other => return Err(Self::syntax(other, "',', ')' or identifier")),
            };
            values.push(value.to_owned());
            match self.next() {
                Token::Symbol(",") => {}
                Token::Symbol(")") => return Ok(values),
                other => return Err(Self::syntax(other, "',' or ')'")),
            }
        }
    }
}

/// One condition on one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRequirement {
    pub field: String,
    pub value: String,
    /// `=` rather than `!=`.
    pub equal: bool,
}

/// Every requirement has to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    pub requirements: Vec<FieldRequirement>,
}

impl FieldSelector {
    /// Reads `status.phase=Running,metadata.name!=x`. Backslash escapes commas, equals signs and itself in
    /// values. Whether a kind has the fields is for its row to say.
    ///
    /// # Errors
    /// A term has no operator, or a wrong escape.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut requirements = Vec::new();
        for term in split_terms(text).into_iter().filter(|t| !t.is_empty()) {
            let split = term.find("!=").into_iter().chain(term.find('=')).min();
            let Some(at) = split else {
                return Err(Error::FieldTerm { selector: text.to_owned(), term: term.to_owned() });
            };
            let (field, rest) = term.split_at(at);
            let operator = ["!=", "==", "="].into_iter().find(|o| rest.starts_with(o)).unwrap_or("=");
            let value = unescape(&rest[operator.len()..])?;
            requirements.push(FieldRequirement { field: field.to_owned(), value, equal: operator != "!=" });
        }
        Ok(Self { requirements })
    }

    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether an object whose fields `read` answers for is selected.
    pub fn matches<T: AsRef<str>>(&self, read: impl Fn(&str) -> T) -> bool {
        self.requirements.iter().all(|r| (read(&r.field).as_ref() == r.value) == r.equal)
    }

    /// The one value that this field must have, if the selector says so.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.requirements.iter().find(|r| r.equal && r.field == field).map(|r| r.value.as_str())
    }
}

fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn unescape(text: &str) -> Result<String, Error> {
    let mut value = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped @ ('\\' | ',' | '=')) => value.push(escaped),
                Some(other) => return Err(Error::FieldEscape(format!("\\{other}"))),
                None => return Err(Error::FieldEscape("\\".to_owned())),
            },
            ',' | '=' => return Err(Error::FieldUnescaped(c.into())),
            other => value.push(other),
        }
    }
    Ok(value)
}

#[cfg(test)]
#[path = "selector_tests.rs"]
mod tests;
