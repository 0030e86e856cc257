//! Events about processes, as the kernel's process connector tells them (include/uapi/linux/{connector,cn_proc}.h,
//! drivers/connector/cn_proc.c). Native endian, not aligned.

use super::netlink::{Message, array};

/// `CN_IDX_PROC` and `CN_VAL_PROC`.
const CHANNEL: u32 = 1;
/// Multicast group of the connector's processes.
pub const GROUP: u32 = 1;
/// `NLMSG_DONE`: what the connector puts into every header.
const DONE: u16 = 3;
/// `struct nlmsghdr`
const HEADER: usize = 16;
/// `struct cn_msg` up to its data.
const CONNECTOR: usize = 20;
/// `struct proc_event` up to what each event has of its own.
const EVENT: usize = 16;
/// `PROC_CN_MCAST_LISTEN`
const LISTEN: u32 = 1;
/// `PROC_CN_MCAST_IGNORE`
const IGNORE: u32 = 2;
/// `PROC_EVENT_NONE`: the answer to a wish.
const ANSWER: u32 = 0;
/// `PROC_EVENT_FORK`
const FORK: u32 = 1;
/// `PROC_EVENT_EXEC`
const EXEC: u32 = 2;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcEvent {
    /// The kernel took a wish, or refused it with this error number.
    Answer(u32),
    /// A process was born (threads are left out).
    Born {
        /// Its id.
        pid: u32,
        /// Process of its parent: who made it, but for `CLONE_PARENT`.
        parent: u32,
        /// When, on the monotonic clock, ns: a little after its start time.
        at_ns: u64,
    },
    /// A process runs another program from now on.
    Exec {
        /// Its id.
        pid: u32,
    },
}

/// The event in a message; `None` where it is none of those wanted.
#[must_use]
pub fn proc_event(message: &Message<'_>) -> Option<ProcEvent> {
    let word = |at| array(message.payload, at).map(u32::from_ne_bytes);
    if message.kind != DONE || word(0)? != CHANNEL || word(4)? != CHANNEL {
        return None;
    }
    let of = |number: usize| word(CONNECTOR + EVENT + 4 * number);
    match word(CONNECTOR)? {
        ANSWER => of(0).map(ProcEvent::Answer),
        FORK => {
            let (parent, child, pid) = (of(1)?, of(2)?, of(3)?);
            let at_ns = array(message.payload, CONNECTOR + 8).map(u64::from_ne_bytes)?;
            (child == pid).then_some(ProcEvent::Born { pid, parent, at_ns })
        }
        EXEC => of(1).map(|pid| ProcEvent::Exec { pid }),
        _ => None,
    }
}

/// The wish to be told of events, in two forms to be sent one after the other: kernels before 6.6 know the first alone and
/// tell everything, later ones take the second as well and leave out what is not wanted here.
#[must_use]
pub fn listen() -> [Vec<u8>; 2] {
    let mut narrowed = LISTEN.to_ne_bytes().to_vec();
    narrowed.extend_from_slice(&(FORK | EXEC).to_ne_bytes());
    [framed(&LISTEN.to_ne_bytes()), framed(&narrowed)]
}

/// The wish to be told no more. Before 6.6 the kernel goes on making events for whoever closes without it.
#[must_use]
pub fn ignore() -> Vec<u8> {
    framed(&IGNORE.to_ne_bytes())
}

fn framed(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + CONNECTOR + data.len());
    let (Ok(len), Ok(total)) = (u16::try_from(data.len()), u32::try_from(HEADER + CONNECTOR + data.len())) else { return out };
    out.extend_from_slice(&total.to_ne_bytes());
    out.extend_from_slice(&DONE.to_ne_bytes());
    out.extend_from_slice(&[0; 10]);
    for word in [CHANNEL, CHANNEL, 0, 0] {
        out.extend_from_slice(&word.to_ne_bytes());
    }
    out.extend_from_slice(&len.to_ne_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(data);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::parse::netlink::messages;

    fn event(what: u32, own: &[u32]) -> Vec<u8> {
        let mut data = what.to_ne_bytes().to_vec();
        data.extend_from_slice(&3_u32.to_ne_bytes());
        data.extend_from_slice(&77_u64.to_ne_bytes());
        for word in own {
            data.extend_from_slice(&word.to_ne_bytes());
        }
        data.resize(40, 0);
        framed(&data)
    }

    fn read(bytes: &[u8]) -> Option<ProcEvent> {
        messages(bytes).next()?.ok().as_ref().and_then(proc_event)
    }

    #[test]
    fn births_of_processes_and_new_programs_are_told() {
        assert_eq!(event(FORK, &[]).len(), 76, "as on this kernel");
        assert_eq!(read(&event(FORK, &[5, 4, 9, 9])), Some(ProcEvent::Born { pid: 9, parent: 4, at_ns: 77 }));
        assert_eq!(read(&event(FORK, &[5, 4, 10, 9])), None, "a thread");
        assert_eq!(read(&event(EXEC, &[11, 9])), Some(ProcEvent::Exec { pid: 9 }));
        assert_eq!(read(&event(ANSWER, &[1])), Some(ProcEvent::Answer(1)));
        assert_eq!(read(&event(0x8000_0000, &[9, 9, 0])), None);
    }

    #[test]
    fn other_channels_are_not_read() {
        let mut bytes = event(EXEC, &[11, 9]);
        bytes[HEADER] = 2;
        assert_eq!(read(&bytes), None);
    }

    #[test]
    fn wishes_have_the_lengths_the_kernel_asks_for() {
        let length = |wish: &[u8]| messages(wish).next().unwrap().unwrap().payload.len();
        assert_eq!(listen().map(|wish| length(&wish)), [CONNECTOR + 4, CONNECTOR + 8]);
        assert_eq!(length(&ignore()), CONNECTOR + 4);
    }

    proptest! {
        #[test]
        fn any_bytes_are_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..100), cut in 0..76_usize) {
            let _any = read(&bytes);
            let _cut = read(&event(FORK, &[5, 4, 9, 9])[..cut]);
        }
    }
}
