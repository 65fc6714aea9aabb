//! `format.dns1123Label().validate(name)`: formats with names.

use base64::Engine as _;
use tiphys_api::names;

use super::{Opaque, Out, Price, Regexes, Row, opaque, url::Url};
use crate::error::EvalError;
use crate::time;
use crate::value::Value;

pub struct NamedFormat {
    pub(super) name: &'static str,
    /// What is wrong with a text.
    check: fn(&str) -> Vec<String>,
    /// How long a regular expression of it is taken to be, for its price.
    pattern: u64,
}

static FORMATS: [(&str, NamedFormat); 13] = [
    ("dns1123Label", format("DNS1123Label", |s| names::dns_label(s, false), 30)),
    ("dns1123Subdomain", format("DNS1123Subdomain", |s| names::dns_subdomain(s, false), 60)),
    ("dns1035Label", format("DNS1035Label", |s| names::dns1035_label(s, false), 30)),
    ("qualifiedName", format("QualifiedName", names::label_key, 60)),
    ("dns1123LabelPrefix", format("DNS1123LabelPrefix", |s| names::dns_label(s, true), 30)),
    ("dns1123SubdomainPrefix", format("DNS1123SubdomainPrefix", |s| names::dns_subdomain(s, true), 60)),
    ("dns1035LabelPrefix", format("DNS1035LabelPrefix", |s| names::dns1035_label(s, true), 30)),
    ("labelValue", format("LabelValue", names::label_value, 40)),
    ("uri", format("URI", |s| Url::parse(s).err().into_iter().collect(), 1_000)),
    ("uuid", format("uuid", |s| wrong(is_uuid(s), "does not match the UUID format"), 84)),
    ("byte", format("byte", |s| wrong(is_base64(s), "invalid base64"), 84)),
    ("date", format("date", |s| wrong(s.len() == 10 && time::parse(s).is_some(), "invalid date"), 128)),
    (
        "datetime",
        format("datetime", |s| wrong(s.len() > 10 && time::parse(s).is_some(), "invalid datetime"), 128),
    ),
];

const fn format(name: &'static str, check: fn(&str) -> Vec<String>, pattern: u64) -> NamedFormat {
    NamedFormat { name, check, pattern }
}

fn wrong(right: bool, message: &str) -> Vec<String> {
    if right { Vec::new() } else { vec![message.to_owned()] }
}

fn is_base64(text: &str) -> bool {
    base64::engine::general_purpose::STANDARD.decode(text).is_ok()
}

fn is_uuid(text: &str) -> bool {
    let parts: Vec<_> = text.split('-').collect();
    let hex = |s: &str| s.bytes().all(|b| b.is_ascii_hexdigit());
    let lengths: Vec<_> = parts.iter().map(|p| p.len()).collect();
    (lengths == [8, 4, 4, 4, 12] || lengths == [32]) && parts.iter().all(|p| hex(p))
}

fn named<'a>(name: &str) -> Option<Value<'a>> {
    let (_, format) = FORMATS.iter().find(|(n, _)| *n == name)?;
    Some(opaque(Opaque::Format(format)))
}

/// The function that gives a format is called like the format.
macro_rules! getters {
    ($($name:literal),*) => {
        &[
            ("validate", validate, Price::Validate, &["kubernetes.NamedFormat.(string) optional(list(string))"]),
            ("format.named", by_name, Price::One, &["(string) optional(kubernetes.NamedFormat)"]),
            $((
                concat!("format.", $name),
                |_, _| named($name).ok_or_else(EvalError::no_overload),
                Price::One,
                &["() kubernetes.NamedFormat"],
            )),*
        ]
    };
}

pub(super) const ROWS: &[Row] = getters![
    "dns1123Label",
    "dns1123Subdomain",
    "dns1035Label",
    "qualifiedName",
    "dns1123LabelPrefix",
    "dns1123SubdomainPrefix",
    "dns1035LabelPrefix",
    "labelValue",
    "uri",
    "uuid",
    "byte",
    "date",
    "datetime"
];

fn by_name<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    let name = args[0].as_str().ok_or_else(EvalError::no_overload)?;
    Ok(Value::Optional(named(name).map(std::rc::Rc::new)))
}

fn validate<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    let (Value::Opaque(format), Value::String(text)) = (&args[0], &args[1]) else {
        return Err(EvalError::no_overload());
    };
    let Opaque::Format(format) = &**format else { return Err(EvalError::no_overload()) };
    let wrong = (format.check)(text);
    Ok(if wrong.is_empty() {
        Value::Optional(None)
    } else {
        Value::some(Value::list(wrong.into_iter().map(Value::from).collect()))
    })
}

impl NamedFormat {
    pub(crate) fn pattern(&self) -> u64 {
        self.pattern
    }
}
