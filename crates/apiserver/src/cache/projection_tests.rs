use serde_json::json;

use super::*;

fn field(label: &'static str, paths: &[&'static str], absent: &'static str) -> SelectableField {
    let paths = paths.iter().map(|p| p.split('.').map(Into::into).collect()).collect();
    SelectableField { label: label.into(), paths, absent: absent.into() }
}

fn pods() -> Vec<SelectableField> {
    vec![
        field("spec.nodeName", &["spec.nodeName"], ""),
        field("spec.hostNetwork", &["spec.hostNetwork"], "false"),
        field("source", &["source.component", "reportingComponent"], ""),
        field("spec.replicas", &["spec.replicas"], ""),
    ]
}

/// The same pass over a tree finds the same values: the rows' own reader is the judge.
#[test]
fn reads_what_the_row_reads() {
    let objects = [
        json!({"metadata": {"name": "a", "labels": {"b": "1", "a": "2"}}, "spec": {"nodeName": "n1", "replicas": 3}}),
        json!({"metadata": {}, "spec": {"hostNetwork": true, "nodeName": ""}, "reportingComponent": "r"}),
        json!({"reportingComponent": "second", "source": {"component": "first"}, "spec": {"replicas": -1}}),
        json!({"source": {"component": ""}, "reportingComponent": "r", "spec": {"replicas": 1.5}}),
        json!({"spec": [{"nodeName": "not here"}], "source": "text", "metadata": {"labels": null}}),
        json!({"spec": {"nodeName": {"deeper": "x"}, "hostNetwork": null}, "other": {"spec": {"nodeName": "x"}}}),
        json!({"metadata": {"labels": {"odd": 1, "quo\"ted": "é"}}}),
    ];
    let fields = pods();
    let projection = Projection::new(&fields);
    for object in objects {
        let read = projection.read(object.to_string().as_bytes()).unwrap();
        let expected: Vec<_> = fields.iter().map(|f| f.read(&object).into_owned()).collect();
        assert_eq!(
            (0..fields.len()).map(|slot| read.fields.get(slot).to_owned()).collect::<Vec<_>>(),
            expected,
            "{object}"
        );
        let labels = object["metadata"]["labels"].as_object().into_iter().flatten();
        let mut labels: Vec<_> = labels.filter_map(|(k, v)| Some((k.as_str(), v.as_str()?))).collect();
        labels.sort_unstable();
        assert_eq!(read.labels.iter().collect::<Vec<_>>(), labels, "{object}");
        for (key, value) in labels {
            assert_eq!(read.labels.get(key), Some(value));
        }
    }
}

#[test]
fn says_what_is_no_object() {
    let projection = Projection::new(&pods());
    for wrong in ["", "{", r#"{"metadata":{"labels":{"a":"b"}}"#, "{} x", r#"{"a":1,}"#] {
        assert!(projection.read(wrong.as_bytes()).is_err(), "{wrong}");
    }
}

/// Depth takes no stack: what is not asked for is skipped, and what is has a bound.
#[test]
fn depth_is_harmless() {
    let projection = Projection::new(&pods());
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(projection.read(format!(r#"{{"other":{deep}}}"#).as_bytes()).is_ok());
    assert!(projection.read(format!(r#"{{"metadata":{{"labels":{{"a":{deep}}}}}}}"#).as_bytes()).is_err());
}
