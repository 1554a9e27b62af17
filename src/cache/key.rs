//! Under which names an answer is kept.

use std::fmt::Debug;
use std::sync::Arc;

use crate::domain::Fingerprint;

/// What every key in Redis begins with: whose answers they are, and in which form.
///
/// Databases may share a Redis, and versions of the service do while one replaces the other. Each passes the others' answers by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace(Arc<str>);

impl Namespace {
    /// Of this version of the service, on the database `installation` with the schema `schema`.
    #[must_use]
    pub fn new(schema: u32, installation: &str) -> Self {
        Self(format!("endpoint-stats:{}:s{schema}:{installation}", env!("CARGO_PKG_VERSION")).into())
    }

    /// The name under which the rate of a client is kept.
    pub(super) fn rate(&self, client: Fingerprint) -> String {
        format!("{}:rate:{client}", self.0)
    }
}

/// A question, and the generation of the data it is asked about. Equal questions have equal keys, however they were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    question: Arc<str>,
    generation: i64,
}

impl Key {
    /// The key of `question`, all of which its `Debug` form tells.
    pub fn new(question: &impl Debug, generation: i64) -> Self {
        Self { question: format!("{question:?}").into(), generation }
    }

    /// The question, whatever the generation.
    pub(super) fn question(&self) -> &Arc<str> {
        &self.question
    }

    /// Of the question: a client may write much into it, and this is short. Only Redis needs it, so a hit in the process does
    /// not pay for it.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.question.as_bytes())
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

#[cfg(test)]
mod tests {
    use super::*;

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
