//! The PROXY protocol, version 2 (haproxy.org, proxy-protocol.txt, section 2.2): a proxy in front says who its client is, before anything
//! else on the connection.
//!
//! Only proxies that the policy names are asked, and they have to: a client that could say it by itself would choose its address. What
//! is not exactly such a head ends the connection, and not one byte behind it is read here.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt as _};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2; of the connection of a client, or of the proxy itself.
const OF_CLIENT: u8 = 0x21;
const OF_PROXY: u8 = 0x20;
/// TCP over IPv4 and over IPv6.
const TCP_4: u8 = 0x11;
const TCP_6: u8 = 0x21;
/// The type of the field that holds a sum (CRC-32C) over the whole head.
const SUM: u8 = 0x03;
/// Longest rest of a head: addresses, and fields that are passed over.
const REST_BYTES_MAX: usize = 4096;

/// Whose connection it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Said {
    /// The proxy's own: it looks whether the gate is there.
    OfProxy,
    /// That of this client.
    OfClient(SocketAddr),
}

/// Reads the head from the beginning of a connection.
///
/// # Errors
/// The connection ends, or begins with anything else.
pub(crate) async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Said> {
    let mut head = vec![0; 16];
    stream.read_exact(&mut head).await?;
    let refused = || io::Error::new(io::ErrorKind::InvalidData, "it is no head of the PROXY protocol, version 2");
    let length = match head[..] {
        [.., high, low] if head.starts_with(&SIGNATURE) => usize::from(u16::from_be_bytes([high, low])),
        _ => return Err(refused()),
    };
    if length > REST_BYTES_MAX {
        return Err(refused());
    }
    head.resize(16 + length, 0);
    stream.read_exact(head.get_mut(16..).unwrap_or_default()).await?;
    said(&head).ok_or_else(refused)
}

/// What a whole head says; `None` for what is no head.
fn said(head: &[u8]) -> Option<Said> {
    let (fixed, rest) = head.split_at_checked(16)?;
    let (client, fields) = match (fixed[12], fixed[13]) {
        // Whatever it says of addresses is not for us.
        (OF_PROXY, _) => return Some(Said::OfProxy),
        (OF_CLIENT, TCP_4) => {
            let (addresses, fields) = rest.split_first_chunk::<12>()?;
            let address = Ipv4Addr::from_octets(*addresses.first_chunk()?);
            (SocketAddr::new(IpAddr::V4(address), port(addresses, 8)?), fields)
        }
        (OF_CLIENT, TCP_6) => {
            let (addresses, fields) = rest.split_first_chunk::<36>()?;
            let address = Ipv6Addr::from_octets(*addresses.first_chunk()?);
            (SocketAddr::new(IpAddr::V6(address), port(addresses, 32)?), fields)
        }
        _ => return None,
    };
    are_sound(head, fields).then_some(Said::OfClient(client))
}

fn port(addresses: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*addresses.get(at..)?.first_chunk()?))
}

/// Whether the fields behind the addresses fill the head exactly, and the sum is right where there is one.
fn are_sound(head: &[u8], mut fields: &[u8]) -> bool {
    while let Some(([kind, high, low], rest)) = fields.split_first_chunk::<3>() {
        let Some((value, rest)) = rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low]))) else {
            return false;
        };
        if *kind == SUM {
            let at = head.len() - rest.len() - value.len();
            let mut summed = head.to_vec();
            summed.iter_mut().skip(at).take(value.len()).for_each(|byte| *byte = 0);
            if value != crc32c(&summed).to_be_bytes() {
                return false;
            }
        }
        fields = rest;
    }
    fields.is_empty()
}

/// CRC-32C (RFC 9260, appendix A), bit by bit: heads are short, and few have one.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).expect("short").to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    async fn read(bytes: &[u8]) -> Result<(Option<String>, usize), ()> {
        let mut stream = bytes;
        let client = match receive(&mut stream).await.map_err(drop)? {
            Said::OfProxy => None,
            Said::OfClient(client) => Some(client.to_string()),
        };
        Ok((client, stream.len()))
    }

    const ADDRESSES_4: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x1f, 0x90, 0, 80];

    /// Exactly one head is read, in each of its forms, and nothing behind it.
    #[tokio::test]
    async fn heads_name_their_client() {
        let of_4 = [head(OF_CLIENT, TCP_4, &ADDRESSES_4), b"GET".to_vec()].concat();
        assert_eq!(read(&of_4).await, Ok((Some("192.0.2.7:8080".to_owned()), 3)));
        let mut addresses = [0; 36];
        addresses[..16].copy_from_slice(&Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7).octets());
        addresses[33] = 9;
        assert_eq!(read(&head(OF_CLIENT, TCP_6, &addresses)).await, Ok((Some("[2001:db8::7]:9".to_owned()), 0)));
        assert_eq!(read(&head(OF_PROXY, 0, b"")).await, Ok((None, 0)));
        assert_eq!(read(&head(OF_PROXY, 0x31, &[1; 216])).await, Ok((None, 0)));
        let fields = [&ADDRESSES_4[..], &[2, 0, 3], b"abc", &[4, 0, 0]].concat();
        assert_eq!(read(&head(OF_CLIENT, TCP_4, &fields)).await, Ok((Some("192.0.2.7:8080".to_owned()), 0)));
        let mut summed = head(OF_CLIENT, TCP_4, &[&ADDRESSES_4[..], &[SUM, 0, 4, 0, 0, 0, 0]].concat());
        let (sum, at) = (crc32c(&summed).to_be_bytes(), summed.len() - 4);
        summed[at..].copy_from_slice(&sum);
        assert!(read(&summed).await.is_ok());
        summed[18] ^= 1;
        assert!(read(&summed).await.is_err(), "another address has another sum");
        assert_eq!(crc32c(b"123456789"), 0xe306_9283, "the check value of CRC-32C");
    }

    #[tokio::test]
    async fn whatever_is_no_head_is_refused() {
        for bytes in [
            b"PROXY TCP4 192.0.2.7 10.0.0.1 8080 80\r\n".to_vec(),
            b"GET / HTTP/1.1\r\nHost: t.example\r\n\r\n".to_vec(),
            head(0x11, TCP_4, &ADDRESSES_4),
            head(0x22, TCP_4, &ADDRESSES_4),
            head(OF_CLIENT, 0, b""),
            head(OF_CLIENT, 0x12, &ADDRESSES_4),
            head(OF_CLIENT, 0x31, &[0; 216]),
            head(OF_CLIENT, TCP_4, &ADDRESSES_4[..11]),
            head(OF_CLIENT, TCP_6, &ADDRESSES_4),
            head(OF_CLIENT, TCP_4, &[&ADDRESSES_4[..], &[2, 0]].concat()),
            head(OF_CLIENT, TCP_4, &[&ADDRESSES_4[..], &[2, 0, 9, 1]].concat()),
            head(OF_PROXY, 0, &[0; REST_BYTES_MAX + 1]),
            head(OF_CLIENT, TCP_4, &ADDRESSES_4)[..20].to_vec(),
        ] {
            assert_eq!(read(&bytes).await, Err(()), "{bytes:?}");
        }
    }
}
