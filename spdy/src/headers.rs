//! Header blocks: name/value pairs, compressed with zlib and a fixed dictionary, one compression state per direction
//! for the whole connection.
//!
//! The zlib library behind `flate2` need not support preset dictionaries: the deflate window is primed with the
//! dictionary by hand (compressing it and throwing the output away; inflating it from a stored block), and the zlib
//! header that names it is written and checked here.

use std::sync::LazyLock;

use bytes::{Buf, BufMut, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::codec::CodecError;
use crate::limits::{HEADER_BLOCK_BYTES_MAX, HEADERS_MAX};

/// Adler-32 of the dictionary, which the zlib header names.
const DICTIONARY_ID: u32 = 0xe3c6_a7c2;
/// Deflate with a 32 KiB window, default level, preset dictionary.
const ZLIB_HEADER: [u8; 2] = [0x78, 0xbb];

/// The words of the dictionary that have a length before them (SPDY/3, section 2.6.10.1).
const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language \
accept-ranges age allow authorization cache-control connection content-base content-encoding content-language \
content-length content-location content-md5 content-range content-type date etag expect expires from host if-match \
if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma \
proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade \
user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie \
keep-alive origin";

/// The rest of the dictionary.
const TAIL: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505\
203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden\
404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept \
Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,\
application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdch\
charset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut bytes = Vec::with_capacity(1423);
    for word in WORDS.split(' ') {
        let word = word.replace('_', " ");
        bytes.put_u32(u32::try_from(word.len()).unwrap_or(0));
        bytes.extend_from_slice(word.as_bytes());
    }
    bytes.extend_from_slice(TAIL.as_bytes());
    bytes
});

/// Compresses the header blocks of one direction.
pub(crate) struct HeaderEncoder {
    deflate: Compress,
    started: bool,
}

impl HeaderEncoder {
    pub(crate) fn new() -> Self {
        let mut deflate = Compress::new(Compression::default(), false);
        let mut discard = Vec::with_capacity(4096);
        // The window now holds the dictionary, as the peer's will.
        let _ = deflate.compress_vec(&DICTIONARY, &mut discard, FlushCompress::Sync);
        HeaderEncoder { deflate, started: false }
    }

    pub(crate) fn encode(&mut self, headers: &[(String, String)]) -> Result<Vec<u8>, CodecError> {
        let mut plain = BytesMut::new();
        plain.put_u32(u32::try_from(headers.len()).map_err(|_| CodecError::HeaderBlock)?);
        for (name, value) in headers {
            for text in [&name.to_ascii_lowercase(), value] {
                plain.put_u32(u32::try_from(text.len()).map_err(|_| CodecError::HeaderBlock)?);
                plain.extend_from_slice(text.as_bytes());
            }
        }
        let mut out = Vec::with_capacity(plain.len() + 64);
        if !self.started {
            out.extend_from_slice(&ZLIB_HEADER);
            out.put_u32(DICTIONARY_ID);
            self.started = true;
        }
        let mut consumed = 0;
        loop {
            out.reserve(256);
            let before = (self.deflate.total_in(), out.len());
            self.deflate
                .compress_vec(&plain[consumed..], &mut out, FlushCompress::Sync)
                .map_err(|_| CodecError::HeaderBlock)?;
            consumed += usize::try_from(self.deflate.total_in() - before.0)
                .map_err(|_| CodecError::HeaderBlock)?;
            // A sync flush is complete once it leaves room in the output.
            if consumed == plain.len() && out.len() < out.capacity() {
                return Ok(out);
            }
        }
    }
}

/// Inflates the header blocks of one direction.
pub(crate) struct HeaderDecoder {
    inflate: Decompress,
    started: bool,
}

impl HeaderDecoder {
    pub(crate) fn new() -> Self {
        let mut inflate = Decompress::new(false);
        // A stored block with the dictionary primes the window.
        let len = u16::try_from(DICTIONARY.len()).unwrap_or(0);
        let mut stored = vec![0u8];
        stored.put_u16_le(len);
        stored.put_u16_le(!len);
        stored.extend_from_slice(&DICTIONARY);
        let mut discard = Vec::with_capacity(DICTIONARY.len() + 64);
        let _ = inflate.decompress_vec(&stored, &mut discard, FlushDecompress::Sync);
        HeaderDecoder { inflate, started: false }
    }

    pub(crate) fn decode(&mut self, mut block: &[u8]) -> Result<Vec<(String, String)>, CodecError> {
        if !self.started && !block.is_empty() {
            if block.len() < 6 || block[0] & 0x0f != 8 || block[1] & 0x20 == 0 {
                return Err(CodecError::HeaderBlock);
            }
            block.advance(2);
            if block.get_u32() != DICTIONARY_ID {
                return Err(CodecError::HeaderBlock);
            }
            self.started = true;
        }
        parse(&self.inflate_all(block)?)
    }

    fn inflate_all(&mut self, block: &[u8]) -> Result<Vec<u8>, CodecError> {
        let mut plain = Vec::with_capacity(1024);
        let mut consumed = 0;
        loop {
            plain.reserve(1024);
            let before = self.inflate.total_in();
            let status = self
                .inflate
                .decompress_vec(&block[consumed..], &mut plain, FlushDecompress::Sync)
                .map_err(|_| CodecError::HeaderBlock)?;
            consumed += usize::try_from(self.inflate.total_in() - before)
                .map_err(|_| CodecError::HeaderBlock)?;
            if plain.len() > HEADER_BLOCK_BYTES_MAX {
                return Err(CodecError::HeaderBlock);
            }
            let drained = consumed == block.len() && plain.len() < plain.capacity();
            if drained || status == Status::StreamEnd {
                return Ok(plain);
            }
        }
    }
}

fn parse(mut plain: &[u8]) -> Result<Vec<(String, String)>, CodecError> {
    if plain.is_empty() {
        return Ok(Vec::new());
    }
    let count = take_u32(&mut plain)?;
    if count > HEADERS_MAX {
        return Err(CodecError::HeaderBlock);
    }
    (0..count).map(|_| Ok((take_text(&mut plain)?, take_text(&mut plain)?))).collect()
}

fn take_u32(plain: &mut &[u8]) -> Result<usize, CodecError> {
    let value = plain.try_get_u32().map_err(|_| CodecError::HeaderBlock)?;
    usize::try_from(value).map_err(|_| CodecError::HeaderBlock)
}

fn take_text(plain: &mut &[u8]) -> Result<String, CodecError> {
    let len = take_u32(plain)?;
    let (text, rest) = plain.split_at_checked(len).ok_or(CodecError::HeaderBlock)?;
    *plain = rest;
    String::from_utf8(text.to_vec()).map_err(|_| CodecError::HeaderBlock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dictionary_is_the_one_the_protocol_names() {
        let (mut a, mut b) = (1u32, 0u32);
        for byte in DICTIONARY.iter() {
            a = (a + u32::from(*byte)) % 65521;
            b = (b + a) % 65521;
        }
        assert_eq!((DICTIONARY.len(), b << 16 | a), (1423, DICTIONARY_ID));
    }

    #[test]
    fn blocks_share_one_window_over_the_connection() {
        let mut encoder = HeaderEncoder::new();
        let mut decoder = HeaderDecoder::new();
        let mut sizes = Vec::new();
        for round in 0..50 {
            let headers = vec![
                ("streamtype".to_owned(), "error".to_owned()),
                ("port".to_owned(), "8080".to_owned()),
                ("requestid".to_owned(), round.to_string()),
            ];
            let block = encoder.encode(&headers).unwrap();
            sizes.push(block.len());
            assert_eq!(decoder.decode(&block).unwrap(), headers);
        }
        assert!(sizes[10] < sizes[0], "later blocks refer to earlier ones: {sizes:?}");
    }

    #[test]
    fn large_values_survive() {
        let headers = vec![("x".to_owned(), "value ".repeat(2_000))];
        let block = HeaderEncoder::new().encode(&headers).unwrap();
        assert_eq!(HeaderDecoder::new().decode(&block).unwrap(), headers);
    }

    #[test]
    fn a_block_made_by_zlib_itself_decodes() {
        // python3: zlib.compressobj(9, zlib.DEFLATED, 15, zdict=dictionary), Z_SYNC_FLUSH, of
        // {"streamtype": "error", "port": "80"}.
        let block: Vec<u8> = include_bytes!("../testdata/zlib_block.bin").to_vec();
        let headers = HeaderDecoder::new().decode(&block).unwrap();
        assert_eq!(
            headers,
            [("streamtype".to_owned(), "error".to_owned()), ("port".to_owned(), "80".to_owned())]
        );
    }

    #[test]
    fn bombs_and_rubbish_are_refused() {
        let bomb = HeaderEncoder::new()
            .encode(&[("x".to_owned(), "a".repeat(HEADER_BLOCK_BYTES_MAX + 1))])
            .unwrap();
        assert!(HeaderDecoder::new().decode(&bomb).is_err());
        assert!(HeaderDecoder::new().decode(b"no zlib at all").is_err());
    }
}
