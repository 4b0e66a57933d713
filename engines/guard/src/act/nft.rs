//! The packet filter of Linux by the program `nft`: the table `inet garant`, `inet garant_scans` where port scans are noticed, and no
//! other.
//!
//! **Place.** The chain that drops is at `prerouting` with priority −300 (`raw`): before connection tracking, so that what is
//! dropped costs nothing more, and before Docker's destination NAT, so that published ports are covered and named as the sender
//! names them. A port that a jail names may be that behind a translation, as a chain of iptables at `INPUT` or `FORWARD` sees it: bans
//! on ports are looked up there once more. Fragments have been put together by then (−400), wherever connection tracking is in use at all. Its policy is
//! `accept`, and an accept ends our chain only: the chains of others still see the packet.
//!
//! **Sets.** One for each prefix length and port scope (`ban4_32_all`, `ban6_64_tcp_22`), by hash of the masked address, with
//! a timeout for each element, and one rule each. So a ban of a network costs the same as that of an address, no two overlap,
//! and each ends by itself with nothing of ours running. Sets of intervals can do neither, and `nft` reads them whole before each
//! change of anything: with 1,500 networks a ban takes as long as without (7 ms), with 15,000 it takes 35 ms, in a table of its
//! own as well. They hold what is replaced as a whole: lists (bounded), and what is allowed.
//!
//! **Listings.** Before it lists anything of a table but one set, `nft` reads all elements of that table: seconds, with the full sets of
//! the search for scans. Bans wait for what is listed of ours, so these sets are in a table of their own, of which single small sets
//! are listed, and the rules beside everything else.
//!
//! **Programs.** A transaction is one `nft -f -`, its text on standard input. Text is written from typed values alone: nothing
//! of a log ever gets here. Reading uses JSON, which `nft` writes faster than its own text.

mod listing;
mod owner;
mod script;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use engine::{BoxFuture, Program, ProgramError, Programs};
use event::Span;
use ipnet::IpNet;

use super::{Firewall, FirewallError, Held, Hold, Lasting, Missed, Wanted, scans};
use owner::Owner;
use script::{SetKey, Shape};

/// The name of our table, of the family `inet`.
pub(super) const TABLE: &str = "garant";
/// The table that notices port scans, of the same family.
pub(super) const SCANS_TABLE: &str = "garant_scans";
/// Most bans at a time.
const BANS_MAX: usize = 500_000;
/// Most networks of lists and of what is allowed, for each change of anything waits for them to be read.
const NETWORKS_MAX: usize = 32_768;
/// Most sets of bans: each costs every packet a look.
const SCOPES_MAX: usize = 64;
/// Most bytes that a listing may have: 70 for each ban, and room.
const LISTING_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Longest time for one transaction or listing.
const DEADLINE: Span = Span::from_secs(30);

/// The packet filter of Linux.
#[derive(Debug)]
pub struct Nft {
    programs: Programs,
    /// The process that bans are of: this one.
    owner: Owner,
    /// The sets and rules that the table has; `None` before it was read or made.
    shape: Mutex<Option<Shape>>,
}

impl Nft {
    /// The packet filter of the network namespace that programs run in.
    pub fn new(programs: Programs) -> Self {
        Self { programs, owner: Owner::this(), shape: Mutex::new(None) }
    }

    /// Fails when the table is of another process that runs.
    fn check_owner(&self, owner: Option<&Owner>) -> Result<(), FirewallError> {
        match owner {
            Some(other) if *other != self.owner && other.is_running() => {
                self.set_shape(None);
                Err(FirewallError::Owned(other.pid))
            }
            _ => Ok(()),
        }
    }

    /// The process that the table is of, if one is named.
    async fn read_owner(&self) -> Result<Option<Owner>, FirewallError> {
        let json = self.list(&["chain", "inet", TABLE, script::OWNER]).await?;
        json.map_or(Ok(None), |json| listing::owner(&json))
    }

    fn shape(&self) -> Option<Shape> {
        self.shape.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_shape(&self, shape: Option<Shape>) {
        *self.shape.lock().unwrap_or_else(PoisonError::into_inner) = shape;
    }

    /// The shape of the table as it is. [`FirewallError::Gone`] when it is not as we made it.
    async fn known_shape(&self) -> Result<Shape, FirewallError> {
        if let Some(shape) = self.shape() {
            return Ok(shape);
        }
        match self.read_all().await? {
            Some(held) if held.intact => self.shape().ok_or(FirewallError::Gone),
            _ => Err(FirewallError::Gone),
        }
    }

    /// One transaction.
    async fn change(&self, script: String) -> Result<(), FirewallError> {
        let program = Program::new("nft").args(["-f", "-"]).input(script).deadline(DEADLINE);
        self.programs.run(&program).await.map(drop).map_err(|error| {
            let error = typed(error);
            if matches!(error, FirewallError::Gone) {
                self.set_shape(None);
            }
            error
        })
    }

    /// What `nft -j list …` writes; `None` when there is no such thing.
    async fn list(&self, what: &[&str]) -> Result<Option<Vec<u8>>, FirewallError> {
        let (terse, what) = what.strip_prefix(&["-t"]).map_or((None, what), |what| (Some("-t"), what));
        let program = Program::new("nft").args(terse).args(["-j", "list"]).args(what).deadline(DEADLINE);
        match self.programs.run(&program.output_bytes_max(LISTING_BYTES_MAX)).await.map_err(typed) {
            Ok(output) => Ok(Some(output.stdout)),
            Err(FirewallError::Gone) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn read_all(&self) -> Result<Option<Held>, FirewallError> {
        let Some(json) = self.list(&["table", "inet", TABLE]).await? else {
            self.set_shape(None);
            return Ok(None);
        };
        // A hundred thousand bans are seven megabytes: too long for a thread that others wait for.
        let (mut held, mut shape, owner) = blocking(move || listing::table(&json)).await??;
        self.check_owner(owner.as_ref())?;
        if held.scans.is_some() && self.read_allowed_scans().await?.as_ref() != Some(&held.allow) {
            held.intact = false;
            shape = None;
        }
        if shape.is_some() && owner.as_ref() != Some(&self.owner) {
            self.change(script::own(&self.owner)).await?;
        }
        self.set_shape(shape);
        Ok(Some(held))
    }

    async fn replace_all(&self, wanted: &Wanted) -> Result<(), FirewallError> {
        check_count(wanted.bans.len(), BANS_MAX)?;
        check_count(wanted.lists.len().max(wanted.allow.len()), NETWORKS_MAX)?;
        let scopes: BTreeSet<SetKey> = wanted.bans.keys().map(SetKey::of).collect();
        check_scopes(&scopes)?;
        self.check_owner(self.read_owner().await?.as_ref())?;
        let mut shape = Shape { scopes, scans: wanted.scans.clone() };
        let changed = match self.change(written(&shape, wanted, &self.owner).await?).await {
            // A kernel without the expression `socket` notices no scans; it bans all the same.
            Err(FirewallError::Gone | FirewallError::Unsupported(_)) if shape.scans.is_some() => {
                shape.scans = None;
                let done = self.change(written(&shape, wanted, &self.owner).await?).await;
                done.map(|()| tracing::warn!("port scans are not noticed: this kernel lacks `nft_socket` or `nft_ct`"))
            }
            other => other,
        };
        // In a transaction that makes all it names, what is missing is missing in the kernel.
        changed.map_err(|error| match error {
            FirewallError::Gone => FirewallError::Unsupported("tables, sets with timeouts or rules".into()),
            error => error,
        })?;
        self.set_shape(Some(shape));
        Ok(())
    }

    async fn ban_all(&self, holds: &BTreeMap<Hold, Lasting>) -> Result<(), FirewallError> {
        if holds.is_empty() {
            return Ok(());
        }
        check_count(holds.len(), BANS_MAX)?;
        let known = self.known_shape().await?;
        let mut shape = known.clone();
        shape.scopes.extend(holds.keys().map(SetKey::of));
        check_scopes(&shape.scopes)?;
        self.change(script::ban(&known, &shape, holds)).await?;
        self.set_shape(Some(shape));
        Ok(())
    }

    async fn unban_all(&self, holds: &[Hold]) -> Result<(), FirewallError> {
        let known = self.known_shape().await?;
        let there: Vec<_> = holds.iter().filter(|hold| known.scopes.contains(&SetKey::of(hold))).collect();
        if there.is_empty() {
            return Ok(());
        }
        self.change(script::unban(&known, &there)).await
    }

    /// What the search for scans allows; `None` when its table is not there.
    async fn read_allowed_scans(&self) -> Result<Option<Vec<IpNet>>, FirewallError> {
        let mut all = Vec::new();
        for set in ["allow4", "allow6"] {
            let Some(json) = self.list(&["set", "inet", SCANS_TABLE, set]).await? else { return Ok(None) };
            all.extend(listing::networks(&json)?);
        }
        Ok(Some(IpNet::aggregate(&all)))
    }

    async fn read_scan_rules(&self) -> Result<bool, FirewallError> {
        let Some(scans) = self.shape().and_then(|shape| shape.scans) else { return Ok(true) };
        // The rules alone, though all elements are read for it.
        let json = self.list(&["-t", "table", "inet", SCANS_TABLE]).await?;
        let intact = json.map_or(Ok(false), |json| listing::has_rules(&json, &scans.table().1))?;
        // What was changed meanwhile is looked at the next time.
        Ok(intact || self.shape().and_then(|shape| shape.scans) != Some(scans))
    }

    async fn read_scanned(&self) -> Result<Vec<(IpNet, Span)>, FirewallError> {
        let mut all = Vec::new();
        if self.known_shape().await?.scans.is_none() {
            return Ok(all);
        }
        for set in ["scanned4", "scanned6"] {
            let json = self.list(&["set", "inet", SCANS_TABLE, set]).await?.ok_or(FirewallError::Gone)?;
            all.extend(listing::scanned(&json)?);
        }
        Ok(all)
    }
}

impl Firewall for Nft {
    fn replace<'a>(&'a self, wanted: &'a Wanted) -> BoxFuture<'a, Result<(), FirewallError>> {
        Box::pin(self.replace_all(wanted))
    }

    fn ban<'a>(&'a self, holds: &'a BTreeMap<Hold, Lasting>) -> BoxFuture<'a, Result<(), FirewallError>> {
        Box::pin(self.ban_all(holds))
    }

    fn unban<'a>(&'a self, holds: &'a [Hold]) -> BoxFuture<'a, Result<(), FirewallError>> {
        Box::pin(self.unban_all(holds))
    }

    fn allow<'a>(&'a self, networks: &'a [IpNet]) -> BoxFuture<'a, Result<(), FirewallError>> {
        Box::pin(async move {
            check_count(networks.len(), NETWORKS_MAX)?;
            self.change(script::allow(&self.known_shape().await?, networks)).await
        })
    }

    fn lists<'a>(&'a self, networks: &'a [IpNet]) -> BoxFuture<'a, Result<(), FirewallError>> {
        Box::pin(async move {
            check_count(networks.len(), NETWORKS_MAX)?;
            self.change(script::lists(networks)).await
        })
    }

    fn is_present(&self, thoroughly: bool) -> BoxFuture<'_, Result<bool, FirewallError>> {
        Box::pin(async move {
            // Who flushes the rules removes that of the owner, who flushes everything the marker too. To list a chain, `nft` reads the
            // elements of all sets; to list a set, those of that one.
            if thoroughly {
                let owner = self.read_owner().await?;
                self.check_owner(owner.as_ref())?;
                if owner.is_none() {
                    return Ok(false);
                }
            }
            let marker = self.list(&["set", "inet", TABLE, script::MARKER]).await?;
            Ok(marker.is_some_and(|json| listing::has_elements(&json)))
        })
    }

    fn read(&self) -> BoxFuture<'_, Result<Option<Held>, FirewallError>> {
        Box::pin(self.read_all())
    }

    fn scanned(&self) -> BoxFuture<'_, Result<Vec<(IpNet, Span)>, FirewallError>> {
        Box::pin(self.read_scanned())
    }

    fn missed(&self) -> BoxFuture<'_, Result<Missed, FirewallError>> {
        Box::pin(async {
            if self.known_shape().await?.scans.is_none() {
                return Ok(Missed::default());
            }
            let list = async |set| self.list(&["set", "inet", SCANS_TABLE, set]).await?.ok_or(FirewallError::Gone);
            let uncounted = list(scans::UNCOUNTED).await?;
            let of = |protocol| listing::packets(&uncounted, Some(protocol));
            let unbanned = listing::packets(&list(scans::UNBANNED).await?, None)?;
            Ok(Missed { tcp: of("tcp")?, udp: of("udp")?, unbanned })
        })
    }

    fn has_scan_rules(&self) -> BoxFuture<'_, Result<bool, FirewallError>> {
        Box::pin(self.read_scan_rules())
    }

    fn remove(&self) -> BoxFuture<'_, Result<(), FirewallError>> {
        Box::pin(async {
            self.check_owner(self.read_owner().await?.as_ref())?;
            self.change(script::remove()).await?;
            self.set_shape(None);
            Ok(())
        })
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, FirewallError> {
    let ended = |_| FirewallError::Unreadable("the task that was at it ended early".into());
    tokio::task::spawn_blocking(work).await.map_err(ended)
}

async fn written(shape: &Shape, wanted: &Wanted, owner: &Owner) -> Result<String, FirewallError> {
    let (shape, wanted, owner) = (shape.clone(), wanted.clone(), owner.clone());
    blocking(move || script::replace(&shape, &wanted, &owner)).await
}

const fn check_count(count: usize, max: usize) -> Result<(), FirewallError> {
    if count > max { Err(FirewallError::TooMany(count, max)) } else { Ok(()) }
}

fn check_scopes(scopes: &BTreeSet<SetKey>) -> Result<(), FirewallError> {
    match scopes.len() {
        many if many > SCOPES_MAX => Err(FirewallError::TooManyScopes(many, SCOPES_MAX)),
        _ => Ok(()),
    }
}

/// What a failure of `nft` means.
fn typed(error: ProgramError) -> FirewallError {
    match &error {
        ProgramError::Missing(_) => FirewallError::Missing,
        ProgramError::Failed { stderr, .. } => {
            let says = |text: &str| stderr.contains(text);
            if says("Operation not permitted") || says("you must be root") || says("Permission denied") {
                FirewallError::NoRight
            } else if says("No such file or directory") {
                FirewallError::Gone
            } else if says("not supported") {
                FirewallError::Unsupported(stderr.chars().take(200).collect())
            } else {
                FirewallError::Failed(error)
            }
        }
        _ => FirewallError::Failed(error),
    }
}
