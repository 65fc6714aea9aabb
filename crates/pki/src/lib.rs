//! Certificate authorities, short-lived certificates, kubeconfigs.
