//! A name server that can be slow, and that can change its mind.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;

/// What it says about a name.
#[derive(Clone, Debug)]
pub enum Name {
    /// These addresses.
    Has(Vec<IpAddr>),
    /// Nothing, ever.
    Silent,
    /// The first address to the first who asks, the second one to all others.
    Turns(IpAddr, IpAddr),
}

/// Serves these names at `address`, and says of all others that they do not exist, until the process ends.
pub fn serve(address: SocketAddr, mut names: HashMap<String, Name>) {
    let socket = UdpSocket::bind(address).unwrap();
    thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut query) {
            if let Some(answer) = answer(&query[..length], &mut names) {
                socket.send_to(&answer, client).unwrap();
            }
        }
    });
}

const A: u16 = 1;
const AAAA: u16 = 28;

/// RFC 1035 section 4.
fn answer(query: &[u8], names: &mut HashMap<String, Name>) -> Option<Vec<u8>> {
    let (name, end) = question(query)?;
    let kind = u16::from_be_bytes([query[end], query[end + 1]]);
    let is_asked = |address: &IpAddr| (kind == A && address.is_ipv4()) || (kind == AAAA && address.is_ipv6());
    let (no_such_name, addresses) = match names.get_mut(&name) {
        None => (3, Vec::new()),
        Some(Name::Silent) => return None,
        Some(Name::Has(addresses)) => (0, addresses.iter().copied().filter(is_asked).collect()),
        Some(entry @ Name::Turns(..)) => {
            let Name::Turns(first, later) = entry.clone() else { return None };
            if kind == A {
                *entry = Name::Has(vec![later]);
            }
            (0, [first].into_iter().filter(is_asked).collect())
        }
    };
    let mut answer = query[..2].to_vec();
    answer.extend([0x81, 0x80 | no_such_name, 0, 1, 0, u8::try_from(addresses.len()).unwrap(), 0, 0, 0, 0]);
    answer.extend(&query[12..end + 4]);
    for address in addresses {
        let octets = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        // The name of the question, the kind, class IN, no time to live.
        answer.extend([0xC0, 12]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 0, 0, u8::try_from(octets.len()).unwrap()]);
        answer.extend(octets);
    }
    Some(answer)
}

/// The name that is asked for, and where its text ends.
fn question(query: &[u8]) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*query.get(at)?);
        if length == 0 {
            return Some((labels.join("."), at + 1));
        }
        labels.push(String::from_utf8_lossy(query.get(at + 1..at + 1 + length)?).to_ascii_lowercase());
        at += 1 + length;
    }
}
