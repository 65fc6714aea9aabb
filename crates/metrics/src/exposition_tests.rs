use super::*;

fn example(format: Format) -> String {
    let seconds = Histogram::new(&[0.5, 1.0]);
    seconds.observe(0.75);
    let mut text = Exposition::new(format);
    text.family("requests_total", Kind::Counter, "What was\nasked.");
    text.sample(&[("path", "a\"b\\c\nd"), ("code", "200")], 3.0);
    text.family("rejections", Kind::Counter, "No.");
    text.sample(&[], 1.0);
    text.family("seconds", Kind::Histogram, "Time.");
    text.histogram(&[("verb", "GET")], &seconds);
    text.single("up", Kind::Gauge, "Whether.", 1.5);
    text.finish()
}

#[test]
fn plain_text() {
    assert_eq!(
        example(Format::Text),
        r#"# HELP requests_total What was\nasked.
# TYPE requests_total counter
requests_total{path="a\"b\\c\nd",code="200"} 3
# HELP rejections No.
# TYPE rejections counter
rejections 1
# HELP seconds Time.
# TYPE seconds histogram
seconds_bucket{verb="GET",le="0.5"} 0
seconds_bucket{verb="GET",le="1"} 1
seconds_bucket{verb="GET",le="+Inf"} 1
seconds_sum{verb="GET"} 0.75
seconds_count{verb="GET"} 1
# HELP up Whether.
# TYPE up gauge
up 1.5
"#
    );
}

#[test]
fn open_metrics_names_counters_otherwise_and_ends() {
    let text = example(Format::OpenMetrics);
    for line in [
        "# TYPE requests counter",
        r#"requests_total{path="a\"b\\c\nd",code="200"} 3"#,
        "rejections_total 1",
        r#"seconds_bucket{verb="GET",le="1.0"} 1"#,
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in {text}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn the_format_is_the_one_asked_for() {
    let prometheus =
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1";
    for (accept, format) in [
        ("", Format::Text),
        ("*/*", Format::Text),
        ("text/plain", Format::Text),
        (prometheus, Format::OpenMetrics),
        ("application/openmetrics-text", Format::OpenMetrics),
        ("application/openmetrics-text;q=0.1, text/plain", Format::Text),
        ("application/openmetrics-text;q=0", Format::Text),
    ] {
        assert_eq!(Format::accept(accept), format, "{accept}");
    }
}
