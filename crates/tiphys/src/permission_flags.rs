//! The flags that name who is asked whether a user may do something.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use tiphys_apiserver::authn::ReviewVersion;
use tiphys_apiserver::authz::config::{self, Config, Mode, WebhookConfig};
use tiphys_apiserver::authz::{Policy, parse_abac};
use tiphys_apiserver::outgoing::kubeconfig;

/// Who is asked for permissions.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Authorization")]
pub(crate) struct PermissionFlags {
    /// An AuthorizationConfiguration of apiserver.config.k8s.io: authorizers in their order. It is read again when it
    /// changes.
    #[arg(long, conflicts_with_all = ["authorization_mode", "authorization_webhook_config_file"])]
    pub(crate) authorization_config: Option<PathBuf>,
    /// Authorizers in their order: ABAC, AlwaysAllow, AlwaysDeny, Node, RBAC, Webhook [default: Node,RBAC].
    #[arg(long, value_delimiter = ',')]
    pub(crate) authorization_mode: Vec<String>,
    /// The policies of the mode ABAC, or of the authorizer of that type, one in JSON in each line.
    #[arg(long)]
    pub(crate) authorization_policy_file: Option<PathBuf>,
    /// A file like a kubeconfig that names the server which the mode Webhook asks.
    #[arg(long)]
    pub(crate) authorization_webhook_config_file: Option<PathBuf>,
    /// The version of that question: v1 or v1beta1 [default: v1beta1].
    #[arg(long)]
    pub(crate) authorization_webhook_version: Option<String>,
    /// For how many seconds a permission counts; with 0 for one request [default: 300].
    #[arg(long)]
    pub(crate) authorization_webhook_cache_authorized_ttl: Option<u64>,
    /// The same of all other answers [default: 30].
    #[arg(long)]
    pub(crate) authorization_webhook_cache_unauthorized_ttl: Option<u64>,
}

impl PermissionFlags {
    /// What the API server is told; with a configuration, from its `text`.
    pub(crate) fn authorizers(&self, text: Option<&[u8]>) -> Result<Config> {
        if let Some(text) = text {
            let policies = self.authorization_policy_file.is_some().then(|| self.policies()).transpose()?;
            return config::parse(text, policies.as_ref()).context("--authorization-config");
        }
        ensure!(
            self.authorization_policy_file.is_none()
                || self.authorization_mode.iter().any(|mode| mode == "ABAC"),
            "--authorization-policy-file needs the mode ABAC in --authorization-mode"
        );
        if self.authorization_mode.is_empty() {
            ensure!(
                self.authorization_webhook_config_file.is_none(),
                "--authorization-webhook-config-file needs the mode Webhook in --authorization-mode"
            );
            return Ok(Config::default());
        }
        let mut modes: Vec<(String, Mode)> = Vec::new();
        for name in &self.authorization_mode {
            let mode = match name.as_str() {
                "AlwaysAllow" => Mode::AlwaysAllow,
                "AlwaysDeny" => Mode::AlwaysDeny,
                "Node" => Mode::Node,
                "RBAC" => Mode::Rbac,
                "ABAC" => Mode::Abac(self.policies()?),
                "Webhook" => Mode::Webhook(Box::new(self.webhook()?)),
                other => bail!("--authorization-mode: there is no {other}"),
            };
            let name = name.to_ascii_lowercase();
            ensure!(
                modes.iter().all(|(other, _)| *other != name),
                "--authorization-mode: {name} is there twice"
            );
            modes.push((name, mode));
        }
        Ok(Config(modes))
    }

    fn policies(&self) -> Result<Arc<[Policy]>> {
        let file = self.authorization_policy_file.as_ref();
        let file = file.context("the mode ABAC needs --authorization-policy-file")?;
        let named = || format!("the policies {}", file.display());
        let text = fs::read_to_string(file).with_context(named)?;
        parse_abac(&text).with_context(named)
    }

    fn webhook(&self) -> Result<WebhookConfig> {
        let file = self.authorization_webhook_config_file.as_ref();
        let file = file.context("the mode Webhook needs --authorization-webhook-config-file")?;
        let endpoint = kubeconfig::spec(file).context("--authorization-webhook-config-file")?;
        let version = match self.authorization_webhook_version.as_deref() {
            Some("v1") => ReviewVersion::V1,
            None | Some("v1beta1") => ReviewVersion::V1Beta1,
            Some(other) => bail!("--authorization-webhook-version: there is no {other}"),
        };
        let counts = |flag: Option<u64>, default| match flag {
            Some(0) => None,
            Some(seconds) => Some(Duration::from_secs(seconds)),
            None => default,
        };
        let mut config = WebhookConfig::new(endpoint, version);
        config.remember_allowed =
            counts(self.authorization_webhook_cache_authorized_ttl, config.remember_allowed);
        config.remember_others =
            counts(self.authorization_webhook_cache_unauthorized_ttl, config.remember_others);
        Ok(config)
    }
}

#[cfg(test)]
#[path = "permission_flags_tests.rs"]
mod tests;
