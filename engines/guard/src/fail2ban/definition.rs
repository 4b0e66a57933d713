//! A filter, as the reader of the configuration hands it to the matcher: everything interpolated and substituted.

use serde::{Deserialize, Serialize};

/// Whether names in place of addresses are looked up (`usedns`).
#[derive(Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum UseDns {
    /// Look up, in silence.
    Yes,
    /// Look up, and warn.
    #[default]
    Warn,
    /// Never look up: a name is no address.
    No,
    /// Take what was matched as it is, address or not.
    Raw,
}

/// One filter, after `before`/`after`, `%(…)s`, `<param>` and `mode=` were resolved. The tags of fail2ban's own (`<HOST>`,
/// `<F-USER>`, `<SKIPLINES>` …) are still in the patterns: the matcher expands them.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize, Debug)]
pub struct FilterDefinition {
    /// Name: that of its file without `.conf`.
    pub name: String,
    /// Whether names are looked up, where the filter or its jail says so.
    pub use_dns: Option<UseDns>,
    /// Pattern that each line must match first, when there is one; its `<F-CONTENT>` is what the others see.
    pub prefregex: Option<String>,
    /// Patterns of a failure, in the order of the file.
    pub failregex: Vec<String>,
    /// Patterns of what is not to count.
    pub ignoreregex: Vec<String>,
    /// Pattern of the date; without one, the built-in templates are tried.
    pub datepattern: Option<String>,
    /// How many lines a pattern sees at once; 1 or more.
    pub maxlines: u32,
    /// Matches of journald, one list for each `addjournalmatch`; `+` stands alone in it.
    pub journalmatch: Vec<Vec<String>>,
}
