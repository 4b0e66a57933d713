//! What a policy promises of a backup is about a probe that the engine has (BK-1, BK-2, BK-5).

use event::policy::{Applied, Promise};
use garant_backup::Config;
use policy::{Document, Nouns, Part};
use promise::Promises;
use promise::objective::{Freshness, Limit, Objective, Restore};

const DECLARED: &str = r#"
[[region]]
name = "near"
provider = "one"
[[service]]
name = "shop"
[backup]
service = "shop"
key = { file = "/etc/garant/backup.key" }
copy = [{ name = "near", region = "near", directory = "/mnt/backup" }]
mariadb = [{ name = "shop-db", service = "shop" }]
postgres = [{ name = "crm-db", service = "shop" }]
files = [{ name = "etc", service = "shop", paths = ["/etc"] }]
"#;

const OF_FILES: &str = r#"backup = "etc", kind = "full""#;

/// The promises of this policy, or its mistakes.
fn read(declared: &str, objective: &str) -> Result<Vec<Promise>, String> {
    let promise = format!("[[promise]]\nid = \"BK-1\"\ntext.fr = \"Oui.\"\ntext.en = \"Yes.\"\n{objective}\n");
    let mut document = Document::from_text("garant.toml", &format!("{declared}{promise}"));
    let nouns = Nouns::read(&mut document);
    let (backups, promises) = (Config::read(&mut document, &nouns), Promises::read(&mut document, &nouns));
    let mut applied = Applied {
        revision: String::new(),
        services: Vec::new(),
        probes: Vec::new(),
        findings: Vec::new(),
        maintenance: Vec::new(),
        promises: Vec::new(),
    };
    nouns.publish(&mut applied);
    backups.publish(&mut applied);
    promises.publish(&mut applied);
    document.check(&applied);
    document.finish().map_err(|mistakes| mistakes.render(false))?;
    let declared = |promise: &Promise| {
        let objectives = promise.objectives.iter().map(|clause| Objective::of(clause).expect("known"));
        objectives.map(|objective| objective.subject()).all(|subject| {
            let promise::Subject::Probe(of) = subject else { return false };
            applied.probes.iter().any(|probe| probe.id == of && &*probe.kind == "backup")
        })
    };
    assert!(applied.promises.iter().all(declared), "{:?}", applied.promises);
    Ok(applied.promises)
}

fn freshness(of: &str) -> String {
    format!("freshness = {{ {of}, at_most = \"15 min\", over = \"30 d\" }}")
}

#[test]
fn freshness_of_a_backup_is_that_of_its_probe() {
    for (backup, kind) in [
        ("shop-db", "full"),
        ("shop-db", "incremental"),
        ("shop-db", "log"),
        ("shop-db", "restore"),
        ("crm-db", "log"),
        ("etc", "full"),
        ("etc", "restore"),
    ] {
        let promises = read(DECLARED, &freshness(&format!("backup = \"{backup}\", kind = \"{kind}\"")));
        let promises = promises.unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let Some(Objective::Freshness(Freshness { probe, .. })) = Objective::of(&promises[0].objectives[0]) else {
            panic!("{promises:?}")
        };
        assert_eq!(probe.as_str(), format!("{backup}-{kind}"));
        // The journal holds the same, whoever wrote the policy.
        let by_probe = read(DECLARED, &freshness(&format!("probe = \"{probe}\""))).expect("the same");
        assert_eq!(by_probe, promises);
    }
}

#[test]
fn a_backup_or_a_kind_that_there_is_not_is_a_mistake() {
    for (of, parts) in [
        ("backup = \"shop-bd\", kind = \"log\"", &["no backup is called `shop-bd`", "did you mean `shop-db`?"][..]),
        ("backup = \"crm-db\", kind = \"incremental\"", &["\"incremental\" is made of backup `crm-db`", "\"log\""]),
        ("backup = \"etc\", kind = \"log\"", &["\"log\" is made of backup `etc`", "\"full\", \"restore\""]),
    ] {
        let mistakes = read(DECLARED, &freshness(of)).expect_err(of);
        for part in parts {
            assert!(mistakes.contains(part), "{part} in {mistakes}");
        }
    }
    let none = read("", &freshness("backup = \"etc\", kind = \"log\"")).expect_err("no backup");
    assert!(none.contains("no backup is declared: add [[backup.mariadb]]"), "{none}");
}

#[test]
fn restores_are_promised_of_every_backup() {
    for backup in ["shop-db", "crm-db", "etc"] {
        let objective = format!(
            "restore = {{ backup = \"{backup}\", every = \"26 h\", within = \"4 h\", loses_at_most = \"15 min\", over = \"30 d\" }}"
        );
        let promises = read(DECLARED, &objective).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let objectives: Vec<_> = promises[0].objectives.iter().filter_map(Objective::of).collect();
        let of = |objective: &Objective| match objective {
            Objective::Restore(Restore { limit, probe, .. }) => Some((*limit, probe.to_string())),
            _ => None,
        };
        let expected = [Limit::Every, Limit::Within, Limit::LosesAtMost];
        let expected = expected.map(|limit| Some((limit, format!("{backup}-restore"))));
        assert_eq!(objectives.iter().map(of).collect::<Vec<_>>(), expected);
    }
    let mistakes = read(DECLARED, "restore = { backup = \"shop-bd\", every = \"26 h\", over = \"30 d\" }");
    assert!(mistakes.expect_err("no such backup").contains("did you mean `shop-db`?"));
}

/// A table with a mistake of its own is declared all the same.
#[test]
fn a_backup_with_a_mistake_is_not_called_missing() {
    for (right, wrong) in
        [("paths = [\"/etc\"]", "every = \"1 s\""), ("key = { file = \"/etc/garant/backup.key\" }\n", "")]
    {
        assert!(DECLARED.contains(right));
        let mistakes =
            read(&DECLARED.replace(right, wrong), &freshness("backup = \"etc\", kind = \"full\"")).expect_err("one");
        assert!(!mistakes.contains("backup is") && !mistakes.contains("is made of"), "{mistakes}");
    }
    let twice = DECLARED.replace("name = \"etc\"", "name = \"shop-db\"");
    let mistakes = read(&twice, &freshness("backup = \"shop-db\", kind = \"full\"")).expect_err("two of one name");
    assert!(mistakes.contains("two backups are called `shop-db`"), "{mistakes}");
}

/// BK-4: a backup does not hold its own copy.
#[test]
fn files_that_hold_a_copy_are_refused_unless_it_is_left_out() {
    let mistakes = |files: &str| {
        let declared = DECLARED.replace(r#"paths = ["/etc"]"#, files);
        assert_ne!(declared, DECLARED);
        read(&declared, &freshness(OF_FILES)).err()
    };
    let left_out = r#"write `exclude = ["/mnt/backup"]`"#;
    for (held, remedy) in [
        (r#"paths = ["/mnt"]"#, left_out),
        (r#"paths = ["/"], exclude = ["/mnt/other", "!backup"]"#, left_out),
        (r#"paths = ["/etc", "/mnt/backup"], exclude = ["/mnt/backup"]"#, "take it out of `paths`"),
    ] {
        let said = mistakes(held).expect(held);
        assert!(said.contains("the files `etc` hold the copy `near`, in /mnt/backup"), "{said}");
        assert!(said.contains(remedy), "{said}");
    }
    for apart in [
        r#"paths = ["/mnt/back"]"#,
        r#"paths = ["/"], exclude = ["/mnt"]"#,
        r#"paths = ["/mnt"], exclude = ["/mnt/backup"]"#,
        r#"paths = ["/mnt"], exclude = ["back*"]"#,
    ] {
        assert_eq!(mistakes(apart), None, "{apart}");
    }
}

/// BK-4: a copy that is reached by a link is held where it lies.
#[test]
fn files_hold_a_copy_that_a_link_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::create_dir_all(at("www/backup")).expect("made");
    std::os::unix::fs::symlink(at("www/backup"), at("link")).expect("linked");
    let declared = DECLARED.replace("/mnt/backup", &at("link"));
    let read = |paths: String| read(&declared.replace(r#"paths = ["/etc"]"#, &paths), &freshness(OF_FILES));
    let said = read(format!("paths = [\"{}\"]", at("www"))).expect_err("held");
    assert!(said.contains(&format!("write `exclude = [\"{}\"]`", at("www/backup"))), "{said}");
    read(format!("paths = [\"{}\"], exclude = [\"{}\"]", at("www"), at("www/backup"))).expect("left out");
}

/// BK-4: two names for one place are no two copies.
#[test]
fn two_copies_at_one_place_are_a_mistake() {
    let copies = |more: &str| {
        let copy = r#"directory = "/mnt/backup" }"#;
        let declared = DECLARED.replace(copy, &format!("{copy}, {{ name = \"far\", region = \"near\", {more} }}"));
        assert_ne!(declared, DECLARED);
        read(&declared, &freshness(OF_FILES)).err()
    };
    for same in ["/mnt/backup", "/mnt/backup/", "/mnt/./backup", "/mnt/other/../backup"] {
        let said = copies(&format!("directory = \"{same}\"")).expect(same);
        assert!(said.contains("the copies `near` and `far` are both the directory /mnt/backup"), "{said}");
    }
    assert_eq!(copies(r#"directory = "/mnt/other""#), None);
}

/// A path or a pattern that is none is found before anything is backed up.
#[test]
fn what_can_not_be_walked_is_a_mistake() {
    for (wrong, named) in
        [(r#"paths = ["/srv/../etc"]"#, "/srv/../etc"), (r#"paths = ["/etc"], exclude = ["[z-a]"]"#, "[z-a]")]
    {
        let said = read(&DECLARED.replace(r#"paths = ["/etc"]"#, wrong), &freshness(OF_FILES)).expect_err(wrong);
        assert!(said.contains(named) && said.contains("correct what is named"), "{said}");
    }
}
