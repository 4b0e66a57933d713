//! Respond: alerts, on-call schedules, notifications.

pub mod act;
mod answer;
mod commands;
mod compose;
pub mod config;
pub mod detect;
mod door;
mod events;
mod figures;
mod link;
mod outside;
pub mod people;
mod run;
pub mod source;
mod view;

pub use commands::commands;
pub use config::Config;
pub use door::RespondDoor;
pub use events::KINDS;
pub use figures::Figures;
pub use run::Respond;

/// The name of the engine.
pub const NAME: &str = "respond";

/// The SHA-256 of these pieces, each with its length before it.
pub(crate) fn digest(pieces: &[&[u8]]) -> [u8; 32] {
    use sha2::Digest as _;
    let mut hash = sha2::Sha256::new();
    for piece in pieces {
        hash.update((piece.len() as u64).to_be_bytes());
        hash.update(piece);
    }
    hash.finalize().into()
}

/// The first half of [`digest`], in hexadecimal digits.
pub(crate) fn short_digest(pieces: &[&[u8]]) -> String {
    hex(&digest(pieces)[..16])
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}
