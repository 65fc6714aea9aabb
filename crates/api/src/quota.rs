//! What objects cost a `ResourceQuota`, and whether a quota can bear it. Pure: both who charges and who counts anew
//! go by this.
//!
//! Names of what a quota bounds, and every message, are upstream's (`pkg/quota/v1`, `apiserver/pkg/quota/v1`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use crate::meta;
use crate::quantity::{Format, Quantity};

mod devices;
mod pods;

pub use devices::{BY_CLASS, Devices, FOR_RESOURCES, paid, payer};
pub use pods::{Needs, is_extended};

/// Amounts by the name of what is counted.
pub type Amounts = BTreeMap<String, Quantity>;

const STORAGE_CLASS: &str = ".storageclass.storage.k8s.io/";
const CLAIMS: &str = "persistentvolumeclaims";
const STORAGE: &str = "requests.storage";

/// Reads a map of quantities; what is none is left out.
pub fn amounts(list: &Value) -> Amounts {
    let entries = list.as_object().into_iter().flatten();
    let parsed =
        entries.filter_map(|(name, text)| Some((name.clone(), Quantity::parse(text.as_str()?).ok()?)));
    parsed.collect()
}

/// As the API writes a map of quantities.
pub fn render(amounts: &Amounts) -> Value {
    let entries = amounts.iter().map(|(name, amount)| (name.clone(), amount.to_string().into()));
    Value::Object(entries.collect::<Map<_, _>>())
}

/// Adds the second to the first.
pub fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let at = sum.entry(name.clone()).or_insert(Quantity::from_units(0, amount.format()));
        *at = *at + *amount;
    }
}

fn one() -> Quantity {
    count(1)
}

fn count(n: usize) -> Quantity {
    Quantity::from_units(i64::try_from(n).unwrap_or(i64::MAX), Format::DecimalSI)
}

/// How objects of one resource are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meter<'a> {
    Pods,
    Services,
    Claims,
    /// Claims to devices, by the class of what they ask for.
    Devices,
    /// Each object is one, under `count/<resource>.<group>` and, for a few, under the resource's name.
    Objects {
        group: &'a str,
        resource: &'a str,
    },
}

impl<'a> Meter<'a> {
    /// `None` for what no quota counts.
    pub fn of(group: &'a str, resource: &'a str) -> Option<Self> {
        match (group, resource) {
            ("", "events" | "bindings" | "componentstatuses")
            | ("events.k8s.io" | "authentication.k8s.io" | "authorization.k8s.io", _) => None,
            ("", "pods") => Some(Self::Pods),
            ("", "services") => Some(Self::Services),
            ("", CLAIMS) => Some(Self::Claims),
            ("resource.k8s.io", "resourceclaims") => Some(Self::Devices),
            _ => Some(Self::Objects { group, resource }),
        }
    }

    /// The meters of what a quota bounds under `name`: none for a name that nothing is counted under, two for what
    /// both pods and claims ask for.
    pub fn behind(name: &'a str) -> impl Iterator<Item = Self> {
        let counted = name.strip_prefix("count/").and_then(|counted| {
            let (resource, group) = counted.split_once('.').unwrap_or((counted, ""));
            Self::of(group, resource)
        });
        let fixed = [Self::Pods, Self::Services, Self::Claims, Self::Devices];
        let fixed = fixed.into_iter().filter(move |meter| counted.is_none() && meter.tracks(name));
        let alias = is_alias(name).then_some(Self::Objects { group: "", resource: name });
        counted.into_iter().chain(fixed).chain(alias)
    }

    /// Group and resource of what is counted.
    pub fn resource(self) -> (&'a str, &'a str) {
        match self {
            Self::Pods => ("", "pods"),
            Self::Services => ("", "services"),
            Self::Claims => ("", CLAIMS),
            Self::Devices => ("resource.k8s.io", "resourceclaims"),
            Self::Objects { group, resource } => (group, resource),
        }
    }

    fn counts_as(self, name: &str) -> bool {
        let (group, resource) = self.resource();
        name.strip_prefix("count/").is_some_and(|counted| match group {
            "" => counted == resource,
            _ => counted.strip_prefix(resource).and_then(|rest| rest.strip_prefix('.')) == Some(group),
        })
    }

    /// Whether objects of the resource may cost something under `name`.
    pub fn tracks(self, name: &str) -> bool {
        self.counts_as(name)
            || match self {
                Self::Pods => pods::tracks(name),
                Self::Services => {
                    matches!(name, "services" | "services.nodeports" | "services.loadbalancers")
                }
                Self::Claims => {
                    let kind = name.split_once(STORAGE_CLASS).map_or(name, |(_, kind)| kind);
                    matches!(kind, CLAIMS | STORAGE)
                }
                Self::Devices => devices::tracks(name),
                Self::Objects { group, resource } => group.is_empty() && resource == name && is_alias(name),
            }
    }

    /// Whether the number of objects is all that there is to know of them.
    pub fn is_number(self) -> bool {
        matches!(self, Self::Objects { .. })
    }

    /// Whether a request that makes `object` of `old`, which is `Null` for a new one, may change what is used.
    pub fn handles(self, subresource: &str, object: &Value, old: &Value) -> bool {
        let create = old.is_null();
        match self {
            // A pod that is given an end, or has lost it, goes over to other quotas.
            Self::Pods if subresource.is_empty() => create || pods::ends(object) != pods::ends(old),
            Self::Pods => !create && subresource == "resize",
            Self::Services | Self::Devices => subresource.is_empty(),
            Self::Claims => subresource.is_empty() || (!create && subresource == "status"),
            Self::Objects { .. } => create && subresource.is_empty(),
        }
    }

    /// What the object uses.
    pub fn usage(self, object: &Value, now: Timestamp, known: &Devices) -> Amounts {
        let (group, resource) = self.resource();
        let dot = if group.is_empty() { "" } else { "." };
        let mut used = Amounts::from([(format!("count/{resource}{dot}{group}"), one())]);
        match self {
            Self::Pods if is_over(object, now) => {}
            Self::Pods => add(&mut used, &pods::usage(object)),
            Self::Services => used.extend(service(object)),
            Self::Claims => used.extend(claim(object)),
            Self::Devices => add(&mut used, &known.usage(object)),
            Self::Objects { .. } if group.is_empty() && is_alias(resource) => {
                used.insert(resource.to_owned(), one());
            }
            Self::Objects { .. } => {}
        }
        used
    }

    /// Whether the object is what a scope means.
    fn is_in(self, scope: &Scope, object: &Value) -> bool {
        match self {
            Self::Pods => pods::is_in(scope, object),
            Self::Claims if scope.name == "VolumeAttributesClass" => {
                scope.selects(&attributes_classes(object))
            }
            _ => false,
        }
    }
}

/// Resources that are counted under their own name, too.
fn is_alias(resource: &str) -> bool {
    matches!(resource, "configmaps" | "resourcequotas" | "replicationcontrollers" | "secrets")
}

/// A pod that has ended, or should have, uses nothing any more.
fn is_over(pod: &Value, now: Timestamp) -> bool {
    if matches!(meta::text(pod, &["status", "phase"]), "Succeeded" | "Failed") {
        return true;
    }
    let metadata = &pod["metadata"];
    let deleted = metadata["deletionTimestamp"].as_str().and_then(|t| t.parse::<Timestamp>().ok());
    let (Some(deleted), Some(grace)) = (deleted, metadata["deletionGracePeriodSeconds"].as_i64()) else {
        return false;
    };
    deleted.saturating_add(SignedDuration::from_secs(grace)).is_ok_and(|end| now > end)
}

fn service(service: &Value) -> Amounts {
    let spec = &service["spec"];
    let ports = meta::items(service, &["spec", "ports"]);
    let all = ports.len();
    let (node_ports, balancers) = match spec["type"].as_str() {
        Some("NodePort") => (all, 0),
        Some("LoadBalancer") if spec["allocateLoadBalancerNodePorts"] == false => {
            (ports.iter().filter(|port| port["nodePort"].as_i64().is_some_and(|p| p != 0)).count(), 1)
        }
        Some("LoadBalancer") => (all, 1),
        _ => (0, 0),
    };
    [("services", 1), ("services.nodeports", node_ports), ("services.loadbalancers", balancers)]
        .map(|(name, n)| (name.to_owned(), count(n)))
        .into()
}

fn claim(claim: &Value) -> Amounts {
    let whole = |list: &Value| {
        let asked = Quantity::parse(list["storage"].as_str()?).ok()?;
        Some(if asked.is_whole() { asked } else { Quantity::from_units(asked.value(), asked.format()) })
    };
    let class = meta::annotation(claim, "volume.beta.kubernetes.io/storage-class")
        .unwrap_or_else(|| meta::text(claim, &["spec", "storageClassName"]));
    let asked = whole(&claim["spec"]["resources"]["requests"]);
    let allocated = whole(&claim["status"]["allocatedResources"]);
    let storage = asked.map(|asked| allocated.map_or(asked, |allocated| asked.max(allocated)));
    let mut used = Amounts::new();
    for (name, amount) in [(CLAIMS, Some(one())), (STORAGE, storage)] {
        let Some(amount) = amount else { continue };
        used.insert(name.to_owned(), amount);
        if !class.is_empty() {
            used.insert(format!("{class}{STORAGE_CLASS}{name}"), amount);
        }
    }
    used
}

/// The classes that a claim has, had and shall have.
fn attributes_classes(claim: &Value) -> Vec<&str> {
    let paths: [&[&str]; 3] = [
        &["spec", "volumeAttributesClassName"],
        &["status", "currentVolumeAttributesClassName"],
        &["status", "modifyVolumeStatus", "targetVolumeAttributesClassName"],
    ];
    paths.iter().map(|path| meta::text(claim, path)).filter(|class| !class.is_empty()).collect()
}

/// One of the conditions under which a quota counts an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    name: String,
    operator: Operator,
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Exists,
    DoesNotExist,
    In,
    NotIn,
}

impl Scope {
    /// One of `matchExpressions`.
    fn read(expression: &Value) -> Self {
        let operator = match expression["operator"].as_str() {
            Some("In") => Operator::In,
            Some("NotIn") => Operator::NotIn,
            Some("DoesNotExist") => Operator::DoesNotExist,
            _ => Operator::Exists,
        };
        let values = meta::items(expression, &["values"]).iter();
        let values = values.filter_map(Value::as_str).map(str::to_owned).collect();
        Self { name: meta::text(expression, &["scopeName"]).to_owned(), operator, values }
    }

    /// Whether the condition holds of an object that names these classes.
    fn selects(&self, classes: &[&str]) -> bool {
        let among = |class: &&str| self.values.iter().any(|value| value == class);
        match self.operator {
            Operator::Exists => !classes.is_empty(),
            Operator::DoesNotExist => classes.is_empty(),
            Operator::In => classes.iter().any(among),
            Operator::NotIn => classes.is_empty() || classes.iter().any(|class| !among(class)),
        }
    }
}

/// The conditions of a quota's spec.
fn scopes(spec: &Value) -> Vec<Scope> {
    let plain = meta::items(spec, &["scopes"]).iter().filter_map(Value::as_str);
    let plain =
        plain.map(|name| Scope { name: name.to_owned(), operator: Operator::Exists, values: Vec::new() });
    let selected = meta::items(spec, &["scopeSelector", "matchExpressions"]).iter().map(Scope::read);
    plain.chain(selected).collect()
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{} {:?} [{}]}}", self.name, self.operator, self.values.join(" "))
    }
}

/// What may be used only where a quota covers it: `limitedResources` of the plug-in's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limited {
    group: String,
    resource: String,
    /// Parts of the names of what is used.
    contains: Vec<String>,
    scopes: Vec<Scope>,
}

impl Limited {
    /// `scopes` are written as in `matchExpressions` of a quota.
    pub fn new(group: String, resource: String, contains: Vec<String>, scopes: &[Value]) -> Self {
        Self { group, resource, contains, scopes: scopes.iter().map(Scope::read).collect() }
    }

    /// Whether it is about objects that are counted so.
    pub fn concerns(&self, meter: Meter<'_>) -> bool {
        !self.scopes.is_empty() || self.names(meter)
    }

    fn names(&self, meter: Meter<'_>) -> bool {
        meter.resource() == (&*self.group, &*self.resource)
    }
}

/// What no quota covers that has to be: names of what is used, or scopes.
fn uncovered(
    quotas: &[Quota],
    request: &Request<'_>,
    usage: &Amounts,
    limited: &[Limited],
) -> Option<Refusal> {
    let Request { meter, object, .. } = *request;
    let covered: BTreeSet<&str> =
        quotas.iter().filter(|q| q.covers(meter, object)).flat_map(|q| q.tracked(meter)).collect();
    let limits = |name: &str| {
        let mut named = limited.iter().filter(|limited| limited.names(meter));
        named.any(|limited| limited.contains.iter().any(|part| name.contains(&**part)))
    };
    let used = usage.iter().filter(|(_, amount)| **amount > Quantity::ZERO).map(|(name, _)| &**name);
    let names: Vec<&str> = used.filter(|name| limits(name) && !covered.contains(name)).collect();
    if !names.is_empty() {
        return Some(Refusal::Uncovered { names: names.join(",") });
    }
    let is_in = |scope: &&Scope| meter.is_in(scope, object);
    let met: BTreeSet<&str> =
        quotas.iter().flat_map(|q| &q.scopes).filter(is_in).map(|scope| &*scope.name).collect();
    let scopes = limited.iter().flat_map(|limited| &limited.scopes).filter(is_in);
    let scopes: Vec<String> =
        scopes.filter(|scope| !met.contains(&*scope.name)).map(ToString::to_string).collect();
    (!scopes.is_empty()).then(|| Refusal::OutOfScope { scopes: scopes.join(" ") })
}

/// What is enforced of a `ResourceQuota`: the bounds that its status has taken over from its spec, and what is used
/// of them. One that was never counted holds by its spec, and nobody knows what is used.
#[derive(Clone, Debug, Default)]
pub struct Quota {
    pub name: String,
    pub hard: Amounts,
    pub used: Amounts,
    counted: bool,
    scopes: Vec<Scope>,
}

impl Quota {
    pub fn read(object: &Value) -> Self {
        let (spec, status) = (&object["spec"], &object["status"]);
        let counted = status["hard"].is_object();
        Self {
            name: meta::name(object).to_owned(),
            hard: amounts(if counted { &status["hard"] } else { &spec["hard"] }),
            used: amounts(&status["used"]),
            counted,
            scopes: scopes(spec),
        }
    }

    /// The bounds that objects of the resource may run into.
    fn tracked(&self, meter: Meter<'_>) -> Vec<&str> {
        self.hard.keys().map(String::as_str).filter(|name| meter.tracks(name)).collect()
    }

    fn covers(&self, meter: Meter<'_>, object: &Value) -> bool {
        self.hard.keys().any(|name| meter.tracks(name)) && self.scopes.iter().all(|s| meter.is_in(s, object))
    }
}

/// A request that may use something.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub meter: Meter<'a>,
    pub object: &'a Value,
    /// `Null` for a new object.
    pub old: &'a Value,
    /// A change of status is counted, never refused.
    pub status: bool,
    pub now: Timestamp,
    /// Of interest to claims to devices alone.
    pub devices: &'a Devices,
}

/// Why a quota can't bear a request, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// What is bounded must be asked for.
    Unspecified {
        quota: String,
        lacking: String,
    },
    /// What is used of the quota is not known.
    Unknown {
        quota: String,
        names: String,
        /// It is new: somebody is about to count.
        soon: bool,
    },
    Exceeded {
        quota: String,
        requested: Amounts,
        used: Amounts,
        limited: Amounts,
    },
    /// Nobody may use this without a quota that covers it.
    Uncovered {
        names: String,
    },
    /// The same of objects in scopes.
    OutOfScope {
        scopes: String,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |amounts: &Amounts| {
            amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(",")
        };
        match self {
            Self::Unspecified { quota, lacking } => {
                write!(f, "failed quota: {quota}: must specify {lacking}")
            }
            Self::Unknown { quota, names, .. } => {
                write!(f, "status unknown for quota: {quota}, resources: {names}")
            }
            Self::Exceeded { quota, requested, used, limited } => write!(
                f,
                "exceeded quota: {quota}, requested: {}, used: {}, limited: {}",
                list(requested),
                list(used),
                list(limited)
            ),
            Self::Uncovered { names } => write!(f, "insufficient quota to consume: {names}"),
            Self::OutOfScope { scopes } => write!(f, "insufficient quota to match these scopes: [{scopes}]"),
        }
    }
}

/// What the request makes of the `used` of each quota that it concerns, by the quota's place among `quotas`.
///
/// # Errors
/// The first quota that can't bear the request, or something `limited` that none covers; then none is to be charged.
pub fn charge(
    quotas: &[Quota],
    request: &Request<'_>,
    limited: &[Limited],
) -> Result<Vec<(usize, Amounts)>, Refusal> {
    let Request { meter, object, old, now, devices, .. } = *request;
    let concerned: Vec<(usize, &Quota)> =
        quotas.iter().enumerate().filter(|(_, quota)| quota.covers(meter, object)).collect();
    for (_, quota) in &concerned {
        let tracked = quota.tracked(meter);
        let name = || quota.name.clone();
        if meter == Meter::Pods
            && let Some(lacking) = pods::lacking(object, &tracked)
        {
            return Err(Refusal::Unspecified { quota: name(), lacking });
        }
        if tracked.iter().any(|bound| !quota.used.contains_key(*bound)) {
            return Err(Refusal::Unknown { quota: name(), names: tracked.join(","), soon: !quota.counted });
        }
    }
    if concerned.is_empty() && limited.is_empty() {
        return Ok(Vec::new());
    }
    let usage = meter.usage(object, now, devices);
    let grown = if old.is_null() { None } else { Some(growth(&usage, &meter.usage(old, now, devices))) };
    // What a quota did not count before is all new to it.
    let new_to = |quota: &Quota| match &grown {
        Some(grown) if quota.covers(meter, old) => grown,
        _ => &usage,
    };
    let mut new: Vec<&Amounts> = concerned.iter().map(|(_, quota)| new_to(quota)).collect();
    if new.is_empty() {
        new.push(grown.as_ref().unwrap_or(&usage));
    }
    let is_new = new.iter().flat_map(|new| new.values()).any(|amount| !amount.is_zero());
    if is_new && let Some(refusal) = uncovered(quotas, request, &usage, limited) {
        return Err(refusal);
    }
    let mut charges = Vec::new();
    for (at, quota) in concerned {
        let cost = new_to(quota);
        let requested = |name: &String, amount: &Quantity| quota.hard.contains_key(name) && !amount.is_zero();
        let cost: Amounts = cost
            .iter()
            .filter(|(name, amount)| requested(name, amount))
            .map(|(n, a)| (n.clone(), *a))
            .collect();
        if cost.is_empty() {
            continue;
        }
        let mut used = quota.used.clone();
        add(&mut used, &cost);
        let over: BTreeSet<&String> =
            cost.keys().filter(|name| used.get(*name) > quota.hard.get(*name)).collect();
        if !over.is_empty() && !request.status {
            let only = |amounts: &Amounts| {
                let masked = amounts.iter().filter(|(name, _)| over.contains(name));
                masked.map(|(name, amount)| (name.clone(), *amount)).collect()
            };
            return Err(Refusal::Exceeded {
                quota: quota.name.clone(),
                requested: only(&cost),
                used: only(&quota.used),
                limited: only(&quota.hard),
            });
        }
        charges.push((at, used));
    }
    Ok(charges)
}

/// What is used more than before; less is none.
fn growth(new: &Amounts, old: &Amounts) -> Amounts {
    let more = |name: &String, amount: Quantity| match old.get(name) {
        Some(before) if *before >= amount => Quantity::ZERO,
        Some(before) => amount - *before,
        None => amount,
    };
    new.iter().map(|(name, amount)| (name.clone(), more(name, *amount))).collect()
}

/// Counts anew what is used of a quota, object by object.
#[derive(Debug)]
pub struct Recount {
    hard: Amounts,
    scopes: Vec<Scope>,
    used: Amounts,
    now: Timestamp,
}

impl Recount {
    /// Of the quota's spec, whose bounds are those that will hold.
    pub fn new(quota: &Value, now: Timestamp) -> Self {
        let spec = &quota["spec"];
        Self { hard: amounts(&spec["hard"]), scopes: scopes(spec), used: Amounts::new(), now }
    }

    /// What has to be looked at: each resource that is counted under some bound.
    pub fn meters(&self) -> Vec<Meter<'_>> {
        let mut meters: Vec<Meter<'_>> = Vec::new();
        for meter in self.hard.keys().flat_map(|name| Meter::behind(name)) {
            if !meters.contains(&meter) {
                meters.push(meter);
            }
        }
        meters
    }

    /// The resource has been looked at: what nothing was counted under is known to be zero.
    pub fn saw(&mut self, group: &str, resource: &str) {
        let Some(meter) = Meter::of(group, resource) else { return };
        for name in self.hard.keys().filter(|name| meter.tracks(name)) {
            self.used.entry(name.clone()).or_insert(Quantity::ZERO);
        }
    }

    /// `devices` is of interest to claims to devices alone.
    pub fn count(&mut self, group: &str, resource: &str, object: &Value, devices: &Devices) {
        let Some(meter) = Meter::of(group, resource) else { return };
        if self.scopes.iter().all(|scope| meter.is_in(scope, object)) {
            self.take(&meter.usage(object, self.now, devices));
        }
    }

    /// Counts so many objects of which only the number is known.
    pub fn count_all(&mut self, group: &str, resource: &str, number: usize) {
        let Some(meter @ Meter::Objects { .. }) = Meter::of(group, resource) else { return };
        if self.scopes.is_empty() {
            let each = meter.usage(&Value::Null, self.now, &Devices::default());
            self.take(&each.into_keys().map(|name| (name, count(number))).collect());
        }
    }

    fn take(&mut self, usage: &Amounts) {
        let bounded = usage.iter().filter(|(name, _)| self.hard.contains_key(*name));
        let bounded: Amounts = bounded.map(|(name, amount)| (name.clone(), *amount)).collect();
        add(&mut self.used, &bounded);
    }

    /// The status that the quota should have; `None` if it has it. What could not be looked at stays as it was.
    pub fn status(&self, quota: &Value) -> Option<Value> {
        let status = &quota["status"];
        let (hard, mut used) = (amounts(&status["hard"]), amounts(&status["used"]));
        let before = used.clone();
        used.retain(|name, _| self.hard.contains_key(name));
        used.extend(self.used.iter().map(|(name, amount)| (name.clone(), *amount)));
        let known = status["hard"].is_object() && status["used"].is_object();
        if known && hard == self.hard && used == before {
            return None;
        }
        Some(
            serde_json::json!({"hard": quota["spec"].get("hard").cloned().unwrap_or_default(), "used": render(&used)}),
        )
    }
}

#[cfg(test)]
#[path = "quota_tests.rs"]
mod tests;
