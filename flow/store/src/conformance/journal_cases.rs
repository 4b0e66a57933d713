//! Cases for journals.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use event::{Envelope, Family, Kind, Observed, Retention, Span};
use journal::leaf::Leaf;
use journal::tile::TileId;
use journal::tree::{self, Frontier};
use journal::{Hash, checkpoint, seal};

use super::{ConformanceSubject, ORIGIN, START, event, events};
use crate::{Append, EVENTS_MAX, Entry, HOLES_MAX, Head, RANGE_MAX, Read, Retained, Select, StoreError};

/// All entries, by as many reads as it takes.
pub async fn everything(journal: &dyn Read) -> Vec<Entry> {
    let size = journal.head().await.expect("a head").size;
    let mut entries = Vec::new();
    while (entries.len() as u64) < size {
        let more = journal.entries(entries.len() as u64..size).await.expect("entries");
        assert!(!more.is_empty(), "a read below the head is never empty");
        entries.extend(more);
    }
    entries
}

fn root_of(entries: &[Entry]) -> Hash {
    let mut frontier = Frontier::new();
    for entry in entries {
        frontier.push(tree::leaf_hash(&entry.leaf));
    }
    frontier.root()
}

/// Checks every entry against its leaf, and all of them against the signed head; returns them.
pub async fn check_whole_log(subject: &ConformanceSubject) -> Vec<Entry> {
    let entries = everything(subject.journal.as_ref()).await;
    let Head { size, root, note } = subject.journal.head().await.expect("a head");
    assert_eq!(size, entries.len() as u64);
    assert_eq!(root, root_of(&entries), "the head is the root of the entries");
    let signed =
        checkpoint::open(&note, std::slice::from_ref(&subject.vkey)).expect("signed by the log key").checkpoint;
    assert_eq!((signed.origin.as_str(), signed.size, signed.root), (ORIGIN, size, root));
    for (entry, place) in entries.iter().zip(0..) {
        assert_eq!(entry.sequence, place);
        let leaf = Leaf::parse(&entry.leaf).expect("a leaf");
        assert_eq!(leaf.sequence, place);
        if let Some(payload) = &entry.payload {
            assert_eq!(seal::commitment(&payload.salt, &payload.bytes), leaf.commitment, "entry {place}");
        }
    }
    entries
}

pub async fn entries_read_back_as_they_were_appended(subject: &ConformanceSubject) {
    let first = everything(subject.journal.as_ref()).await;
    assert_eq!(first.len(), 1, "a new log has one entry");
    let opened = first[0].payload.as_ref().map(|payload| Envelope::decode(&payload.bytes).expect("an envelope"));
    assert_eq!(opened.map(|envelope| envelope.kind), Some("journal.opened".to_owned()));

    let mut told = subject.journal.size_watch();
    told.mark_unchanged();
    let sent = events(1, 0..10);
    let places = subject.journal.append(sent.clone()).await.expect("appended");
    assert_eq!(places, (1..11).collect::<Vec<_>>());
    assert!(told.has_changed().expect("the store lives"));
    assert_eq!(*told.borrow_and_update(), 11);

    let entries = check_whole_log(subject).await;
    let mut salts = BTreeSet::new();
    for (entry, sent) in entries[1..].iter().zip(&sent) {
        let payload = entry.payload.as_ref().expect("not destroyed");
        assert!(salts.insert(payload.salt), "no salt is used twice");
        let envelope = Envelope::decode(&payload.bytes).expect("an envelope");
        assert_eq!(envelope.body.get(), sent.body.get(), "the body is stored as it was written");
        assert_eq!((&envelope.kind, &envelope.observer, envelope.boot), (&sent.kind, &sent.observer, sent.boot));
        assert_eq!((envelope.sequence, envelope.observed_at), (sent.sequence, sent.observed_at));
        assert_eq!((envelope.recorded_at, envelope.log.as_str()), (START, ORIGIN));
        let leaf = Leaf::parse(&entry.leaf).expect("a leaf");
        assert_eq!((leaf.coarse.as_str(), leaf.hour), (sent.coarse.as_str(), START.hour()));
    }
    assert_eq!(subject.journal.health().fault, None);
    assert!(subject.journal.append(Vec::new()).await.expect("nothing to append").is_empty());
}

pub async fn a_spool_sent_again_changes_nothing(subject: &ConformanceSubject) {
    let journal = &subject.journal;
    journal.append(events(1, 0..20)).await.expect("appended");
    let head = journal.head().await.expect("a head");

    assert_eq!(journal.append(events(1, 0..20)).await.expect("known already"), [0; 0]);
    let altered = event(1, 7, Retention::Evidence, "something else under the same number");
    assert_eq!(journal.append(vec![altered]).await.expect("known already"), [0; 0]);
    assert_eq!(journal.head().await.expect("a head"), head, "nothing was appended");

    // Old and new ones together; one twice in the same call; another run of the same observer.
    let mut mixed = events(1, 18..22);
    mixed.push(event(1, 21, Retention::Evidence, "again"));
    mixed.push(event(2, 0, Retention::Evidence, "another run"));
    let got = journal.append(mixed).await.expect("appended");
    assert_eq!(got, [head.size, head.size + 1, head.size + 2]);
    // A hole in the numbers may be filled later.
    let late = journal.append(events(3, 5..6)).await.expect("appended");
    let early = journal.append(events(3, 2..3)).await.expect("appended");
    assert_eq!((journal.append(events(3, 5..6)).await.expect("known"), early), (vec![], vec![late[0] + 1]));
    check_whole_log(subject).await;
}

/// However many events an observer sends: what is kept of their numbers is bounded, and no event is appended twice.
pub async fn no_event_is_appended_twice(subject: &ConformanceSubject) {
    check_numbers(&*subject.journal).await;
    check_whole_log(subject).await;
}

/// The same for any journal, whether or not it has a tree.
pub async fn check_numbers<J: Append + ?Sized>(journal: &J) {
    let one = |sequence| event(9, sequence, Retention::Evidence, "one");
    let odd = |range: Range<u64>| range.filter(|sequence| sequence % 2 == 1).map(one).collect::<Vec<_>>();
    let holes = 2 * HOLES_MAX as u64;
    let appended = async |events: Vec<Observed>| journal.append(events).await.expect("taken").len();

    // 0 is a hole, and so is every other number after it: as many as are remembered.
    assert_eq!(appended(odd(0..holes)).await, HOLES_MAX);
    assert_eq!(appended(odd(0..holes)).await, 0);
    assert_eq!(appended(vec![one(0)]).await, 1, "late, and not lost");
    assert_eq!(appended(vec![one(0)]).await, 0);
    // Of twice as many the older half is given up.
    assert_eq!(appended(odd(holes..2 * holes)).await, HOLES_MAX);
    assert_eq!(appended(vec![one(2), one(holes - 2)]).await, 0, "too late to know that it was not there");
    assert_eq!(appended(vec![one(holes + 2), one(2 * holes - 2)]).await, 2, "late, and not lost");
    assert_eq!(appended((0..holes).map(one).collect()).await, 0);
    assert_eq!(appended(odd(holes..2 * holes)).await, 0);
}

pub async fn many_callers_get_places_without_gaps(subject: &ConformanceSubject) {
    const CALLERS: u8 = 64;
    const CALLS: u64 = 12;
    let tasks: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let journal = Arc::clone(&subject.journal);
            tokio::spawn(async move {
                let mut places = Vec::new();
                for call in 0..CALLS {
                    let text = format!("{caller}/{call}");
                    let sent = event(100 + caller, call, Retention::Evidence, &text);
                    let place = journal.append(vec![sent]).await.expect("appended")[0];
                    // What is acknowledged can be read at once, and the head covers it.
                    let entry = journal.entries(place..place + 1).await.expect("entries").remove(0);
                    let envelope = Envelope::decode(&entry.payload.expect("there").bytes).expect("an envelope");
                    assert_eq!(envelope.body.get(), format!("\"{text}\""));
                    assert!(journal.head().await.expect("a head").size > place);
                    places.push(place);
                }
                assert!(places.is_sorted(), "one caller's entries are in its order");
                places
            })
        })
        .collect();
    let mut places = BTreeSet::new();
    for task in tasks {
        places.extend(task.await.expect("no panic"));
    }
    assert_eq!(places, (1..=u64::from(CALLERS) * CALLS).collect());
    check_whole_log(subject).await;
}

pub async fn proofs_hold_at_every_size(subject: &ConformanceSubject) {
    let journal = &subject.journal;
    // Past 256 and 512, so that complete tiles and their roots are among what is asked for.
    let mut heads = vec![journal.head().await.expect("a head")];
    let mut next = 0;
    for step in [1, 2, 60, 191, 1, 1, 255, 90] {
        journal.append(events(1, next..next + step)).await.expect("appended");
        next += step;
        heads.push(journal.head().await.expect("a head"));
    }
    let size = next + 1;
    let leaves = journal.leaves(0..size).await.expect("leaves");
    let hashes: Vec<_> = leaves.iter().map(|leaf| tree::leaf_hash(leaf)).collect();
    assert_eq!(journal.root_at(0).await.expect("a root"), tree::EMPTY_ROOT);
    for old in &heads {
        assert_eq!(journal.root_at(old.size).await.expect("a root"), old.root);
        for new in heads.iter().filter(|new| new.size >= old.size) {
            let proof = journal.consistency(old.size, new.size).await.expect("a proof");
            tree::verify_consistency(old.size, &old.root, new.size, &new.root, &proof).expect("consistent");
        }
        for index in [0, 1, 255, 256, 257, 511, 512, old.size - 1] {
            if index < old.size {
                let proof = journal.inclusion(index, old.size).await.expect("a proof");
                let leaf = &hashes[usize::try_from(index).expect("small")];
                tree::verify_inclusion(index, old.size, leaf, &proof, &old.root).expect("included");
            }
        }
    }
    let bytes = |hashes: &[Hash]| hashes.iter().flat_map(|hash| *hash.as_bytes()).collect::<Vec<_>>();
    let tile = |level, index, width| journal.tile(TileId { level, index, width });
    assert_eq!(tile(0, 0, 256).await.expect("a tile"), Some(bytes(&hashes[..256])));
    assert_eq!(tile(0, 2, 7).await.expect("a tile"), Some(bytes(&hashes[512..519])));
    let roots = [heads.iter().find(|head| head.size == 256).map(|head| head.root).expect("a head at 256")];
    assert_eq!(tile(1, 0, 1).await.expect("a tile"), Some(bytes(&roots)));
    for (level, index, width) in
        [(0, 2, 256), (0, 3, 1), (1, 0, 3), (2, 0, 1), (8, 0, 1), (0, u64::MAX, 1), (0, 0, 0), (0, 0, 257)]
    {
        assert_eq!(tile(level, index, width).await.expect("no error"), None, "{level}/{index}.p/{width}");
    }
}

pub async fn ranges_end_where_the_log_ends(subject: &ConformanceSubject) {
    let journal = &subject.journal;
    journal.append(events(1, 0..9)).await.expect("appended");
    #[expect(clippy::reversed_empty_ranges, reason = "a caller may well ask so")]
    for (range, count) in
        [(0..10, 10), (3..5, 2), (5..99, 5), (10..11, 0), (0..0, 0), (7..3, 0), (u64::MAX - 1..u64::MAX, 0)]
    {
        assert_eq!(journal.leaves(range.clone()).await.expect("leaves").len(), count, "{range:?}");
        assert_eq!(journal.entries(range.clone()).await.expect("entries").len(), count, "{range:?}");
    }
    let mut sent = 0;
    while sent < RANGE_MAX {
        journal.append(events(2, sent..sent + 1024)).await.expect("appended");
        sent += 1024;
    }
    assert_eq!(journal.leaves(0..u64::MAX).await.expect("leaves").len() as u64, RANGE_MAX);
    let out_of_range =
        |result: Result<(), StoreError>| assert!(matches!(result, Err(StoreError::OutOfRange { .. })), "{result:?}");
    let size = sent + 10;
    out_of_range(journal.root_at(size + 1).await.map(drop));
    out_of_range(journal.inclusion(0, size + 1).await.map(drop));
    out_of_range(journal.inclusion(5, 5).await.map(drop));
    out_of_range(journal.consistency(5, size + 1).await.map(drop));
    out_of_range(journal.consistency(6, 5).await.map(drop));
}

/// The leaf decides: an entry that is not selected is not opened, and those after it are found all the same.
pub async fn what_is_not_wanted_is_left_out(subject: &ConformanceSubject) {
    let journal = &subject.journal;
    let (evidence, audit) = (Retention::Evidence, Retention::Audit);
    let classes = [audit, evidence, evidence, audit, evidence, audit, audit];
    let mixed = (0..).zip(classes).map(|(sequence, class)| event(1, sequence, class, "x")).collect();
    assert_eq!(journal.append(mixed).await.expect("appended"), (1..8).collect::<Vec<_>>());
    let of_public = Kind::public("watch.detail", Family::Monitoring);
    let of_team = Kind::team("some.other_kind_of_the_family", Family::Security);
    let of_none = Kind::team("watch.detail", Family::Debugging);
    for (select, range, expected, to) in [
        (Select::All, 0..99, &[0, 1, 2, 3, 4, 5, 6, 7][..], 8),
        (Select::Public, 0..99, &[0, 2, 3, 5], 8),
        (Select::Public, 4..5, &[], 5),
        (Select::Public, 6..99, &[], 8),
        (Select::Public, 8..99, &[], 8),
        (Select::Kinds(vec![of_public]), 0..4, &[2, 3], 4),
        (Select::Kinds(vec![of_team]), 0..99, &[1, 4, 6, 7], 8),
        (Select::Kinds(vec![of_team, of_public]), 0..3, &[1, 2], 3),
        (Select::Kinds(vec![of_none]), 0..99, &[], 8),
        (Select::Kinds(vec![]), 2..99, &[], 8),
    ] {
        let selected = journal.select(range.clone(), &select).await.expect("readable");
        let places: Vec<u64> = selected.entries.iter().map(|entry| entry.sequence).collect();
        assert_eq!((places.as_slice(), selected.to), (expected, to), "{select:?} {range:?}");
        assert!(selected.entries.iter().all(|entry| entry.payload.is_some()));
    }
    journal.append((0..EVENTS_MAX as u64).map(|n| event(2, n, audit, "x")).collect()).await.expect("appended");
    let selected = journal.select(1..u64::MAX, &Select::Public).await.expect("readable");
    assert_eq!((selected.entries.len(), selected.to), (3, 1 + RANGE_MAX), "cut although little was found");
}

pub async fn what_cant_be_kept_is_refused_whole(subject: &ConformanceSubject) {
    let journal = &subject.journal;
    let head = journal.head().await.expect("a head");
    let good = event(1, 0, Retention::Evidence, "good");
    let mut no_word = event(1, 1, Retention::Evidence, "x");
    no_word.coarse.push_str(" words");
    let refused = journal.append(vec![good.clone(), no_word]).await;
    assert!(matches!(refused, Err(StoreError::Malformed { what: "coarse kind", .. })), "{refused:?}");
    let huge = event(1, 1, Retention::Evidence, &"x".repeat(event::PAYLOAD_BYTES_MAX));
    let refused = journal.append(vec![good.clone(), huge]).await;
    assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");
    let refused = journal.append(vec![good.clone(); EVENTS_MAX + 1]).await;
    assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");
    assert_eq!(journal.head().await.expect("a head"), head, "nothing of it was appended");
    let large = event(1, 1, Retention::Evidence, &"x".repeat(event::PAYLOAD_BYTES_MAX / 2));
    assert_eq!(journal.append(vec![good, large]).await.expect("appended").len(), 2);
    check_whole_log(subject).await;
}

pub async fn publishing_never_goes_back(subject: &ConformanceSubject) {
    let journal = &subject.journal;
    assert_eq!(journal.published().await.expect("readable"), None);
    journal.append(events(1, 0..5)).await.expect("appended");
    journal.publish("five".to_owned(), 5).await.expect("published");
    journal.publish("three".to_owned(), 3).await.expect("older: no error, no effect");
    assert_eq!(journal.published().await.expect("readable").as_deref(), Some("five"));
    journal.publish("five, with a cosignature more".to_owned(), 5).await.expect("published");
    assert_eq!(journal.published().await.expect("readable").as_deref(), Some("five, with a cosignature more"));
    let refused = journal.publish("seven".to_owned(), 7).await;
    assert!(matches!(refused, Err(StoreError::OutOfRange { .. })), "{refused:?}");
}

fn retained(day: event::Day, entries: u64) -> Retained {
    Retained { day, entries, intended: None }
}

/// Kind, day and number of entries of an entry about a destruction.
fn said(entry: &Entry) -> (String, event::Day, u64) {
    let envelope = Envelope::decode(&entry.payload.as_ref().expect("there").bytes).expect("an envelope");
    // Both bodies have the same form.
    let body: event::journal::Destroyed = serde_json::from_str(envelope.body.get()).expect("a body");
    (envelope.kind, body.day, body.entries)
}

pub async fn a_destroyed_day_keeps_its_proofs(subject: &ConformanceSubject) {
    let journal = &subject.journal;
    let today = START.day();
    journal.append(events(1, 0..30)).await.expect("appended");
    let refused = journal.destroy(Retention::Evidence, today).await;
    assert!(matches!(refused, Err(StoreError::DayNotOver { .. })), "{refused:?}");
    let refused = journal.destroy(Retention::Permanent, event::Day::from_days(0)).await;
    assert!(matches!(refused, Err(StoreError::KeptForEver { .. })), "{refused:?}");

    subject.clock.advance(Span::from_days(1));
    journal.append(events(1, 30..40)).await.expect("appended");
    let before = everything(journal.as_ref()).await;
    let head = journal.head().await.expect("a head");
    let proof = journal.inclusion(4, head.size).await.expect("a proof");
    let tomorrow = subject.clock_day();
    // Of thirty, every third is for the team; and the entry that opened the log is kept as long as the log.
    assert_eq!(journal.days_before(Retention::Evidence, tomorrow).await.expect("days"), [retained(today, 20)]);
    assert_eq!(journal.days_before(Retention::Audit, tomorrow).await.expect("days"), [retained(today, 10)]);
    assert_eq!(journal.days_before(Retention::Audit, today).await.expect("days"), []);

    // The intention is published before anything is destroyed: no outside reader is left to guess.
    for announced in [false, true] {
        let refused = journal.destroy(Retention::Audit, today).await;
        assert!(matches!(refused, Err(StoreError::NotAnnounced { .. })), "{announced} {refused:?}");
        assert_eq!(journal.intend(Retention::Audit, today).await.expect("recorded"), Some(head.size));
    }
    let intended = Some(head.size);
    let expected = Retained { intended, ..retained(today, 10) };
    assert_eq!(journal.days_before(Retention::Audit, tomorrow).await.expect("days"), [expected]);
    journal.publish("a note".to_owned(), head.size + 1).await.expect("published");
    assert_eq!(journal.destroy(Retention::Audit, today).await.expect("destroyed"), 10);
    assert_eq!(journal.destroy(Retention::Audit, today).await.expect("done before"), 0);
    assert_eq!(journal.intend(Retention::Audit, today).await.expect("nothing is left"), None);
    assert_eq!(journal.days_before(Retention::Audit, tomorrow).await.expect("days"), []);
    assert_eq!(journal.days_before(Retention::Evidence, tomorrow).await.expect("days"), [retained(today, 20)]);

    let after = check_whole_log(subject).await;
    for (before, after) in before.iter().zip(&after) {
        let leaf = Leaf::parse(&before.leaf).expect("a leaf");
        let gone = !leaf.is_public() && before.sequence <= 30;
        assert_eq!(after.leaf, before.leaf);
        assert_eq!(after.payload, if gone { None } else { before.payload.clone() }, "entry {}", before.sequence);
    }
    assert_eq!(after.iter().filter(|entry| entry.payload.is_none()).count(), 10);
    assert_eq!(said(&after[after.len() - 2]), ("journal.destruction_intended".to_owned(), today, 10));
    assert_eq!(said(&after[after.len() - 1]), ("journal.destroyed".to_owned(), today, 10));
    assert_eq!(journal.head().await.expect("a head").size, head.size + 2, "each once");
    assert_eq!(journal.inclusion(4, head.size).await.expect("a proof"), proof);
    journal.append(events(1, 40..41)).await.expect("the log goes on");
    check_whole_log(subject).await;
}
