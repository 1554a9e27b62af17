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
    /// The hash of whatever was presented as a key.
    #[must_use]
    pub fn of(presented: &str) -> Self {
        Self(Sha256::digest(presented).into())
    }

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

    /// Whether both are the same, in a time that does not depend on where they differ.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
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
        KeyHash::of(&self.0)
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
        assert!(parsed.hash().is(&one.hash()) && !parsed.hash().is(&other.hash()));
        assert_eq!(one.reveal()[3..11], *one.prefix().as_str());
        assert_eq!(KeyPrefix::parse(one.prefix().as_str()), Some(one.prefix()));
    }

    #[test]
    fn the_hash_is_the_sha_256() {
        // FIPS 180-4, example of one block: "abc".
        assert_eq!(KeyHash::of("abc").as_bytes()[..4], [0xba, 0x78, 0x16, 0xbf]);
        assert!(KeyHash::from_bytes(KeyHash::of("abc").as_bytes()).unwrap().is(&KeyHash::of("abc")));
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
