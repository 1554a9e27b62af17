//! A question of any kind, answered from the caches where they can.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{
    CacheState, DailyQuery, EndpointQuery, Format, OverviewQuery, RankingQuery, RequestsQuery, SeriesQuery, Stats,
    StatsError, WindowRead,
};
use crate::cache::{Body, Entry, Key, Name, Origin, Outage};
use crate::domain::{Fingerprint, Freshness};
use crate::store::{Source, StoreError};

/// How long a question may take, of the 5 s that its request has in all.
const ANSWERED_WITHIN: Duration = Duration::from_millis(4_700);

/// What can be asked. Equal questions have equal keys, however they were written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Question {
    /// The top endpoints.
    Ranking(RankingQuery, Format),
    /// Everything at once.
    Overview(OverviewQuery),
    /// The figures of one endpoint.
    Endpoint(EndpointQuery),
    /// Its course.
    Series(SeriesQuery),
    /// Its raw requests.
    Requests(RequestsQuery),
    /// Days.
    Daily(DailyQuery, Format),
}

impl Question {
    /// The form of the answer.
    #[must_use]
    pub fn format(&self) -> Format {
        match self {
            Self::Ranking(_, format) | Self::Daily(_, format) => *format,
            Self::Overview(_) | Self::Endpoint(_) | Self::Series(_) | Self::Requests(_) => Format::Json,
        }
    }
}

/// A question and its name in the caches, made once for however many who ask it. Clones share both.
#[derive(Debug, Clone)]
pub struct Asked {
    question: Arc<Question>,
    name: Name,
}

impl From<Question> for Asked {
    fn from(question: Question) -> Self {
        Self { name: Name::new(&question), question: Arc::new(question) }
    }
}

impl Asked {
    /// The form of the answer.
    #[must_use]
    pub fn format(&self) -> Format {
        self.question.format()
    }
}

/// A finished answer.
#[derive(Debug, Clone)]
pub struct Answered {
    /// What to send.
    pub body: Body,
    /// Identifies what it says, whenever it was made and whether it came from a cache or not.
    pub etag: Fingerprint,
    /// The instant it speaks for.
    pub made_at: DateTime<Utc>,
    /// How soon it can change.
    pub freshness: Freshness,
    /// Whether it was made for this request.
    pub cache: CacheState,
    /// How long the caches, and the database where it was asked, took.
    pub took: Duration,
}

impl Answered {
    fn new(entry: Entry, origin: Origin, began: Instant) -> Self {
        let (body, cache) = match origin {
            Origin::Found => (entry.body, CacheState::Hit),
            Origin::Made => (Body::new(marked(entry.body.plain(), CacheState::Miss)), CacheState::Miss),
            Origin::Stale => (entry.stale_body(|body| marked(body, CacheState::Stale)).clone(), CacheState::Stale),
        };
        let Entry { etag, made_at, freshness, .. } = entry;
        Self { body, etag, made_at, freshness, cache, took: began.elapsed() }
    }
}

impl Stats {
    /// The answer that is in this process and may be told at `now`. Waits for nobody, so it may be asked for on any runtime,
    /// and logs nothing.
    pub async fn at_hand(&self, asked: &Asked, now: DateTime<Utc>) -> Option<Answered> {
        let began = Instant::now();
        let (entry, origin) = self.cache.at_hand(&asked.name, self.generation(), now).await?;
        Some(Answered::new(entry, origin, began))
    }

    /// Answers what was asked; with `anew`, from the primary whatever the caches hold, and refills them.
    ///
    /// # Errors
    /// [`StatsError`]; errors are not cached.
    pub async fn ask(&self, asked: &Asked, anew: bool) -> Result<Answered, Arc<StatsError>> {
        let began = Instant::now();
        let (now, generation) = (self.now(), self.generation());
        let key = Key::of(&asked.name, generation);
        // The present state is promised, and only the primary has it.
        let source = if anew { Source::Primary } else { Source::ReplicaIfGood };
        let make = self.make(&asked.question, source, generation, began + ANSWERED_WITHIN);
        let (entry, origin) = if anew {
            self.cache.make_anew(&key, now, make).await?
        } else {
            self.cache.get_or_make(&key, now, make, outage).await?
        };
        Ok(Answered::new(entry, origin, began))
    }

    /// Makes the answer. A failure of the database is logged here, once however many clients wait.
    async fn make(
        &self,
        question: &Question,
        source: Source,
        generation: i64,
        deadline: Instant,
    ) -> Result<Entry, StatsError> {
        let made = tokio::time::timeout_at(deadline.into(), self.answer(question, source, generation))
            .await
            .unwrap_or(Err(StatsError::Store(StoreError::TimedOut)));
        if let Err(StatsError::Store(error)) = &made {
            tracing::error!(error = %error, "a question was not answered");
        }
        made
    }

    async fn answer(&self, question: &Question, source: Source, generation: i64) -> Result<Entry, StatsError> {
        let (body, window, through) = match question {
            Question::Ranking(query, format) => {
                let answer = self.ranking(query, source).await?;
                let body = if *format == Format::Csv { answer.to_csv() } else { json(&answer) };
                (body, answer.window, answer.data_through)
            }
            Question::Daily(query, format) => {
                let answer = self.daily(query, source).await?;
                let body = if *format == Format::Csv { answer.to_csv() } else { json(&answer) };
                (body, answer.window, answer.data_through)
            }
            Question::Overview(query) => {
                let answer = self.overview(query, source).await?;
                (json(&answer), answer.window, answer.data_through)
            }
            Question::Endpoint(query) => {
                let answer = self.endpoint(query, source).await?;
                (json(&answer), answer.window, answer.data_through)
            }
            Question::Series(query) => {
                let answer = self.series(query, source).await?;
                (json(&answer), answer.window, answer.data_through)
            }
            Question::Requests(query) => {
                let answer = self.requests(query, source).await?;
                (json(&answer), answer.window, answer.data_through)
            }
        };
        let WindowRead { from, to } = window;
        let etag = fingerprint_of_content(&body);
        // What a replica has not seen yet makes an answer older, and an hour that has just ended one that still changes.
        let freshness = Freshness::of(from, to, through);
        Ok(Entry::new(Bytes::from(body), etag, through, freshness, generation))
    }
}

/// What a failure says of the database.
fn outage(error: &StatsError) -> Option<Outage> {
    let StatsError::Store(error) = error else { return None };
    match error {
        StoreError::Unavailable(_) => Some(Outage::Away),
        StoreError::TimedOut
        | StoreError::Contended
        | StoreError::StorageFull(_)
        | StoreError::KeyHeld
        | StoreError::CommitUnknown => Some(Outage::Slow),
        StoreError::Unexpected(_) => None,
    }
}

/// How an answer says where it came from. Answers are kept as hits, since they are read from the cache far more often than
/// made.
const HIT: &[u8] = br#""cache":"hit""#;

fn json(answer: &impl Serialize) -> Vec<u8> {
    // Fails only for maps with odd keys and for types that refuse themselves; answers have neither.
    let body = serde_json::to_vec(answer).unwrap_or_default();
    let miss: &[u8] = br#""cache":"miss""#;
    replaced(&body, miss, HIT)
}

/// The body of a hit, saying that it is no hit.
fn marked(body: &[u8], state: CacheState) -> Bytes {
    let mark: &[u8] = match state {
        CacheState::Hit => HIT,
        CacheState::Miss => br#""cache":"miss""#,
        CacheState::Stale => {
            br#""cache":"stale","warning":"This answer is out of date: a newer one is not to be had just now. It counts what had come in by data_through.""#
        }
    };
    replaced(body, HIT, mark).into()
}

/// `body` with the first `from` replaced. Only the field itself can match: inside a JSON text a quote is escaped.
fn replaced(body: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    match position(body, from) {
        Some(at) => [&body[..at], to, &body[at + from.len()..]].concat(),
        None => body.to_vec(),
    }
}

fn position(body: &[u8], of: &[u8]) -> Option<usize> {
    body.windows(of.len()).position(|window| window == of)
}

/// Of all but the instant through which the answer counts: two that differ in nothing else say the same, and who has one
/// need not be sent the other.
fn fingerprint_of_content(body: &[u8]) -> Fingerprint {
    const INSTANT: &[u8] = br#""data_through":""#;
    let instant = position(body, INSTANT).map(|at| at + INSTANT.len()).and_then(|from| {
        let length = position(&body[from..], b"\"")?;
        Some((from, from + length))
    });
    match instant {
        Some((from, to)) => Fingerprint::of(&[&body[..from], &body[to..]].concat()),
        None => Fingerprint::of(body),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_is_of_what_is_said_not_of_when() {
        let tag = |body: &str| fingerprint_of_content(body.as_bytes());
        let one = tag(r#"{"data_through":"2026-11-21T10:20:30Z","rows":[1]}"#);
        assert_eq!(tag(r#"{"data_through":"2026-11-21T10:20:31Z","rows":[1]}"#), one);
        assert_ne!(tag(r#"{"data_through":"2026-11-21T10:20:30Z","rows":[2]}"#), one);
        assert_ne!(tag("rank,id\n1,2\n"), tag("rank,id\n1,3\n"));
        // Half a field is no field.
        assert_ne!(tag(r#"{"data_through":"2"#), tag(r#"{"data_through":"3"#));
    }
}
