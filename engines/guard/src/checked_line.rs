//! Lines of the files that the engine appends to: a checksum, a space, JSON. Half a line, or one that the disk has damaged, is known.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Writes what is of strings and numbers alone.
pub(crate) fn write(line: &impl Serialize, to: &mut Vec<u8>) {
    // Nothing of it can't be written.
    let Ok(json) = serde_json::to_vec(line) else { return };
    to.extend(written_sum(&json).bytes());
    to.push(b' ');
    to.extend(json);
    to.push(b'\n');
}

/// The line, when it is whole and as it was written.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (sum, json) = bytes.strip_suffix(b"\n")?.split_at_checked(16)?;
    let json = json.strip_prefix(b" ")?;
    (written_sum(json).as_bytes() == sum).then(|| serde_json::from_slice(json).ok())?
}

/// FNV-1a of 64 bits: against damage, not against people. Who can write these files can ban anyway.
fn written_sum(bytes: &[u8]) -> String {
    let sum = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{sum:016x}")
}
