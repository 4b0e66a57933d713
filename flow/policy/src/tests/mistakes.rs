//! What is shown.

use std::fs;

use super::{read, read_document, sample};
use crate::{Basics, Document, Located, Mistakes, Nouns};

/// Reasons, places and remedies in short: `line:column reason | remedy`.
pub(super) fn brief(mistakes: &Mistakes) -> Vec<String> {
    let line = |mistake: &crate::Mistake| {
        let start = mistakes.sources().position(mistake.place()).0;
        format!("{}:{} {} | {}", start.line, start.column, mistake.reason(), mistake.remedy())
    };
    mistakes.list().iter().map(line).collect()
}

/// A policy that is sound but for what is added.
fn check(added: &str, expect: &[&str]) {
    let text = format!("[journal]\nname = \"shop.example\"\n[[service]]\nname = \"shop\"\n{added}");
    let mistakes = read(&text).err().map(|mistakes| brief(&mistakes)).unwrap_or_default();
    assert_eq!(mistakes, expect, "{added}");
}

#[test]
fn ten_mistakes_at_once() {
    insta::assert_snapshot!(read(sample::TEN_MISTAKES).expect_err("ten mistakes"));
}

#[test]
fn ten_mistakes_for_an_editor() {
    let json = read(sample::TEN_MISTAKES).expect_err("ten mistakes").to_json();
    insta::assert_snapshot!(serde_json::to_string_pretty(&json).expect("it is JSON"));
}

#[test]
fn colour_only_when_asked() {
    let mistakes = read("x = 1").expect_err("an unknown key");
    assert!(!mistakes.render(false).contains('\u{1b}'));
    assert!(mistakes.render(true).contains('\u{1b}'));
}

#[test]
fn syntax_errors_hide_nothing_else_and_invent_nothing() {
    check("[[host]]\nname = web-1\n", &["6:8 a text without quotes | write \"web-1\""]);
    check("[[host]]\nname = \n", &["6:8 a key without a value | write a value after the `=`"]);
    check(
        "[[host]]\nname \"web\"\n",
        &["6:6 a key without a value | write it like key = \"value\", or start a comment with `#`"],
    );
    check(
        "[[host]]\nname = \"a\"\nname = \"b\"\n",
        &["7:1 `name` is set twice | remove one of the two; tables of which there may be several start with [[name]]"],
    );
    check(
        "[[host]]\nname = [\"a\"\n\n[[region]]\nname = \"r\"\n",
        &[
            "6:8 a bracket that is never closed | add the closing bracket, and look for a missing comma or quote before it",
        ],
    );
    check(
        "[host\nname = \"a\"\n\n[[region]]\nnme = \"r\"\n",
        &["5:6 a header that is never closed | close it: [name] or [[name]] on a line of its own"],
    );
    check(
        "[[host]]\nname = web-1\n[[region]]\nname = \"r\"\nprovder = \"ovh\"\n",
        &[
            "6:8 a text without quotes | write \"web-1\"",
            "9:1 [[region]] has no key `provder` | did you mean `provider`?",
        ],
    );
    check(
        "[[host]]\nname = {a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r = 1}\n",
        &[
            "6:42 nested deeper than 16 levels | no table of the policy is nested deeper than three: look for a bracket that is never closed",
        ],
    );
}

#[test]
fn what_an_open_bracket_swallows_is_not_counted() {
    let mistakes = read(&format!("a = [\n{}", "b = 1\n".repeat(1000))).expect_err("never closed");
    assert_eq!((mistakes.count(), mistakes.list()[0].reason()), (1, "a bracket that is never closed"));
}

#[test]
fn files_of_windows_editors_are_read_alike() {
    let text = format!("\u{feff}{}", sample::POLICY.replace('\n', "\r\n"));
    assert!(read(&text).is_ok());
    let text = text.replace("every = ", "evry = ");
    assert_eq!(
        brief(&read(&text).expect_err("misspelt")),
        ["53:1 [[probe.http]] has no key `evry` | did you mean `every`?"]
    );
}

#[test]
fn an_impossible_date_is_one_mistake() {
    let window = "[[maintenance]]\nservices = \"shop\"\nfrom = 2026-13-01T04:00:00Z\nto = 2026-12-01T02:00:00Z\ntext = { fr = \"a\", en = \"b\" }\n";
    let mistakes =
        read(&format!("[journal]\nname = \"x\"\n[[service]]\nname = \"shop\"\n{window}")).expect_err("no month 13");
    let [mistake] = mistakes.list() else { panic!("{mistakes}") };
    assert_eq!(mistake.reason(), "invalid date, expected month between 01 and 12");
}

#[test]
fn tables_in_the_wrong_place() {
    check(
        "[service]\nname = \"x\"\n",
        &[
            "5:2 `service` is set twice | remove one of the two; tables of which there may be several start with [[name]]",
        ],
    );
    check("[host]\nname = \"x\"\n", &["5:1 there may be several [[host]] | write [[host]], with two brackets"]);
    check("[[pages]]\n", &["5:1 there is only one [pages] | write [pages], with one bracket"]);
    check("[probe]\nevery = \"10 s\"\n", &["6:1 there is no table `probe.every` | write one of [[probe.http]]"]);
    check("[[probe]]\n", &["5:3 `probe` is not a table by itself | write one of [[probe.http]]"]);
    check("[[probe.htpp]]\n", &["5:9 there is no table `probe.htpp` | did you mean [[probe.http]]?"]);
    check("[[prob.http]]\n", &["5:3 there is no table `prob` | did you mean [[probe.http]]?"]);
    check(
        "publish = true\n",
        &[
            "5:1 [[service]] has no key `publish` | `publish` belongs to the top of the file, above the first table header",
        ],
    );
}

#[test]
fn a_time_zone_that_nobody_knows() {
    for (zone, remedy) in [
        ("Europe/Pari", "did you mean \"Europe/Paris\"?"),
        ("CEST", "did you mean \"CET\"?"),
        ("UTC+1", "write a name of the IANA database, a continent and a city, such as \"Europe/Paris\""),
    ] {
        let text = format!("time_zone = \"{zone}\"\n[journal]\nname = \"shop.example\"\n");
        let expect = format!("1:13 `{zone}` is not the name of a time zone | {remedy}");
        assert_eq!(brief(&read(&text).expect_err("a mistake")), [expect]);
    }
}

#[test]
fn values_of_the_wrong_type() {
    let probe = |line: &str| format!("[[probe.http]]\nservice = \"shop\"\nurl = \"http://shop.example\"\n{line}\n");
    for (line, expect) in [
        (
            "every = 10",
            "8:9 `every` is a whole number, and should be a length of time | write it like every = \"10 s\"",
        ),
        (
            "every = \"10\"",
            "8:9 `10` is not a length of time | write a whole number and a unit (ms, s, min, h, d, w), such as \"90 s\" or \"15 min\"",
        ),
        (
            "every = [\"10 s\"]",
            "8:9 `every` is a list, and should be a length of time | write a single one, such as every = \"10 s\"",
        ),
        (
            "every = 1.5",
            "8:9 `every` is a number with decimals, and should be a length of time | write it like every = \"10 s\"",
        ),
        ("every = \"0 s\"", "8:9 `every` is 0 s, out of range | write something from \"1 s\" to \"1 d\""),
        ("status = 70000", "8:10 `status` is 70000, out of range | write a whole number from 0 to 65535"),
        ("status = 99999999999999999999", "8:10 `status` is too large a number | write a whole number from 0 to 65535"),
        (
            "status = \"200\"",
            "8:10 `status` is a text, and should be a whole number from 0 to 65535 | remove the quotes: 200",
        ),
        ("agreement = \"al\"", "8:13 `agreement` can't be \"al\" | did you mean \"all\"?"),
        ("agreement = \"none\"", "8:13 `agreement` can't be \"none\" | write one of \"majority\", \"any\", \"all\""),
        ("from = \"mars\"", "8:8 no observer is called `mars` | declared are `local`; add [[observer]] for another"),
        (
            "name = \"a b\"",
            "8:8 `a b` is not a name | use 1 to 64 of the characters a-z A-Z 0-9 - _ . and start with a letter or a digit",
        ),
    ] {
        check(&probe(line), &[expect]);
    }
    check(
        "[pages]\nlisten = \"0.0.0.0:80\"\n",
        &[
            "6:10 0.0.0.0:80 is reachable from outside, and the team's pages have no login | write \"127.0.0.1:8480\" or \"[::1]:8480\", and reach it through an SSH tunnel",
        ],
    );
    check(
        "[pages]\npublic = \"0.0.0.0:8480\"\n",
        &["6:10 the same address as the team's listener | give it another port"],
    );
}

#[test]
fn a_text_in_one_language_is_asked_for_in_two() {
    check(
        "[[service]]\nname = \"mail\"\ntitle = \"Mail\"\n",
        &["7:9 `title` is a text, and should be a table | write it like title = { fr = …, en = … }"],
    );
}

#[test]
fn names_made_from_others_may_collide_too() {
    let probe = "[[probe.http]]\nservice = \"shop\"\nurl = \"http://shop.example\"\n";
    check(&format!("{probe}{probe}"), &["8:1 two probes are called `shop-http` | give this one a `name` of its own"]);
}

#[test]
fn one_bad_declaration_does_not_make_its_references_wrong() {
    check(
        "[[observer]]\nname = \"a b\"\n[[probe.http]]\nservice = \"shop\"\nurl = \"http://x\"\nfrom = \"ab\"\n",
        &[
            "6:8 `a b` is not a name | use 1 to 40 of the characters a-z A-Z 0-9 - _ . and start with a letter or a digit",
        ],
    );
}

#[test]
fn people_and_windows_are_checked() {
    let person = "[[person]]\nname = \"Léa\"\nchannel = []\n";
    let mistakes = read(&format!("[journal]\nname = \"x\"\n[[service]]\nname = \"shop\"\n{person}"));
    let expected = "7:11 `channel` is empty | write a table, such as channel = [{ … }]".to_owned();
    assert!(brief(&mistakes.expect_err("nobody is reached")).contains(&expected));
    let window = "[[maintenance]]\nservices = \"shop\"\nfrom = 2026-12-01T04:00:00Z\nto = 2026-12-01T02:00:00Z\ntext = { fr = \"a\", en = \"b\" }\n";
    check(window, &["8:6 the maintenance ends before it begins | write a `to` that is after `from`"]);
    check(
        &window.replace("02:00:00Z", "06:00:00"),
        &[
            "8:6 `2026-12-01T06:00:00` is not a date and time with its offset | write it as in RFC 3339, such as \"2026-11-22T23:00:00Z\" or \"2026-11-23T00:00:00+01:00\"",
        ],
    );
}

#[test]
fn a_policy_names_its_journal_and_the_place_of_its_pages() {
    let brief = brief(&read("publish = true\n").expect_err("two mistakes"));
    assert_eq!(
        brief,
        [
            "1:1 the journal has no name | add [journal] with name = \"shop.example\", a domain of yours: it is part of every signature",
            "1:1 published, but nobody knows where | add url = \"https://trust.shop.example\" to [pages]: the command that checks a proof names it",
        ]
    );
    assert!(read("").is_err(), "not even an empty policy is sound");
}

#[test]
fn evidence_outlives_the_longest_window() {
    let check = |days: i64| {
        let mut document = Document::from_text("garant.toml", sample::POLICY);
        drop(Nouns::read(&mut document));
        let basics = Basics::read(&mut document).expect("a sound policy");
        drop(document.tables::<super::Probe>("probe.http"));
        drop(document.tables::<super::Promise>("promise"));
        let longest = Located { value: event::Span::from_days(days), place: document.place_of("promise") };
        basics.journal.check_retention(&mut document, longest);
        drop(document.tables::<super::sample::Reached>("person"));
        document.finish().err().map(|mistakes| brief(&mistakes))
    };
    assert_eq!(check(1096), None);
    let expect = "58:3 evidence is kept for 1100 d, and this window is 1097 d long: 4 d more are needed | \
        keep it longer, with retention.evidence = \"1101 d\" in [journal], or shorten the window";
    assert_eq!(
        check(1097),
        Some(vec![expect.to_owned()]),
        "what is told again after a day was destroyed takes a while"
    );
}

#[test]
fn files_beside_the_policy_are_united_with_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let (main, more) = (directory.path().join("garant.toml"), directory.path().join("conf.d"));
    fs::create_dir(&more).expect("conf.d");
    fs::write(&main, "[journal]\nname = \"shop.example\"\n[[service]]\nname = \"shop\"\n").expect("written");
    fs::write(more.join("b.toml"), "[[service]]\nname = \"mail\"\ndepends_on = \"dns\"\n").expect("written");
    fs::write(more.join("a.toml"), "[[service]]\nname = \"dns\"\n[journal]\nremember = \"/a\"\n").expect("written");
    fs::write(more.join(".hidden.toml"), "no TOML").expect("written");
    fs::write(more.join("readme.txt"), "no TOML").expect("written");
    let ((nouns, basics), ..) = read_document(Document::load(&main).expect("readable")).expect("sound");
    let names: Vec<_> = nouns.services.iter().map(|service| service.id.as_str()).collect();
    assert_eq!(names, ["shop", "dns", "mail"], "the file itself, then the others in alphabetical order");
    assert_eq!(basics.journal.remember.len(), 1, "one table may be spread over files");

    fs::write(more.join("c.toml"), "[[service]]\nname = \"shop\"\n[journal]\nname = \"other.example\"\n")
        .expect("written");
    let mistakes = read_document(Document::load(&main).expect("readable")).expect_err("two things are said twice");
    let shown = mistakes.to_string().replace(&directory.path().display().to_string(), "/etc/garant");
    insta::assert_snapshot!(shown);
}

#[test]
fn files_that_cannot_be_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("garant.toml");
    let refuse = |expect: [&str; 2]| {
        let mistakes = Document::load(&path).expect_err(expect[0]);
        let [mistake] = mistakes.list() else { panic!("{mistakes}") };
        assert_eq!([mistake.reason(), mistake.remedy()], expect);
        assert!(mistakes.to_string().contains("garant.toml"), "{mistakes}");
        assert_eq!(mistakes.to_json()["mistakes"][0]["line"], 1);
    };
    refuse(["there is no policy here", "write one with `garant init`, or say where it is with `--policy FILE`"]);
    fs::write(&path, b"a = 1\n# caf\xe9\n").expect("written");
    refuse([
        "line 2 is not UTF-8",
        "save the file as UTF-8: with `iconv -f latin1 -t utf-8`, or in the settings of the editor",
    ]);
    fs::write(&path, "#".repeat((16 << 20) + 1)).expect("written");
    let remedy = "check that it is a policy at all; what is larger is for two of garant, each with its policy";
    refuse(["larger than 16 MiB", remedy]);
    fs::write(&path, "#".repeat(16 << 20)).expect("written");
    assert!(Document::load(&path).is_ok(), "the limit itself is allowed");
    fs::remove_file(&path).expect("removed");
    fs::create_dir(&path).expect("created");
    let inner = format!("name the file itself, such as {}", path.join("garant.toml").display());
    refuse(["this is a directory, and not a file", &inner]);
    fs::remove_dir(&path).expect("removed");
    std::os::unix::fs::symlink("/dev/zero", &path).expect("linked");
    let pipe = "this is a device, a pipe or a socket, and a policy is read again at each reload";
    refuse([pipe, "write the policy to a file, and name that"]);

    let main = directory.path().join("main.toml");
    fs::write(&main, "").expect("written");
    fs::create_dir(directory.path().join("conf.d")).expect("created");
    for number in 0..100 {
        fs::write(directory.path().join(format!("conf.d/{number}.toml")), "").expect("written");
    }
    assert_eq!(Document::load(&main).expect_err("101 files").list()[0].reason(), "more than 100 files of policy");
}

#[test]
fn a_thousand_mistakes_are_counted_and_a_hundred_shown() {
    let mistakes = read(&"[[host]]\n".repeat(1000)).expect_err("no host has a name");
    assert_eq!((mistakes.list().len(), mistakes.count()), (100, 1001), "and the journal has none either");
    assert!(
        mistakes
            .to_string()
            .ends_with("1001 mistakes in the policy, the first 100 of them shown: nothing of it is in effect\n")
    );
}
