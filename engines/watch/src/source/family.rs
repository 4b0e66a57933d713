//! The key `family` of the kinds that connect: a name with addresses of both families is up as long as one of them answers.

use engine::net::Family;
use policy::{Address, Table};

/// The family to connect over, if the policy wants one; `host` is what is connected to.
pub(super) fn read(table: &mut Table<'_>, host: Option<&Address>) -> Option<Family> {
    let about = "The only family of addresses to connect over. By default either: a name with both is up when one of them \
        answers, and the answer says which. Two probes, one for each, watch them apart.";
    let family: Family = table.optional("family", about)?;
    if let Some(Address::Ip(address)) = host
        && Family::of(*address) != family
    {
        let remedy = "remove `family`, or write a name or an address of that family";
        table.mistake("family", format!("{address} is no address of {family}"), remedy);
    }
    Some(family)
}
