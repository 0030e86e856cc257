//! Netlink and generic-netlink framing over byte slices (include/uapi/linux/{netlink,genetlink}.h). Native endian.
//! Nothing here assumes alignment: a payload starts 36 bytes into its datagram.

/// `NLMSG_ERROR`
const ERROR: u16 = 2;
/// `NLM_F_REQUEST`
const REQUEST: u16 = 1;
/// `struct nlmsghdr`
const HEADER: usize = 16;
/// `struct genlmsghdr`
const GENERIC_HEADER: usize = 4;
/// `struct nlattr`
const ATTRIBUTE_HEADER: usize = 4;
/// `NLA_TYPE_MASK`: the two upper bits are flags (nested, byte order), set by some senders and not by others.
const TYPE_MASK: u16 = 0x3fff;
/// `GENL_ID_CTRL`: the family that resolves families.
const CONTROLLER: u16 = 16;
/// `CTRL_CMD_GETFAMILY`
const GET_FAMILY: u8 = 3;
/// `CTRL_ATTR_FAMILY_ID`
const FAMILY_ID: u16 = 1;
/// `CTRL_ATTR_FAMILY_NAME`
const FAMILY_NAME: u16 = 2;

/// Why bytes are no netlink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetlinkError {
    /// A length field that points past the end or into the header.
    #[error("netlink length field does not fit the bytes received")]
    BadLength,
    /// An attribute is missing.
    #[error("netlink reply lacks attribute {0}")]
    Missing(u16),
    /// An attribute is shorter than its type.
    #[error("netlink attribute {0} is too short")]
    Short(u16),
}

/// One message of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Message type: a family id, or a control type.
    pub kind: u16,
    /// Sequence number: that of the request it answers.
    pub seq: u32,
    /// What follows the header.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// For `NLMSG_ERROR`: the error number, positive; 0 is an acknowledgement.
    #[must_use]
    pub fn error(&self) -> Option<i32> {
        if self.kind != ERROR {
            return None;
        }
        Some(i32::from_ne_bytes(array(self.payload, 0)?).saturating_neg())
    }

    /// For a generic-netlink message: the bytes of its attributes.
    #[must_use]
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes { rest: self.payload.get(GENERIC_HEADER..).unwrap_or_default() }
    }
}

/// The messages of one datagram.
#[must_use]
pub const fn messages(datagram: &[u8]) -> Messages<'_> {
    Messages { rest: datagram }
}

/// See [`messages`]. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, NetlinkError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let item = self.take();
        if item.is_none() {
            self.rest = &[];
        }
        Some(item.ok_or(NetlinkError::BadLength))
    }
}

impl<'a> Messages<'a> {
    fn take(&mut self) -> Option<Message<'a>> {
        let len = usize::try_from(u32::from_ne_bytes(array(self.rest, 0)?)).ok()?;
        let kind = u16::from_ne_bytes(array(self.rest, 4)?);
        let seq = u32::from_ne_bytes(array(self.rest, 8)?);
        let payload = self.rest.get(HEADER..len)?;
        self.rest = self.rest.get(aligned(len)..).unwrap_or_default();
        Some(Message { kind, seq, payload })
    }
}

/// One attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Type, flags taken off.
    pub kind: u16,
    /// Value.
    pub value: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// The attributes inside this one. Generic netlink often nests without saying so in the type.
    #[must_use]
    pub const fn nested(&self) -> Attributes<'a> {
        Attributes { rest: self.value }
    }

    /// The value as a 32-bit number.
    pub fn number32(&self) -> Result<u32, NetlinkError> {
        array(self.value, 0).map(u32::from_ne_bytes).ok_or(NetlinkError::Short(self.kind))
    }
}

/// A run of attributes. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, NetlinkError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let item = self.take();
        if item.is_none() {
            self.rest = &[];
        }
        Some(item.ok_or(NetlinkError::BadLength))
    }
}

impl<'a> Attributes<'a> {
    fn take(&mut self) -> Option<Attribute<'a>> {
        let len = usize::from(u16::from_ne_bytes(array(self.rest, 0)?));
        let kind = u16::from_ne_bytes(array(self.rest, 2)?) & TYPE_MASK;
        let value = self.rest.get(ATTRIBUTE_HEADER..len)?;
        self.rest = self.rest.get(aligned(len)..).unwrap_or_default();
        Some(Attribute { kind, value })
    }
}

/// Appends one generic-netlink request with one attribute.
pub fn put_request(out: &mut Vec<u8>, family: u16, seq: u32, command: u8, attribute: u16, value: &[u8]) {
    let attribute_len = ATTRIBUTE_HEADER.saturating_add(value.len());
    let len = HEADER + GENERIC_HEADER + aligned(attribute_len);
    let start = out.len();
    // Callers send values of a few bytes; what cannot be told in a length field is not sent at all.
    let (Ok(len32), Ok(attribute_len)) = (u32::try_from(len), u16::try_from(attribute_len)) else { return };
    out.extend_from_slice(&len32.to_ne_bytes());
    out.extend_from_slice(&family.to_ne_bytes());
    out.extend_from_slice(&REQUEST.to_ne_bytes());
    out.extend_from_slice(&seq.to_ne_bytes());
    out.extend_from_slice(&0_u32.to_ne_bytes());
    out.extend_from_slice(&[command, 1, 0, 0]);
    out.extend_from_slice(&attribute_len.to_ne_bytes());
    out.extend_from_slice(&attribute.to_ne_bytes());
    out.extend_from_slice(value);
    out.resize(start.saturating_add(len), 0);
}

/// Appends the question for a family's number. `name` without the terminating NUL.
pub fn put_family_request(out: &mut Vec<u8>, seq: u32, name: &str) {
    let mut value = name.as_bytes().to_vec();
    value.push(0);
    put_request(out, CONTROLLER, seq, GET_FAMILY, FAMILY_NAME, &value);
}

/// The family number in the answer.
pub fn family_id(message: &Message<'_>) -> Result<u16, NetlinkError> {
    for attribute in message.attributes() {
        let attribute = attribute?;
        if attribute.kind == FAMILY_ID {
            return array(attribute.value, 0).map(u16::from_ne_bytes).ok_or(NetlinkError::Short(FAMILY_ID));
        }
    }
    Err(NetlinkError::Missing(FAMILY_ID))
}

/// `N` bytes at an offset.
pub(super) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// `NLMSG_ALIGN`, `NLA_ALIGN`
const fn aligned(len: usize) -> usize {
    len.saturating_add(3) & !3
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_is_laid_out_as_the_kernel_wants_it() {
        let mut out = Vec::new();
        put_request(&mut out, 31, 7, 1, 2, &4242_u32.to_ne_bytes());
        assert_eq!(out.len(), 28);
        let message = messages(&out).next().unwrap().unwrap();
        assert_eq!((message.kind, message.seq, message.payload.len()), (31, 7, 12));
        assert_eq!(message.payload[..2], [1, 1]);
        let attribute = message.attributes().next().unwrap().unwrap();
        assert_eq!((attribute.kind, attribute.number32()), (2, Ok(4242)));
    }

    #[test]
    fn the_family_question_ends_its_name_with_nul_and_pads() {
        let mut out = Vec::new();
        put_family_request(&mut out, 1, "TASKSTATS");
        assert_eq!(out.len(), 16 + 4 + 4 + 12);
        let message = messages(&out).next().unwrap().unwrap();
        assert_eq!(message.attributes().next().unwrap().unwrap().value, b"TASKSTATS\0");
    }

    #[test]
    fn a_family_answer_yields_its_number_or_says_what_lacks() {
        fn check(kind: u16, value: &[u8], expected: Result<u16, NetlinkError>) {
            let mut out = Vec::new();
            put_request(&mut out, 16, 1, 1, kind, value);
            let message = messages(&out).next().unwrap().unwrap();
            assert_eq!(family_id(&message), expected);
        }
        check(1, &31_u16.to_ne_bytes(), Ok(31));
        check(1, &[1], Err(NetlinkError::Short(1)));
        check(2, b"TASKSTATS\0", Err(NetlinkError::Missing(1)));
    }

    #[test]
    fn an_error_message_yields_its_positive_number() {
        fn check(payload: &[u8], expected: Option<i32>) {
            assert_eq!(Message { kind: 2, seq: 1, payload }.error(), expected);
        }
        check(&(-3_i32).to_ne_bytes(), Some(3));
        check(&0_i32.to_ne_bytes(), Some(0));
        check(&i32::MIN.to_ne_bytes(), Some(i32::MAX));
        check(&[1, 2], None);
        assert_eq!(Message { kind: 31, seq: 1, payload: &[0; 8] }.error(), None);
    }

    #[test]
    fn several_messages_share_a_datagram() {
        let mut out = Vec::new();
        for seq in 0..3 {
            put_request(&mut out, 31, seq, 1, 2, b"abcde");
        }
        let seqs: Vec<_> = messages(&out).map(|m| m.unwrap().seq).collect();
        assert_eq!(seqs, [0, 1, 2]);
    }

    #[test]
    fn lengths_that_lie_end_the_walk() {
        fn check(len: u32) {
            let mut out = Vec::new();
            put_request(&mut out, 31, 1, 1, 2, b"abcd");
            out[..4].copy_from_slice(&len.to_ne_bytes());
            let got: Vec<_> = messages(&out).collect();
            assert_eq!(got, [Err(NetlinkError::BadLength)], "{len}");
        }
        check(0);
        check(15);
        check(29);
        check(u32::MAX);
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic_and_always_end(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200), len in 0u32..220, inner in 0u16..220) {
            if bytes.len() > 24 {
                bytes[..4].copy_from_slice(&len.to_ne_bytes());
                bytes[20..22].copy_from_slice(&inner.to_ne_bytes());
            }
            let mut steps = 0;
            for message in messages(&bytes) {
                steps += 1;
                let Ok(message) = message else { continue };
                let _ = (message.error(), family_id(&message));
                for attribute in message.attributes().flatten() {
                    steps += 1 + attribute.nested().count();
                }
            }
            prop_assert!(steps <= bytes.len() + 1);
        }

        #[test]
        fn what_was_put_is_what_is_walked(values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..6)) {
            let mut out = Vec::new();
            for (seq, value) in (0..).zip(&values) {
                put_request(&mut out, 31, seq, 1, 9, value);
            }
            let got: Vec<Vec<u8>> =
                messages(&out).map(|m| m.unwrap().attributes().next().unwrap().unwrap().value.to_vec()).collect();
            prop_assert_eq!(got, values);
        }
    }
}
