//! Protobuf messages as they are written: fields one after the other.

/// A message that grows field by field. Field number 0 does not exist: nothing is written for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// The bytes of the message.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// A text, also an empty one.
    pub(crate) fn text(&mut self, number: u16, text: &str) {
        self.data(number, text.as_bytes());
    }

    /// Bytes, or what is encoded already.
    pub(crate) fn data(&mut self, number: u16, content: &[u8]) {
        if number == 0 {
            return;
        }
        self.number(u64::from(number) << 3 | 2);
        self.number(content.len() as u64);
        self.bytes.extend_from_slice(content);
    }

    /// A message inside this one.
    pub(crate) fn message(&mut self, number: u16, message: &Message) {
        self.data(number, &message.bytes);
    }

    /// A number or bool.
    pub(crate) fn varint(&mut self, number: u16, value: u64) {
        if number == 0 {
            return;
        }
        self.number(u64::from(number) << 3);
        self.number(value);
    }

    /// A float of 64 bits.
    pub(crate) fn double(&mut self, number: u16, value: f64) {
        if number == 0 {
            return;
        }
        self.number(u64::from(number) << 3 | 1);
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.bytes.push(value.to_le_bytes()[0]);
    }
}
