//! The flags that name who else tells who somebody is.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use tiphys_apiserver::{authn, outgoing::kubeconfig};

use crate::files;

/// Whose tokens the API takes besides the cluster's own.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Authentication")]
pub(crate) struct TokenFlags {
    /// An AuthenticationConfiguration of apiserver.config.k8s.io: issuers of OpenID Connect, and who may come without
    /// credentials. It is read again when it changes.
    #[arg(long, conflicts_with = "oidc_issuer_url")]
    pub(crate) authentication_config: Option<PathBuf>,
    /// Whether anybody may come without credentials, to do what `system:unauthenticated` is permitted; by default
    /// they see health and version.
    #[arg(long, value_name = "BOOL")]
    pub(crate) anonymous_auth: Option<bool>,
    /// The URL of one issuer.
    #[arg(long, requires = "oidc_client_id")]
    pub(crate) oidc_issuer_url: Option<String>,
    /// Tokens must be for this client.
    #[arg(long)]
    pub(crate) oidc_client_id: Option<String>,
    /// The claim that names the user [default: sub].
    #[arg(long)]
    pub(crate) oidc_username_claim: Option<String>,
    /// What goes before it; `-` is nothing. By default the issuer's URL and `#`, for emails nothing.
    #[arg(long)]
    pub(crate) oidc_username_prefix: Option<String>,
    /// The claim that lists the user's groups.
    #[arg(long)]
    pub(crate) oidc_groups_claim: Option<String>,
    /// What goes before each.
    #[arg(long, default_value = "")]
    pub(crate) oidc_groups_prefix: String,
    /// Who vouches for the issuer, in PEM; by default whom the host trusts.
    #[arg(long)]
    pub(crate) oidc_ca_file: Option<PathBuf>,
    /// A claim that tokens must have, as `claim=value`; can be repeated.
    #[arg(long)]
    pub(crate) oidc_required_claim: Vec<String>,
    /// A file like a kubeconfig that names a server which is asked who holds a token.
    #[arg(long)]
    pub(crate) authentication_token_webhook_config_file: Option<PathBuf>,
    /// The version of that question: v1 or v1beta1 [default: v1beta1].
    #[arg(long)]
    pub(crate) authentication_token_webhook_version: Option<String>,
    /// For how many seconds its answer counts [default: 120].
    #[arg(long)]
    pub(crate) authentication_token_webhook_cache_ttl: Option<u64>,
}

impl TokenFlags {
    /// What the API server is told.
    /// `text` is what the configuration says.
    pub(crate) fn others(&self, text: Option<&[u8]>) -> Result<authn::Others> {
        let (issuers, anonymous) = match (text, &self.oidc_issuer_url) {
            (Some(text), _) => self.configured(text)?,
            (None, Some(url)) => (vec![self.issuer(url)?], self.anonymous()),
            (None, None) => (Vec::new(), self.anonymous()),
        };
        let webhook = match &self.authentication_token_webhook_config_file {
            None => None,
            Some(file) => Some(authn::WebhookOptions {
                endpoint: kubeconfig::spec(file).context("--authentication-token-webhook-config-file")?,
                version: match self.authentication_token_webhook_version.as_deref() {
                    Some("v1") => authn::ReviewVersion::V1,
                    None | Some("v1beta1") => authn::ReviewVersion::V1Beta1,
                    Some(other) => {
                        anyhow::bail!("--authentication-token-webhook-version: there is no {other}")
                    }
                },
                remember: Duration::from_secs(self.authentication_token_webhook_cache_ttl.unwrap_or(120)),
            }),
        };
        Ok(authn::Others { issuers, anonymous, webhook })
    }

    /// What a configuration says of issuers, and of those without credentials.
    pub(crate) fn configured(&self, text: &[u8]) -> Result<(Vec<authn::Issuer>, authn::Anonymous)> {
        let config = authn::parse_config(text).context("--authentication-config")?;
        ensure!(
            config.anonymous.is_none() || self.anonymous_auth.is_none(),
            "--anonymous-auth says what the field anonymous of --authentication-config says, too"
        );
        Ok((config.issuers, config.anonymous.unwrap_or_else(|| self.anonymous())))
    }

    fn anonymous(&self) -> authn::Anonymous {
        match self.anonymous_auth {
            None => authn::Anonymous::default(),
            Some(true) => authn::Anonymous::Everywhere,
            Some(false) => authn::Anonymous::At(Vec::new()),
        }
    }

    fn issuer(&self, url: &str) -> Result<authn::Issuer> {
        let claim = self.oidc_username_claim.as_deref().unwrap_or("sub");
        let prefix = match self.oidc_username_prefix.as_deref() {
            Some("-") => String::new(),
            Some(prefix) => prefix.to_owned(),
            None if claim == "email" => String::new(),
            None => format!("{url}#"),
        };
        let authority = self.oidc_ca_file.as_deref().map(files::read).transpose()?.map(Into::into);
        let required = self.oidc_required_claim.iter().map(|pair| {
            let (claim, value) = pair.split_once('=').context("--oidc-required-claim wants claim=value")?;
            Ok((claim.to_owned(), value.to_owned()))
        });
        let issuer = authn::Issuer {
            url: url.to_owned(),
            authority,
            audiences: self.oidc_client_id.iter().cloned().collect(),
            username: authn::Mapping::Claim { claim: claim.to_owned(), prefix },
            groups: self
                .oidc_groups_claim
                .clone()
                .map(|claim| authn::Mapping::Claim { claim, prefix: self.oidc_groups_prefix.clone() }),
            required: required.collect::<Result<_>>()?,
            ..authn::Issuer::default()
        };
        issuer.check().context("--oidc-issuer-url")?;
        Ok(issuer)
    }
}
