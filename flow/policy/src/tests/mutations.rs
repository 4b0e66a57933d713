//! Damage: whatever is done to a policy, reading it never panics, and every mistake points into the file.

use drawn::Draws;

use super::{read, sample};
use crate::Mistakes;

/// Every mistake is at a place that exists, and both renderings work.
fn points_into_the_file(text: &str, mistakes: &Mistakes) {
    let lines = text.split('\n').count();
    for mistake in mistakes.list() {
        let (start, end) = mistakes.sources().position(mistake.place());
        assert!(start <= end && end.line <= lines, "{mistake:?} in\n{text}");
        assert!(!mistake.reason().is_empty() && !mistake.remedy().is_empty(), "{mistake:?}");
    }
    for colour in [false, true] {
        assert!(mistakes.render(colour).contains("garant.toml"));
    }
    assert_eq!(mistakes.to_json()["mistakes"].as_array().map(Vec::len), Some(mistakes.list().len()));
}

/// The lines of the sample that set a key, with the key.
fn settings() -> Vec<(usize, &'static str, &'static str)> {
    let setting = |(number, line): (usize, &'static str)| {
        let (key, value) = line.split_once(" = ")?;
        Some((number, key, value))
    };
    sample::POLICY.lines().enumerate().filter_map(setting).collect()
}

fn with_line(number: usize, line: &str) -> String {
    let mut lines: Vec<&str> = sample::POLICY.lines().collect();
    lines[number] = line;
    lines.join("\n")
}

#[test]
fn every_key_misspelt() {
    for (number, key, value) in settings() {
        let line = format!("{key}x = {value}");
        let text = with_line(number, &line);
        let mistakes = read(&text).expect_err(&line);
        points_into_the_file(&text, &mistakes);
        let there = mistakes.list().iter().find(|m| mistakes.sources().position(m.place()).0.line == number + 1);
        let mistake = there.unwrap_or_else(|| panic!("nothing said of line {}: {line}\n{mistakes}", number + 1));
        let last = key.rsplit('.').next().unwrap_or(key);
        assert!(mistake.remedy().contains(&format!("did you mean `{last}`?")), "{line}: {mistake:?}");
    }
}

#[test]
fn every_value_of_another_type() {
    let others =
        ["1", "true", "1.5", "2026-01-01", "\"\"", "\"\\u0000 é\"", "[]", "[[]]", "{}", "[{}]", "-1", "{ a.b = 1 }"];
    for (number, key, value) in settings() {
        for other in others {
            let line = format!("{key} = {other}");
            let text = with_line(number, &line);
            let Err(mistakes) = read(&text) else {
                let sound = [
                    ("publish", "true"),
                    ("remember", "[]"),
                    ("depends_on", "[]"),
                    ("groups", "[]"),
                    ("host", "[]"),
                    ("retention", "{}"),
                    ("witness", "[]"),
                    ("status", "1"),
                    ("status", "[]"),
                    ("from", "[]"),
                    ("availability", "[]"),
                ];
                assert!(sound.contains(&(key, other)), "{line} instead of {value} was taken");
                continue;
            };
            points_into_the_file(&text, &mistakes);
            let on_line = |m: &crate::Mistake| mistakes.sources().position(m.place()).0.line == number + 1;
            assert!(mistakes.list().iter().any(on_line), "nothing said of line {}: {line}\n{mistakes}", number + 1);
        }
    }
}

#[test]
fn every_line_removed() {
    let lines: Vec<&str> = sample::POLICY.lines().collect();
    for removed in 0..lines.len() {
        let kept: Vec<_> = lines.iter().enumerate().filter(|(n, _)| *n != removed).map(|(_, line)| *line).collect();
        let text = kept.join("\n");
        if let Err(mistakes) = read(&text) {
            points_into_the_file(&text, &mistakes);
        }
    }
}

#[test]
fn every_prefix() {
    for (end, _) in sample::POLICY.char_indices() {
        let text = &sample::POLICY[..end];
        if let Err(mistakes) = read(text) {
            points_into_the_file(text, &mistakes);
        }
    }
}

#[test]
fn noise_never_panics() {
    const PIECES: [&str; 24] = [
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        "=",
        ".",
        ",",
        "\"",
        "'",
        "\"\"\"",
        "'''",
        "\n",
        "\r\n",
        "#",
        " ",
        "\\u",
        "é",
        "\u{feff}",
        "0x",
        "1979-05-27T07:32:00Z",
        "service",
        "\u{0}",
    ];
    let mut draws = Draws::of(0x9E37_79B9_7F4A_7C15);
    for _ in 0..600 {
        let mut text = String::new();
        for _ in 0..draws.below(60) {
            text.push_str(PIECES[draws.below(PIECES.len())]);
        }
        let bytes: Vec<u8> = (0..draws.below(60)).map(|_| u8::try_from(draws.below(256)).unwrap_or(0)).collect();
        text.push_str(&String::from_utf8_lossy(&bytes));
        if let Err(mistakes) = read(&text) {
            points_into_the_file(&text, &mistakes);
        }
    }
}

#[test]
fn damaged_policies_never_panic() {
    let mut draws = Draws::of(42);
    let sound: Vec<char> = sample::POLICY.chars().collect();
    for _ in 0..600 {
        let mut damaged = sound.clone();
        for _ in 0..=draws.below(4) {
            let at = draws.below(damaged.len());
            match draws.below(4) {
                0 => drop(damaged.remove(at)),
                1 => damaged.insert(at, ['"', '[', ']', '{', '}', '=', '\n', '.', 'é'][draws.below(9)]),
                2 => damaged[at] = damaged[draws.below(damaged.len())],
                _ => drop(damaged.drain(at..(at + draws.below(40)).min(damaged.len()))),
            }
        }
        let text: String = damaged.into_iter().collect();
        if let Err(mistakes) = read(&text) {
            points_into_the_file(&text, &mistakes);
        }
    }
}

#[test]
fn hostile_depth_and_size_are_bounded() {
    for text in [
        "[".repeat(1 << 19),
        "{a=".repeat(1 << 18),
        format!("{}a = 1", "a.".repeat(1 << 18)),
        format!("[{}a]", "a . ".repeat(1 << 17)),
        format!("a = {}", "[{a.b.c=".repeat(1 << 16)),
        "a".repeat(1 << 20),
        "=\n".repeat(1 << 15),
        "#".repeat((16 << 20) + 1),
    ] {
        points_into_the_file(&text, &read(&text).expect_err("no policy"));
    }
}
