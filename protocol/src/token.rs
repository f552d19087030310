//! Join tokens: the secret with which a cluster's first agent asks for its certificate.
//!
//! Text form: `ltj1.<id: 10 of a-z0-9>.<secret: 32 bytes, base64url without padding>`. The id finds the token without a
//! scan and may be logged; the secret never is. With 256 random bits a plain SHA-256 is enough to store.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, Zeroizing};

/// Version and kind of the text form.
const PREFIX: &str = "ltj1.";
/// Characters of a token's id.
const ID_CHARS: usize = 10;
/// Bytes of a token's secret.
const SECRET_BYTES: usize = 32;
/// Characters of the secret in base64url without padding.
const SECRET_CHARS: usize = 43;
/// What an id is made of.
const ID_ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// A text that is no join token. Carries nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a join token: expected ltj1.<id>.<secret>")]
pub struct Malformed;

/// Names a join token; public.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenId(String);

/// SHA-256 of a join token's text: what the manager stores.
#[derive(Clone, Copy)]
pub struct TokenHash([u8; 32]);

/// A join token. `Debug` shows its id only; the memory is cleared when it is dropped.
#[derive(Clone)]
pub struct JoinToken {
    id: TokenId,
    secret: [u8; SECRET_BYTES],
}

impl JoinToken {
    /// Makes a new token from 256 bits of the process's secure random source.
    pub fn generate() -> Self {
        let id = (0..ID_CHARS).map(|_| char::from(ID_ALPHABET[rand::random_range(0..ID_ALPHABET.len())])).collect();
        Self { id: TokenId(id), secret: rand::random() }
    }

    /// Reads a token from its text. Blanks around it are ignored: files end with a line feed.
    ///
    /// # Errors
    /// [`Malformed`] for every other text than the canonical one.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let rest = text.trim_ascii().strip_prefix(PREFIX).ok_or(Malformed)?;
        let (id, secret) = rest.split_once('.').ok_or(Malformed)?;
        if secret.len() != SECRET_CHARS {
            return Err(Malformed);
        }
        let id = TokenId::parse(id)?;
        let decoded = Zeroizing::new(URL_SAFE_NO_PAD.decode(secret).map_err(|_| Malformed)?);
        let secret = decoded.as_slice().try_into().map_err(|_| Malformed)?;
        Ok(Self { id, secret })
    }

    /// The token's public name.
    pub fn id(&self) -> &TokenId {
        &self.id
    }

    /// The whole token as text, for the one place that delivers it.
    pub fn expose(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{PREFIX}{}.{}", self.id.0, URL_SAFE_NO_PAD.encode(self.secret)))
    }

    /// What the manager stores in the token's stead.
    pub fn hash(&self) -> TokenHash {
        TokenHash::of(self.expose().as_bytes())
    }
}

impl Drop for JoinToken {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({}.[redacted])", self.id.0)
    }
}

impl TokenId {
    /// Reads an id: ten lower-case letters and digits.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let ok = text.len() == ID_CHARS && text.bytes().all(|c| ID_ALPHABET.contains(&c));
        if ok { Ok(Self(text.to_owned())) } else { Err(Malformed) }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TokenHash {
    /// Hashes the text of any bearer token.
    pub fn of(text: &[u8]) -> Self {
        Self(Sha256::digest(text).into())
    }

    /// Reads 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Result<Self, Malformed> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(Malformed);
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).map_err(|_| Malformed)?;
        }
        Ok(Self(bytes))
    }

    /// The hash as 64 hexadecimal digits.
    pub fn to_hex(&self) -> String {
        crate::tls::hex(&self.0)
    }
}

/// Compares in constant time.
impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenHash {}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_reads_back_from_its_text() {
        let token = JoinToken::generate();
        let text = token.expose();
        assert!(text.starts_with("ltj1.") && text.len() == 5 + 10 + 1 + 43);
        let again = JoinToken::parse(&format!("{}\n", *text)).unwrap();
        assert_eq!(again.hash(), token.hash());
        assert_ne!(JoinToken::generate().hash(), token.hash());
    }

    #[test]
    fn a_token_never_shows_its_secret() {
        let token = JoinToken::generate();
        let text = token.expose();
        let secret = text.rsplit('.').next().unwrap();
        let shown = format!("{token:?} {:?} {:?}", token.hash(), JoinToken::parse(&text[1..]));
        assert!(!shown.contains(secret) && !shown.contains(&token.hash().to_hex()), "{shown}");
        assert!(shown.contains(token.id().as_str()));
    }

    #[test]
    fn other_texts_are_refused() {
        let good = JoinToken::generate().expose();
        for bad in [
            String::new(),
            "ltj1".to_owned(),
            "ltj1..".to_owned(),
            good.replacen("ltj1", "ltj2", 1),
            format!("{}A", *good),
            good[..good.len() - 1].to_owned(),
            good.to_uppercase(),
            format!("{}=", &good[..good.len() - 1]),
        ] {
            assert!(JoinToken::parse(&bad).is_err());
        }
    }

    #[test]
    fn hashes_read_back_from_hex() {
        let hash = TokenHash::of(b"x");
        assert_eq!(TokenHash::from_hex(&hash.to_hex()), Ok(hash));
        for bad in ["", "zz", &"g".repeat(64), &"é".repeat(32)] {
            assert!(TokenHash::from_hex(bad).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,80}") {
            let _ = JoinToken::parse(&text);
            let _ = JoinToken::parse(&format!("ltj1.{text}"));
            let _ = TokenHash::from_hex(&text);
        }
    }
}
