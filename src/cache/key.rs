//! Under which names an answer is kept.

use std::fmt::Debug;
use std::hash::{BuildHasher as _, Hash, Hasher, RandomState};
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use semver::Version;

use crate::domain::Fingerprint;

/// What the names of all installations and versions begin with.
const SERVICE: &str = "endpoint-stats";

/// What a scan is to look for: the names of all installations and versions, and those that look alike.
pub(super) const PATTERN: &str = "endpoint-stats:*";

/// What every key in Redis begins with: whose answers they are, and in which form.
///
/// Databases may share a Redis, and versions of the service do while one replaces the other. Each passes the others' answers by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace(Arc<str>);

impl Namespace {
    /// Of this version of the service, on the database `installation` with the schema `schema`.
    #[must_use]
    pub fn new(schema: u32, installation: &str) -> Self {
        Self(format!("{SERVICE}:{}:s{schema}:{installation}", env!("CARGO_PKG_VERSION")).into())
    }

    /// Whether `name` is that of an answer of this installation for which nobody will ask again: one of a generation before
    /// `generation`, or of an older version of service or schema, where even what is last known has no reader any more.
    ///
    /// What is of a newer version is another replica's, which is being rolled out; and of a newer generation, of one that
    /// heard of it sooner. Locks and rates live for seconds anyway.
    pub(super) fn is_done_with(&self, name: &[u8], generation: i64) -> bool {
        let (Some((ours, "")), Some((owner, rest))) = (Owner::parse(&self.0), read(name)) else { return false };
        if owner.installation != ours.installation {
            return false;
        }
        let is_ours = owner == ours;
        match Kind::parse(rest) {
            Some(Kind::Answer(of)) => (is_ours && of < generation) || owner.is_older_than(&ours),
            Some(Kind::LastKnown) => owner.is_older_than(&ours),
            Some(Kind::Lock | Kind::Rate) | None => false,
        }
    }

    /// The name under which the rate of a client is kept.
    pub(super) fn rate(&self, client: Fingerprint) -> String {
        format!("{}:rate:{client}", self.0)
    }
}

/// A question, as the caches tell it from others. Equal questions have equal names, however they were written. Clones share
/// the text, which is hashed once, however often it is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// Says the same as `text` does, so it comes first in a comparison.
    hash: u64,
    text: Arc<str>,
}

impl Name {
    /// The name of `question`, all of which its `Debug` form tells.
    pub fn new(question: &impl Debug) -> Self {
        /// Another one in each process: nobody can choose questions that meet in one place of a cache.
        static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let text = format!("{question:?}");
        Self { hash: HASHER.hash_one(&text), text: text.into() }
    }

    /// How much room the text takes.
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// A question, and the generation of the data it is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    question: Name,
    generation: i64,
}

impl Key {
    /// The key of `question`.
    pub fn new(question: &impl Debug, generation: i64) -> Self {
        Self::of(&Name::new(question), generation)
    }

    /// The key of the question that is called `question`.
    #[must_use]
    pub fn of(question: &Name, generation: i64) -> Self {
        Self { question: question.clone(), generation }
    }

    /// The question, whatever the generation.
    pub(super) fn question(&self) -> &Name {
        &self.question
    }

    /// Of the question: a client may write much into it, and this is short. Only Redis needs it, so a hit in the process does
    /// not pay for it.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.question.text.as_bytes())
    }

    /// The generation of the data.
    pub(super) fn generation(&self) -> i64 {
        self.generation
    }

    /// The names in Redis. Braces put them on one node of a cluster, since scripts work on several at once.
    pub(super) fn names(&self, Namespace(namespace): &Namespace) -> Names {
        let question = format!("{namespace}:{{{}}}", self.fingerprint());
        Names {
            entry: format!("{question}:g{}", self.generation),
            lock: format!("{question}:g{}:lock", self.generation),
            last_known: format!("{question}:last"),
        }
    }
}

/// The names of a key in Redis.
#[derive(Debug)]
pub(super) struct Names {
    /// The answer, for its shared lifetime.
    pub(super) entry: String,
    /// Held by the replica that makes the answer.
    pub(super) lock: String,
    /// The answer for a day, whatever the generation: told where Postgres is away.
    pub(super) last_known: String,
}

/// Whose a name is: [`Namespace`], taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Owner<'n> {
    version: Version,
    schema: u32,
    installation: &'n str,
}

impl<'n> Owner<'n> {
    /// The owner that a name begins with, and the rest of it.
    fn parse(name: &'n str) -> Option<(Self, &'n str)> {
        let mut parts = name.splitn(5, ':');
        let service = parts.next()?;
        let version = as_written(parts.next()?)?;
        let schema = as_written(parts.next()?.strip_prefix('s')?)?;
        let installation = parts.next()?;
        (service == SERVICE).then(|| (Self { version, schema, installation }, parts.next().unwrap_or_default()))
    }

    /// Whether one part of its form is older and none newer: of two that differ both ways nobody knows which came last.
    fn is_older_than(&self, other: &Self) -> bool {
        let version = self.version.cmp_precedence(&other.version);
        let schema = self.schema.cmp(&other.schema);
        version.is_le() && schema.is_le() && (version.is_lt() || schema.is_lt())
    }
}

/// What is under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// An answer about this generation.
    Answer(i64),
    Lock,
    LastKnown,
    Rate,
}

impl Kind {
    /// What is under a name that goes on so after its owner.
    fn parse(rest: &str) -> Option<Self> {
        if let Some(client) = rest.strip_prefix("rate:") {
            return is_fingerprint(client).then_some(Self::Rate);
        }
        let (question, kind) = rest.strip_prefix('{')?.split_once("}:")?;
        if !is_fingerprint(question) {
            return None;
        }
        if kind == "last" {
            return Some(Self::LastKnown);
        }
        let generation = kind.strip_prefix('g')?;
        match generation.strip_suffix(":lock") {
            Some(generation) => as_written::<i64>(generation).map(|_| Self::Lock),
            None => as_written(generation).map(Self::Answer),
        }
    }
}

/// Takes a name apart; `None` for one of any other shape than those above are written in.
fn read(name: &[u8]) -> Option<(Owner<'_>, &str)> {
    Owner::parse(std::str::from_utf8(name).ok()?)
}

/// A value that is written in just this way: `07` and `+7` are somebody else's seven.
fn as_written<T: FromStr + ToString>(text: &str) -> Option<T> {
    text.parse().ok().filter(|value: &T| value.to_string() == text)
}

/// Whether it is what a fingerprint is printed as.
fn is_fingerprint(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name as it is read: its owner's version, schema and installation, and what it is of.
    fn taken_apart(name: &str) -> Option<(String, u32, &str, Kind)> {
        let (Owner { version, schema, installation }, rest) = read(name.as_bytes())?;
        Some((version.to_string(), schema, installation, Kind::parse(rest)?))
    }

    #[test]
    fn what_is_written_is_read() {
        let version = env!("CARGO_PKG_VERSION");
        for (schema, installation, generation) in [(2, "0123456789ab", 7), (0, "", 0), (u32::MAX, "i", i64::MAX)] {
            let namespace = Namespace::new(schema, installation);
            let names = Key::new(&("question", schema), generation).names(&namespace);
            let rate = namespace.rate(Fingerprint::of(b"client"));
            for (name, kind) in [
                (&names.entry, Kind::Answer(generation)),
                (&names.lock, Kind::Lock),
                (&names.last_known, Kind::LastKnown),
                (&rate, Kind::Rate),
            ] {
                assert_eq!(taken_apart(name), Some((version.to_owned(), schema, installation, kind)), "{name}");
                assert!(name.starts_with(PATTERN.trim_end_matches('*')), "{name} is found by a scan");
            }
        }
    }

    #[test]
    fn what_only_looks_alike_is_not_read() {
        let question = "{ba7816bf8f01cfea414140de5dae2223}";
        let good = format!("endpoint-stats:0.1.0:s2:i1:{question}:g7");
        assert!(taken_apart(&good).is_some());
        for (from, to) in [
            ("endpoint-stats:", "endpoint-stats-foo:"),
            ("endpoint-stats:", "Endpoint-stats:"),
            ("endpoint-stats:", "my:endpoint-stats:"),
            (":0.1.0", ""),
            (":0.1.0", ":0.1"),
            (":0.1.0", ":v0.1.0"),
            (":0.1.0", ":0.01.0"),
            (":s2", ":2"),
            (":s2", ":s02"),
            (":s2", ":s-2"),
            (":s2", ":s4294967296"),
            (":i1", ""),
            (":i1", ":i1:i2"),
            ("{", ""),
            ("}", ""),
            ("ba78", "BA78"),
            ("ba78", "ba7"),
            ("ba78", "ga78"),
            (":g7", ""),
            (":g7", ":"),
            (":g7", ":g"),
            (":g7", ":g07"),
            (":g7", ":g+7"),
            (":g7", ":g7 "),
            (":g7", ":g7:"),
            (":g7", ":g7:locked"),
            (":g7", ":g9223372036854775808"),
            (":g7", ":last:lock"),
            (":g7", ":rate"),
        ] {
            let name = good.replacen(from, to, 1);
            assert_ne!(name, good);
            assert_eq!(taken_apart(&name), None, "{name}");
        }
        assert!(read(&[good.as_bytes(), b"\xff"].concat()).is_none(), "no text");
    }

    #[test]
    fn only_answers_of_the_past_are_done_with() {
        let ours = Namespace::new(2, "i1");
        let Version { major, minor, patch, .. } = Version::parse(env!("CARGO_PKG_VERSION")).unwrap();
        let present = format!("{major}.{minor}.{patch}");
        let (older, newer) = (format!("{present}-rc.1"), format!("{major}.{}.0", minor + 1));
        let rebuilt = format!("{present}+2");
        let question = "{ba7816bf8f01cfea414140de5dae2223}";
        for (version, schema, installation, rest, expected) in [
            (&present, 2, "i1", ":g6", true),
            (&present, 2, "i1", ":g7", false),
            (&present, 2, "i1", ":g8", false),
            (&present, 2, "i1", ":g6:lock", false),
            (&present, 2, "i1", ":last", false),
            (&present, 2, "i2", ":g6", false),
            (&present, 1, "i2", ":g6", false),
            (&older, 2, "i1", ":g6", true),
            (&older, 2, "i1", ":g8", true),
            (&older, 2, "i1", ":last", true),
            (&older, 2, "i1", ":g6:lock", false),
            (&older, 2, "i2", ":last", false),
            (&present, 1, "i1", ":g7", true),
            (&present, 1, "i1", ":last", true),
            (&older, 1, "i1", ":g7", true),
            (&newer, 2, "i1", ":g6", false),
            (&newer, 2, "i1", ":last", false),
            (&present, 3, "i1", ":g6", false),
            (&present, 3, "i1", ":last", false),
            (&rebuilt, 2, "i1", ":g6", false),
            // Back to an older version on a newer schema, or the other way round: nobody knows.
            (&older, 3, "i1", ":g6", false),
            (&newer, 1, "i1", ":g6", false),
        ] {
            let name = format!("endpoint-stats:{version}:s{schema}:{installation}:{question}{rest}");
            assert_eq!(ours.is_done_with(name.as_bytes(), 7), expected, "{name}");
        }
        let client = "ba7816bf8f01cfea414140de5dae2223";
        for version in [&older, &present, &newer] {
            let name = format!("endpoint-stats:{version}:s1:i1:rate:{client}");
            assert!(!ours.is_done_with(name.as_bytes(), 7), "{name}");
        }
    }

    #[test]
    fn a_name_tells_version_schema_installation_and_generation() {
        let names = Key::new(&"question", 7).names(&Namespace::new(2, "i1"));
        let version = env!("CARGO_PKG_VERSION");
        assert!(names.entry.starts_with(&format!("endpoint-stats:{version}:s2:i1:{{")), "{names:?}");
        assert!(names.entry.ends_with("}:g7"), "{names:?}");
        let other = Key::new(&"question", 8).names(&Namespace::new(2, "i1"));
        assert_ne!(names.entry, other.entry);
        assert_eq!(names.last_known, other.last_known, "known whatever the generation");
    }
}
