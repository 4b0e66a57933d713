use policy::{Document, Nouns, Part as _};

use super::*;

fn warnings(reaction: &str) -> Vec<String> {
    let text = format!("[[promise]]\nid = \"WA-3\"\n{reaction}\n");
    let mut document = Document::from_text("garant.toml", &text);
    let nouns = Nouns::read(&mut document);
    Config::read(&mut document, &nouns).warnings()
}

/// WA-3, NH-1: a promise to tell somebody warns while there is nobody to tell; one to ban offenders needs nobody.
#[test]
fn only_a_promise_to_tell_somebody_needs_a_person() {
    let told = r#"{ service = "shop", within = "3 min", over = "30 d" }"#;
    let named = r#"{ to = "failures", service = "shop", within = "3 min", over = "30 d" }"#;
    let banned = r#"{ to = "offences", service = "guard", within = "2 s", over = "30 d" }"#;
    let is_warned = |reaction: &str| {
        let warnings = warnings(reaction);
        warnings.iter().any(|warning| warning.contains("the policy has no [[person]] to tell"))
    };
    assert!(is_warned(&format!("reaction = {told}")));
    assert!(is_warned(&format!("reaction = {named}")));
    assert!(is_warned(&format!("reaction = [{banned}, {told}]")));
    assert!(!is_warned(&format!("reaction = {banned}")));
    assert!(!is_warned(&format!("reaction = [{banned}, {banned}]")));
    assert!(!is_warned("reaction = 3"));
    assert!(!is_warned(""));
}
