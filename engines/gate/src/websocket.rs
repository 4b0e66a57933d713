//! Frames of WebSocket (RFC 6455, section 5.2), as far as a tunnel has to know them that is to be ended in order: a frame may be put
//! between two others, and nowhere else.

/// `1001 (Going Away)` (RFC 6455, section 7.4.1): the server goes, and the client may come again.
pub(crate) const GOING_AWAY: u16 = 1001;
/// `1008`: the client may not be here. What RFC 6455 has for any reason that is of the client and not of a message.
pub(crate) const VIOLATION: u16 = 1008;
const CLOSE: u8 = 0x88;
const MASKED: u8 = 0x80;

/// Where in its frames one direction is.
#[derive(Default, Debug)]
pub(crate) struct Frames {
    /// The head of the frame that has begun, as far as it is there.
    head: Vec<u8>,
    /// Bytes of its payload that are still to come.
    left: u64,
    /// Whether a frame has said that nothing more comes.
    is_closed: bool,
}

impl Frames {
    /// These bytes go by.
    pub(crate) fn pass(&mut self, mut bytes: &[u8]) {
        while let Some(first) = bytes.first() {
            if self.left > 0 {
                let there = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= u64::try_from(there).unwrap_or(self.left);
                bytes = bytes.get(there..).unwrap_or_default();
                continue;
            }
            self.head.push(*first);
            bytes = bytes.get(1..).unwrap_or_default();
            if let Some(length) = payload_length(&self.head) {
                self.is_closed |= self.head.first().is_some_and(|byte| byte & 0x0f == CLOSE & 0x0f);
                self.left = length;
                self.head.clear();
            }
        }
    }

    /// Whether another frame may be put here.
    pub(crate) fn takes_another(&self) -> bool {
        self.left == 0 && self.head.is_empty() && !self.is_closed
    }
}

/// The length of the payload, once the head is whole.
fn payload_length(head: &[u8]) -> Option<u64> {
    let second = *head.get(1)?;
    let mask = if second & MASKED == 0 { 0 } else { 4 };
    let extended = match second & !MASKED {
        126 => 2,
        127 => 8,
        length => return (head.len() == 2 + mask).then_some(length.into()),
    };
    let digits = head.get(2..2 + extended)?;
    (head.len() == 2 + extended + mask).then(|| digits.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)))
}

/// The frame that tells a client that the connection ends, and why.
pub(crate) const fn farewell(code: u16) -> [u8; 4] {
    let [high, low] = code.to_be_bytes();
    [CLOSE, 2, high, low]
}

/// The one that tells an upstream that its client goes away, as if of the client: masked, with a key that anybody may know.
pub(crate) const fn masked_farewell(key: u32) -> [u8; 8] {
    let ([a, b, c, d], [high, low]) = (key.to_be_bytes(), GOING_AWAY.to_be_bytes());
    [CLOSE, MASKED | 2, a, b, c, d, high ^ a, low ^ b]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However the bytes are cut, another frame fits between two frames and nowhere else.
    #[test]
    fn frames_end_where_they_end() {
        let frames: [Vec<u8>; 5] = [
            vec![0x81, 0],
            [&[0x82, 5][..], &[9; 5]].concat(),
            [&[0x82, MASKED | 3, 1, 2, 3, 4][..], &[9; 3]].concat(),
            [&[0x82, 126, 1, 0][..], &[9; 256]].concat(),
            [&[0x82, MASKED | 127, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4][..], &vec![9; 65536]].concat(),
        ];
        let all = frames.concat();
        let mut ends: Vec<usize> = Vec::new();
        for frame in &frames {
            ends.push(ends.last().unwrap_or(&0) + frame.len());
        }
        let mut byte_by_byte = Frames::default();
        let found: Vec<usize> = (1..=all.len())
            .filter(|end| {
                byte_by_byte.pass(&all[end - 1..*end]);
                byte_by_byte.takes_another()
            })
            .collect();
        assert_eq!(found, ends);
        for end in ends {
            let mut whole = Frames::default();
            whole.pass(&all[..end]);
            assert!(whole.takes_another());
            whole.pass(&all[end..]);
            assert!(whole.takes_another());
        }
    }

    #[test]
    fn nothing_comes_after_a_close() {
        for frame in [&farewell(VIOLATION)[..], &masked_farewell(0x0102_0304)] {
            let mut frames = Frames::default();
            frames.pass(frame);
            assert!(!frames.takes_another());
        }
        assert_eq!(masked_farewell(0x0102_0304)[6..], [0x03 ^ 1, 0xe9 ^ 2]);
    }
}
