use super::*;

fn read(text: &str) -> Reading {
    Reading::parse(text, Timestamp::UNIX_EPOCH)
}

fn pod(reading: &Reading, name: &str) -> Vec<(String, u64, u64)> {
    let told = reading.pods.get(&("ns".to_owned(), name.to_owned())).into_iter().flatten();
    told.map(|(container, used)| (container.clone(), used.cpu, used.memory)).collect()
}

#[test]
fn nodes_and_containers_are_read_and_all_else_is_passed_over() {
    let reading = read(
        r#"# HELP container_cpu_usage_seconds_total Processor time.
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container="web",namespace="ns",pod="a"} 1.5
container_cpu_usage_seconds_total{ pod="a", namespace="ns", container="log" , } 2e-3 1767225600000
container_cpu_usage_seconds_total{container="half",namespace="ns",pod="a"} 1
container_memory_working_set_bytes{container="web",namespace="ns",pod="a"} 4096
container_memory_working_set_bytes{container="log",namespace="ns",pod="a"} 1.024e+03
container_memory_working_set_bytes{container="half",namespace="ns",pod="b"} 1
node_cpu_usage_seconds_total 12.25
node_memory_working_set_bytes 1e9
pod_cpu_usage_seconds_total{namespace="ns",pod="a"} 7
"#,
    );
    assert_eq!(reading.node, Some(Used { cpu: 12_250_000_000, memory: 1_000_000_000 }));
    let web = ("web".to_owned(), 1_500_000_000, 4096);
    assert_eq!(pod(&reading, "a"), [("log".to_owned(), 2_000_000, 1024), web]);
    assert_eq!(reading.pods.len(), 1);
}

#[test]
fn quoted_values_are_read_as_they_are_written() {
    let reading = read(concat!(
        r#"container_cpu_usage_seconds_total{container="a\"},\\\n=",namespace="ns",pod="p"} 1"#,
        "\n",
        r#"container_memory_working_set_bytes{container="a\"},\\\n=",namespace="ns",pod="p"} 2"#,
    ));
    assert_eq!(pod(&reading, "p"), [("a\"},\\\n=".to_owned(), 1_000_000_000, 2)]);
}

#[test]
fn what_is_no_sample_harms_nothing() {
    for line in [
        "",
        "{",
        "x",
        "node_cpu_usage_seconds_total",
        "node_cpu_usage_seconds_total NaN",
        "node_cpu_usage_seconds_total +Inf",
        "node_cpu_usage_seconds_total{a",
        "node_cpu_usage_seconds_total{a=\"",
        "node_cpu_usage_seconds_total{a=\"\\",
        "node_cpu_usage_seconds_total{a=\"b\"}",
        "é{é=\"é\"} é",
        "container_cpu_usage_seconds_total 1",
        "container_cpu_usage_seconds_total{pod=\"\",namespace=\"n\",container=\"c\"} 1",
    ] {
        let reading = read(line);
        assert_eq!((reading.node, reading.pods.len()), (None, 0), "{line}");
    }
    assert_eq!(
        read("node_cpu_usage_seconds_total -5\nnode_memory_working_set_bytes 1e300").node,
        Some(Used { cpu: 0, memory: u64::MAX })
    );
}
