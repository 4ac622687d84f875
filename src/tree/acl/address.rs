//! Ids of scheme `ip`: one address, or all that begin with the same bits.
//!
//! ZooKeeper: `IPAuthenticationProvider` (with IPv6, as from 3.9.4 on).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether `address` lies in `network` (`10.0.0.1`, `10.0.0.0/8`): of one family, equal in the network's bits.
pub(super) fn matches(network: &str, address: &str) -> bool {
    let Some((network, bits)) = parse_network(network) else {
        return false;
    };
    let Some(address) = parse_address(address) else {
        return false;
    };
    let mask = |address: u128| if bits == 0 { 0 } else { address >> (128 - bits) };
    network.bytes == address.bytes && mask(network.value) == mask(address.value)
}

/// Whether `text` is an address, or an address and a number of bits.
pub(super) fn is_valid(text: &str) -> bool {
    parse_network(text).is_some()
}

/// The text of a client's address in its id, as Java writes it: all eight groups of an IPv6 address; an IPv4 address
/// inside of one is an IPv4 address.
pub fn address_text(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => address.segments().map(|group| format!("{group:x}")).join(":"),
    }
}

struct Address {
    /// In the topmost bits.
    value: u128,
    /// 4 or 16.
    bytes: u32,
}

fn parse_address(text: &str) -> Option<Address> {
    if text.contains(':') {
        let address: Ipv6Addr = text.parse().ok()?;
        return Some(Address { value: address.into(), bytes: 16 });
    }
    // Not std's parser, which refuses leading zeros.
    let mut bytes = [0; 4];
    let mut parts = text.split('.');
    for byte in &mut bytes {
        *byte = parts.next()?.parse().ok()?;
    }
    let value = u128::from(u32::from(Ipv4Addr::from(bytes))) << 96;
    parts.next().is_none().then_some(Address { value, bytes: 4 })
}

/// An address and the bits of it that count: those behind the slash, or all.
fn parse_network(text: &str) -> Option<(Address, u32)> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (parse_address(address)?, Some(bits.parse().ok()?)),
        None => (parse_address(text)?, None),
    };
    let all = address.bytes * 8;
    let bits = bits.unwrap_or(all);
    (bits <= all).then_some((address, bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_match_by_the_bits_of_the_network_within_a_family() {
        for (network, address, expected) in [
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("10.0.0.0/8", "10.200.3.4", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.0.128.0/17", "10.0.255.1", true),
            ("10.0.128.0/17", "10.0.127.1", false),
            ("10.1.2.3/0", "99.9.9.9", true),
            ("10.1.2.3/32", "10.1.2.3", true),
            ("::1", "0:0:0:0:0:0:0:1", true),
            ("fe80::/10", "fe80:0:0:0:0:0:0:1", true),
            ("fe80::/10", "fec0:0:0:0:0:0:0:1", false),
            ("::/0", "1.2.3.4", false),
            ("0.0.0.0/0", "0:0:0:0:0:0:0:1", false),
            ("nonsense", "127.0.0.1", false),
            ("127.0.0.1", "nonsense", false),
        ] {
            assert_eq!(matches(network, address), expected, "{network} {address}");
        }
    }

    #[test]
    fn networks_have_no_more_bits_than_their_addresses() {
        for (text, expected) in [
            ("10.0.0.1", true),
            ("010.0.0.1", true),
            ("10.0.0.1/32", true),
            ("10.0.0.1/33", false),
            ("10.0.0.1/-1", false),
            ("10.0.0.1/", false),
            ("10.0.0", false),
            ("10.0.0.1.2", false),
            ("10.0.0.256", false),
            ("::1/128", true),
            ("::1/129", false),
            ("", false),
        ] {
            assert_eq!(is_valid(text), expected, "{text}");
        }
    }

    #[test]
    fn addresses_are_written_as_java_writes_them() {
        for (address, text) in
            [("10.0.0.1", "10.0.0.1"), ("::ffff:10.0.0.1", "10.0.0.1"), ("fe80::1", "fe80:0:0:0:0:0:0:1")]
        {
            assert_eq!(address_text(address.parse().unwrap()), text);
        }
    }
}
