//! Peers as they are counted against limits, and networks of them.
//!
//! An IPv6 customer line gets a /56 (RFC 6177) and chooses freely within it: counting single addresses would count
//! nothing. Knows no limits.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The address that stands for all of one peer: an IPv6 one cut to its /56, an IPv4-mapped one as IPv4.
pub fn line_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 72))),
    }
}

/// The network that stands for many lines at once, where there are too many to tell apart: a /16 of IPv4, a /32 of IPv6, which is
/// what one provider gets.
pub fn wide_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & (u32::MAX << 16))),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 96))),
    }
}

/// A range of addresses: `10.0.0.0/8`, `fd00::/8`, or one address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    base: IpAddr,
    /// Leading bits that count.
    bits: u32,
}

impl Network {
    /// Reads the usual form; bits of the address behind the prefix do not matter.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let base = address.parse::<IpAddr>().ok()?.to_canonical();
        let all = if base.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => all,
            Some(bits) => bits.parse().ok().filter(|b| *b <= all && bits.bytes().all(|b| b.is_ascii_digit()))?,
        };
        Some(Self { base, bits })
    }

    /// Whether the address is one of them; an IPv4-mapped one counts as IPv4.
    pub fn contains(self, address: IpAddr) -> bool {
        match (self.base, address.to_canonical()) {
            (IpAddr::V4(base), IpAddr::V4(other)) => (base.to_bits() ^ other.to_bits()).leading_zeros() >= self.bits,
            (IpAddr::V6(base), IpAddr::V6(other)) => (base.to_bits() ^ other.to_bits()).leading_zeros() >= self.bits,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_an_address_and_how_much_of_it_counts() {
        let check = |network: &str, address: &str, expected: bool| {
            let network = Network::parse(network).expect("is a network");
            assert_eq!(network.contains(address.parse().expect("is an address")), expected, "{network:?} {address}");
        };
        check("10.0.0.0/8", "10.255.1.2", true);
        check("10.0.0.0/8", "11.0.0.1", false);
        check("10.1.2.3", "10.1.2.3", true);
        check("10.1.2.3", "10.1.2.4", false);
        check("0.0.0.0/0", "1.2.3.4", true);
        check("0.0.0.0/0", "::1", false);
        check("127.0.0.0/8", "::ffff:127.0.0.1", true);
        check("fd00::/8", "fdff::1", true);
        check("::1", "::1", true);
        for bad in ["", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0/8", "x", "10.0.0.0/", "10.0.0.0/+8", "::/129"] {
            assert_eq!(Network::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn ipv6_neighbours_are_one_peer_and_mapped_ipv4_is_ipv4() {
        let check = |a: &str, b: &str, same: bool| {
            let [a, b] = [a, b].map(|text| line_of(text.parse().expect("is an address")));
            assert_eq!(a == b, same, "{a} {b}");
        };
        check("2001:db8:0:1::1", "2001:db8:0:2::9", true);
        check("2001:db8:0:100::1", "2001:db8:0:200::1", false);
        check("::ffff:10.0.0.1", "10.0.0.1", true);
        check("10.0.0.1", "10.0.0.2", false);
    }

    #[test]
    fn many_lines_are_one_network() {
        let check = |a: &str, b: &str, same: bool| {
            let [a, b] = [a, b].map(|text| wide_of(text.parse().expect("is an address")));
            assert_eq!(a == b, same, "{a} {b}");
        };
        check("10.1.2.3", "10.1.200.3", true);
        check("10.1.2.3", "10.2.2.3", false);
        check("::ffff:10.1.0.1", "10.1.2.3", true);
        check("2001:db8:1::1", "2001:db8:ffff::1", true);
        check("2001:db8::1", "2001:db9::1", false);
    }
}
