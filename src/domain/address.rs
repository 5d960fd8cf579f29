//! Peers as they are counted against limits.
//!
//! An IPv6 customer line gets a /56 (RFC 6177) and chooses freely within it: counting single addresses would count
//! nothing. Knows no limits.

use std::net::{IpAddr, Ipv6Addr};

/// The address that stands for all of one peer: an IPv6 one cut to its /56, an IPv4-mapped one as IPv4.
pub fn line_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 72))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
