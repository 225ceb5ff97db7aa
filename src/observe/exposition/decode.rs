//! Unpacking a body as it arrives, within limits that hold at every moment and not only at its end.

use std::io::{self, Write};

use flate2::write::GzDecoder;

use super::limits::{Limits, Over, ScanError};

/// Bytes fed to the decompressor at once: what they may unpack to (about 1,030 times as much) bounds the buffer.
const SLICE: usize = 1 << 10;
/// Members of a body: each costs a decompressor, whatever it holds.
const MAX_MEMBERS: u32 = 64;
/// Text from which on the ratio counts.
const RATIO_FROM: u64 = 1 << 20;

/// How a body is packed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// gzip, in one or a few members (RFC 1952, 2.2).
    Gzip,
}

impl Encoding {
    /// From an answer's `Content-Encoding`. `None` for one that was not offered.
    #[must_use]
    pub fn from_content_encoding(header: Option<&str>) -> Option<Self> {
        let header = header.unwrap_or("").trim();
        if header.is_empty() || header.eq_ignore_ascii_case("identity") {
            Some(Encoding::Identity)
        } else if header.eq_ignore_ascii_case("gzip") || header.eq_ignore_ascii_case("x-gzip") {
            Some(Encoding::Gzip)
        } else {
            None
        }
    }
}

/// Unpacks one body.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    wire: u64,
    text: u64,
    gzip: Option<GzDecoder<Outlet>>,
    members: u32,
}

/// Where the decompressor writes, never more than the body limit.
#[derive(Debug)]
struct Outlet {
    buffer: Vec<u8>,
    room: u64,
}

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.room {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        self.room -= bytes.len() as u64;
        self.buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Decoder {
    /// A decoder for one body.
    #[must_use]
    pub fn new(encoding: Encoding, limits: Limits) -> Self {
        let gzip = match encoding {
            Encoding::Identity => None,
            Encoding::Gzip => Some(GzDecoder::new(Outlet { buffer: Vec::new(), room: limits.body_bytes })),
        };
        Self { limits, wire: 0, text: 0, gzip, members: 1 }
    }

    /// Takes the next piece as it was received and hands the text in it to `sink`, in pieces of any size.
    ///
    /// # Errors
    ///
    /// A limit that is exceeded, a damaged body, something other than a member after its end, and whatever `sink` says.
    pub fn push(&mut self, wire: &[u8], mut sink: impl FnMut(&[u8]) -> Result<(), ScanError>) -> Result<(), ScanError> {
        let limit = self.limits.wire_bytes;
        if self.wire + wire.len() as u64 > limit {
            return Err(ScanError::PageOver(Over::Wire(limit)));
        }
        if self.gzip.is_none() {
            self.wire += wire.len() as u64;
            self.text = self.wire;
            // In one piece: each cut costs the scanner a line that it has to put together.
            return sink(wire);
        }
        for slice in wire.chunks(SLICE) {
            self.wire += slice.len() as u64;
            let fed = self.feed(slice);
            self.drain(&mut sink)?;
            fed.map_err(|error| self.failure(&error))?;
        }
        Ok(())
    }

    /// Ends the body and hands out what is left of it. Returns the bytes of text.
    ///
    /// # Errors
    ///
    /// As [`Decoder::push`], and a body that stops short.
    pub fn finish(mut self, mut sink: impl FnMut(&[u8]) -> Result<(), ScanError>) -> Result<u64, ScanError> {
        if let Some(gzip) = &mut self.gzip {
            let ended = gzip.try_finish();
            self.drain(&mut sink)?;
            ended.map_err(|error| match error.kind() {
                io::ErrorKind::FileTooLarge => self.failure(&error),
                // A trailer that is missing and one that is wrong look the same to the decompressor.
                _ => ScanError::Encoding("the body stops short, or its checksum is wrong".to_owned()),
            })?;
        }
        Ok(self.text)
    }

    /// Feeds all of a slice; a decompressor takes nothing past the end of its member.
    fn feed(&mut self, mut slice: &[u8]) -> io::Result<()> {
        while let Some(gzip) = self.gzip.as_mut().filter(|_| !slice.is_empty()) {
            match gzip.write(slice)? {
                0 => self.begin_next_member()?,
                taken => slice = &slice[taken..],
            }
        }
        Ok(())
    }

    fn begin_next_member(&mut self) -> io::Result<()> {
        self.members += 1;
        if self.members > MAX_MEMBERS {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("more than {MAX_MEMBERS} members")));
        }
        if let Some(ended) = self.gzip.take() {
            self.gzip = Some(GzDecoder::new(ended.finish()?));
        }
        Ok(())
    }

    fn drain(&mut self, sink: &mut impl FnMut(&[u8]) -> Result<(), ScanError>) -> Result<(), ScanError> {
        let Some(gzip) = &mut self.gzip else {
            return Ok(());
        };
        let buffer = &mut gzip.get_mut().buffer;
        self.text += buffer.len() as u64;
        if self.text > RATIO_FROM && self.text > self.wire.saturating_mul(self.limits.ratio) {
            return Err(ScanError::PageOver(Over::Ratio(self.limits.ratio)));
        }
        if !buffer.is_empty() {
            sink(buffer)?;
            buffer.clear();
        }
        Ok(())
    }

    fn failure(&self, error: &io::Error) -> ScanError {
        match error.kind() {
            io::ErrorKind::FileTooLarge => ScanError::PageOver(Over::Body(self.limits.body_bytes)),
            _ => ScanError::Encoding(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::Compression;
    use flate2::bufread::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    fn packed(text: &[u8]) -> Vec<u8> {
        let mut wire = Vec::new();
        GzEncoder::new(text, Compression::default()).read_to_end(&mut wire).unwrap();
        wire
    }

    fn unpack(encoding: Encoding, limits: Limits, pieces: &[&[u8]]) -> Result<Vec<u8>, ScanError> {
        let mut text = Vec::new();
        let mut decoder = Decoder::new(encoding, limits);
        for piece in pieces {
            decoder.push(piece, |bytes| {
                text.extend_from_slice(bytes);
                Ok(())
            })?;
        }
        let total = decoder.finish(|bytes| {
            text.extend_from_slice(bytes);
            Ok(())
        })?;
        assert_eq!(total, text.len() as u64);
        Ok(text)
    }

    #[test]
    fn damaged_bodies_are_told_apart() {
        let wire = packed(b"a 1\n");
        let limits = Limits::DEFAULT;
        assert_eq!(unpack(Encoding::Gzip, limits, &[&wire]).unwrap(), b"a 1\n");
        assert_eq!(unpack(Encoding::Identity, limits, &[b"a ", b"1\n"]).unwrap(), b"a 1\n");
        let error = |pieces: &[&[u8]]| unpack(Encoding::Gzip, limits, pieces).unwrap_err().to_string();
        assert_eq!(error(&[&wire[..wire.len() - 1]]), "gzip: the body stops short, or its checksum is wrong");
        assert_eq!(error(&[&wire[..5]]), "gzip: the body stops short, or its checksum is wrong");
        assert_eq!(error(&[]), "gzip: the body stops short, or its checksum is wrong");
        assert!(error(&[&wire, b"x"]).starts_with("gzip: "));
        let with_tail: Vec<u8> = wire.iter().chain(b"a tail of text").copied().collect();
        assert!(error(&[&with_tail]).starts_with("gzip: "));
        assert!(error(&[b"a 1\nb 2\nc 3\n"]).starts_with("gzip: "));
        let mut flipped = wire.clone();
        let checksum = wire.len() - 6;
        flipped[checksum] ^= 1;
        assert_eq!(error(&[&flipped]), "gzip: the body stops short, or its checksum is wrong");
    }

    #[test]
    fn members_follow_one_another_but_not_without_end() {
        let wire = packed(b"a 1\n");
        let members = |count: usize| wire.repeat(count);
        let unpack = |wire: &[u8]| unpack(Encoding::Gzip, Limits::DEFAULT, &[wire]);
        assert_eq!(unpack(&members(2)).unwrap(), b"a 1\na 1\n");
        assert_eq!(unpack(&members(64)).unwrap(), b"a 1\n".repeat(64));
        assert_eq!(unpack(&members(65)).unwrap_err().to_string(), "gzip: more than 64 members");
        let mut flipped = members(2);
        flipped[wire.len() - 6] ^= 1;
        assert!(unpack(&flipped).is_err(), "the first one's checksum counts as well");
    }

    #[test]
    fn each_limit_says_which_it_is() {
        let small = Limits { wire_bytes: 100, body_bytes: 1000, ..Limits::DEFAULT };
        let error = |encoding, limits, wire: &[u8]| unpack(encoding, limits, &[wire]).unwrap_err();
        assert_eq!(error(Encoding::Identity, small, &[b'a'; 101]), ScanError::PageOver(Over::Wire(100)));
        assert_eq!(error(Encoding::Gzip, small, &packed(&[b'a'; 1001])), ScanError::PageOver(Over::Body(1000)));
        assert!(unpack(Encoding::Gzip, small, &[&packed(&[b'a'; 1000])]).is_ok());
        let bomb = packed(&vec![0; 8 << 20]);
        assert!(bomb.len() < 16 << 10);
        assert_eq!(error(Encoding::Gzip, Limits::DEFAULT, &bomb), ScanError::PageOver(Over::Ratio(100)));
        let within_the_first_mib = packed(&vec![0; 1 << 20]);
        assert!(unpack(Encoding::Gzip, Limits::DEFAULT, &[&within_the_first_mib]).is_ok());
    }

    #[test]
    fn a_bomb_is_stopped_before_it_has_been_unpacked() {
        let bomb = packed(&vec![0; 64 << 20]);
        let mut unpacked = 0;
        let mut decoder = Decoder::new(Encoding::Gzip, Limits { wire_bytes: 1 << 30, ..Limits::DEFAULT });
        let stopped = decoder.push(&bomb, |bytes| {
            unpacked += bytes.len();
            Ok(())
        });
        assert_eq!(stopped, Err(ScanError::PageOver(Over::Ratio(100))));
        assert!(unpacked <= 2 << 20, "{unpacked}");
    }

    #[test]
    fn the_header_says_which_encoding() {
        assert_eq!(Encoding::from_content_encoding(None), Some(Encoding::Identity));
        assert_eq!(Encoding::from_content_encoding(Some("GZIP")), Some(Encoding::Gzip));
        assert_eq!(Encoding::from_content_encoding(Some("br")), None);
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in proptest::collection::vec(any::<u8>(), 0..5000), cut in 0_usize..5000) {
            let wire = packed(&text);
            let cut = cut.min(wire.len());
            let whole = unpack(Encoding::Gzip, Limits::DEFAULT, &[&wire[..cut], &wire[cut..]]);
            prop_assert_eq!(whole.unwrap(), text);
        }
    }
}
