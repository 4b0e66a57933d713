//! Secrets of this crate: salts, nonces and keys.

/// Fills the buffer with random bytes of the operating system.
///
/// Not an argument like other randomness: a salt that a test could repeat is one that production could repeat.
pub(crate) fn fill(buffer: &mut [u8]) -> std::io::Result<()> {
    #[expect(
        clippy::disallowed_methods,
        reason = "salts, nonces and keys must never come from anything a caller chose"
    )]
    getrandom::fill(buffer).map_err(std::io::Error::other)
}

/// So many random bytes.
pub(crate) fn bytes<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    fill(&mut bytes)?;
    Ok(bytes)
}
