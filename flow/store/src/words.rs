//! What SQLite and the operating system can say, and what we say.
//!
//! The words of a library are for its developers. Whoever is woken at night needs to know what is wrong with the disk, the
//! file or its rights. What SQLite said is in the log of the process at the level `debug`.

use std::io;

use rusqlite::{Error, ErrorCode, ffi};

/// What only a fault of garant itself, or of a library, can lead to.
const OUR_FAULT: &str = "the database was asked for what it can't do, which should not happen";

/// Why SQLite refused.
pub(crate) fn sqlite(error: &Error) -> &'static str {
    tracing::debug!(?error, "the database refuses");
    match error {
        Error::SqliteFailure(failure, _) | Error::SqlInputError { error: failure, .. } => failed(*failure),
        Error::InvalidPath(_) | Error::NulError(_) => "its path can't be passed to the database",
        Error::QueryReturnedNoRows | Error::QueryReturnedMoreThanOneRow => "a row of it is missing, or there twice",
        Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::Utf8Error(..)
        | Error::InvalidColumnType(..)
        | Error::InvalidQuery => "a value in it is none that garant wrote",
        _ => OUR_FAULT,
    }
}

fn failed(failure: ffi::Error) -> &'static str {
    match failure.code {
        ErrorCode::DiskFull => "the disk is full",
        ErrorCode::DatabaseCorrupt => "the file is damaged",
        ErrorCode::NotADatabase => "the file is not a database of garant, or its beginning was overwritten",
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed => {
            "another program has it locked"
        }
        ErrorCode::ReadOnly => "it can't be written to: the file, its directory or the file system is read-only",
        ErrorCode::CannotOpen => "the file, or one beside it, can't be opened: look at the rights of the directory",
        ErrorCode::PermissionDenied => "this user may not use it",
        ErrorCode::SystemIoFailure => disk(failure.extended_code),
        ErrorCode::OutOfMemory => "there is no memory left",
        ErrorCode::NoLargeFileSupport => "the file system takes no file of that size",
        ErrorCode::OperationAborted | ErrorCode::OperationInterrupted => "it was interrupted",
        ErrorCode::SchemaChanged => "another program changes its tables",
        ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch => "a row contradicts what is stored",
        _ => OUR_FAULT,
    }
}

/// What failed on the disk: the extended code of `SQLITE_IOERR`.
fn disk(extended: i32) -> &'static str {
    match extended {
        ffi::SQLITE_IOERR_READ | ffi::SQLITE_IOERR_SHORT_READ | ffi::SQLITE_IOERR_IN_PAGE => {
            "the disk can't be read: look at the log of the kernel"
        }
        ffi::SQLITE_IOERR_WRITE
        | ffi::SQLITE_IOERR_TRUNCATE
        | ffi::SQLITE_IOERR_SEEK
        | ffi::SQLITE_IOERR_FSYNC
        | ffi::SQLITE_IOERR_DIR_FSYNC
        | ffi::SQLITE_IOERR_CLOSE
        | ffi::SQLITE_IOERR_DIR_CLOSE
        | ffi::SQLITE_IOERR_COMMIT_ATOMIC
        | ffi::SQLITE_IOERR_BEGIN_ATOMIC
        | ffi::SQLITE_IOERR_ROLLBACK_ATOMIC => "the disk can't be written to: look at the log of the kernel",
        ffi::SQLITE_IOERR_DATA | ffi::SQLITE_IOERR_CORRUPTFS => "the file system is damaged",
        ffi::SQLITE_IOERR_NOMEM => "there is no memory left",
        ffi::SQLITE_IOERR_SHMOPEN
        | ffi::SQLITE_IOERR_SHMSIZE
        | ffi::SQLITE_IOERR_SHMLOCK
        | ffi::SQLITE_IOERR_SHMMAP
        | ffi::SQLITE_IOERR_MMAP => "the file `garant.db-shm` can't be used: it needs room, and a disk of this machine",
        ffi::SQLITE_IOERR_LOCK
        | ffi::SQLITE_IOERR_UNLOCK
        | ffi::SQLITE_IOERR_RDLOCK
        | ffi::SQLITE_IOERR_BLOCKED
        | ffi::SQLITE_IOERR_CHECKRESERVEDLOCK => "the file can't be locked: it needs a disk of this machine",
        ffi::SQLITE_IOERR_ACCESS | ffi::SQLITE_IOERR_AUTH => "this user may not use the file",
        ffi::SQLITE_IOERR_DELETE
        | ffi::SQLITE_IOERR_DELETE_NOENT
        | ffi::SQLITE_IOERR_FSTAT
        | ffi::SQLITE_IOERR_VNODE => "the file was moved or removed",
        _ => "the disk fails: look at the log of the kernel",
    }
}

/// What the operating system says, without its number.
pub(crate) fn io(error: &io::Error) -> String {
    match error.kind() {
        // As SQLite is told of it.
        io::ErrorKind::StorageFull => return "the disk is full".to_owned(),
        io::ErrorKind::QuotaExceeded => return "the disk quota of this user is used up".to_owned(),
        _ => {}
    }
    let text = error.to_string();
    text.split(" (os error ").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use rusqlite::types::Type;

    use super::*;

    /// No word of the library: neither its name, nor a name out of its code, nor a number.
    fn is_plain(text: &str) -> bool {
        let words = ["sqlite", "rusqlite", "api", "misuse", "sql", "null", "utf"];
        let mut all = text.split(|c: char| !c.is_ascii_alphanumeric()).map(str::to_ascii_lowercase);
        !text.contains("::") && !text.contains(char::is_numeric) && !all.any(|word| words.contains(&word.as_str()))
    }

    fn of_code(code: i32) -> &'static str {
        sqlite(&Error::SqliteFailure(ffi::Error::new(code), Some("NOT NULL constraint of SQL".to_owned())))
    }

    #[test]
    fn words_of_the_library_are_recognised() {
        for text in ["SQLite error", "error code 14", "bad parameter or other API misuse", "rusqlite::Error"] {
            assert!(!is_plain(text), "{text}");
        }
    }

    /// Each result code, plain and extended (sqlite.org/rescode.html).
    #[test]
    fn every_code_has_words() {
        // What only a fault of ours leads to: ERROR, INTERNAL, NOTFOUND, EMPTY, TOOBIG, MISUSE, AUTH, FORMAT, RANGE.
        let ours = [1, 2, 12, 16, 18, 21, 23, 24, 25];
        for code in 1..=26 {
            for extended in 0..=40 {
                let text = of_code(code | extended << 8);
                assert!(is_plain(text), "{code} {extended}: {text}");
                assert_eq!(text == OUR_FAULT, ours.contains(&code), "{code} {extended}: {text}");
            }
        }
        for (code, words) in [
            (ffi::SQLITE_FULL, "disk is full"),
            (ffi::SQLITE_CORRUPT, "damaged"),
            (ffi::SQLITE_NOTADB, "not a database"),
            (ffi::SQLITE_BUSY_SNAPSHOT, "locked"),
            (ffi::SQLITE_READONLY_DBMOVED, "read-only"),
            (ffi::SQLITE_CANTOPEN, "rights"),
            (ffi::SQLITE_IOERR_FSYNC, "written"),
            (ffi::SQLITE_IOERR_SHORT_READ, "can't be read"),
            (ffi::SQLITE_IOERR, "the disk fails"),
            (99, "should not happen"),
        ] {
            assert!(of_code(code).contains(words), "{code}: {}", of_code(code));
        }
    }

    #[test]
    fn every_other_error_has_words() {
        let of_library = || Box::new(io::Error::other("of a library"));
        #[expect(invalid_from_utf8, reason = "to have the error")]
        let utf8 = std::str::from_utf8(b"\xff").expect_err("no UTF-8");
        let nul = std::ffi::CString::new("\0").expect_err("a zero");
        let (failure, text) = (ffi::Error::new(ffi::SQLITE_FULL), || "SELECT".to_owned());
        for error in [
            Error::SqliteSingleThreadedMode,
            Error::FromSqlConversionFailure(1, Type::Null, of_library()),
            Error::IntegralValueOutOfRange(1, 2),
            Error::Utf8Error(1, utf8),
            Error::NulError(nul),
            Error::InvalidParameterName(text()),
            Error::InvalidPath(PathBuf::from("x")),
            Error::ExecuteReturnedResults,
            Error::QueryReturnedNoRows,
            Error::QueryReturnedMoreThanOneRow,
            Error::InvalidColumnIndex(1),
            Error::InvalidColumnName(text()),
            Error::InvalidColumnType(1, text(), Type::Null),
            Error::StatementChangedRows(2),
            Error::ToSqlConversionFailure(of_library()),
            Error::InvalidQuery,
            Error::UnwindingPanic,
            Error::MultipleStatement,
            Error::InvalidParameterCount(1, 2),
            Error::SqlInputError { error: failure, msg: text(), sql: text(), offset: 0 },
            Error::InvalidDatabaseIndex(1),
        ] {
            assert!(is_plain(sqlite(&error)), "{error:?}: {}", sqlite(&error));
        }
        assert_eq!(io(&io::Error::from_raw_os_error(28)), "the disk is full");
        assert_eq!(io(&io::Error::other("it is gone")), "it is gone");
    }
}
