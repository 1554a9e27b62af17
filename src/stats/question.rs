//! A question of any kind, answered from the caches where they can.

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{
    CacheState, DailyQuery, EndpointQuery, Format, OverviewQuery, RankingQuery, RequestsQuery, SeriesQuery, Stats,
    StatsError, WindowRead,
};
use crate::cache::Entry;
use crate::domain::{Fingerprint, Freshness};
use crate::store::Source;

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

/// A finished answer.
#[derive(Debug, Clone)]
pub struct Answered {
    /// The bytes to send.
    pub body: Bytes,
    /// Identifies what it says, whether it came from a cache or not.
    pub fingerprint: Fingerprint,
    /// The instant it speaks for.
    pub made_at: DateTime<Utc>,
    /// How soon it can change.
    pub freshness: Freshness,
    /// Whether it was made for this request.
    pub cache: CacheState,
}

impl Stats {
    /// Answers `question`; with `anew`, from the primary whatever the caches hold, and refills them.
    ///
    /// # Errors
    /// [`StatsError`]; errors are not cached.
    pub async fn ask(&self, question: &Question, anew: bool) -> Result<Answered, Arc<StatsError>> {
        let key = format!("{}:{question:?}", self.generation());
        let (entry, hit) = if anew {
            let entry = self.make(question, Source::Primary).await?;
            self.cache.replace(&key, &entry).await;
            (entry, false)
        } else {
            self.cache.get_or_make(&key, self.make(question, Source::ReplicaIfGood)).await?
        };
        let Entry { body, fingerprint, made_at, freshness } = entry;
        let (body, cache) = if hit { (body, CacheState::Hit) } else { (said_to_be_new(&body), CacheState::Miss) };
        Ok(Answered { body, fingerprint, made_at, freshness, cache })
    }

    /// Makes the answer. A failure of the database is logged here, once however many clients wait.
    async fn make(&self, question: &Question, source: Source) -> Result<Entry, StatsError> {
        let made = self.answer(question, source).await;
        if let Err(StatsError::Store(error)) = &made {
            tracing::error!(error = %error, "a question was not answered");
        }
        made
    }

    async fn answer(&self, question: &Question, source: Source) -> Result<Entry, StatsError> {
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
        // What a replica has not seen yet makes an answer older, and an hour that has just ended one that still changes.
        Ok(Entry::new(Bytes::from(body), through, Freshness::of(from, to, through)))
    }
}

/// How a cached answer says that it is one. Answers are kept in this form, since they are read from the cache far more often
/// than made.
const HIT: &[u8] = br#""cache":"hit""#;
const MISS: &[u8] = br#""cache":"miss""#;

fn json(answer: &impl Serialize) -> Vec<u8> {
    // Fails only for maps with odd keys and for types that refuse themselves; answers have neither.
    let body = serde_json::to_vec(answer).unwrap_or_default();
    replaced(&body, MISS, HIT)
}

fn said_to_be_new(body: &[u8]) -> Bytes {
    replaced(body, HIT, MISS).into()
}

/// `body` with the first `from` replaced. Only the field itself can match: inside a JSON text a quote is escaped.
fn replaced(body: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    match body.windows(from.len()).position(|window| window == from) {
        Some(at) => [&body[..at], to, &body[at + from.len()..]].concat(),
        None => body.to_vec(),
    }
}
