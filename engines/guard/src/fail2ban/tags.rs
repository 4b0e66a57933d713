//! Substitution of `<tag>` by the options of a filter or an action, as often as tags are found in what was put in.
//!
//! A tag that no option names stays as it is: it may be one of fail2ban's own, such as `<HOST>`, or the text of a pattern.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use regex::Regex;

use super::ini::{Options, Value};
use super::options::short;
use super::problem::Problem;

/// How often one tag may be put into one option.
const REPLACEMENTS_MAX: u32 = 25;
/// Longest text that may come out.
const TEXT_MAX: usize = 1 << 20;
/// Most rounds over all options.
const ROUNDS_MAX: u32 = 100;

static TAG: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"<([^ <>]+)>").ok());

/// Where else the text of a tag is found.
pub(crate) type MoreTags<'a> = &'a mut dyn FnMut(&str) -> Result<Option<String>, Problem>;

/// Substitutes the tags within the values of all options, except those named in `ignore`. With a `condition` such as
/// `family=inet4`, an option `name?family=inet4` comes before `name`.
pub(crate) fn substitute(
    options: &Options,
    condition: &str,
    ignore: &BTreeSet<String>,
    more: MoreTags<'_>,
) -> Result<Options, Problem> {
    let Some(tag_pattern) = TAG.as_ref() else {
        return Err(Problem::new(None, "the pattern of tags does not compile"));
    };
    let mut options = options.clone();
    let mut done = vec![false; options.len()];
    let mut counts: Vec<BTreeMap<String, u32>> = vec![BTreeMap::new(); options.len()];
    for _ in 0..ROUNDS_MAX {
        let mut again = false;
        for at in 0..options.len() {
            let (name, original) = options.at(at);
            if done[at] || ignore.contains(name) {
                continue;
            }
            let (name, place) = (name.to_owned(), original.place.clone());
            let mut text = original.text.clone();
            let mut changed = false;
            let mut count = counts[at].clone();
            let mut from = 0;
            while let Some(found) = tag_pattern.captures_at(&text, from) {
                let (whole, tag) = (found.get_match().range(), found[1].to_owned());
                if ignore.contains(&tag) {
                    from = whole.end;
                    continue;
                }
                if tag == name || count.get(&tag).copied().unwrap_or(1) > REPLACEMENTS_MAX {
                    return Err(Problem::new(
                        place,
                        format!(
                            "the option `{name}` holds itself by way of `<{tag}>`, in `{}`: break the circle",
                            short(&text)
                        ),
                    ));
                }
                let own = (!condition.is_empty()).then(|| options.get(&format!("{tag}?{condition}"))).flatten();
                let replacement = match own.or_else(|| options.get(&tag)) {
                    Some(value) => Some(value.text.clone()),
                    None => more(&tag)?,
                };
                let Some(replacement) = replacement else {
                    from = whole.end;
                    continue;
                };
                let replaced = text.replace(&format!("<{tag}>"), &replacement);
                if replaced.len() > TEXT_MAX {
                    return Err(Problem::new(
                        place,
                        format!("the option `{name}` grows to more than {TEXT_MAX} bytes by its tags: shorten it"),
                    ));
                }
                changed |= replaced != text;
                text = replaced;
                *count.entry(tag).or_insert(0) += 1;
                from = (0..=whole.start.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
            }
            if changed {
                if tag_pattern.is_match(&text) {
                    counts[at] = count;
                    again = true;
                }
                done[at] = !text.contains('<');
                options.set_at(at, Value::new(text, place));
            } else {
                done[at] = !text.contains('<');
            }
        }
        if !again {
            return Ok(options);
        }
    }
    Err(Problem::new(None, format!("tags are not resolved after {ROUNDS_MAX} rounds: break the circle of options")))
}
