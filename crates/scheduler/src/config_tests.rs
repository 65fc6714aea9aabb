use super::*;

fn read(rest: &str) -> Result<Config, ConfigError> {
    Config::read(&format!(
        "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n{rest}"
    ))
}

fn at(profile: &Profile, point: Point) -> Vec<(&'static str, i64)> {
    profile.at(point).map(|(plugin, weight)| (plugin.name(), weight)).collect()
}

#[test]
fn without_words_everything_is_as_by_default() {
    let config = read("").expect("a configuration");
    let [profile] = &config.profiles[..] else { panic!("one profile") };
    assert_eq!(&*profile.scheduler, "default-scheduler");
    assert_eq!(
        at(profile, Point::Score),
        [
            ("TaintToleration", 3),
            ("NodeAffinity", 2),
            ("NodeResourcesFit", 1),
            ("PodTopologySpread", 2),
            ("InterPodAffinity", 2),
            ("DynamicResources", 1),
            ("NodeResourcesBalancedAllocation", 1),
            ("ImageLocality", 1),
        ]
    );
    assert_eq!(config.backoff, Backoff::default());
}

#[test]
fn profiles_differ_in_plugins_weights_and_arguments() {
    let config = read(
        r"
percentageOfNodesToScore: 70
podMaxBackoffSeconds: 5
profiles:
- schedulerName: default-scheduler
- schedulerName: packing
  percentageOfNodesToScore: 10
  plugins:
    multiPoint:
      disabled: [{name: ImageLocality}]
      enabled: [{name: NodeAffinity, weight: 9}]
    score:
      disabled: [{name: TaintToleration}, {name: PodTopologySpread}]
    preEnqueue:
      disabled: [{name: '*'}]
  pluginConfig:
  - name: NodeResourcesFit
    args:
      apiVersion: kubescheduler.config.k8s.io/v1
      kind: NodeResourcesFitArgs
      scoringStrategy: {type: MostAllocated}
- schedulerName: filtering
  plugins:
    score:
      disabled: [{name: '*'}]
      enabled: [{name: NodeResourcesFit, weight: 7}]
",
    )
    .expect("a configuration");
    let [plain, packing, filtering] = &config.profiles[..] else { panic!("three profiles") };
    assert_eq!((plain.percentage, packing.percentage), (70, 10));
    assert_eq!(
        at(packing, Point::Score),
        [
            ("NodeAffinity", 9),
            ("NodeResourcesFit", 1),
            ("InterPodAffinity", 2),
            ("DynamicResources", 1),
            ("NodeResourcesBalancedAllocation", 1),
        ]
    );
    assert_eq!(at(packing, Point::PreEnqueue), []);
    assert!(at(packing, Point::Filter).contains(&("TaintToleration", 3)));
    assert_eq!(at(filtering, Point::Score), [("NodeResourcesFit", 7)]);
    assert_eq!(config.backoff.last, Duration::from_secs(5));
}

#[test]
fn what_is_wrong_is_named() {
    for (what, text, said) in [
        ("an unknown field", "profile: []", "profile"),
        ("another kind", "kind: Other", "kind"),
        (
            "an unknown plugin",
            "profiles: [{plugins: {score: {enabled: [{name: Mine}]}}}]",
            "profiles[0].plugins.score.enabled[0]: plugin \"Mine\" does not exist",
        ),
        (
            "a plugin where it has no say",
            "profiles: [{plugins: {score: {enabled: [{name: NodePorts}]}}}]",
            "profiles[0].plugins.score.enabled[0]: plugin \"NodePorts\" does not extend score",
        ),
        (
            "an unknown point",
            "profiles: [{plugins: {scores: {}}}]",
            "profiles[0].plugins.scores: is no extension point",
        ),
        (
            "two of a name",
            "profiles: [{schedulerName: a}, {schedulerName: a}]",
            "profiles[1].schedulerName: duplicate value: \"a\"",
        ),
        (
            "no binder",
            "profiles: [{plugins: {bind: {disabled: [{name: '*'}]}}}]",
            "profiles[0].plugins.bind: one plugin is needed",
        ),
        (
            "an argument out of bounds",
            "profiles: [{pluginConfig: [{name: InterPodAffinity, args: {hardPodAffinityWeight: 101}}]}]",
            "profiles[0].pluginConfig[0].args: hardPodAffinityWeight: not in the range [0-100]",
        ),
        (
            "an unknown argument",
            "profiles: [{pluginConfig: [{name: NodeResourcesFit, args: {ignored: []}}]}]",
            "profiles[0].pluginConfig[0].args: unknown field `ignored`",
        ),
        (
            "arguments of another",
            "profiles: [{pluginConfig: [{name: NodeResourcesFit, args: {kind: NodeAffinityArgs}}]}]",
            "profiles[0].pluginConfig[0].args: kind",
        ),
        (
            "arguments for what takes none",
            "profiles: [{pluginConfig: [{name: NodePorts, args: {}}]}]",
            "the plugin NodePorts takes no arguments",
        ),
        (
            "a percentage out of bounds",
            "percentageOfNodesToScore: 101",
            "percentageOfNodesToScore: not in valid range [0-100]",
        ),
        ("no back-off", "podInitialBackoffSeconds: 0", "podInitialBackoffSeconds: must be greater than 0"),
    ] {
        let error = read(text).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(said), "{what}: {error}");
    }
}

#[test]
fn volumes_have_the_time_that_a_profile_gives_them() {
    let binding = |args: &str| {
        let config = read(&format!("profiles: [{{pluginConfig: [{{name: VolumeBinding, args: {args}}}]}}]"))?;
        Ok::<_, ConfigError>(config.profiles[0].binding.as_secs())
    };
    assert_eq!(binding("{}").expect("a configuration"), 600);
    assert_eq!(binding("{bindTimeoutSeconds: 30}").expect("a configuration"), 30);
    assert!(binding("{bindTimeoutSeconds: -1}").is_err());
    assert_eq!(read("").expect("a configuration").profiles[0].binding.as_secs(), 600);
}

#[test]
fn devices_have_the_time_that_a_profile_gives_them() {
    let time = |args: &str| {
        let config =
            read(&format!("profiles: [{{pluginConfig: [{{name: DynamicResources, args: {args}}}]}}]"))?;
        Ok::<_, ConfigError>(config.profiles[0].devices.as_secs())
    };
    assert_eq!(time("{}").expect("a configuration"), 600);
    assert_eq!(time("{bindingTimeout: 1m30s}").expect("a configuration"), 90);
    assert_eq!(read("").expect("a configuration").profiles[0].devices.as_secs(), 600);
    for (args, wanted) in [
        ("{bindingTimeout: 999ms}", "bindingTimeout: must be at least 1 second"),
        ("{bindingTimeout: soon}", "bindingTimeout: \"soon\" is no duration"),
        ("{filterTimeout: -1s}", "filterTimeout: must be zero or positive"),
        ("{filterTimeout: soon}", "filterTimeout: \"soon\" is no duration"),
    ] {
        let error = time(args).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}
