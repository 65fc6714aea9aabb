//! Which issuers are believed, and who needs no credentials: `AuthenticationConfiguration` of
//! `apiserver.config.k8s.io` (KEP-3331).

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use serde::Deserialize;
use tiphys_api::{field, names};
use tiphys_cel::{Declared, Environment, Type};

use super::super::Anonymous;
use crate::config_file;
pub use crate::config_file::ConfigError;
use crate::expressions::Expression;

const MAX_ISSUERS: usize = 64;

/// What a configuration says.
#[derive(Clone, Debug, Default)]
pub struct Config {
    pub issuers: Vec<Issuer>,
    /// Who may come without credentials; `None`: it does not say.
    pub anonymous: Option<Anonymous>,
}

/// An issuer, and how its claims become a user.
#[derive(Clone, Debug, Default)]
pub struct Issuer {
    /// As tokens name it; `https`.
    pub url: String,
    /// Where it describes itself, if not below its URL.
    pub discovery_url: Option<String>,
    /// The PEM of who vouches for it; `None`: whom the host trusts.
    pub authority: Option<Bytes>,
    /// A token must be for one of these.
    pub audiences: Vec<String>,
    pub username: Mapping,
    pub groups: Option<Mapping>,
    pub uid: Option<Mapping>,
    /// Keys of the user's extra, and the expressions that give their values.
    pub extra: Vec<(String, Derived)>,
    /// Claims that must have these values.
    pub required: Vec<(String, String)>,
    /// What must hold of the claims, and of the user that comes of them.
    pub claim_rules: Vec<Rule>,
    pub user_rules: Vec<Rule>,
}

/// Where a part of a user comes from.
#[derive(Clone, Debug)]
pub enum Mapping {
    /// A claim, and what goes before its value.
    Claim { claim: String, prefix: String },
    /// What an expression makes of the claims.
    Expression(Derived),
}

/// An expression over claims.
#[derive(Clone, Debug)]
pub struct Derived(pub(crate) Arc<Expression>);

impl Default for Mapping {
    fn default() -> Self {
        Self::Claim { claim: String::new(), prefix: String::new() }
    }
}

/// An expression that must hold, and what is told where it does not.
#[derive(Clone, Debug)]
pub struct Rule {
    pub(crate) expression: Arc<Expression>,
    pub(crate) message: String,
}

/// The variable of claims, and the types of both sorts of expressions.
pub(super) const CLAIMS: &str = "claims";
pub(super) const USER: &str = "user";

pub(super) static CLAIMS_TYPE: LazyLock<Type> = LazyLock::new(|| Type::map(Type::String, Type::Dyn));

pub(super) static USER_TYPE: LazyLock<Type> = LazyLock::new(|| {
    let strings = || Type::list(Type::String);
    Type::Object(Declared::plain(
        "kubernetes.UserInfo",
        [
            ("username", Type::String),
            ("uid", Type::String),
            ("groups", strings()),
            ("extra", Type::map(Type::String, strings())),
        ],
    ))
});

impl Issuer {
    pub(super) fn discovery(&self) -> String {
        self.discovery_url
            .clone()
            .unwrap_or_else(|| format!("{}/.well-known/openid-configuration", self.url.trim_end_matches('/')))
    }

    /// Whether an issuer that was put together otherwise can be used.
    ///
    /// # Errors
    /// What it lacks.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut errors = field::Errors::new();
        let path = field::Path::new("issuer");
        url(&self.url, &path.child("url"), &mut errors);
        if self.audiences.is_empty() {
            errors.push(field::Error::required(&path.child("audiences"), "at least one is required"));
        }
        if errors.is_empty() { Ok(()) } else { Err(ConfigError::Fields(errors)) }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default)]
    jwt: Vec<Jwt>,
    anonymous: Option<RawAnonymous>,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct RawAnonymous {
    enabled: bool,
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    path: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Jwt {
    issuer: RawIssuer,
    #[serde(default)]
    claim_validation_rules: Vec<ClaimRule>,
    claim_mappings: Mappings,
    #[serde(default)]
    user_validation_rules: Vec<UserRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawIssuer {
    #[serde(default)]
    url: String,
    #[serde(default, rename = "discoveryURL")]
    discovery_url: String,
    #[serde(default)]
    certificate_authority: String,
    #[serde(default)]
    audiences: Vec<String>,
    #[serde(default)]
    audience_match_policy: String,
    #[serde(default)]
    egress_selector_type: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct ClaimRule {
    claim: String,
    required_value: String,
    expression: String,
    message: String,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct UserRule {
    expression: String,
    message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mappings {
    #[serde(default)]
    username: RawMapping,
    #[serde(default)]
    groups: RawMapping,
    #[serde(default)]
    uid: RawMapping,
    #[serde(default)]
    extra: Vec<Extra>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawMapping {
    claim: String,
    prefix: Option<String>,
    expression: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Extra {
    key: String,
    value_expression: String,
}

/// Reads a configuration of v1, v1beta1 or v1alpha1.
///
/// # Errors
/// It is none; or everything that is wrong with it, by its fields.
pub fn parse(text: &[u8]) -> Result<Config, ConfigError> {
    let file: File = config_file::read(text, "AuthenticationConfiguration")?;
    let mut errors = field::Errors::new();
    let root = field::Path::new("jwt");
    if file.jwt.len() > MAX_ISSUERS {
        return Err(ConfigError::Fields(vec![field::Error::too_many(&root, file.jwt.len(), MAX_ISSUERS)]));
    }
    let mut issuers: Vec<Issuer> = Vec::new();
    for (index, jwt) in file.jwt.into_iter().enumerate() {
        let path = root.index(index);
        let issuer = jwt.issuer(&path, &mut errors);
        let at = path.child("issuer");
        if issuers.iter().any(|other| other.url == issuer.url) {
            errors.push(field::Error::duplicate(&at.child("url"), issuer.url.as_str()));
        }
        let elsewhere = issuer.discovery_url.as_deref();
        if let Some(url) = elsewhere
            && issuers.iter().any(|other| other.discovery_url.as_deref() == elsewhere)
        {
            errors.push(field::Error::duplicate(&at.child("discoveryURL"), url));
        }
        issuers.push(issuer);
    }
    let anonymous = file.anonymous.map(|raw| {
        let paths: Vec<String> = raw.conditions.into_iter().map(|condition| condition.path).collect();
        if !raw.enabled && !paths.is_empty() {
            let at = field::Path::new("anonymous").child("conditions");
            let why = "enabled should be set to true when conditions are defined";
            errors.push(field::Error::invalid(&at, paths.clone(), why));
        }
        match (raw.enabled, paths.is_empty()) {
            (true, true) => Anonymous::Everywhere,
            (true, false) => Anonymous::At(paths),
            (false, _) => Anonymous::At(Vec::new()),
        }
    });
    if errors.is_empty() { Ok(Config { issuers, anonymous }) } else { Err(ConfigError::Fields(errors)) }
}

impl Jwt {
    fn issuer(self, path: &field::Path, errors: &mut field::Errors) -> Issuer {
        let mut issuer = self.issuer.read(&path.child("issuer"), errors);
        let claims = Environment::new().with(CLAIMS, CLAIMS_TYPE.clone());
        let at = path.child("claimValidationRules");
        for (index, rule) in self.claim_validation_rules.into_iter().enumerate() {
            rule.read(&at.index(index), &claims, &mut issuer, errors);
        }
        self.claim_mappings.read(&path.child("claimMappings"), &claims, &mut issuer, errors);
        let user = Environment::new().with(USER, USER_TYPE.clone());
        let at = path.child("userValidationRules");
        for (index, UserRule { expression, message }) in self.user_validation_rules.into_iter().enumerate() {
            let at = at.index(index).child("expression");
            issuer.user_rules.extend(rule(expression, message, &at, &user, &issuer.user_rules, errors));
        }
        issuer
    }
}

impl RawIssuer {
    fn read(self, path: &field::Path, errors: &mut field::Errors) -> Issuer {
        let Self { url: own, discovery_url, certificate_authority, audiences, .. } = self;
        url(&own, &path.child("url"), errors);
        let at = path.child("discoveryURL");
        if !discovery_url.is_empty() {
            if own.trim_end_matches('/') == discovery_url.trim_end_matches('/') {
                let why = "discoveryURL must be different from URL";
                errors.push(field::Error::invalid(&at, discovery_url.as_str(), why));
            }
            url(&discovery_url, &at, errors);
        }
        let at = path.child("audiences");
        if audiences.is_empty() {
            errors.push(field::Error::required(&at, format!("at least one {at} is required")));
        }
        for (index, audience) in audiences.iter().enumerate() {
            if audience.is_empty() {
                errors.push(field::Error::required(&at.index(index), ""));
            } else if audiences[..index].contains(audience) {
                errors.push(field::Error::duplicate(&at.index(index), audience.as_str()));
            }
        }
        let policy = self.audience_match_policy.as_str();
        let why = match audiences.len() {
            0 | 1 if matches!(policy, "" | "MatchAny") => None,
            0 | 1 => Some("audienceMatchPolicy must be empty or MatchAny for single audience"),
            _ if policy == "MatchAny" => None,
            _ => Some("audienceMatchPolicy must be MatchAny for multiple audiences"),
        };
        if let Some(why) = why {
            errors.push(field::Error::invalid(&path.child("audienceMatchPolicy"), policy, why));
        }
        if !certificate_authority.is_empty() && tiphys_pki::expiry(certificate_authority.as_bytes()).is_none()
        {
            let why = "data does not contain any valid RSA or ECDSA certificates";
            errors.push(field::Error::invalid(&path.child("certificateAuthority"), "<omitted>", why));
        }
        if !self.egress_selector_type.is_empty() {
            // All that this server calls, it calls itself.
            let why = "there are no egress selectors";
            let at = path.child("egressSelectorType");
            errors.push(field::Error::invalid(&at, self.egress_selector_type, why));
        }
        Issuer {
            url: own,
            discovery_url: Some(discovery_url).filter(|url| !url.is_empty()),
            authority: Some(certificate_authority).filter(|pem| !pem.is_empty()).map(Bytes::from),
            audiences,
            ..Issuer::default()
        }
    }
}

/// Judges the URL of an issuer, or of its description.
fn url(text: &str, path: &field::Path, errors: &mut field::Errors) {
    if text.is_empty() {
        errors.push(field::Error::required(path, ""));
        return;
    }
    let Ok(uri) = text.split('#').next().unwrap_or_default().parse::<http::Uri>() else {
        errors.push(field::Error::invalid(path, text, "it is no URL"));
        return;
    };
    let wrong = [
        (uri.scheme_str() != Some("https"), "URL scheme must be https"),
        (
            uri.authority().is_some_and(|authority| authority.as_str().contains('@')),
            "URL must not contain a username or password",
        ),
        (uri.query().is_some_and(|query| !query.is_empty()), "URL must not contain a query"),
        (text.contains('#'), "URL must not contain a fragment"),
    ];
    for (_, why) in wrong.into_iter().filter(|(wrong, _)| *wrong) {
        errors.push(field::Error::invalid(path, text, why));
    }
}

/// Compiles an expression; `None` after an error.
fn compile(
    source: &str,
    path: &field::Path,
    environment: &Environment,
    wanted: &[Type],
    errors: &mut field::Errors,
) -> Option<Arc<Expression>> {
    let expression = Expression::compile(source, environment, wanted);
    match &expression.program {
        Ok(_) => Some(Arc::new(expression)),
        Err(why) => {
            errors.push(field::Error::invalid(path, source, why.as_str()));
            None
        }
    }
}

/// A rule that is not among `others`.
fn rule(
    source: String,
    message: String,
    path: &field::Path,
    environment: &Environment,
    others: &[Rule],
    errors: &mut field::Errors,
) -> Option<Rule> {
    if source.is_empty() {
        errors.push(field::Error::required(path, ""));
        return None;
    }
    if others.iter().any(|other| other.expression.source == source) {
        errors.push(field::Error::duplicate(path, source));
        return None;
    }
    let expression = compile(&source, path, environment, &[Type::Bool], errors)?;
    Some(Rule { expression, message })
}

impl ClaimRule {
    fn read(self, path: &field::Path, claims: &Environment, issuer: &mut Issuer, errors: &mut field::Errors) {
        let Self { claim, required_value, expression, message } = self;
        match (claim.is_empty(), expression.is_empty()) {
            (false, false) => {
                let why = "claim and expression can't both be set";
                errors.push(field::Error::invalid(path, claim, why));
            }
            (true, true) => errors.push(field::Error::required(path, "claim or expression is required")),
            (false, true) => {
                if !message.is_empty() {
                    let why = "may not be specified when claim is set";
                    errors.push(field::Error::invalid(&path.child("message"), message, why));
                }
                if issuer.required.iter().any(|(other, _)| *other == claim) {
                    errors.push(field::Error::duplicate(&path.child("claim"), claim.as_str()));
                }
                issuer.required.push((claim, required_value));
            }
            (true, false) => {
                if !required_value.is_empty() {
                    let why = "may not be specified when expression is set";
                    errors.push(field::Error::invalid(&path.child("requiredValue"), required_value, why));
                }
                let at = path.child("expression");
                let made = rule(expression, message, &at, claims, &issuer.claim_rules, errors);
                issuer.claim_rules.extend(made);
            }
        }
    }
}

impl Mappings {
    fn read(self, path: &field::Path, claims: &Environment, issuer: &mut Issuer, errors: &mut field::Errors) {
        let username = &path.child("username");
        let source = self.username.expression.clone();
        match self.username.read(username, claims, true, errors) {
            Some(mapping) => issuer.username = mapping,
            None if source.is_empty() && errors.iter().all(|error| error.path != *username) => {
                errors.push(field::Error::required(username, "claim or expression is required"));
            }
            None => {}
        }
        issuer.groups = self.groups.read(&path.child("groups"), claims, true, errors);
        issuer.uid = self.uid.read(&path.child("uid"), claims, false, errors);
        for (index, Extra { key, value_expression }) in self.extra.into_iter().enumerate() {
            let at = path.child("extra").index(index);
            extra_key(&key, &at.child("key"), issuer, errors);
            let at = at.child("valueExpression");
            if value_expression.is_empty() {
                errors.push(field::Error::required(&at, ""));
            } else if let Some(expression) = compile(&value_expression, &at, claims, &[], errors) {
                issuer.extra.push((key, Derived(expression)));
            }
        }
        let reads = |expression: &Expression, claim: &str| {
            expression.program.as_ref().is_ok_and(|program| program.selects(CLAIMS, claim))
        };
        let Mapping::Expression(Derived(name)) = &issuer.username else { return };
        let rules = issuer.claim_rules.iter().map(|rule| &rule.expression);
        let mut others = rules.chain(issuer.extra.iter().map(|(_, derived)| &derived.0)).chain([name]);
        if reads(name, "email") && !others.any(|expression| reads(expression, "email_verified")) {
            let why = "claims.email_verified must be used in claimMappings.username.expression or \
                       claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email \
                       is used in claimMappings.username.expression";
            errors.push(field::Error::invalid(&username.child("expression"), source, why));
        }
    }
}

/// Judges a key of a user's extra: a path below somebody's domain.
fn extra_key(key: &str, path: &field::Path, issuer: &Issuer, errors: &mut field::Errors) {
    let mut wrong = |why: &str| errors.push(field::Error::invalid(path, key, why));
    match key.split_once('/') {
        None => wrong("must be a domain-prefixed path (such as \"acme.io/foo\")"),
        Some((domain, rest)) => {
            names::dns_subdomain(domain, false).iter().for_each(|why| wrong(why));
            let path = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b);
            if rest.is_empty() || !rest.bytes().all(path) {
                wrong("Invalid path");
            }
            let ours = ["kubernetes.io", "k8s.io"].iter().any(|own| {
                domain.strip_suffix(own).is_some_and(|before| before.is_empty() || before.ends_with('.'))
            });
            if ours {
                wrong("k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use");
            }
        }
    }
    if key.bytes().any(|b| b.is_ascii_uppercase()) {
        wrong("must be lowercase");
    }
    if issuer.extra.iter().any(|(other, _)| other == key) {
        errors.push(field::Error::duplicate(path, key));
    }
}

impl RawMapping {
    /// `None` if there is none, and after an error.
    fn read(
        self,
        path: &field::Path,
        claims: &Environment,
        prefixed: bool,
        errors: &mut field::Errors,
    ) -> Option<Mapping> {
        let at = path.child("prefix");
        match (self.claim.is_empty(), self.expression.is_empty()) {
            (false, false) => {
                errors.push(field::Error::invalid(path, "", "claim and expression can't both be set"));
                None
            }
            (true, true) => None,
            (true, false) => {
                if let Some(prefix) = self.prefix {
                    let why = "may not be specified when expression is set";
                    errors.push(field::Error::invalid(&at, prefix, why));
                }
                let expression = compile(&self.expression, &path.child("expression"), claims, &[], errors)?;
                Some(Mapping::Expression(Derived(expression)))
            }
            (false, true) => match self.prefix {
                Some(prefix) if prefixed => Some(Mapping::Claim { claim: self.claim, prefix }),
                None if !prefixed => Some(Mapping::Claim { claim: self.claim, prefix: String::new() }),
                Some(prefix) => {
                    errors.push(field::Error::invalid(&at, prefix, "has no meaning here"));
                    None
                }
                None => {
                    let why = "prefix is required when claim is set. It can be set to an empty string to disable \
                               prefixing";
                    errors.push(field::Error::required(&at, why));
                    None
                }
            },
        }
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
