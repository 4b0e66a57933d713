//! The battery: requests as data, each with the class by which it is refused. Read by the tests of the codec, by those beside other
//! servers, and by `garant gate selftest`.

const TEXT: &str = include_str!("cases.txt");

/// A request of the battery, to the site `t.example`.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// The class and a number.
    pub(crate) name: String,
    /// The class by which it is refused; `None` for one that is sound.
    pub(crate) refused_as: Option<&'static str>,
    pub(crate) bytes: Vec<u8>,
}

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    let lines = TEXT.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('\t'));
    let mut cases: Vec<Case> = Vec::new();
    for (class, escaped) in lines {
        let refused_as = (class != "-").then_some(class);
        let number = cases.iter().filter(|case| case.refused_as == refused_as).count() + 1;
        let name = format!("{} {number}", refused_as.unwrap_or("sound"));
        cases.push(Case { name, refused_as, bytes: unescaped(escaped) });
    }
    cases
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        let (byte, used) = match (first, after) {
            (b'\\', [b'r', ..]) => (b'\r', 1),
            (b'\\', [b'n', ..]) => (b'\n', 1),
            (b'\\', [b'x', high, low, ..]) => {
                let digit = |digit: &u8| char::from(*digit).to_digit(16).unwrap_or(0);
                (u8::try_from(digit(high) * 16 + digit(low)).unwrap_or(0), 3)
            }
            (byte, _) => (*byte, 0),
        };
        bytes.push(byte);
        rest = rest.get(used..).unwrap_or_default();
    }
    bytes
}
