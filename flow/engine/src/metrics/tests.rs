use super::*;

#[test]
fn figures_are_exact() {
    for (value, expected) in [
        (MetricValue::Whole(-3), "-3"),
        (MetricValue::Millionths(0), "0"),
        (MetricValue::Millionths(12_000), "0.012"),
        (MetricValue::Millionths(-1_500_000), "-1.5"),
        (MetricValue::Millionths(60_000_000), "60"),
        (MetricValue::Billionths(999_900_000), "0.9999"),
        (MetricValue::Billionths(1), "0.000000001"),
        (MetricValue::Millionths(i64::MIN), "-9223372036854.775808"),
        (MetricValue::from(u64::MAX), "9223372036854775807"),
    ] {
        assert_eq!(value.to_string(), expected);
    }
}

#[test]
fn the_text_of_each_kind() {
    let mut text = MetricsText::new(MetricsFormat::OpenMetrics);
    text.gauge("a_seconds", "seconds", "Some \"time\"\\\nlong.").sample(&[], MetricValue::Millionths(1_500_000));
    text.counter("b", "", "B.").sample(&[("path", "C:\\x\n\"y\"")], 2_u64).sample(&[("path", ""), ("q", "é")], 3_u64);
    text.info("c", "C.").sample(&[("version", "1")], 1_u64);
    text.state_set("d", "D.").state(&[("probe", "p")], &["up", "down"], Some("down")).state(&[], &["up"], None);
    assert_eq!(
        text.finish(),
        concat!(
            "# TYPE a_seconds gauge\n# UNIT a_seconds seconds\n# HELP a_seconds Some \\\"time\\\"\\\\\\nlong.\n",
            "a_seconds 1.5\n",
            "# TYPE b counter\n# HELP b B.\n",
            "b_total{path=\"C:\\\\x\\n\\\"y\\\"\"} 2\nb_total{path=\"\",q=\"é\"} 3\n",
            "# TYPE c info\n# HELP c C.\nc_info{version=\"1\"} 1\n",
            "# TYPE d stateset\n# HELP d D.\n",
            "d{probe=\"p\",d=\"up\"} 0\nd{probe=\"p\",d=\"down\"} 1\nd{d=\"up\"} 0\n",
            "# EOF\n",
        )
    );
}

#[test]
fn a_family_is_written_once() {
    let mut text = MetricsText::new(MetricsFormat::OpenMetrics);
    text.gauge("a", "", "A.").sample(&[], 1_u64);
    text.gauge("b", "", "B.").sample(&[], 1_u64);
    text.gauge("a", "", "A.").sample(&[], 2_u64);
    assert_eq!(text.finish().matches("# TYPE a gauge").count(), 1);
}

#[test]
fn an_agent_says_numbers_and_no_names() {
    let figure = |name, is_counter, label| ToldFigure { name, about: "A.", is_counter, label };
    let figures = [figure("garant_toy_bans", false, None), figure("garant_toy_failures", true, Some("rule"))];
    let sample = |figure: &str, of: Option<&str>, count| {
        let of = of.map(str::to_owned);
        ToldSample { figure: figure.to_owned(), of, count }
    };
    let told = [
        sample("garant_toy_failures", Some("ss\"hd"), 3),
        sample("garant_toy_bans", None, 2),
        sample("garant_toy_bans", None, 7),
        sample("garant_toy_bans", Some("x"), 7),
        sample("garant_toy_failures", Some("ss\"hd"), 4),
        sample("garant_toy_failures", Some("nginx"), 5),
        sample("garant_toy_failures", None, 6),
        sample("up 1\n# EOF", None, 1),
    ];
    let mut text = MetricsText::new(MetricsFormat::OpenMetrics);
    text.told(&figures, &told);
    assert_eq!(
        text.finish(),
        concat!(
            "# TYPE garant_toy_bans gauge\n# HELP garant_toy_bans A.\ngarant_toy_bans 2\n",
            "# TYPE garant_toy_failures counter\n# HELP garant_toy_failures A.\n",
            "garant_toy_failures_total{rule=\"ss\\\"hd\"} 3\ngarant_toy_failures_total{rule=\"nginx\"} 5\n# EOF\n",
        )
    );
}

#[test]
fn the_older_text_says_the_same() {
    let mut text = MetricsText::new(MetricsFormat::Text);
    text.gauge("a_seconds", "seconds", "Some \"time\"\\\nlong.").sample(&[], MetricValue::Millionths(1_500_000));
    text.counter("b", "", "B.").sample(&[("path", "\"y\"")], 2_u64);
    text.info("c", "C.").sample(&[("version", "1")], 1_u64);
    text.state_set("d", "D.").state(&[], &["up"], Some("up"));
    assert_eq!(
        text.finish(),
        concat!(
            "# TYPE a_seconds gauge\n# HELP a_seconds Some \"time\"\\\\\\nlong.\na_seconds 1.5\n",
            "# TYPE b_total counter\n# HELP b_total B.\nb_total{path=\"\\\"y\\\"\"} 2\n",
            "# TYPE c_info gauge\n# HELP c_info C.\nc_info{version=\"1\"} 1\n",
            "# TYPE d gauge\n# HELP d D.\nd{d=\"up\"} 1\n",
        )
    );
}

#[test]
fn the_format_is_the_one_that_is_preferred() {
    let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                      text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    for accept in
        ["", "*/*", prometheus, "text/html,*/*;q=0.8", "text/plain, application/openmetrics-text", "text/plain;q=2"]
    {
        assert_eq!(MetricsFormat::preferred(accept), MetricsFormat::OpenMetrics, "{accept}");
    }
    let older = "text/plain;version=0.0.4;q=1,*/*;q=0.1";
    for accept in
        ["text/plain", "Text/*", older, "application/openmetrics-text;q=0.5,text/plain;q=0.501", "text/plain ; q=0.001"]
    {
        assert_eq!(MetricsFormat::preferred(accept), MetricsFormat::Text, "{accept}");
    }
}
