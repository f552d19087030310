//! Header blocks: counted names and values, in one zlib stream per direction that starts from a fixed dictionary.

use std::collections::BTreeMap;
use std::io;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

/// Largest header block that is unpacked.
const HEADERS_MAX: usize = 256 << 10;
/// What deflate may refer back to.
const WINDOW: usize = 32 << 10;
/// Checksum of the dictionary, which a stream names when it starts from it.
const DICTIONARY_ID: [u8; 4] = [0xe3, 0xc6, 0xa7, 0xc2];
/// A zlib stream begins with its method and window, and flags of which this one says that a dictionary is named.
const ZLIB: [u8; 2] = [0x78, 0xbb];
const NAMED: u8 = 0x20;
/// An empty stored block: what is before it is complete.
const FLUSH: [u8; 5] = [0, 0, 0, 0xff, 0xff];

/// The dictionary of SPDY/3 (draft, section 2.6.10.1): these words, each after its length in four bytes…
const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language \
    accept-ranges age allow authorization cache-control connection content-base content-encoding content-language \
    content-length content-location content-md5 content-range content-type date etag expect expires from host if-match \
    if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma \
    proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade \
    user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie \
    keep-alive origin";
/// … then this, as it is.
const TAIL: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 \
    Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not \
    Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov \
    Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,\
    application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=\
    iso-8859-1,utf-,*,enq=0.";

pub(super) fn dictionary() -> Vec<u8> {
    let mut all = Vec::new();
    for word in WORDS.split_ascii_whitespace() {
        let word = word.replace('_', " ");
        all.extend(u32::try_from(word.len()).unwrap_or_default().to_be_bytes());
        all.extend_from_slice(word.as_bytes());
    }
    all.extend_from_slice(TAIL.as_bytes());
    all
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Unpacks the blocks of one direction, in their order.
pub(super) struct Inflate {
    state: Box<DecompressorOxide>,
    window: Vec<u8>,
    at: usize,
    begun: bool,
}

impl Inflate {
    pub(super) fn new() -> Self {
        let mut window = dictionary();
        let at = window.len();
        window.resize(WINDOW, 0);
        Self { state: Box::default(), window, at, begun: false }
    }

    pub(super) fn next(&mut self, block: &[u8]) -> io::Result<Vec<u8>> {
        let mut input = if self.begun { block } else { begin(block)? };
        self.begun = true;
        let mut out = Vec::new();
        loop {
            let (status, read, written) =
                decompress(&mut self.state, input, &mut self.window, self.at, TINFL_FLAG_HAS_MORE_INPUT);
            out.extend_from_slice(&self.window[self.at..self.at + written]);
            self.at = (self.at + written) % WINDOW;
            input = &input[read..];
            if out.len() > HEADERS_MAX {
                return Err(invalid("headers are too large"));
            }
            match status {
                TINFLStatus::HasMoreOutput => {}
                TINFLStatus::NeedsMoreInput if input.is_empty() => return Ok(out),
                _ => return Err(invalid("headers cannot be unpacked")),
            }
        }
    }
}

/// Takes the beginning of the stream off.
fn begin(block: &[u8]) -> io::Result<&[u8]> {
    match block {
        [_, flags, id @ ..] if flags & NAMED != 0 => {
            id.strip_prefix(&DICTIONARY_ID).ok_or_else(|| invalid("headers start from an unknown dictionary"))
        }
        [_, _, rest @ ..] => Ok(rest),
        _ => Err(invalid("headers are too short")),
    }
}

/// Packs the blocks of one direction: stored, since they are tiny.
#[derive(Debug, Default)]
pub(super) struct Deflate {
    begun: bool,
}

impl Deflate {
    pub(super) fn next(&mut self, block: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(block.len() + 16);
        if !self.begun {
            self.begun = true;
            out.extend(ZLIB);
            out.extend(DICTIONARY_ID);
        }
        for part in block.chunks(usize::from(u16::MAX)) {
            let size = u16::try_from(part.len()).unwrap_or(u16::MAX);
            out.push(0);
            out.extend(size.to_le_bytes());
            out.extend((!size).to_le_bytes());
            out.extend_from_slice(part);
        }
        out.extend(FLUSH);
        out
    }
}

/// A block without headers.
pub(super) fn none() -> [u8; 4] {
    [0; 4]
}

/// Reads names and values.
pub(super) fn parse(block: &[u8]) -> io::Result<BTreeMap<String, String>> {
    let mut rest = block;
    let count = number(&mut rest)?;
    let mut all = BTreeMap::new();
    for _ in 0..count {
        let name = text(&mut rest)?.to_ascii_lowercase();
        let value = text(&mut rest)?;
        all.insert(name, value);
    }
    Ok(all)
}

fn number(rest: &mut &[u8]) -> io::Result<u32> {
    let (bytes, after) = rest.split_first_chunk().ok_or_else(|| invalid("headers end early"))?;
    *rest = after;
    Ok(u32::from_be_bytes(*bytes))
}

fn text(rest: &mut &[u8]) -> io::Result<String> {
    let size = usize::try_from(number(rest)?).unwrap_or(usize::MAX);
    let (bytes, after) = rest.split_at_checked(size).ok_or_else(|| invalid("headers end early"))?;
    *rest = after;
    Ok(String::from_utf8_lossy(bytes).into_owned())
}
