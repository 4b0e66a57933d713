use super::*;

#[test]
fn figures_are_exact() {
    for (value, expected) in [
        (Value::Whole(-3), "-3"),
        (Value::Millionths(0), "0"),
        (Value::Millionths(12_000), "0.012"),
        (Value::Millionths(-1_500_000), "-1.5"),
        (Value::Millionths(60_000_000), "60"),
        (Value::Billionths(999_900_000), "0.9999"),
        (Value::Billionths(1), "0.000000001"),
        (Value::Millionths(i64::MIN), "-9223372036854.775808"),
        (Value::from(u64::MAX), "9223372036854775807"),
    ] {
        assert_eq!(value.to_string(), expected);
    }
}

#[test]
fn the_text_of_each_kind() {
    let mut text = Text::new();
    text.gauge("a_seconds", "seconds", "Some \"time\"\\\nlong.").sample(&[], Value::Millionths(1_500_000));
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
    let mut text = Text::new();
    text.gauge("a", "", "A.").sample(&[], 1_u64);
    text.gauge("b", "", "B.").sample(&[], 1_u64);
    text.gauge("a", "", "A.").sample(&[], 2_u64);
    assert_eq!(text.finish().matches("# TYPE a gauge").count(), 1);
}
