//! What a line says of its zone: abbreviations and offsets, in minutes ahead of UTC.
//!
//! An abbreviation is an offset that never changes: `CET` is one hour ahead in summer too.

use super::strptime::Unread;

/// Minutes ahead of UTC, and the abbreviations that mean them.
const ABBREVIATIONS: [(i64, &str); 38] = [
    (-720, "Y"),
    (-660, "NUT SST X"),
    (-600, "CKT HAST HST TAHT TKT W"),
    (-570, "MART MIT"),
    (-540, "AKST GAMT GIT HADT HNY V"),
    (-480, "AKDT CIST HAY HNP PST PT U"),
    (-420, "HAP HNR MST PDT T"),
    (-360, "CST EAST GALT HAR HNC MDT S"),
    (-300, "CDT COT EASST ECT EST ET HAC HNE PET R"),
    (-270, "HLV VET"),
    (-240, "AST BOT CLT COST EDT FKT GYT HAE HNA PYT Q"),
    (-210, "HNT NST NT"),
    (-180, "ADT ART BRT CLST FKST GFT HAA P PMST PYST SRT UYT WGT"),
    (-150, "HAT NDT"),
    (-120, "BRST FNT O PMDT UYST WGST"),
    (-60, "AZOT CVT EGT N"),
    (0, "EGST GMT UTC WET WT Z"),
    (60, "A CET DFT WAT WEDT WEST"),
    (120, "B CAT CEDT CEST EET SAST WAST"),
    (180, "C EAT EEDT EEST IDT MSK"),
    (210, "IRST"),
    (240, "AMT AZT D GET GST KUYT MSD MUT RET SAMT SCT"),
    (270, "AFT IRDT"),
    (300, "AMST AQTT AZST E HMT MAWT MVT PKT TFT TJT TMT UZT YEKT"),
    (330, "SLT"),
    (345, "NPT"),
    (360, "ALMT BIOT BTT F IOT KGT NOVT OMST YEKST"),
    (390, "CCT MMT"),
    (420, "CXT DAVT G HOVT ICT KRAT NOVST OMSST THA WIB"),
    (480, "ACT AWST BDT BNT CAST H HKT IRKT KRAST MYT PHT SGT ULAT WITA WST"),
    (540, "AWDT I IRKST JST KST PWT TLT WDT WIT YAKT"),
    (570, "ACST"),
    (600, "AEST K PGT VLAT YAKST YAPT"),
    (630, "ACDT LHST"),
    (660, "AEDT L LHDT MAGT NCT PONT SBT VLAST VUT"),
    (690, "NFT"),
    (720, "ANAST ANAT FJT GILT M MAGST MHT NZST PETST PETT TVT WFT"),
    (780, "FJST NZDT"),
];

/// The minutes ahead of UTC of an abbreviation; upper and lower case differ.
fn abbreviated(name: &str) -> Option<i64> {
    ABBREVIATIONS.iter().find(|(_, names)| names.split(' ').any(|known| known == name)).map(|(minutes, _)| *minutes)
}

/// A number of two digits of any script.
fn two_digits(text: &[char]) -> Option<i64> {
    match text {
        [tens, ones] => Some(super::strptime::digit(*tens)? * 10 + super::strptime::digit(*ones)?),
        _ => None,
    }
}

/// The minutes ahead of UTC of `UTC`, `CET`, `+0200`, `-03:30`, `UTC+02`; of nothing it is 0.
///
/// # Errors
///
/// Text of another form is unreadable; an abbreviation that nobody knows fails, which drops its line.
pub(super) fn offset(text: &str) -> Result<i64, Unread> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let sign = text.find(['+', '-']).unwrap_or(text.len());
    let (name, offset) = text.split_at(sign);
    let is_name = name.bytes().all(|byte| byte.is_ascii_uppercase()) && matches!(name.len(), 0 | 1 | 3..=5);
    let offset: Vec<char> = offset.chars().collect();
    let minutes = match offset.as_slice() {
        [] => Some(0),
        [sign, hour @ ..] => {
            let (hour, minute) = hour.split_at_checked(2).unwrap_or_default();
            let minute = minute.strip_prefix(&[':']).filter(|rest| !rest.is_empty()).unwrap_or(minute);
            let is_hour = matches!(hour.first(), Some('0' | '1'));
            let hours = two_digits(hour).filter(|_| is_hour);
            let minutes = if minute.is_empty() { Some(0) } else { two_digits(minute) };
            hours.zip(minutes).map(|(hours, minutes)| (hours * 60 + minutes) * if *sign == '-' { -1 } else { 1 })
        }
    };
    let minutes = minutes.filter(|_| is_name).ok_or(Unread::Text)?;
    let base = if name.is_empty() { Some(0) } else { abbreviated(name) };
    Ok(base.ok_or(Unread::Line)? + minutes)
}
