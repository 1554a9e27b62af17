//! Turns, for those who want an answer that was begun after they asked.
//!
//! Who asks for the present state cannot take an answer that is being made already: it may have read the database before. But
//! all who come while one is being made can share the next. So however many ask, at most one answer to a question is being
//! made for them and one more after it.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;

use super::entry::Entry;
use super::key::Name;

/// How long a question's turns are remembered after the last who took one: longer than any request lives.
const REMEMBERED_FOR: Duration = Duration::from_secs(10);

/// The turns of all questions.
pub(super) struct Turns {
    /// Counts arrivals and beginnings, so that of any two it is known which came first.
    clock: AtomicU64,
    last: moka::future::Cache<Name, Arc<Mutex<Option<Made>>>>,
}

/// The answer made last, and when it was begun. Kept only while somebody waits who may have come before: kept for longer, it
/// would be beside what the caches may hold, one for each question.
struct Made {
    begun: u64,
    entry: Entry,
}

impl Turns {
    pub(super) fn new() -> Self {
        let last = moka::future::Cache::builder().time_to_idle(REMEMBERED_FOR).build();
        Self { clock: AtomicU64::new(0), last }
    }

    /// An answer that was begun after this was called, and whether it was made for this caller.
    pub(super) async fn take<E>(
        &self,
        question: &Name,
        make: impl Future<Output = Result<Entry, E>>,
    ) -> Result<(Entry, bool), E> {
        let arrived = self.tick();
        let turn = self.last.get_with_by_ref(question, async { Arc::default() }).await;
        // Besides `self.last` and this caller. Who is counted too late gets an answer of their own.
        let others_wait = || Arc::strong_count(&turn) > 2;
        // Whoever waits here is let in in the order of arrival. A maker that is cut off lets the next one in.
        let mut last = turn.lock().await;
        if let Some(made) = last.take_if(|made| made.begun > arrived) {
            let entry = made.entry.clone();
            *last = Some(made).filter(|_| others_wait());
            return Ok((entry, false));
        }
        *last = None;
        let begun = self.tick();
        let entry = make.await?;
        *last = others_wait().then(|| Made { begun, entry: entry.clone() });
        Ok((entry, true))
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use chrono::DateTime;
    use futures_util::FutureExt as _;
    use futures_util::future::join_all;

    use crate::domain::{Fingerprint, Freshness};

    fn entry() -> Entry {
        Entry::new(Bytes::new(), Fingerprint::default(), DateTime::UNIX_EPOCH, Freshness::Live, 0)
    }

    #[tokio::test]
    async fn who_comes_while_one_is_made_shares_the_next() {
        let (turns, question) = (Turns::new(), Name::new(&"question"));
        let (open, opened) = tokio::sync::oneshot::channel::<()>();
        let first = turns.take(&question, async {
            let _ = opened.await;
            Ok::<_, ()>(entry())
        });
        let mut first = std::pin::pin!(first);
        assert!(first.as_mut().now_or_never().is_none(), "under way");
        let made = AtomicU64::new(0);
        let make = || async {
            made.fetch_add(1, Ordering::Relaxed);
            Ok::<_, ()>(entry())
        };
        let mut others = std::pin::pin!(join_all((0..100).map(|_| turns.take(&question, make()))));
        assert!(others.as_mut().now_or_never().is_none(), "they wait");
        drop(open);
        assert!(first.await.unwrap().1);
        let makers = others.await.into_iter().filter(|taken| taken.as_ref().unwrap().1).count();
        assert_eq!((makers, made.load(Ordering::Relaxed)), (1, 1));
        // Who comes later gets one of their own; a failure is told to the one it happened to.
        assert!(turns.take(&question, make()).await.unwrap().1);
        let held = turns.last.get(&question).await.unwrap();
        assert!(held.lock().await.is_none(), "nobody waits, so nobody can use what was made");
        drop(held);
        assert_eq!(turns.take(&question, async { Err("no") }).await.unwrap_err(), "no");
        assert!(turns.take(&question, make()).await.unwrap().1);
    }
}
