//! What every store of projections must do.

use std::sync::Arc;

use super::Subject;
use crate::{Projection, StoreError};

pub async fn state_and_cursor_are_saved_together(subject: &Subject) {
    let projections = &subject.projections;
    assert_eq!(projections.load("judge").await.expect("readable"), None);
    projections.save("judge", None, 5, b"five".to_vec()).await.expect("the first");
    projections.save("judge", Some(5), 9, b"nine".to_vec()).await.expect("the second");
    let saved = Some(Projection { cursor: 9, state: b"nine".to_vec() });
    assert_eq!(projections.load("judge").await.expect("readable"), saved);
    for expected in [None, Some(5), Some(10)] {
        let refused = projections.save("judge", expected, 99, b"lost".to_vec()).await;
        assert!(matches!(&refused, Err(StoreError::Conflict { found: Some(9), .. })), "{refused:?}");
    }
    let refused = projections.save("other", Some(9), 99, b"lost".to_vec()).await;
    assert!(matches!(&refused, Err(StoreError::Conflict { found: None, .. })), "{refused:?}");
    assert_eq!(projections.load("judge").await.expect("readable"), saved, "a refusal changes nothing");
    assert_eq!(projections.load("other").await.expect("readable"), None);
}

pub async fn of_many_consumers_one_wins(subject: &Subject) {
    let tasks: Vec<_> = (0..16u8)
        .map(|consumer| {
            let projections = Arc::clone(&subject.projections);
            tokio::spawn(
                async move { projections.save("judge", None, u64::from(consumer), vec![consumer]).await.is_ok() },
            )
        })
        .collect();
    let mut winners = Vec::new();
    for (task, consumer) in tasks.into_iter().zip(0..) {
        if task.await.expect("no panic") {
            winners.push(consumer);
        }
    }
    let saved = subject.projections.load("judge").await.expect("readable").expect("saved");
    assert_eq!(winners, saved.state, "one and only one won, and it is what is stored");
    assert_eq!(winners.len(), 1);
}
