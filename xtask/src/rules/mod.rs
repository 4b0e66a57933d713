//! The rules of the workspace, as data.
//!
//! Each rule has a name, the reason why it exists and a remedy, which are printed where it is broken: its reader sees the
//! message and not this file. A new rule is a function and its entry in [`ALL`]; the tests of this module fail until one of
//! their changes to a sound workspace breaks it.

mod crates;
mod documents;
mod sources;

use std::fmt::Write;

use crate::workspace::Workspace;

/// A rule of the workspace and the function that checks it.
pub(crate) struct Rule {
    /// The heading of its breaches in the report.
    pub(crate) name: &'static str,
    /// What goes wrong without the rule.
    pub(crate) why: &'static str,
    /// What to do in place of what it forbids.
    pub(crate) instead: &'static str,
    /// Every place where the rule is broken.
    broken: fn(&Workspace) -> Vec<Breach>,
}

/// One place where a rule is broken.
#[derive(Debug)]
pub(crate) struct Breach {
    /// `path` or `path:line`, relative to the root; the manifest of the crate for a rule over crates.
    pub(crate) place: String,
    /// What stands there.
    pub(crate) what: String,
}

impl Breach {
    fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { place: place.into(), what: what.into() }
    }

    fn at(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self::new(format!("{path}:{line}"), what)
    }
}

/// Every rule, in the order of the report.
pub(crate) const ALL: &[Rule] = &[
    Rule {
        name: "floors",
        why: "an edit of a low crate rebuilds everything above it, and a low crate that looks up can't be read alone",
        instead: "move what is shared to the lower floor, or hand it down as an argument; the floors are in ARCHITECTURE.md",
        broken: crates::floors,
    },
    Rule {
        name: "engines-apart",
        why: "engines that call each other fail together, and what passed between them is in no journal",
        instead: "let one record an event and the other read it",
        broken: crates::engines_apart,
    },
    Rule {
        name: "pure-spine",
        why: "`garant verify` is run by strangers and rests on these crates alone: no network, no database, no runtime",
        instead: "take the outside world as a trait or a value; its implementation belongs to `store` or `engine`",
        broken: crates::pure_spine,
    },
    Rule {
        name: "sql-in-store",
        why: "a second database is a second implementation of the traits of `store`, not a hunt through the workspace",
        instead: "add a method that is a whole transaction to a trait of `store`",
        broken: crates::sql_in_store,
    },
    Rule {
        name: "toml-in-policy",
        why: "a mistake in the policy is shown in the user's own file, all of them at once; a second reader would know neither",
        instead: "register a `policy::Section`, or hand the text to `policy`",
        broken: crates::toml_in_policy,
    },
    Rule {
        name: "http-server-in-web",
        why: "one place decides what is listened to, what is public and how large a request may be",
        instead: "give `web` a value to serve, or a channel to pass requests on",
        broken: crates::http_server_in_web,
    },
    Rule {
        name: "http-client-in-engine",
        why: "one place bounds the time and the size of what comes back, and times every phase",
        instead: "use `engine::http` or `engine::net`",
        broken: crates::http_client_in_engine,
    },
    Rule {
        name: "lints-inherited",
        why: "a crate without `[lints] workspace = true` is checked by no lint of the workspace, silently",
        instead: "add the two lines to its Cargo.toml",
        broken: crates::lints_inherited,
    },
    Rule {
        name: "finished",
        why: "what is left for later is found by a user first",
        instead: "finish it, or leave it out and say so in the change log",
        broken: sources::finished,
    },
    Rule {
        name: "expect-not-allow",
        why: "an `allow` stays when its cause is gone, and does not say why it came; an `expect` complains",
        instead: "write #[expect(lint, reason = \"…\")]",
        broken: sources::expect_not_allow,
    },
    Rule {
        name: "no-floats",
        why: "whoever has the entries must get the same verdict, byte for byte, and floats round as the machine likes",
        instead: "count in whole µs and parts per billion",
        broken: sources::no_floats,
    },
    Rule {
        name: "no-common",
        why: "a module named after nothing gathers everything, and soon everything depends on it",
        instead: "name it after what it does, and put it where it is used",
        broken: sources::no_common,
    },
    Rule {
        name: "word-page",
        why: "the bare word means a call at night, a web page and a block of a database, all in this workspace",
        instead: "say `paging`, `status_page`, `trust_page`",
        broken: sources::word_page,
    },
    Rule {
        name: "words-of-libraries",
        why: "an error of a library names its types, its codes and its documentation, to somebody who was woken by it",
        instead: "say it in our words: `store::words`, `tls_words`, `words` of the resolver; each is a table with a test",
        broken: sources::words_of_libraries,
    },
    Rule {
        name: "short-files",
        why: "nobody reads a file of 1500 lines; the median here is under 240",
        instead: "split it where it has two subjects",
        broken: sources::short_files,
    },
    Rule {
        name: "clean-text",
        why: "a file without a last newline, or with carriage returns, makes changes look larger than they are",
        instead: "let the editor end files with one newline, and lines with \\n",
        broken: sources::clean_text,
    },
    Rule {
        name: "no-place-names",
        why: "the path of one checkout means nothing on another machine, and tells strangers about this one",
        instead: "write a path relative to the workspace, or take it as an argument",
        broken: sources::no_place_names,
    },
    Rule {
        name: "bans-say-why",
        why: "a ban without a reason is worked around by whoever meets it first",
        instead: "add reason = \"…\" to the line",
        broken: sources::bans_say_why,
    },
    Rule {
        name: "bans-complete",
        why: "ARCHITECTURE.md says that clock, randomness and network are arguments; what clippy.toml does not ban is called",
        instead: "put the line back into clippy.toml, with its reason; a new way around the context joins BANNED in xtask/src/rules/sources.rs",
        broken: sources::bans_complete,
    },
    Rule {
        name: "doc-examples",
        why: "examples in documentation are not compiled here: one that is code would be wrong soon, and nobody would know",
        instead: "write a test; or say what else it is: ```text, ```sh",
        broken: sources::doc_examples,
    },
    Rule {
        name: "kinds-documented",
        why: "a stranger writes a verifier from docs/log.md; a kind that is not there can't be verified by anybody else",
        instead: "describe the kind and its fields in docs/log.md",
        broken: documents::kinds_documented,
    },
    Rule {
        name: "promise-ids",
        why: "an id is cited by policies, verdicts and tests for ever: it must name one promise",
        instead: "give the new promise the next free number of its family",
        broken: documents::promise_ids,
    },
    Rule {
        name: "our-own-words",
        why: "the promises are everybody's; whoever first published one is not our witness",
        instead: "say what is promised, without saying by whom",
        broken: documents::our_own_words,
    },
    Rule {
        name: "readme-mirrored",
        why: "half of the readers see the other language: a command that exists in one only is a command that fails",
        instead: "change README.md and README.fr.md together: same headings, same code blocks",
        broken: documents::readme_mirrored,
    },
    Rule {
        name: "change-log",
        why: "whoever upgrades reads what changed, and the release notes are written with the change",
        instead: "keep a heading `## Unreleased` or one for the version of the workspace in CHANGELOG.md",
        broken: documents::change_log,
    },
    Rule {
        name: "links-lead-somewhere",
        why: "a dead link costs the reader's trust in the sentence that holds it",
        instead: "correct the path, or drop the link",
        broken: documents::links_lead_somewhere,
    },
    Rule {
        name: "attacks-tested",
        why: "SECURITY.md says which test shows what: a test that is not there shows nothing",
        instead: "name the test as it is called now, under the heading `Which test shows it`; or write it",
        broken: documents::attacks_tested,
    },
    Rule {
        name: "map-complete",
        why: "ARCHITECTURE.md is the map: a crate that is not on it is found by accident",
        instead: "say in the code map what the crate does and what it knows nothing about",
        broken: documents::map_complete,
    },
];

/// The outcome of all rules on one workspace.
pub(crate) struct Report {
    /// The lines for the terminal: the broken rules with their places, then one line that sums up.
    pub(crate) text: String,
    /// Number of breaches, of all rules together.
    pub(crate) breaches: usize,
}

/// Checks every rule of [`ALL`].
pub(crate) fn report(workspace: &Workspace) -> Report {
    let mut report = Report { text: String::new(), breaches: 0 };
    let mut broken = 0;
    for rule in ALL {
        let breaches = (rule.broken)(workspace);
        if breaches.is_empty() {
            continue;
        }
        broken += 1;
        report.breaches += breaches.len();
        let places: String = breaches.iter().fold(String::new(), |mut lines, breach| {
            let _infallible = writeln!(lines, "  {}: {}", breach.place, breach.what);
            lines
        });
        let _infallible =
            writeln!(report.text, "{}\n{places}  why: {}\n  instead: {}\n", rule.name, rule.why, rule.instead);
    }
    let (crates, files) = (workspace.crates.len(), workspace.files.len());
    let _infallible = if broken == 0 {
        writeln!(report.text, "tidy: {} rules hold in {crates} crates and {files} files", ALL.len())
    } else {
        writeln!(report.text, "tidy: {broken} of {} rules broken, in {} places", ALL.len(), report.breaches)
    };
    report
}

#[cfg(test)]
mod tests;
