//! The functions of the language and of Kubernetes' libraries: one table of signatures, bodies and prices.
//!
//! The set is that of 1.37: the standard library with optional types and cross-type comparison, strings (version 2),
//! lists (version 3), sets, two-variable comprehensions, and Kubernetes' own.

mod authz;
pub(crate) mod collections;
mod convert;
mod formatting;
mod named_format;
mod network;
mod operators;
mod quantity;
mod semver;
mod strings;
mod times;
mod url;

use std::collections::{HashMap, VecDeque};
use std::sync::OnceLock;

use authz::AuthorizerRef;
pub use authz::{Ask, Authorizer, Decision};
use parking_lot::Mutex;
use regex::Regex;

use crate::error::EvalError;
use crate::types::Type;
use crate::value::{Str, Value};

pub(crate) type Out<'a> = Result<Value<'a>, EvalError>;
/// A function's body. A receiver is its first argument.
pub(crate) type Body = for<'a> fn(&Regexes, &[Value<'a>]) -> Out<'a>;

/// A function with all of its signatures.
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) overloads: Vec<Overload>,
    pub(crate) body: Body,
    pub(crate) price: Price,
}

pub(crate) struct Overload {
    pub(crate) member: bool,
    pub(crate) args: Vec<Type>,
    pub(crate) result: Type,
}

/// What a call costs beyond its arguments; the kinds follow upstream's estimators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Price {
    One,
    /// Reads the first argument; the result is as long.
    Map,
    /// Reads the first argument.
    Read,
    /// Reads the first argument twice.
    ReadTwice,
    Replace,
    Split,
    Join,
    /// Looks at each item of a list, or at each character.
    Walk,
    Find,
    Matches,
    Contains,
    /// The begin or end of a text.
    Affix,
    Format,
    Quote,
    StringToBytes,
    BytesToString,
    In,
    Compare,
    Add,
    ContainsIp,
    ContainsCidr,
    Validate,
    /// A question to the authorizer.
    Check,
    Selector,
    /// Makes a list as long as the result.
    Output,
    Flatten,
    /// Compares the items of a list with each other.
    Pairs,
    /// Compares the items of two lists.
    Sets,
}

/// A row: name, body, price, signatures as `(int, int) int` or `string.(int) string`.
type Row = (&'static str, Body, Price, &'static [&'static str]);

/// The patterns of a program: those that were known before it ran, and the few that it used last.
#[derive(Debug, Default)]
pub(crate) struct Regexes {
    literal: HashMap<String, Regex>,
    recent: Mutex<VecDeque<(String, Regex)>>,
}

impl Regexes {
    /// How many patterns that came with objects are kept.
    const RECENT: usize = 4;

    /// Keeps a pattern; the error says why it is none.
    pub(crate) fn learn(&mut self, pattern: &str) -> Result<(), String> {
        if !self.literal.contains_key(pattern) {
            self.literal.insert(pattern.to_owned(), compile(pattern)?);
        }
        Ok(())
    }

    fn find(&self, pattern: &str) -> Option<Regex> {
        if let Some(regex) = self.literal.get(pattern) {
            return Some(regex.clone());
        }
        let recent = self.recent.lock();
        recent.iter().find(|(known, _)| known == pattern).map(|(_, regex)| regex.clone())
    }

    /// Whether using a pattern costs no compilation.
    pub(crate) fn knows(&self, pattern: &str) -> bool {
        self.find(pattern).is_some()
    }

    fn with<T>(&self, pattern: &str, then: impl FnOnce(&Regex) -> T) -> Result<T, EvalError> {
        if let Some(regex) = self.find(pattern) {
            return Ok(then(&regex));
        }
        let regex = compile(pattern).map_err(EvalError::Failed)?;
        let result = then(&regex);
        let mut recent = self.recent.lock();
        recent.truncate(Self::RECENT - 1);
        recent.push_front((pattern.to_owned(), regex));
        Ok(result)
    }
}

/// Compiled to at most a quarter of a megabyte; matching takes linear time.
fn compile(pattern: &str) -> Result<Regex, String> {
    regex::RegexBuilder::new(pattern)
        .size_limit(1 << 18)
        .dfa_size_limit(1 << 18)
        .build()
        .map_err(|_| format!("error parsing regexp: `{pattern}`"))
}

/// The function of a name.
pub(crate) fn lookup(name: &str) -> Option<&'static Function> {
    static TABLE: OnceLock<HashMap<&'static str, Function>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let rows = [
            operators::ROWS,
            convert::ROWS,
            strings::ROWS,
            times::ROWS,
            collections::ROWS,
            network::ROWS,
            url::ROWS,
            quantity::ROWS,
            semver::ROWS,
            named_format::ROWS,
            authz::ROWS,
        ];
        let mut table: HashMap<&'static str, Function> = HashMap::new();
        for (name, body, price, signatures) in rows.into_iter().flatten() {
            let overloads: Vec<_> = signatures.iter().map(|s| signature(s)).collect();
            table.insert(name, Function { name, overloads, body: *body, price: *price });
        }
        table
    });
    table.get(name)
}

fn signature(text: &'static str) -> Overload {
    let (receiver, rest) = match text.split_once(".(") {
        Some((receiver, rest)) => (Some(Type::read(receiver)), rest),
        None => (None, text.strip_prefix('(').unwrap_or(text)),
    };
    let mut depth = 0;
    let mut args: Vec<Type> = Vec::new();
    let member = receiver.is_some();
    args.extend(receiver);
    let mut start = 0;
    for (at, c) in rest.char_indices() {
        match c {
            '(' => depth += 1,
            ',' | ')' if depth == 0 => {
                if !rest[start..at].trim().is_empty() {
                    args.push(Type::read(&rest[start..at]));
                }
                start = at + 1;
                if c == ')' {
                    break;
                }
            }
            ')' => depth -= 1,
            _ => {}
        }
    }
    Overload { member, args, result: Type::read(&rest[start..]) }
}

/// A value of Kubernetes' libraries.
pub enum Opaque<'a> {
    Quantity(tiphys_api::quantity::Quantity),
    Url(url::Url),
    Ip(std::net::IpAddr),
    Cidr(network::Cidr),
    Semver(tiphys_api::semver::Semver),
    Format(&'static named_format::NamedFormat),
    Authorizer(AuthorizerRef<'a>),
    PathCheck(AuthorizerRef<'a>, Str<'a>),
    GroupCheck(AuthorizerRef<'a>, Str<'a>),
    ResourceCheck(authz::ResourceCheck<'a>),
    Decision(Decision),
}

impl Opaque<'_> {
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Url(_) => "kubernetes.URL",
            Self::Ip(_) => "net.IP",
            Self::Cidr(_) => "net.CIDR",
            Self::Semver(_) => "kubernetes.Semver",
            Self::Format(_) => "kubernetes.NamedFormat",
            Self::Authorizer(_) => "kubernetes.authorization.Authorizer",
            Self::PathCheck(..) => "kubernetes.authorization.PathCheck",
            Self::GroupCheck(..) => "kubernetes.authorization.GroupCheck",
            Self::ResourceCheck(_) => "kubernetes.authorization.ResourceCheck",
            Self::Decision(_) => "kubernetes.authorization.Decision",
        }
    }

    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Ip(ip) | Self::Cidr(network::Cidr { ip, .. }) => {
                if ip.is_ipv4() {
                    4
                } else {
                    16
                }
            }
            Self::Url(url) => url.text.len(),
            _ => 1,
        }
    }

    pub(crate) fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Quantity(a), Self::Quantity(b)) => a == b,
            (Self::Url(a), Self::Url(b)) => a.text == b.text,
            (Self::Ip(a), Self::Ip(b)) => a == b,
            (Self::Cidr(a), Self::Cidr(b)) => a == b,
            (Self::Semver(a), Self::Semver(b)) => a.order(b).is_eq(),
            (Self::Format(a), Self::Format(b)) => a.name == b.name,
            _ => false,
        }
    }
}

impl std::fmt::Debug for Opaque<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Quantity(q) => write!(f, "quantity({q})"),
            Self::Url(url) => write!(f, "url({:?})", url.text),
            Self::Ip(ip) => write!(f, "ip({ip})"),
            Self::Cidr(cidr) => write!(f, "cidr({cidr})"),
            other => f.write_str(other.type_name()),
        }
    }
}

fn opaque(value: Opaque<'_>) -> Value<'_> {
    Value::Opaque(std::rc::Rc::new(value))
}

#[cfg(test)]
#[path = "library_tests.rs"]
mod tests;
