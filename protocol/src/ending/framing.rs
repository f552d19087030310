//! Where one message ends and the next begins, in streams that others make. Nothing is kept but a few bytes of a head.

/// Longest head of a frame in any protocol here: a WebSocket frame with a length of 64 bits.
const HEAD_BYTES_MAX: usize = 10;

/// Follows a stream from message to message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Framing {
    kind: Kind,
    head: [u8; HEAD_BYTES_MAX],
    /// Bytes of a head so far.
    have: usize,
    /// Bytes of a message that are still to come.
    left: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It may be cut anywhere.
    None,
    /// A watch in JSON: one event a line.
    Lines,
    /// A watch in Kubernetes' protobuf: four bytes of length, then the event.
    KubernetesProtobuf,
    /// RFC 6455, section 5.2.
    WebSocket,
    /// SPDY/3.1: heads of eight bytes, the length in the last three.
    Spdy,
}

impl Framing {
    pub(super) fn none() -> Self {
        Self::of(Kind::None)
    }

    pub(super) fn lines() -> Self {
        Self::of(Kind::Lines)
    }

    pub(super) fn kubernetes_protobuf() -> Self {
        Self::of(Kind::KubernetesProtobuf)
    }

    pub(super) fn web_socket() -> Self {
        Self::of(Kind::WebSocket)
    }

    pub(super) fn spdy() -> Self {
        Self::of(Kind::Spdy)
    }

    fn of(kind: Kind) -> Self {
        Self { kind, head: [0; HEAD_BYTES_MAX], have: 0, left: 0 }
    }

    /// Takes note of the next bytes of the stream.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        match self.kind {
            Kind::None => return,
            Kind::Lines => {
                if let Some(last) = bytes.last() {
                    self.left = u64::from(*last != b'\n');
                }
                return;
            }
            Kind::KubernetesProtobuf | Kind::WebSocket | Kind::Spdy => {}
        }
        while let Some((first, rest)) = bytes.split_first() {
            if self.left > 0 {
                let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left -= taken as u64;
                bytes = &bytes[taken..];
                continue;
            }
            self.head[self.have] = *first;
            self.have += 1;
            bytes = rest;
            if let Some(length) = self.kind.length(&self.head[..self.have]) {
                (self.left, self.have) = (length, 0);
            }
        }
    }

    /// Whether the stream stands between two messages.
    pub(super) fn is_whole(&self) -> bool {
        self.left == 0 && self.have == 0
    }
}

impl Kind {
    /// Bytes that follow a head; none while the head is not complete.
    fn length(self, head: &[u8]) -> Option<u64> {
        let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
        match self {
            Self::None | Self::Lines => Some(0),
            Self::KubernetesProtobuf => (head.len() == 4).then(|| number(head)),
            Self::Spdy => (head.len() == 8).then(|| number(&head[5..])),
            Self::WebSocket => {
                let second = *head.get(1)?;
                let mask = if second & 0x80 == 0 { 0 } else { 4 };
                let length = match second & 0x7f {
                    126 => (head.len() == 4).then(|| number(&head[2..]))?,
                    127 => (head.len() == 10).then(|| number(&head[2..]))?,
                    short => u64::from(short),
                };
                Some(length.saturating_add(mask))
            }
        }
    }
}
