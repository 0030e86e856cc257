//! The property of the check: accepted exactly where a second, independent reader accepts; never a panic.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::message::request;
use super::{Node, oracle, settings};
use crate::enrich::{apply, scan};
use crate::model::Peer;

#[derive(Clone, Debug)]
enum Damage {
    Set(Index, u8),
    FlipBit(Index, u8),
    Truncate(Index),
    Remove(Index),
    Insert(Index, Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    let telling = proptest::sample::select(&[0x00_u8, 0x01, 0x02, 0x03, 0x04, 0x06, 0x07, 0x0a, 0x0b, 0x0c, 0x12, 0x7f, 0x80, 0xff][..]);
    prop_oneof![
        (any::<Index>(), telling).prop_map(|(at, byte)| Damage::Set(at, byte)),
        (any::<Index>(), 0_u8..8).prop_map(|(at, bit)| Damage::FlipBit(at, bit)),
        any::<Index>().prop_map(Damage::Truncate),
        any::<Index>().prop_map(Damage::Remove),
        (any::<Index>(), vec(any::<u8>(), 1..12)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
    ]
}

fn damaged(mut bytes: Vec<u8>, damages: &[Damage]) -> Vec<u8> {
    for damage in damages {
        if bytes.is_empty() {
            break;
        }
        match damage {
            Damage::Set(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Damage::FlipBit(at, bit) => {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
            Damage::Truncate(at) => bytes.truncate(at.index(bytes.len())),
            Damage::Remove(at) => {
                bytes.remove(at.index(bytes.len()));
            }
            Damage::Insert(at, more) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, more.iter().copied());
            }
        }
    }
    bytes
}

fn check_agreement(bytes: Vec<u8>) -> Result<(), TestCaseError> {
    let (settings, node) = (settings(), Node::new());
    let accepted = oracle::accepts(&bytes);
    match scan(Bytes::from(bytes.clone()), Peer::default(), &settings) {
        Ok(scan) => {
            prop_assert!(accepted, "accepted what the other reader refuses: {:02x?}", bytes);
            let left = apply(&scan, &scan.identify(&node), &node, &settings);
            prop_assert!(oracle::accepts(&left.body));
        }
        Err(refused) => {
            prop_assert!(!accepted, "{} but the other reader accepts: {:02x?}", refused, bytes);
            prop_assert!(refused.offset < bytes.len().max(1));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn what_parses_is_accepted_and_nothing_else(bytes in request(), damages in vec(damage(), 0..4)) {
        check_agreement(damaged(bytes, &damages))?;
    }

    #[test]
    fn bytes_of_any_kind_are_no_panic(bytes in vec(prop_oneof![Just(0x0a_u8), Just(0x12), Just(0x0b), Just(0x0c), 0_u8..16, any::<u8>()], 0..40)) {
        check_agreement(bytes)?;
    }
}
