//! Requests to and messages from the `TASKSTATS` family (kernel/taskstats.c).

use super::netlink::{Attributes, Message, NetlinkError, put_request};
use super::taskstats::{TaskDelays, TaskstatsError, taskstats};

/// Name of the generic-netlink family.
pub const FAMILY: &str = "TASKSTATS";
/// `TASKSTATS_CMD_GET`
const GET: u8 = 1;
/// `TASKSTATS_CMD_ATTR_REGISTER_CPUMASK`
const REGISTER: u16 = 3;
/// `TASKSTATS_CMD_ATTR_DEREGISTER_CPUMASK`
const DEREGISTER: u16 = 4;
/// `TASKSTATS_TYPE_PID`
const PID: u16 = 1;
/// `TASKSTATS_TYPE_TGID`
const TGID: u16 = 2;
/// `TASKSTATS_TYPE_STATS`
const STATS: u16 = 3;
/// `TASKSTATS_TYPE_AGGR_PID`
const AGGREGATE_PID: u16 = 4;
/// `TASKSTATS_TYPE_AGGR_TGID`
const AGGREGATE_TGID: u16 = 5;

/// Whom a block describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// One thread.
    Thread,
    /// A whole process, exited threads included.
    Process,
}

/// One block of a reply or an exit message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Thread or process.
    pub about: About,
    /// Its id in the pid namespace of the asker.
    pub id: u32,
    /// The numbers.
    pub delays: TaskDelays,
    /// Bytes of the struct as received.
    pub len: usize,
}

/// Why a message is no taskstats message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The framing.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The struct.
    #[error(transparent)]
    Struct(#[from] TaskstatsError),
    /// No block at all.
    #[error("taskstats message holds no statistics")]
    Empty,
}

/// Appends a question. The kernel answers one attribute a request, so one request a task.
pub fn put_get(out: &mut Vec<u8>, family: u16, seq: u32, about: About, id: u32) {
    // TASKSTATS_CMD_ATTR_PID and _TGID have the numbers of TASKSTATS_TYPE_PID and _TGID.
    let attribute = match about {
        About::Thread => PID,
        About::Process => TGID,
    };
    put_request(out, family, seq, GET, attribute, &id.to_ne_bytes());
}

/// Appends the wish for exit messages of these CPUs (list format, a subset of `/sys/devices/system/cpu/possible`).
/// The kernel drops the last character of a string without NUL, so one is put behind it.
pub fn put_register(out: &mut Vec<u8>, family: u16, seq: u32, cpus: &str) {
    put_request(out, family, seq, GET, REGISTER, &terminated(cpus));
}

/// Appends the wish for no more exit messages.
pub fn put_deregister(out: &mut Vec<u8>, family: u16, seq: u32, cpus: &str) {
    put_request(out, family, seq, GET, DEREGISTER, &terminated(cpus));
}

fn terminated(text: &str) -> Vec<u8> {
    let mut value = text.trim_end().as_bytes().to_vec();
    value.push(0);
    value
}

/// The blocks of one message: one for an answer; for the exit of a group's last thread maybe two.
pub fn blocks<'a>(message: &Message<'a>) -> impl Iterator<Item = Result<Block, MessageError>> + 'a {
    message.attributes().filter_map(|attribute| match attribute {
        Err(error) => Some(Err(error.into())),
        Ok(attribute) => match attribute.kind {
            AGGREGATE_PID => Some(block(About::Thread, attribute.nested())),
            AGGREGATE_TGID => Some(block(About::Process, attribute.nested())),
            _ => None,
        },
    })
}

/// The block of an answer.
pub fn answer(message: &Message<'_>) -> Result<Block, MessageError> {
    blocks(message).next().unwrap_or(Err(MessageError::Empty))
}

/// Walks by type, not by place: CPUs without fast unaligned access get a padding attribute before the struct.
fn block(about: About, attributes: Attributes<'_>) -> Result<Block, MessageError> {
    let wanted = match about {
        About::Thread => PID,
        About::Process => TGID,
    };
    let (mut id, mut stats) = (None, None);
    for attribute in attributes {
        let attribute = attribute?;
        if attribute.kind == wanted {
            id = Some(attribute.number32()?);
        } else if attribute.kind == STATS {
            stats = Some(attribute.value);
        }
    }
    let id = id.ok_or(NetlinkError::Missing(wanted))?;
    let stats = stats.ok_or(NetlinkError::Missing(STATS))?;
    Ok(Block { about, id, delays: taskstats(stats)?, len: stats.len() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::model::DelayKind;

    use super::super::netlink::messages;
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&(u16::try_from(value.len() + 4).unwrap()).to_ne_bytes());
        out.extend_from_slice(&kind.to_ne_bytes());
        out.extend_from_slice(value);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    fn stats(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        bytes[..2].copy_from_slice(&16_u16.to_ne_bytes());
        bytes[24..32].copy_from_slice(&77_u64.to_ne_bytes());
        bytes
    }

    fn message(attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut payload = vec![2, 1, 0, 0];
        payload.extend(attributes.concat());
        let mut out = Vec::new();
        out.extend_from_slice(&(u32::try_from(payload.len() + 16).unwrap()).to_ne_bytes());
        out.extend_from_slice(&31_u16.to_ne_bytes());
        out.extend_from_slice(&[0; 10]);
        out.extend(payload);
        out
    }

    /// Whom a block is about, its id and its CPU delay.
    type Seen = (About, u32, Option<u64>);

    fn read(bytes: &[u8]) -> Vec<Result<Seen, MessageError>> {
        let message = messages(bytes).next().unwrap().unwrap();
        blocks(&message).map(|b| b.map(|b| (b.about, b.id, b.delays.delay_ns.get(DelayKind::Cpu)))).collect()
    }

    #[test]
    fn an_answer_about_a_process() {
        let nest = [attribute(2, &9_u32.to_ne_bytes()), attribute(3, &stats(560))].concat();
        let bytes = message(&[attribute(5, &nest)]);
        assert_eq!(bytes.len(), 596, "as measured for version 16");
        assert_eq!(read(&bytes), [Ok((About::Process, 9, Some(77)))]);
    }

    #[test]
    fn a_flag_in_the_type_and_a_padding_attribute_change_nothing() {
        let nest = [attribute(1, &9_u32.to_ne_bytes()), attribute(6, &[]), attribute(3, &stats(416)), attribute(9, b"new")].concat();
        assert_eq!(read(&message(&[attribute(4 | 0x8000, &nest)])), [Ok((About::Thread, 9, Some(77)))]);
    }

    #[test]
    fn the_last_thread_of_a_group_brings_two_blocks() {
        let thread = [attribute(1, &9_u32.to_ne_bytes()), attribute(3, &stats(560))].concat();
        let group = [attribute(2, &8_u32.to_ne_bytes()), attribute(3, &stats(560))].concat();
        let bytes = message(&[attribute(4, &thread), attribute(5, &group)]);
        assert_eq!(bytes.len(), 1172, "as measured for version 16");
        assert_eq!(read(&bytes), [Ok((About::Thread, 9, Some(77))), Ok((About::Process, 8, Some(77)))]);
    }

    #[test]
    fn what_lacks_is_named() {
        fn check(nest: &[Vec<u8>], expected: MessageError) {
            assert_eq!(read(&message(&[attribute(5, &nest.concat())])), [Err(expected)]);
        }
        check(&[], NetlinkError::Missing(2).into());
        check(&[attribute(2, &[1])], NetlinkError::Short(2).into());
        check(&[attribute(2, &9_u32.to_ne_bytes())], NetlinkError::Missing(3).into());
        check(&[attribute(2, &9_u32.to_ne_bytes()), attribute(3, &[1])], TaskstatsError::TooShort(1).into());
        let empty = message(&[]);
        let only = messages(&empty).next().unwrap().unwrap();
        assert_eq!(answer(&only), Err(MessageError::Empty));
    }

    #[test]
    fn requests_carry_what_the_kernel_reads() {
        let mut out = Vec::new();
        put_get(&mut out, 31, 1, About::Process, 4242);
        put_get(&mut out, 31, 2, About::Thread, 4243);
        put_register(&mut out, 31, 3, "0-1\n");
        put_deregister(&mut out, 31, 4, "0-1");
        let got: Vec<_> = messages(&out).map(|m| m.unwrap().attributes().next().unwrap().unwrap()).map(|a| (a.kind, a.value)).collect();
        assert_eq!(got, [(2, &4242_u32.to_ne_bytes()[..]), (1, &4243_u32.to_ne_bytes()[..]), (3, b"0-1\0"), (4, b"0-1\0")]);
    }

    proptest! {
        #[test]
        fn damaged_messages_never_panic(at in prop_oneof![0usize..40, 592usize..620], byte in any::<u8>(), cut in prop_oneof![Just(1172), 0usize..1172]) {
            let thread = [attribute(1, &9_u32.to_ne_bytes()), attribute(3, &stats(560))].concat();
            let group = [attribute(2, &8_u32.to_ne_bytes()), attribute(3, &stats(560))].concat();
            let mut bytes = message(&[attribute(4, &thread), attribute(5, &group)]);
            bytes[at] = byte;
            bytes.truncate(cut);
            for message in messages(&bytes).flatten() {
                let _ = (blocks(&message).count(), answer(&message).is_ok());
            }
        }
    }
}
