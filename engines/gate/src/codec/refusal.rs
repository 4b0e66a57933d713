//! Why a message is refused, by class: what the client is answered, what events and figures count.

/// The class of what is wrong with a message.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Refusal {
    BareLineFeed,
    BareCarriageReturn,
    ControlCharacter,
    FoldedField,
    BadRequestLine,
    BadStatusLine,
    BadVersion,
    BadMethod,
    MethodNotTaken,
    BadTarget,
    TargetTooLong,
    BadField,
    HeadTooLong,
    TooManyFields,
    NoHost,
    ManyHosts,
    BadHost,
    HostUnlikeTarget,
    LengthAndCoding,
    ManyLengths,
    BadLength,
    CodingOfOldVersion,
    UnknownCoding,
    BadChunk,
    BadTrailer,
    BadUpgrade,
    Expectation,
    BodyTooLarge,
    Misdirected,
    UnknownSite,
    TooSlow,
    UnaskedSwitch,
}

/// Every class, in the order of their numbers.
pub(crate) const REFUSALS: [Refusal; 32] = {
    use Refusal as R;
    [
        R::BareLineFeed,
        R::BareCarriageReturn,
        R::ControlCharacter,
        R::FoldedField,
        R::BadRequestLine,
        R::BadStatusLine,
        R::BadVersion,
        R::BadMethod,
        R::MethodNotTaken,
        R::BadTarget,
        R::TargetTooLong,
        R::BadField,
        R::HeadTooLong,
        R::TooManyFields,
        R::NoHost,
        R::ManyHosts,
        R::BadHost,
        R::HostUnlikeTarget,
        R::LengthAndCoding,
        R::ManyLengths,
        R::BadLength,
        R::CodingOfOldVersion,
        R::UnknownCoding,
        R::BadChunk,
        R::BadTrailer,
        R::BadUpgrade,
        R::Expectation,
        R::BodyTooLarge,
        R::Misdirected,
        R::UnknownSite,
        R::TooSlow,
        R::UnaskedSwitch,
    ]
};

impl Refusal {
    /// The status that a client is answered (RFC 9110, section 15).
    pub(crate) const fn status(self) -> u16 {
        match self {
            Self::MethodNotTaken => 405,
            Self::TooSlow => 408,
            Self::BodyTooLarge => 413,
            Self::TargetTooLong => 414,
            Self::Expectation => 417,
            Self::Misdirected | Self::UnknownSite => 421,
            Self::HeadTooLong | Self::TooManyFields => 431,
            Self::UnknownCoding => 501,
            Self::BadVersion => 505,
            _ => 400,
        }
    }

    /// The name of the class, in events and figures.
    pub(crate) const fn class(self) -> &'static str {
        match self {
            Self::BareLineFeed => "bare-lf",
            Self::BareCarriageReturn => "bare-cr",
            Self::ControlCharacter => "control-character",
            Self::FoldedField => "obs-fold",
            Self::BadRequestLine => "request-line",
            Self::BadStatusLine => "status-line",
            Self::BadVersion => "version",
            Self::BadMethod => "method",
            Self::MethodNotTaken => "method-not-taken",
            Self::BadTarget => "target",
            Self::TargetTooLong => "target-too-long",
            Self::BadField => "field",
            Self::HeadTooLong => "head-too-long",
            Self::TooManyFields => "too-many-fields",
            Self::NoHost => "no-host",
            Self::ManyHosts => "many-hosts",
            Self::BadHost => "host",
            Self::HostUnlikeTarget => "host-unlike-target",
            Self::LengthAndCoding => "length-and-coding",
            Self::ManyLengths => "many-lengths",
            Self::BadLength => "length",
            Self::CodingOfOldVersion => "coding-of-1.0",
            Self::UnknownCoding => "coding",
            Self::BadChunk => "chunk",
            Self::BadTrailer => "trailer",
            Self::BadUpgrade => "upgrade",
            Self::Expectation => "expectation",
            Self::BodyTooLarge => "body-too-large",
            Self::Misdirected => "misdirected",
            Self::UnknownSite => "unknown-site",
            Self::TooSlow => "too-slow",
            Self::UnaskedSwitch => "unasked-switch",
        }
    }

    /// Whether the two ends could have read the bytes differently: what an attacker tries, and what is an event.
    pub(crate) const fn is_of_framing(self) -> bool {
        !matches!(
            self,
            Self::MethodNotTaken
                | Self::TargetTooLong
                | Self::HeadTooLong
                | Self::TooManyFields
                | Self::Expectation
                | Self::BodyTooLarge
                | Self::Misdirected
                | Self::UnknownSite
                | Self::TooSlow
        )
    }
}
