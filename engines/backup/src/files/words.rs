//! What goes wrong inside of `rustic_core`, in our words.

use std::error::Error;

use engine::printable;
use rustic_core::{ErrorKind, RusticError};

use super::FilesError;
use crate::sealed::RepositoryError;

/// Code of the library for "the authentication tag is wrong".
const WRONG_TAG: &str = "C001";

/// An error of ours, as the library takes it.
pub(super) fn handed(error: RepositoryError) -> Box<RusticError> {
    RusticError::with_source(ErrorKind::Backend, "the repository failed", error)
}

/// An error of the library: what the repository said, where it began there.
pub(super) fn failed(error: impl AsRef<RusticError>) -> FilesError {
    let error = error.as_ref();
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(found) = cause {
        match found.downcast_ref::<RepositoryError>() {
            Some(RepositoryError::Object(error)) => return RepositoryError::Object(error.clone()).into(),
            Some(error) => return FilesError::Stored(error.to_string()),
            None => cause = found.source(),
        }
    }
    FilesError::Stored(words(error))
}

fn words(error: &RusticError) -> String {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(found) = cause {
        // A cause that is of the library is in a box of its own.
        let inner =
            found.downcast_ref::<RusticError>().or_else(|| found.downcast_ref::<Box<RusticError>>().map(|e| &**e));
        if inner.is_some_and(|error| error.is_code(WRONG_TAG)) {
            return "what is stored does not open: it is damaged, or was written under another key".into();
        }
        cause = found.source();
    }
    // `Error: … (kind: related to …)`: what happened is in the middle, over several lines.
    let text = error.display_log();
    let text = text.strip_prefix("Error: ").unwrap_or(&text);
    let text = text.split(" (kind: ").next().unwrap_or(text).replace('\n', " ");
    printable::text(&text).into_owned()
}
