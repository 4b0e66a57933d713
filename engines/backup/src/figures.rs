//! Figures of the backups, which the server shows in `/metrics`: how each kind of each backup stands, as the board says.

use std::sync::Arc;

use engine::metrics::{FiguresTold, ToldFigure, ToldSample};
use event::{Span, Time};

use crate::board::Board;
use crate::config::Kind;

const PROBE: Option<&str> = Some("probe");
const BACKUP: Option<&str> = Some("backup");
const COPY: Option<&str> = Some("copy");

const fn gauge(name: &'static str, about: &'static str, label: Option<&'static str>) -> ToldFigure {
    ToldFigure { name, about, is_counter: false, label }
}

const fn counter(name: &'static str, about: &'static str, label: Option<&'static str>) -> ToldFigure {
    ToldFigure { name, about, is_counter: true, label }
}

const SUCCEEDED: ToldFigure = gauge(
    "garant_backup_succeeded_timestamp_seconds",
    "The instant that the last success is of: everything before it is safe, or was restored exactly.",
    PROBE,
);
const DUE: ToldFigure = gauge("garant_backup_due_timestamp_seconds", "When it is next due.", PROBE);
const FAILING: ToldFigure = gauge("garant_backup_failing", "Whether the last attempt failed.", PROBE);
const RUNNING: ToldFigure = gauge("garant_backup_running", "Whether it is worked at now.", PROBE);
const LAST_BYTES: ToldFigure =
    gauge("garant_backup_last_bytes", "Bytes of the last base or snapshot, or of the last restore test.", PROBE);
const LAST_DURATION: ToldFigure =
    gauge("garant_backup_last_duration_seconds", "How long the last success took.", PROBE);
const SUCCESSES: ToldFigure = counter("garant_backup_successes", "Successes; of a log, its pieces.", PROBE);
const FAILURES: ToldFigure = counter("garant_backup_failures", "Attempts that failed.", PROBE);
const LOG_BYTES: ToldFigure = counter("garant_backup_log_bytes", "Bytes of the log that have become durable.", BACKUP);
const RESTORABLE: ToldFigure = gauge(
    "garant_backup_restorable_timestamp_seconds",
    "The newest instant that can be restored; none where the log has a gap, or there is no base.",
    BACKUP,
);
const LOST: ToldFigure = gauge(
    "garant_backup_restore_lost_seconds",
    "How old the newest instant that could be restored was when the last restore test began.",
    BACKUP,
);
const LOG_BROKEN: ToldFigure = gauge("garant_backup_log_broken", "Whether the log has a gap.", BACKUP);
const COPY_AWAY: ToldFigure =
    gauge("garant_backup_copy_away", "Whether the copy refuses or does not answer, and is left alone for now.", COPY);
const COPIES_WRONG: ToldFigure = gauge(
    "garant_backup_copies_wrong",
    "What the last comparison of the copies found that could not be put right; at most ten.",
    None,
);
const LEVELLED: ToldFigure =
    counter("garant_backup_copy_objects_levelled", "Objects that were brought to a copy which lacked them.", None);

/// The figures. What is counted begins when the agent starts.
pub const FIGURES: &[ToldFigure] = &[
    SUCCEEDED,
    DUE,
    FAILING,
    RUNNING,
    LAST_BYTES,
    LAST_DURATION,
    SUCCESSES,
    FAILURES,
    LOG_BYTES,
    RESTORABLE,
    LOST,
    LOG_BROKEN,
    COPY_AWAY,
    COPIES_WRONG,
    LEVELLED,
];

/// The figures as the board stands; none while nothing is desired.
#[derive(Debug)]
pub struct Figures(pub(crate) Arc<Board>);

fn seconds(time: Time) -> Option<u64> {
    u64::try_from(time.micros().div_euclid(1_000_000)).ok()
}

fn length(span: Span) -> Option<u64> {
    u64::try_from(span.secs()).ok()
}

impl FiguresTold for Figures {
    fn told(&self) -> Vec<ToldSample> {
        let (lines, broken, copies) = (self.0.lines(), self.0.broken(), self.0.at_copies());
        let mut told = Vec::new();
        if lines.is_empty() {
            return told;
        }
        let mut sample = |figure: ToldFigure, of: Option<&str>, count: Option<u64>| {
            let Some(count) = count else { return };
            told.push(ToldSample { figure: figure.name.to_owned(), of: of.map(str::to_owned), count });
        };
        for ((name, kind), line) in &lines {
            let Some(probe) = kind.probe(name) else { continue };
            let of = Some(probe.as_str());
            sample(SUCCEEDED, of, line.succeeded.and_then(seconds));
            sample(DUE, of, line.due.and_then(seconds));
            sample(FAILING, of, Some(line.failing().is_some().into()));
            sample(RUNNING, of, Some(line.doing.is_some().into()));
            sample(LAST_BYTES, of, line.last_bytes);
            sample(LAST_DURATION, of, line.last_took.and_then(length));
            sample(SUCCESSES, of, Some(line.successes));
            sample(FAILURES, of, Some(line.failures));
            let of = Some(name.as_str());
            match kind {
                Kind::Log => {
                    sample(LOG_BYTES, of, Some(line.log_bytes));
                    sample(LOG_BROKEN, of, Some(broken.contains_key(name).into()));
                }
                Kind::Full => {
                    let log = lines.get(&(name.clone(), Kind::Log));
                    let newest = match log {
                        Some(_) if broken.contains_key(name) => None,
                        Some(log) => log.succeeded.max(line.succeeded).filter(|_| line.succeeded.is_some()),
                        None => line.succeeded,
                    };
                    sample(RESTORABLE, of, newest.and_then(seconds));
                }
                Kind::Restore => sample(LOST, of, line.lost.and_then(length)),
                Kind::Incremental => {}
            }
        }
        for (copy, is_away) in &copies.away {
            sample(COPY_AWAY, Some(copy), Some((*is_away).into()));
        }
        sample(COPIES_WRONG, None, Some(copies.wrong));
        sample(LEVELLED, None, Some(copies.levelled));
        told
    }
}

#[cfg(test)]
mod tests {
    use engine::metrics::{MetricsFormat, MetricsText};

    use super::*;
    use crate::config::Config;

    fn settings() -> crate::config::Settings {
        Config::sample(r#"mariadb = [{ name = "shop-db" }]"#)
    }

    fn shown(figures: &Figures) -> Vec<String> {
        let mut text = MetricsText::new(MetricsFormat::OpenMetrics);
        text.told(FIGURES, &figures.told());
        text.finish().lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    /// BK-1, BK-5: how old what is safe is, and how the last restore went, is seen from outside.
    #[test]
    fn figures_are_those_of_the_board() {
        let board = Arc::new(Board::default());
        let figures = Figures(Arc::clone(&board));
        assert_eq!(figures.told(), [], "without [backup] there are none");
        board.configure(&settings());
        let at = |second: i64| Time::from_secs(1_000_000 + second);
        board.succeeded("shop-db", Kind::Log, at(30));
        let early = shown(&figures);
        assert!(!early.iter().any(|line| line.starts_with("garant_backup_restorable")), "no base yet: {early:?}");
        board.change("shop-db", Kind::Full, |line| {
            line.last_bytes = Some(7_000);
            line.last_took = Some(Span::from_millis(2_500));
        });
        board.succeeded("shop-db", Kind::Full, at(10));
        board.change("shop-db", Kind::Log, |line| line.log_bytes += 900);
        board.failed("shop-db", Kind::Restore, "no room");
        board.copies_are_away([("near".to_owned(), false), ("far".to_owned(), true)].into());
        let lines = shown(&figures);
        for expected in [
            "garant_backup_succeeded_timestamp_seconds{probe=\"shop-db-full\"} 1000010",
            "garant_backup_last_bytes{probe=\"shop-db-full\"} 7000",
            "garant_backup_last_duration_seconds{probe=\"shop-db-full\"} 2",
            "garant_backup_successes_total{probe=\"shop-db-log\"} 1",
            "garant_backup_failures_total{probe=\"shop-db-restore\"} 1",
            "garant_backup_failing{probe=\"shop-db-restore\"} 1",
            "garant_backup_failing{probe=\"shop-db-full\"} 0",
            "garant_backup_log_bytes_total{backup=\"shop-db\"} 900",
            "garant_backup_restorable_timestamp_seconds{backup=\"shop-db\"} 1000030",
            "garant_backup_copy_away{copy=\"far\"} 1",
            "garant_backup_copies_wrong 0",
        ] {
            assert!(lines.iter().any(|line| line == expected), "{expected} is not in {lines:#?}");
        }
        board.log_broken("shop-db", "a gap");
        let lines = shown(&figures);
        assert!(lines.contains(&"garant_backup_log_broken{backup=\"shop-db\"} 1".to_owned()), "{lines:#?}");
        assert!(!lines.iter().any(|line| line.starts_with("garant_backup_restorable")), "{lines:#?}");
        board.clear();
        assert_eq!(figures.told(), [], "[backup] has left the policy");
    }
}
