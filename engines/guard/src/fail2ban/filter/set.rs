//! Several filters over the same lines: what they have in common is done once for all of them.
//!
//! Each decides as it would alone. Filters that read dates alike have seen the same lines with the same clock, so their dates are
//! found once; and a filter is only asked when the line has a text in it without which none of its patterns matches.

use event::Time;

use super::super::dates::LogLine;
use super::candidates::{Candidates, set};
use super::{Dated, Filter, LineError, MAX_LINE, Match, Names};

/// Takes what a line told a filter, which is named by its place.
pub type Told<'t> = dyn FnMut(usize, Result<Vec<Match>, LineError>) + 't;

/// Filters that read dates alike; the first reads them for all.
#[derive(Debug)]
struct Group {
    filters: Vec<usize>,
    /// Its filters, as bits.
    bits: Vec<u64>,
    /// Those of them that see several lines: they have to see all.
    several: Vec<u64>,
}

/// Filters that see the same lines.
#[derive(Debug)]
pub struct FilterSet {
    filters: Vec<Filter>,
    groups: Vec<Group>,
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
        let mut alike: Vec<Vec<usize>> = Vec::new();
        for (index, filter) in filters.iter().enumerate() {
            match alike.iter_mut().find(|group| filters[group[0]].reads_dates_as(filter)) {
                Some(group) => group.push(index),
                None => alike.push(vec![index]),
            }
        }
        let groups = alike.into_iter().map(|of| Group::of(of, &filters)).collect();
        let candidates = (filters.len() > 1)
            .then(|| Candidates::of_filters(filters.iter().map(|filter| filter.failregex.as_slice())));
        Self { filters, groups, candidates, possible: Vec::new(), possible_without_date: Vec::new(), seam: Vec::new() }
    }

    /// Adds the filters of another set behind these. Each goes on with what it knows, and reads dates with those of before.
    pub fn append(&mut self, other: Self) {
        let before = self.filters.len();
        self.filters.extend(other.filters);
        let added = other.groups.into_iter().map(|group| group.filters.iter().map(|index| before + index).collect());
        let groups: Vec<Vec<usize>> = self.groups.drain(..).map(|group| group.filters).chain(added).collect();
        self.groups = groups.into_iter().map(|of| Group::of(of, &self.filters)).collect();
        self.candidates = Some(Candidates::of_filters(self.filters.iter().map(|filter| filter.failregex.as_slice())));
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
        let mut alike: Vec<Vec<usize>> = self.groups.drain(..).map(|group| group.filters).collect();
        for group in &mut alike {
            group.retain(|index| *index != filter);
        }
        alike.retain(|group| !group.is_empty());
        alike.push(vec![filter]);
        self.groups = alike.into_iter().map(|of| Group::of(of, &self.filters)).collect();
    }

    /// Says whether the log is followed, or caught up with.
    pub fn set_in_operation(&mut self, in_operation: bool) {
        self.filters.iter_mut().for_each(|filter| filter.set_in_operation(in_operation));
    }

    /// Gives a line without its newline to all filters; `told` takes failures and errors, and is not asked where there are none.
    pub fn process_line(&mut self, line: &str, now: Time, names: &mut dyn Names, told: &mut Told<'_>) {
        let line = LogLine::of(line);
        self.process(&line, now, names, told, &mut |filter| filter.date_of(&line, now));
    }

    /// The same for a line whose date is known, as that of an entry of the journal is.
    pub fn process_dated(&mut self, line: &str, date: Time, now: Time, names: &mut dyn Names, told: &mut Told<'_>) {
        self.process(&LogLine::of(line), now, names, told, &mut |filter| {
            if line.len() > MAX_LINE { Err(LineError::TooLong) } else { Ok(filter.dated(line, date, now)) }
        });
    }

    fn process(
        &mut self,
        line: &LogLine<'_>,
        now: Time,
        names: &mut dyn Names,
        told: &mut Told<'_>,
        date_of: &mut dyn FnMut(&mut Filter) -> Result<Dated, LineError>,
    ) {
        let text = line.text();
        if let Some(candidates) = &self.candidates
            && text.len() <= MAX_LINE
        {
            candidates.find(text, line.is_ascii(), &mut self.possible);
        }
        let mut cut = None;
        for group in &self.groups {
            let dated = match date_of(&mut self.filters[group.filters[0]]) {
                Ok(dated) => dated,
                Err(error) => {
                    for index in &group.filters {
                        told(*index, Err(error));
                    }
                    continue;
                }
            };
            let mut possible = &self.possible;
            if let Some(candidates) = &self.candidates
                && dated.cut.start > 0
                && dated.cut.end < text.len()
            {
                // Without the date, texts may be in the line that were not in it before.
                self.possible_without_date.clone_from(&self.possible);
                candidates.find_around(text, &dated.cut, &mut self.possible_without_date, &mut self.seam);
                possible = &self.possible_without_date;
            }
            for (word, bits) in group.bits.iter().enumerate() {
                let may_match =
                    if self.candidates.is_some() { possible.get(word).copied().unwrap_or(0) } else { *bits };
                let mut asked = bits & (may_match | group.several.get(word).copied().unwrap_or(0));
                while asked != 0 {
                    let bit = asked.trailing_zeros();
                    asked &= asked - 1;
                    let index = word * 64 + bit as usize;
                    let known = self.candidates.is_some().then_some(may_match >> bit & 1 == 1);
                    let matches = self.filters[index].process_rest(line, &dated, known, now, names);
                    if !matches!(&matches, Ok(matches) if matches.is_empty()) {
                        told(index, matches);
                    }
                }
            }
            cut.get_or_insert(dated.cut);
        }
        if let (Some(candidates), Some(cut)) = (&mut self.candidates, cut) {
            candidates.note(text, &cut);
        }
    }
}

impl Group {
    fn of(filters: Vec<usize>, all: &[Filter]) -> Self {
        let words = all.len().div_ceil(64);
        let (mut bits, mut several) = (vec![0; words], vec![0; words]);
        for filter in &filters {
            set(&mut bits, *filter);
            if all[*filter].max_lines > 1 {
                set(&mut several, *filter);
            }
        }
        Self { filters, bits, several }
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
