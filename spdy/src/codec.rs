//! Frames to bytes and back. A [`Codec`] is one end of a connection: header compression makes it stateful, so every
//! frame must pass through it in order.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::headers::{HeaderDecoder, HeaderEncoder};
use crate::limits::FRAME_BYTES_MAX;

const CONTROL: u32 = 0x8000_0000;
const VERSION: u16 = 3;
const FLAG_FIN: u8 = 0x01;
const FLAG_UNIDIRECTIONAL: u8 = 0x02;

/// Name/value pairs; names are lower case on the wire, several values of a name are joined by NUL.
pub type Headers = Vec<(String, String)>;

/// Why bytes are no SPDY. The connection is lost: header compression cannot resynchronise.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CodecError {
    /// A header block that does not inflate or parse, or is too large.
    #[error("malformed header block")]
    HeaderBlock,
    /// A frame shorter than its kind demands.
    #[error("frame too short")]
    Short,
    /// A frame longer than [`FRAME_BYTES_MAX`].
    #[error("frame of {0} bytes is too long")]
    Long(usize),
    /// Another protocol version than 3.
    #[error("unsupported SPDY version {0}")]
    Version(u16),
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Opens a stream. Clients use odd ids, servers even ones, each ascending.
    SynStream {
        /// Its id.
        id: u32,
        /// The stream it belongs to, or 0.
        associated: u32,
        /// 0 (highest) to 7.
        priority: u8,
        /// The opener will send nothing.
        fin: bool,
        /// The other side may send nothing.
        unidirectional: bool,
        /// Its headers.
        headers: Headers,
    },
    /// Accepts a stream.
    SynReply {
        /// Which.
        id: u32,
        /// The accepter will send nothing.
        fin: bool,
        /// Its headers.
        headers: Headers,
    },
    /// Ends a stream at once.
    RstStream {
        /// Which.
        id: u32,
        /// 1 protocol error, 2 invalid stream, 3 refused, 5 cancel, …
        status: u32,
    },
    /// Settings; read and ignored.
    Settings,
    /// Echoed by whoever did not start it.
    Ping {
        /// Odd from a client, even from a server.
        id: u32,
    },
    /// No more streams.
    GoAway {
        /// The last stream taken.
        last_id: u32,
        /// 0 ok, 1 protocol error, 2 internal error.
        status: u32,
    },
    /// More headers of a stream.
    Headers {
        /// Which.
        id: u32,
        /// The sender is done.
        fin: bool,
        /// The headers.
        headers: Headers,
    },
    /// Flow control; read and ignored.
    WindowUpdate {
        /// Which stream, or 0 for the connection.
        id: u32,
        /// Bytes more.
        delta: u32,
    },
    /// Bytes of a stream.
    Data {
        /// Which.
        id: u32,
        /// The last ones.
        fin: bool,
        /// The bytes.
        data: Bytes,
    },
    /// A control frame of an unknown kind; to be ignored.
    Unknown(u16),
}

/// Both directions of one end of a connection.
pub struct Codec {
    encoder: HeaderEncoder,
    decoder: HeaderDecoder,
}

impl Default for Codec {
    fn default() -> Self {
        Codec::new()
    }
}

impl Codec {
    /// A fresh connection.
    pub fn new() -> Self {
        Codec { encoder: HeaderEncoder::new(), decoder: HeaderDecoder::new() }
    }

    /// The two directions apart, for a reading and a writing task.
    pub fn split(self) -> (Encoder, Decoder) {
        (Encoder { headers: self.encoder }, Decoder { headers: self.decoder })
    }
}

/// Frames to bytes.
pub struct Encoder {
    headers: HeaderEncoder,
}

impl Encoder {
    /// Appends one frame. Data longer than [`FRAME_BYTES_MAX`] is refused.
    pub fn encode(&mut self, frame: &Frame, out: &mut BytesMut) -> Result<(), CodecError> {
        match frame {
            Frame::SynStream { id, associated, priority, fin, unidirectional, headers } => {
                let mut body = BytesMut::new();
                body.put_u32(*id);
                body.put_u32(*associated);
                body.put_u8((priority & 7) << 5);
                body.put_u8(0);
                body.extend_from_slice(&self.headers.encode(headers)?);
                let flags = flag(*fin, FLAG_FIN) | flag(*unidirectional, FLAG_UNIDIRECTIONAL);
                control(out, 1, flags, &body)
            }
            Frame::SynReply { id, fin, headers } => self.with_headers(out, 2, *id, *fin, headers),
            Frame::RstStream { id, status } => control(out, 3, 0, &pair(*id, *status)),
            Frame::Settings => control(out, 4, 0, &0u32.to_be_bytes()),
            Frame::Ping { id } => control(out, 6, 0, &id.to_be_bytes()),
            Frame::GoAway { last_id, status } => control(out, 7, 0, &pair(*last_id, *status)),
            Frame::Headers { id, fin, headers } => self.with_headers(out, 8, *id, *fin, headers),
            Frame::WindowUpdate { id, delta } => control(out, 9, 0, &pair(*id, *delta)),
            Frame::Data { id, fin, data } => {
                out.put_u32(id & !CONTROL);
                put_length(out, flag(*fin, FLAG_FIN), data.len())?;
                out.extend_from_slice(data);
                Ok(())
            }
            Frame::Unknown(_) => Ok(()),
        }
    }

    fn with_headers(
        &mut self,
        out: &mut BytesMut,
        kind: u16,
        id: u32,
        fin: bool,
        headers: &Headers,
    ) -> Result<(), CodecError> {
        let mut body = BytesMut::new();
        body.put_u32(id);
        body.extend_from_slice(&self.headers.encode(headers)?);
        control(out, kind, flag(fin, FLAG_FIN), &body)
    }
}

/// Bytes to frames.
pub struct Decoder {
    headers: HeaderDecoder,
}

impl Decoder {
    /// Takes one frame from the front of `buffer`, or `None` until more bytes come.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, CodecError> {
        if buffer.len() < 8 {
            return Ok(None);
        }
        let first = u32::from_be_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]);
        let length = u32::from_be_bytes([0, buffer[5], buffer[6], buffer[7]]) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(CodecError::Long(length));
        }
        if buffer.len() < 8 + length {
            return Ok(None);
        }
        let flags = buffer[4];
        buffer.advance(8);
        let body = buffer.split_to(length).freeze();
        let fin = flags & FLAG_FIN != 0;
        if first & CONTROL == 0 {
            return Ok(Some(Frame::Data { id: first, fin, data: body }));
        }
        let [v1, v2, k1, k2] = first.to_be_bytes();
        let version = u16::from_be_bytes([v1 & 0x7f, v2]);
        if version != VERSION {
            return Err(CodecError::Version(version));
        }
        self.control(u16::from_be_bytes([k1, k2]), flags, body).map(Some)
    }

    fn control(&mut self, kind: u16, flags: u8, mut body: Bytes) -> Result<Frame, CodecError> {
        let fin = flags & FLAG_FIN != 0;
        let mut next = |mask: u32| -> Result<u32, CodecError> {
            body.try_get_u32().map(|value| value & mask).map_err(|_| CodecError::Short)
        };
        Ok(match kind {
            1 => {
                let (id, associated) = (next(!CONTROL)?, next(!CONTROL)?);
                if body.len() < 2 {
                    return Err(CodecError::Short);
                }
                let priority = body[0] >> 5;
                let headers = self.headers.decode(&body[2..])?;
                let unidirectional = flags & FLAG_UNIDIRECTIONAL != 0;
                Frame::SynStream { id, associated, priority, fin, unidirectional, headers }
            }
            2 => {
                let id = next(!CONTROL)?;
                Frame::SynReply { id, fin, headers: self.headers.decode(&body)? }
            }
            3 => Frame::RstStream { id: next(!CONTROL)?, status: next(u32::MAX)? },
            4 => Frame::Settings,
            6 => Frame::Ping { id: next(u32::MAX)? },
            7 => Frame::GoAway { last_id: next(!CONTROL)?, status: next(u32::MAX).unwrap_or(0) },
            8 => {
                let id = next(!CONTROL)?;
                Frame::Headers { id, fin, headers: self.headers.decode(&body)? }
            }
            9 => Frame::WindowUpdate { id: next(!CONTROL)?, delta: next(!CONTROL)? },
            other => Frame::Unknown(other),
        })
    }
}

fn flag(set: bool, bit: u8) -> u8 {
    if set { bit } else { 0 }
}

fn pair(first: u32, second: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&first.to_be_bytes());
    bytes[4..].copy_from_slice(&second.to_be_bytes());
    bytes
}

fn put_length(out: &mut BytesMut, flags: u8, length: usize) -> Result<(), CodecError> {
    if length > FRAME_BYTES_MAX {
        return Err(CodecError::Long(length));
    }
    let length = u32::try_from(length).map_err(|_| CodecError::Long(length))?;
    out.put_u32(u32::from(flags) << 24 | length);
    Ok(())
}

fn control(out: &mut BytesMut, kind: u16, flags: u8, body: &[u8]) -> Result<(), CodecError> {
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    put_length(out, flags, body.len())?;
    out.extend_from_slice(body);
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames() -> impl Strategy<Value = Frame> {
        let headers = || proptest::collection::vec(("[a-z-]{1,12}", "[ -~]{0,40}"), 0..6);
        let id = || 1u32..0x7fff_ffff;
        prop_oneof![
            (id(), id(), 0u8..8, any::<bool>(), any::<bool>(), headers()).prop_map(
                |(id, associated, priority, fin, unidirectional, headers)| Frame::SynStream {
                    id,
                    associated,
                    priority,
                    fin,
                    unidirectional,
                    headers
                }
            ),
            (id(), any::<bool>(), headers()).prop_map(|(id, fin, headers)| Frame::SynReply {
                id,
                fin,
                headers
            }),
            (id(), any::<u32>()).prop_map(|(id, status)| Frame::RstStream { id, status }),
            any::<u32>().prop_map(|id| Frame::Ping { id }),
            (id(), any::<u32>()).prop_map(|(last_id, status)| Frame::GoAway { last_id, status }),
            (id(), any::<bool>(), headers()).prop_map(|(id, fin, headers)| Frame::Headers {
                id,
                fin,
                headers
            }),
            (id(), any::<bool>(), proptest::collection::vec(any::<u8>(), 0..200))
                .prop_map(|(id, fin, data)| Frame::Data { id, fin, data: data.into() }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_however_it_is_cut(
            sent in proptest::collection::vec(frames(), 1..20), cut in 1usize..64,
        ) {
            let (mut encoder, _) = Codec::new().split();
            let (_, mut decoder) = Codec::new().split();
            let mut wire = BytesMut::new();
            for frame in &sent {
                encoder.encode(frame, &mut wire).unwrap();
            }
            let (mut buffer, mut got) = (BytesMut::new(), Vec::new());
            for chunk in wire.chunks(cut) {
                buffer.extend_from_slice(chunk);
                while let Some(frame) = decoder.decode(&mut buffer).unwrap() {
                    got.push(frame);
                }
            }
            prop_assert_eq!(got, sent);
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn rubbish_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let (_, mut decoder) = Codec::new().split();
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = decoder.decode(&mut buffer) {}
        }
    }
}
