//! `NETLINK_SOCK_DIAG`: the question for one TCP socket by its two addresses, and the answer
//! (include/uapi/linux/{sock_diag,inet_diag}.h). Numbers in native order, ports and addresses in network order.

use std::net::{IpAddr, SocketAddr};

use super::netlink::{Message, array};

/// `SOCK_DIAG_BY_FAMILY`
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST`
const REQUEST: u16 = 1;
const IPPROTO_TCP: u8 = 6;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// `TCP_LISTEN` (include/net/tcp_states.h)
const LISTEN: u8 = 10;
/// `struct nlmsghdr` and `struct inet_diag_req_v2`
const QUESTION: usize = 16 + 56;
/// Offset of `struct inet_diag_sockid` in `struct inet_diag_msg`, and its length up to the interface.
const ID: usize = 4;
const ADDRESSES: usize = 36;
/// Offset of `idiag_inode` in `struct inet_diag_msg`.
const INODE: usize = 68;

/// The question for the socket that is bound to `own` and connected to `other`. Empty where the two are not of one family.
#[must_use]
pub fn question(seq: u32, own: SocketAddr, other: SocketAddr) -> Vec<u8> {
    let Some(addresses) = addresses(own, other) else { return Vec::new() };
    let mut out = Vec::with_capacity(QUESTION);
    out.extend(u32::try_from(QUESTION).unwrap_or(0).to_ne_bytes());
    out.extend(BY_FAMILY.to_ne_bytes());
    out.extend(REQUEST.to_ne_bytes());
    out.extend(seq.to_ne_bytes());
    out.extend(0_u32.to_ne_bytes());
    // No extensions, every state.
    out.extend([if own.ip().to_canonical().is_ipv4() { AF_INET } else { AF_INET6 }, IPPROTO_TCP, 0, 0]);
    out.extend(u32::MAX.to_ne_bytes());
    out.extend(addresses);
    // Any interface; `INET_DIAG_NOCOOKIE`.
    out.extend(0_u32.to_ne_bytes());
    out.extend([0xff; 8]);
    out
}

/// Inode of the socket asked for; `None` where the answer is about none, or another: a question that fits no connection is
/// answered with whoever listens there (net/ipv4/inet_diag.c `inet_diag_find_one_icsk`).
#[must_use]
pub fn inode(answer: &Message<'_>, own: SocketAddr, other: SocketAddr) -> Option<u64> {
    let [_family, state, ..] = answer.payload else { return None };
    let same = answer.payload.get(ID..)?.get(..ADDRESSES)? == addresses(own, other)?;
    let inode = u64::from(u32::from_ne_bytes(array(answer.payload, INODE)?));
    // A socket that no process holds any more has inode 0.
    (answer.kind == BY_FAMILY && *state != LISTEN && same && inode != 0).then_some(inode)
}

/// Both ports, both addresses.
fn addresses(own: SocketAddr, other: SocketAddr) -> Option<[u8; ADDRESSES]> {
    let mut out = [0; ADDRESSES];
    let (ports, addresses) = out.split_at_mut(4);
    ports.copy_from_slice(&[own.port().to_be_bytes(), other.port().to_be_bytes()].concat());
    let (first, second) = addresses.split_at_mut(16);
    match (own.ip().to_canonical(), other.ip().to_canonical()) {
        (IpAddr::V4(own), IpAddr::V4(other)) => {
            first.get_mut(..4)?.copy_from_slice(&own.octets());
            second.get_mut(..4)?.copy_from_slice(&other.octets());
        }
        (IpAddr::V6(own), IpAddr::V6(other)) => {
            first.copy_from_slice(&own.octets());
            second.copy_from_slice(&other.octets());
        }
        _ => return None,
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::parse::netlink::messages;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// What a kernel answers about a socket.
    fn answer(own: SocketAddr, other: SocketAddr, state: u8, inode: u32) -> Vec<u8> {
        let mut payload = vec![AF_INET, state, 0, 0];
        payload.extend(addresses(own, other).unwrap());
        payload.resize(INODE, 0);
        payload.extend(inode.to_ne_bytes());
        let mut out = u32::try_from(16 + payload.len()).unwrap().to_ne_bytes().to_vec();
        out.extend(BY_FAMILY.to_ne_bytes());
        out.extend([0; 10]);
        out.extend(payload);
        out
    }

    fn read(bytes: &[u8], own: SocketAddr, other: SocketAddr) -> Option<u64> {
        inode(&messages(bytes).next()?.ok()?, own, other)
    }

    #[test]
    fn only_the_very_connection_has_an_owner() {
        let (own, other) = (at("127.0.0.1:4000"), at("127.0.0.1:4317"));
        for (bytes, expected) in [
            (answer(own, other, 1, 77), Some(77)),
            (answer(own, other, 8, 77), Some(77)),
            (answer(own, other, LISTEN, 77), None),
            (answer(own, other, 1, 0), None),
            (answer(other, own, 1, 77), None),
            (answer(own, at("127.0.0.1:0"), 1, 77), None),
            (answer(own, other, 1, 77).split_at(60).0.to_vec(), None),
            (Vec::new(), None),
        ] {
            assert_eq!(read(&bytes, own, other), expected);
        }
    }

    #[test]
    fn a_question_is_of_one_family_and_72_bytes() {
        for (own, other, family) in [
            ("127.0.0.1:1", "127.0.0.1:2", Some(AF_INET)),
            ("[::1]:1", "[::1]:2", Some(AF_INET6)),
            ("[::ffff:10.0.0.1]:1", "10.0.0.2:2", Some(AF_INET)),
            ("[::1]:1", "127.0.0.1:2", None),
        ] {
            let question = question(1, at(own), at(other));
            assert_eq!((question.len(), question.get(16).copied()), (if family.is_some() { QUESTION } else { 0 }, family), "{own}");
        }
    }

    proptest! {
        #[test]
        fn bytes_of_any_kind_are_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            for message in messages(&bytes).map_while(Result::ok) {
                let _ = inode(&message, at("127.0.0.1:1"), at("127.0.0.1:2"));
            }
        }
    }
}
