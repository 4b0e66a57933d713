//! What is counted while the engine runs, from one desired state to the next.

use event::Time;

/// What a rule has counted.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct RuleTotals {
    pub(crate) failures: u64,
    pub(crate) offences: u64,
    /// Whom a failure names, and who has no address: can't be banned.
    pub(crate) nameless: u64,
}

/// What was counted since the engine was started, whatever was desired in that time.
#[derive(Debug)]
pub(crate) struct Totals {
    /// When it was started.
    pub(crate) since: Time,
    pub(crate) lines: u64,
    pub(crate) bans: u64,
    pub(crate) simulated: u64,
    /// Of each rule by its name, while none is followed.
    rules: Vec<(String, RuleTotals)>,
}

impl Totals {
    pub(crate) const fn since(since: Time) -> Self {
        Self { since, lines: 0, bans: 0, simulated: 0, rules: Vec::new() }
    }

    /// Hands to each rule what one of its name had counted. What no rule goes on with is forgotten.
    pub(crate) fn hand_over<'r>(&mut self, rules: impl Iterator<Item = (&'r str, &'r mut RuleTotals)>) {
        let mut counted = std::mem::take(&mut self.rules);
        for (name, totals) in rules {
            if let Some(at) = counted.iter().position(|(known, _)| known == name) {
                *totals = counted.remove(at).1;
            }
        }
    }

    /// Takes what the rules have counted.
    pub(crate) fn take_back<'r>(&mut self, rules: impl Iterator<Item = (&'r str, &'r mut RuleTotals)>) {
        self.rules = rules.map(|(name, totals)| (name.to_owned(), *totals)).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reload of the policy loses no count, wherever a rule is then; a jail and a scenario of one name keep theirs.
    #[test]
    fn rules_go_on_with_their_counts() {
        let of = |failures| RuleTotals { failures, offences: failures / 2, nameless: 1 };
        let mut totals = Totals::since(Time::from_secs(7));
        let mut before = [("sshd", of(8)), ("nginx", of(6)), ("sshd", of(4)), ("gone", of(2))];
        totals.take_back(before.iter_mut().map(|(name, counted)| (*name, counted)));
        let mut after = ["nginx", "sshd", "new", "sshd"].map(|name| (name, RuleTotals::default()));
        totals.hand_over(after.iter_mut().map(|(name, counted)| (*name, counted)));
        assert_eq!(after, [("nginx", of(6)), ("sshd", of(8)), ("new", RuleTotals::default()), ("sshd", of(4))]);
        let mut again = [("gone", RuleTotals::default())];
        totals.take_back(after.iter_mut().map(|(name, counted)| (*name, counted)));
        totals.hand_over(again.iter_mut().map(|(name, counted)| (*name, counted)));
        assert_eq!(again, [("gone", RuleTotals::default())], "what was not followed in between starts anew");
    }
}
