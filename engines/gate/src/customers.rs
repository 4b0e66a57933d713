//! What each customer of a provider has of something that is bounded: connections, requests under way.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// The counts, by customer.
#[derive(Default)]
pub(crate) struct Customers(Mutex<HashMap<IpAddr, u32>>);

/// One that a customer has, until it is dropped.
pub(crate) struct Share {
    of: Arc<Customers>,
    customer: IpAddr,
}

impl Customers {
    /// One more for whoever is at this address; `None` where that would be more than so many. Addresses of this machine are not
    /// bounded: a proxy stands there for everybody.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr, most: u32) -> Option<Share> {
        let customer = customer_of(address);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(customer).or_insert(0);
        if *count >= most && !customer.is_loopback() {
            return None;
        }
        *count += 1;
        Some(Share { of: Arc::clone(self), customer })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut counts = self.of.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.customer) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.customer);
            }
        }
    }
}

/// The part of an address that stands for one customer of a provider (RFC 6177: a /64 at the least).
fn customer_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_customer_has_a_bound_and_gives_back() {
        let customers = Arc::<Customers>::default();
        let take = |address: &str| customers.take(address.parse().expect("an address"), 2);
        let (first, second) = (take("192.0.2.1"), take("::ffff:192.0.2.1"));
        assert!(first.is_some() && take("192.0.2.1").is_none() && take("192.0.2.2").is_some());
        drop(first);
        let again = take("192.0.2.1");
        assert!(again.is_some() && take("192.0.2.1").is_none());
        let of_one_network = [take("2001:db8::1"), take("2001:db8::2")];
        assert!(take("2001:db8::3").is_none() && take("2001:db8:0:1::1").is_some());
        let local: Vec<_> = (0..10).map(|_| take("127.0.0.1")).collect();
        assert!(local.iter().all(Option::is_some));
        drop((of_one_network, again, local, second));
        assert!(customers.0.lock().expect("sound").is_empty(), "nobody is remembered who has nothing");
    }
}
