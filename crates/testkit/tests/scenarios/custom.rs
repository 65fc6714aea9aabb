//! Kinds of the user's own in the hands of kubectl.

use anyhow::{Result, ensure};
use tiphys_testkit::Cluster;

use crate::field;

const DEFINITION: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: crontabs.stable.example.com}
spec:
  group: stable.example.com
  scope: Namespaced
  names: {plural: crontabs, kind: CronTab, shortNames: [ct], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}
    additionalPrinterColumns:
    - {name: Spec, type: string, jsonPath: .spec.cronSpec}
    - {name: Replicas, type: integer, jsonPath: .spec.replicas}
    - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
    schema:
      openAPIV3Schema:
        type: object
        description: Runs an image by the clock.
        properties:
          spec:
            type: object
            description: What shall run, and when.
            required: [cronSpec]
            x-kubernetes-validations:
            - {rule: "self.replicas <= 3 || self.image != 'small'", message: small images run thrice at most}
            properties:
              cronSpec: {type: string, pattern: '^(\d+|\*)( (\d+|\*)){4}$', description: When it runs.}
              image: {type: string, default: small}
              replicas: {type: integer, minimum: 1, default: 1}
          status:
            type: object
            properties:
              replicas: {type: integer}
"#;

fn crontab(spec: &str) -> String {
    format!(
        "{{apiVersion: stable.example.com/v1, kind: CronTab, metadata: {{name: mine}}, spec: {{{spec}}}}}"
    )
}

#[test]
fn kinds_of_the_users_own_work_as_others_do() -> Result<()> {
    let cluster = Cluster::start(81)?;
    let dir = tempfile::tempdir()?;
    let written = |name: &str, text: &str| -> Result<String> {
        let path = dir.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path.display().to_string())
    };
    let definition = written("crd.yaml", DEFINITION)?;
    cluster.kubectl(["apply", "-f", &definition])?;
    cluster.kubectl(["wait", "--for=condition=Established", "crd/crontabs.stable.example.com"])?;

    let good = written("good.yaml", &crontab("cronSpec: '* * * * 5'"))?;
    ensure!(cluster.kubectl(["apply", "-f", &good])?.trim() == "crontab.stable.example.com/mine created");
    let table = cluster.kubectl(["get", "ct"])?;
    let words: Vec<&str> = table.split_whitespace().collect();
    ensure!(
        words[..4] == ["NAME", "SPEC", "REPLICAS", "AGE"]
            && words[4..11] == ["mine", "*", "*", "*", "*", "5", "1"],
        "{table}"
    );
    ensure!(cluster.kubectl(["get", "all"])?.contains("crontab.stable.example.com/mine"));
    let explained = cluster.kubectl(["explain", "crontab.spec"])?;
    for part in ["What shall run, and when.", "cronSpec", "-required-", "When it runs."] {
        ensure!(explained.contains(part), "{part} is not in {explained}");
    }
    cluster.kubectl(["scale", "ct/mine", "--replicas=2"])?;
    cluster.kubectl([
        "patch",
        "ct/mine",
        "--subresource=status",
        "--type=merge",
        "-p",
        r#"{"status":{"replicas":2}}"#,
    ])?;
    let replicas = cluster.kubectl(["get", "ct/mine", &field(".spec.replicas")])?;
    ensure!(replicas == "2", "{replicas}");
    for (spec, why) in [
        ("cronSpec: sometimes", "spec.cronSpec in body should match"),
        ("cronSpec: '* * * * *', replicas: 9", "small images run thrice at most"),
        ("cronSpec: '* * * * *', odd: 1", "unknown field \"spec.odd\""),
    ] {
        let bad = written("bad.yaml", &crontab(spec))?;
        let refused = cluster.refused(["apply", "-f", &bad])?;
        ensure!(refused.contains(why), "{spec}: {refused}");
    }
    let applied = cluster.kubectl(["apply", "--server-side", "--force-conflicts", "-f", &good])?;
    ensure!(applied.trim() == "crontab.stable.example.com/mine serverside-applied", "{applied}");
    cluster.kubectl(["delete", "-f", &definition, "--timeout=30s"])?;
    let gone = cluster.refused(["get", "ct"])?;
    // kubectl remembers for a while what was served.
    let words = ["the server doesn't have a resource type \"ct\"", "could not find the requested resource"];
    ensure!(words.iter().any(|words| gone.contains(words)), "{gone}");
    Ok(())
}
