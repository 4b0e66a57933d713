//! Several filters over the same lines: what they have in common is done once for all of them.
//!
//! Each decides as it would alone. Filters that read dates alike have seen the same lines with the same clock, so their dates are
//! found once; and a filter is only asked when the line has a text in it without which none of its patterns matches.

use event::Time;

use super::candidates::{Candidates, has};
use super::{Dated, Filter, LineError, MAX_LINE, Match, Names};

/// Takes what a line told a filter, which is named by its place.
pub type Told<'t> = dyn FnMut(usize, Result<Vec<Match>, LineError>) + 't;

/// Filters that see the same lines.
#[derive(Debug)]
pub struct FilterSet {
    filters: Vec<Filter>,
    /// Filters that read dates alike; the first reads them for all.
    groups: Vec<Vec<usize>>,
    /// Which filters a line could tell anything, when there are several.
    candidates: Option<Candidates>,
    /// Those that the line at hand could tell anything.
    possible: Vec<u64>,
    /// The same, with what stands around the date joined.
    possible_without_date: Vec<u64>,
    /// What stands around the date.
    seam: Vec<u8>,
}

impl FilterSet {
    /// The filters, none of which has seen a line.
    pub fn new(filters: Vec<Filter>) -> Self {
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for (index, filter) in filters.iter().enumerate() {
            match groups.iter_mut().find(|group| filters[group[0]].reads_dates_as(filter)) {
                Some(group) => group.push(index),
                None => groups.push(vec![index]),
            }
        }
        let candidates = (filters.len() > 1)
            .then(|| Candidates::of_filters(filters.iter().map(|filter| filter.failregex.as_slice())));
        Self { filters, groups, candidates, possible: Vec::new(), possible_without_date: Vec::new(), seam: Vec::new() }
    }

    /// The filters.
    pub fn filters(&self) -> &[Filter] {
        &self.filters
    }

    /// One of them, to be given a line that the others do not see; it has to be set apart before.
    pub fn filter_mut(&mut self, filter: usize) -> Option<&mut Filter> {
        self.filters.get_mut(filter)
    }

    /// Has a filter read its dates by itself. To be called before any line.
    pub fn set_apart(&mut self, filter: usize) {
        for group in &mut self.groups {
            group.retain(|index| *index != filter);
        }
        self.groups.retain(|group| !group.is_empty());
        self.groups.push(vec![filter]);
    }

    /// Says whether the log is followed, or caught up with.
    pub fn set_in_operation(&mut self, in_operation: bool) {
        self.filters.iter_mut().for_each(|filter| filter.set_in_operation(in_operation));
    }

    /// Gives a line without its newline to all filters; `told` takes failures and errors, and is not asked where there are none.
    pub fn process_line(&mut self, line: &str, now: Time, names: &mut dyn Names, told: &mut Told<'_>) {
        self.process(line, now, names, told, &mut |filter| filter.date_of(line, now));
    }

    /// The same for a line whose date is known, as that of an entry of the journal is.
    pub fn process_dated(&mut self, line: &str, date: Time, now: Time, names: &mut dyn Names, told: &mut Told<'_>) {
        self.process(line, now, names, told, &mut |filter| {
            if line.len() > MAX_LINE { Err(LineError::TooLong) } else { Ok(filter.dated(line, date, now)) }
        });
    }

    fn process(
        &mut self,
        line: &str,
        now: Time,
        names: &mut dyn Names,
        told: &mut Told<'_>,
        date_of: &mut dyn FnMut(&mut Filter) -> Result<Dated, LineError>,
    ) {
        if let Some(candidates) = &self.candidates
            && line.len() <= MAX_LINE
        {
            candidates.find(line, line.is_ascii(), &mut self.possible);
        }
        for group in &self.groups {
            let dated = match date_of(&mut self.filters[group[0]]) {
                Ok(dated) => dated,
                Err(error) => {
                    for index in group {
                        told(*index, Err(error));
                    }
                    continue;
                }
            };
            let mut possible = &self.possible;
            if let Some(candidates) = &self.candidates
                && dated.cut.start > 0
                && dated.cut.end < line.len()
            {
                // Without the date, texts may be in the line that were not in it before.
                self.possible_without_date.clone_from(&self.possible);
                candidates.find_around(line, &dated.cut, &mut self.possible_without_date, &mut self.seam);
                possible = &self.possible_without_date;
            }
            for index in group {
                let filter = &mut self.filters[*index];
                // Those that see several lines have to see all.
                if self.candidates.is_some() && filter.max_lines == 1 && !has(possible, *index) {
                    continue;
                }
                let matches = filter.process_rest(line, &dated, now, names);
                if !matches!(&matches, Ok(matches) if matches.is_empty()) {
                    told(*index, matches);
                }
            }
        }
    }
}

impl Filter {
    /// Whether another filter finds the same dates in the same lines.
    fn reads_dates_as(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.settings, &other.settings);
        self.date_pattern == other.date_pattern
            && ours.zone == theirs.zone
            && ours.log_zone == theirs.log_zone
            && ours.started == theirs.started
            && ours.check_find_time == theirs.check_find_time
            && ours.in_operation == theirs.in_operation
    }
}
