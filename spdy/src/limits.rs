//! Every limit of this crate, with its unit and what happens when it is reached.

/// Payload of one frame, in bytes. A longer one (the format allows 16 MiB) ends the connection: nothing in
/// Kubernetes sends frames above 64 KiB.
pub const FRAME_BYTES_MAX: usize = 1024 * 1024;

/// One header block, inflated, in bytes. A longer one ends the connection (a decompression bomb).
pub const HEADER_BLOCK_BYTES_MAX: usize = 64 * 1024;

/// Headers of one block. More end the connection.
pub const HEADERS_MAX: usize = 256;

/// Data frames that wait for the reader of one stream. At the limit the whole connection waits for that reader, as
/// SPDY without flow control must.
pub const STREAM_FRAMES_MAX: usize = 32;

/// Frames that wait to be written to the connection. At the limit writers wait.
pub const OUTGOING_FRAMES_MAX: usize = 32;

/// Streams opened by the peer that nobody has taken yet. At the limit the connection waits.
pub const INCOMING_STREAMS_MAX: usize = 64;

/// Streams open at a time on one connection. The peer's next stream is refused (RST_STREAM, refused).
pub const STREAMS_MAX: usize = 1024;

/// Bytes put into one data frame. Longer writes become several frames.
pub const DATA_BYTES_MAX: usize = 32 * 1024;
