//! API keys: what they look like, what they allow, and what is kept of them.
//!
//! A key is `es_<prefix>_<secret>`. The prefix is public: a key is looked up by it, listed and revoked by it. The secret is
//! 256 random bits, so a plain SHA-256 of the key is enough to keep: nobody can try them all, slow hashing would protect
//! nothing more and would cost every request. What holds a key or a hash has neither `Debug` nor `Display`.

use std::fmt;
use std::str::FromStr;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// What every key begins with, so that scanners for leaked secrets know one when they see it.
const MARK: &str = "es_";

/// Characters of a prefix: 40 bits, so that a million keys hardly ever draw the same one twice.
const PREFIX_CHARACTERS: usize = 8;

/// Characters of a secret: 32 bytes as base64url.
const SECRET_CHARACTERS: usize = 43;

/// Bytes of a key.
const KEY_BYTES: usize = MARK.len() + PREFIX_CHARACTERS + 1 + SECRET_CHARACTERS;

/// The alphabet of RFC 4648's base32, in lower case.
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// What a key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Sending records.
    Ingest,
    /// Asking questions.
    Read,
    /// Everything.
    Admin,
}

/// A word that is no scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be ingest, read or admin")]
pub struct InvalidScope;

impl Scope {
    /// Whether a key of this scope may do what needs the scope `wanted`.
    #[must_use]
    pub fn allows(self, wanted: Self) -> bool {
        self == wanted || self == Self::Admin
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Scope {
    type Err = InvalidScope;

    fn from_str(name: &str) -> Result<Self, InvalidScope> {
        [Self::Ingest, Self::Read, Self::Admin].into_iter().find(|scope| scope.name() == name).ok_or(InvalidScope)
    }
}

/// The public part of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyPrefix([u8; PREFIX_CHARACTERS]);

impl KeyPrefix {
    /// A prefix by itself, as it is stored.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let characters: [u8; PREFIX_CHARACTERS] = text.as_bytes().try_into().ok()?;
        characters.iter().all(|character| BASE32.contains(character)).then_some(Self(characters))
    }

    /// The prefix of a text that begins as a key does, whatever follows.
    #[must_use]
    pub fn at_start_of(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(MARK)?;
        let prefix = Self::parse(rest.get(..PREFIX_CHARACTERS)?)?;
        rest[PREFIX_CHARACTERS..].starts_with('_').then_some(prefix)
    }

    /// Its characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // All of them are ASCII: `parse` and `generate` let nothing else in.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for KeyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The SHA-256 of a key: what is kept of it.
#[derive(Clone)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// A hash as it is stored; `None` if it is none.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether this is the hash of what was presented as a key, whatever that is, in a time that tells neither where it is
    /// wrong nor whether its length is: always as many bytes are hashed, and nothing ends early.
    #[must_use]
    pub fn is_of(&self, presented: &str) -> bool {
        let bytes = presented.as_bytes();
        if bytes.is_empty() {
            return false;
        }
        let mut hashed = [0; KEY_BYTES];
        for (at, byte) in hashed.iter_mut().enumerate() {
            // Behind the end the first byte again, and without a jump that a processor could guess right or wrong.
            *byte = bytes[at * usize::from(at < bytes.len())];
        }
        let same_hash = Sha256::digest(hashed)[..].ct_eq(&self.0);
        (same_hash & presented.len().ct_eq(&KEY_BYTES)).into()
    }
}

/// A key as its owner has it.
pub struct ApiKey(String);

impl ApiKey {
    /// A new key, of bits from the operating system.
    ///
    /// # Errors
    /// If the operating system has none.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let (mut prefix, mut secret) = ([0; PREFIX_CHARACTERS], [0; 32]);
        getrandom::fill(&mut prefix)?;
        getrandom::fill(&mut secret)?;
        // 256 is a multiple of 32, so every character is as likely as any other.
        let prefix: String = prefix.iter().map(|byte| char::from(BASE32[usize::from(byte % 32)])).collect();
        Ok(Self(format!("{MARK}{prefix}_{}", BASE64_URL_SAFE_NO_PAD.encode(secret))))
    }

    /// A text that has the form of a key.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        KeyPrefix::at_start_of(text)?;
        let secret = &text[MARK.len() + PREFIX_CHARACTERS + 1..];
        let is_one = secret.len() == SECRET_CHARACTERS
            && secret.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        is_one.then(|| Self(text.to_owned()))
    }

    /// Its public part.
    #[must_use]
    pub fn prefix(&self) -> KeyPrefix {
        // Every key begins with one, or it would not have been made.
        KeyPrefix::at_start_of(&self.0).expect("a key has a prefix")
    }

    /// What is kept of it.
    #[must_use]
    pub fn hash(&self) -> KeyHash {
        KeyHash(Sha256::digest(&self.0).into())
    }

    /// The key itself, for the one person who asked for it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_was_made_has_the_form_of_one() {
        let (one, other) = (ApiKey::generate().unwrap(), ApiKey::generate().unwrap());
        assert_eq!(one.reveal().len(), 55);
        assert_ne!((one.reveal(), one.prefix()), (other.reveal(), other.prefix()));
        let parsed = ApiKey::parse(one.reveal()).expect("its form is right");
        assert!(parsed.hash().is_of(one.reveal()) && !parsed.hash().is_of(other.reveal()));
        assert_eq!(one.reveal()[3..11], *one.prefix().as_str());
        assert_eq!(KeyPrefix::parse(one.prefix().as_str()), Some(one.prefix()));
    }

    #[test]
    fn a_hash_is_of_its_key_and_of_nothing_else() {
        let key = ApiKey::generate().unwrap();
        let text = key.reveal();
        assert_eq!(key.hash().as_bytes()[..], Sha256::digest(text)[..], "the plain SHA-256, whole");
        let hash = KeyHash::from_bytes(key.hash().as_bytes()).unwrap();
        assert!(hash.is_of(text));
        let cut = &text[..text.len() - 1];
        for wrong in ["", cut, &format!("{text}x"), &format!("{text}{text}"), &format!("{cut}\0"), &format!(" {cut}")] {
            assert!(!hash.is_of(wrong), "{wrong:?}");
        }
        assert!(KeyHash::from_bytes(&[0; 31]).is_none());
    }

    #[test]
    fn what_has_another_form_is_no_key() {
        let secret = "A-_9".repeat(10) + "abc";
        assert!(ApiKey::parse(&format!("es_abcdefg2_{secret}")).is_some());
        for wrong in [
            String::new(),
            "es_".to_owned(),
            "es_abcdefg2".to_owned(),
            "es_abcdefg2_".to_owned(),
            format!("es_abcdefg2_{secret}x"),
            format!("es_abcdefg2_{}", &secret[1..]),
            format!("es_abcdefg2_{}=", &secret[1..]),
            format!("es_abcdefg1_{secret}"),
            format!("es_ABCDEFG2_{secret}"),
            format!("es_abcdefg2-{secret}"),
            format!("es_abcdefü_{secret}"),
            format!("sk_abcdefg2_{secret}"),
            format!(" es_abcdefg2_{secret}"),
        ] {
            assert!(ApiKey::parse(&wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn admin_allows_everything_and_the_others_themselves() {
        use Scope::{Admin, Ingest, Read};
        for scope in [Ingest, Read, Admin] {
            assert_eq!(scope.name().parse(), Ok(scope));
            assert!(scope.allows(scope) && Admin.allows(scope));
        }
        assert!(!Ingest.allows(Read) && !Read.allows(Ingest) && !Ingest.allows(Admin) && !Read.allows(Admin));
        assert_eq!("owner".parse::<Scope>(), Err(InvalidScope));
    }
}
