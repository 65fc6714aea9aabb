//! Questions to the authorizer: `authorizer.group('').resource('pods').check('create').allowed()`.

use std::rc::Rc;

use super::{Opaque, Out, Price, Regexes, Row, opaque};
use crate::error::EvalError;
use crate::value::{Str, Value};

/// What decides whether somebody may do something. It must answer from memory.
pub trait Authorizer {
    /// Decides for the user of the request, or for the service account `(namespace, name)` instead.
    fn decide(&self, account: Option<(&str, &str)>, ask: &Ask<'_>) -> Decision;
}

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask<'a> {
    Path {
        path: &'a str,
        verb: &'a str,
    },
    /// Of any version; what is not given is empty.
    Resource {
        group: &'a str,
        resource: &'a str,
        subresource: &'a str,
        namespace: &'a str,
        name: &'a str,
        verb: &'a str,
        field_selector: &'a str,
        label_selector: &'a str,
    },
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    pub reason: String,
    pub error: Option<String>,
}

/// An authorizer and whom it is asked about.
#[derive(Clone)]
pub struct AuthorizerRef<'a> {
    of: &'a dyn Authorizer,
    account: Option<(Str<'a>, Str<'a>)>,
}

#[derive(Clone)]
pub struct ResourceCheck<'a> {
    authorizer: AuthorizerRef<'a>,
    group: Str<'a>,
    resource: Str<'a>,
    subresource: Str<'a>,
    namespace: Str<'a>,
    name: Str<'a>,
    field_selector: Str<'a>,
    label_selector: Str<'a>,
}

impl<'a> Value<'a> {
    /// The variable `authorizer`.
    pub fn authorizer(of: &'a dyn Authorizer) -> Self {
        opaque(Opaque::Authorizer(AuthorizerRef { of, account: None }))
    }

    /// The variable `authorizer.requestResource`, of what the request is about: group, resource, subresource,
    /// namespace and name.
    pub fn request_resource(of: &'a dyn Authorizer, request: [&'a str; 5]) -> Self {
        let [group, resource, subresource, namespace, name] = request.map(Str::Borrowed);
        let none = || Str::Borrowed("");
        opaque(Opaque::ResourceCheck(ResourceCheck {
            authorizer: AuthorizerRef { of, account: None },
            group,
            resource,
            subresource,
            namespace,
            name,
            field_selector: none(),
            label_selector: none(),
        }))
    }
}

const RESOURCE: &[&str] =
    &["kubernetes.authorization.ResourceCheck.(string) kubernetes.authorization.ResourceCheck"];

pub(super) const ROWS: &[Row] = &[
    (
        "path",
        path,
        Price::One,
        &["kubernetes.authorization.Authorizer.(string) kubernetes.authorization.PathCheck"],
    ),
    (
        "group",
        group,
        Price::One,
        &["kubernetes.authorization.Authorizer.(string) kubernetes.authorization.GroupCheck"],
    ),
    (
        "serviceAccount",
        service_account,
        Price::One,
        &["kubernetes.authorization.Authorizer.(string, string) kubernetes.authorization.Authorizer"],
    ),
    (
        "resource",
        resource,
        Price::One,
        &["kubernetes.authorization.GroupCheck.(string) kubernetes.authorization.ResourceCheck"],
    ),
    ("subresource", |_, a| with(a, |r, s| r.subresource = s), Price::One, RESOURCE),
    ("namespace", |_, a| with(a, |r, s| r.namespace = s), Price::One, RESOURCE),
    ("name", |_, a| with(a, |r, s| r.name = s), Price::One, RESOURCE),
    ("fieldSelector", |_, a| with(a, |r, s| r.field_selector = s), Price::Selector, RESOURCE),
    ("labelSelector", |_, a| with(a, |r, s| r.label_selector = s), Price::Selector, RESOURCE),
    (
        "check",
        check,
        Price::Check,
        &[
            "kubernetes.authorization.PathCheck.(string) kubernetes.authorization.Decision",
            "kubernetes.authorization.ResourceCheck.(string) kubernetes.authorization.Decision",
        ],
    ),
    (
        "allowed",
        |_, a| Ok(Value::Bool(decision(&a[0])?.allowed)),
        Price::One,
        &["kubernetes.authorization.Decision.() bool"],
    ),
    (
        "errored",
        |_, a| Ok(Value::Bool(decision(&a[0])?.error.is_some())),
        Price::One,
        &["kubernetes.authorization.Decision.() bool"],
    ),
    (
        "error",
        |_, a| Ok(Value::from(decision(&a[0])?.error.clone().unwrap_or_default())),
        Price::One,
        &["kubernetes.authorization.Decision.() string"],
    ),
    (
        "reason",
        |_, a| Ok(Value::from(decision(&a[0])?.reason.clone())),
        Price::One,
        &["kubernetes.authorization.Decision.() string"],
    ),
];

fn string<'a>(value: &Value<'a>) -> Result<Str<'a>, EvalError> {
    match value {
        Value::String(s) => Ok(s.clone()),
        _ => Err(EvalError::no_overload()),
    }
}

fn receiver<'v, 'a>(value: &'v Value<'a>) -> Result<&'v Rc<Opaque<'a>>, EvalError> {
    match value {
        Value::Opaque(o) => Ok(o),
        _ => Err(EvalError::no_overload()),
    }
}

fn path<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    let Opaque::Authorizer(authorizer) = &**receiver(&args[0])? else { return Err(EvalError::no_overload()) };
    let path = string(&args[1])?;
    if path.trim().is_empty() {
        return Err(EvalError::new("path must not be empty"));
    }
    Ok(opaque(Opaque::PathCheck(authorizer.clone(), path)))
}

fn group<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    let Opaque::Authorizer(authorizer) = &**receiver(&args[0])? else { return Err(EvalError::no_overload()) };
    Ok(opaque(Opaque::GroupCheck(authorizer.clone(), string(&args[1])?)))
}

fn service_account<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    let Opaque::Authorizer(authorizer) = &**receiver(&args[0])? else { return Err(EvalError::no_overload()) };
    let (namespace, name) = (string(&args[1])?, string(&args[2])?);
    if !tiphys_api::names::dns_subdomain(&name, false).is_empty() {
        return Err(EvalError::new("Invalid service account name"));
    }
    if !tiphys_api::names::dns_label(&namespace, false).is_empty() {
        return Err(EvalError::new("Invalid service account namespace"));
    }
    Ok(opaque(Opaque::Authorizer(AuthorizerRef { of: authorizer.of, account: Some((namespace, name)) })))
}

fn resource<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    let Opaque::GroupCheck(authorizer, group) = &**receiver(&args[0])? else {
        return Err(EvalError::no_overload());
    };
    let resource = string(&args[1])?;
    if resource.trim().is_empty() {
        return Err(EvalError::new("resource must not be empty"));
    }
    let none = || Str::Borrowed("");
    Ok(opaque(Opaque::ResourceCheck(ResourceCheck {
        authorizer: authorizer.clone(),
        group: group.clone(),
        resource,
        subresource: none(),
        namespace: none(),
        name: none(),
        field_selector: none(),
        label_selector: none(),
    })))
}

fn with<'a>(args: &[Value<'a>], set: impl Fn(&mut ResourceCheck<'a>, Str<'a>)) -> Out<'a> {
    let Opaque::ResourceCheck(check) = &**receiver(&args[0])? else { return Err(EvalError::no_overload()) };
    let mut check = check.clone();
    set(&mut check, string(&args[1])?);
    Ok(opaque(Opaque::ResourceCheck(check)))
}

fn check<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    let verb = string(&args[1])?;
    let (authorizer, ask) = match &**receiver(&args[0])? {
        Opaque::PathCheck(authorizer, path) => (authorizer, Ask::Path { path, verb: &verb }),
        Opaque::ResourceCheck(r) => (
            &r.authorizer,
            Ask::Resource {
                group: &r.group,
                resource: &r.resource,
                subresource: &r.subresource,
                namespace: &r.namespace,
                name: &r.name,
                verb: &verb,
                field_selector: &r.field_selector,
                label_selector: &r.label_selector,
            },
        ),
        _ => return Err(EvalError::no_overload()),
    };
    let account = authorizer.account.as_ref().map(|(namespace, name)| (&**namespace, &**name));
    Ok(opaque(Opaque::Decision(authorizer.of.decide(account, &ask))))
}

fn decision<'v>(value: &'v Value<'_>) -> Result<&'v Decision, EvalError> {
    match &**receiver(value)? {
        Opaque::Decision(decision) => Ok(decision),
        _ => Err(EvalError::no_overload()),
    }
}
