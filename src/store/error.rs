//! What can go wrong with Postgres, told by what the caller can do about it.

use sqlx::error::DatabaseError;

/// Why a statement gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing was stored and the same call may work soon: no connection, a restart, a conflict, too many clients.
    #[error("Postgres is not available: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// No room on Postgres' disk. Nothing was stored.
    #[error("Postgres has no room left: {0}")]
    StorageFull(#[source] sqlx::Error),
    /// No answer within the deadline. Nothing was stored: no transaction is left half done by this.
    #[error("Postgres did not answer in time")]
    TimedOut,
    /// Another replica got in between. Nothing was stored, and the same call will work.
    #[error("another replica got in between")]
    Contended,
    /// An idempotency key is just being stored by a transaction that does not end. Nothing was stored.
    #[error("an idempotency key is held by a transaction that does not end")]
    KeyHeld,
    /// The connection was lost between `COMMIT` and its answer, so it may or may not have happened.
    #[error("the connection was lost while a transaction was being committed")]
    CommitUnknown,
    /// A mistake in this service or a schema that does not fit it.
    #[error("Postgres refused a statement: {0}")]
    Unexpected(#[source] sqlx::Error),
}

impl StoreError {
    /// Whether nothing was stored and trying again may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Contended)
    }

    /// Whether a table or row was held by another transaction for longer than `lock_timeout`.
    pub(super) fn is_lock_timeout(&self) -> bool {
        let Self::Unavailable(error) = self else { return false };
        error.as_database_error().and_then(|refusal| refusal.code()).is_some_and(|code| code == "55P03")
    }

    /// Whether there was no partition for a raw row.
    pub(super) fn is_missing_day(&self) -> bool {
        let Self::Unavailable(error) = self else { return false };
        error.as_database_error().and_then(|refusal| refusal.code()).is_some_and(|code| code == "23514")
    }

    /// Whether there is no such table.
    pub(super) fn is_missing_table(&self) -> bool {
        let Self::Unexpected(error) = self else { return false };
        error.as_database_error().and_then(|refusal| refusal.code()).is_some_and(|code| code == "42P01")
    }

    /// Whether, as the answer to `COMMIT`, this means for certain that nothing was committed. Only Postgres itself says so,
    /// and only with these codes (integrity violation, rollback, idle or overlong transaction); a pooler that lost the
    /// server after `COMMIT` reached it sends an error of its own making, such as 08P01.
    pub(super) fn is_rolled_back(&self) -> bool {
        let (Self::Unavailable(error) | Self::Unexpected(error) | Self::StorageFull(error)) = self else {
            return false;
        };
        let code = error.as_database_error().and_then(|refusal| refusal.code());
        code.is_some_and(|code| code.starts_with("23") || code.starts_with("40") || matches!(&*code, "25P03" | "25P04"))
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(refusal) => match kind(refusal.as_ref()) {
                Kind::Unavailable => Self::Unavailable(error),
                Kind::StorageFull => Self::StorageFull(error),
                Kind::TimedOut => Self::TimedOut,
                Kind::Unexpected => Self::Unexpected(error),
            },
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unavailable(error),
            _ => Self::Unexpected(error),
        }
    }
}

enum Kind {
    Unavailable,
    StorageFull,
    TimedOut,
    Unexpected,
}

/// Sorts SQLSTATEs (PostgreSQL documentation, appendix A) by what helps.
fn kind(refusal: &dyn DatabaseError) -> Kind {
    let Some(code) = refusal.code() else { return Kind::Unexpected };
    match code.as_ref() {
        "53100" => Kind::StorageFull,
        "57014" => Kind::TimedOut,
        // serialization failure, deadlock, lock not available, read-only transaction (a primary that became a standby), and a
        // transaction that Postgres ended because this process was held up in it
        "40001" | "40P01" | "55P03" | "25006" | "25P03" | "25P04" => Kind::Unavailable,
        // no partition for a row: the day was dropped since this process last looked
        "23514" if refusal.table() == Some("requests") => Kind::Unavailable,
        // connection exceptions, insufficient resources, operator intervention, and errors of the system that Postgres runs on,
        // such as a disk that cannot be read
        code if ["08", "53", "57P", "58"].iter().any(|class| code.starts_with(class)) => Kind::Unavailable,
        _ => Kind::Unexpected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A refusal with nothing but its SQLSTATE.
    #[derive(Debug)]
    struct Refusal(&'static str);

    impl std::fmt::Display for Refusal {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl std::error::Error for Refusal {}

    impl DatabaseError for Refusal {
        fn message(&self) -> &str {
            self.0
        }

        fn code(&self) -> Option<std::borrow::Cow<'_, str>> {
            Some(self.0.into())
        }

        fn kind(&self) -> sqlx::error::ErrorKind {
            sqlx::error::ErrorKind::Other
        }

        fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
            self
        }

        fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
            self
        }

        fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
            self
        }
    }

    #[test]
    fn what_postgres_cannot_do_for_a_while_is_not_taken_for_a_mistake_of_the_service() {
        let kind = |code| match StoreError::from(sqlx::Error::Database(Box::new(Refusal(code)))) {
            StoreError::Unavailable(_) => "unavailable",
            StoreError::StorageFull(_) => "full",
            StoreError::TimedOut => "timed out",
            StoreError::Unexpected(_) => "unexpected",
            other => panic!("{code}: {other}"),
        };
        for code in [
            "08006", "08P01", "25006", "25P03", "40001", "40P01", "53000", "53200", "53300", "55P03", "57P01", "57P02",
            "57P03", "58000", "58030",
        ] {
            assert_eq!(kind(code), "unavailable", "{code}");
        }
        assert_eq!((kind("53100"), kind("57014")), ("full", "timed out"));
        for code in ["42P01", "42601", "42501", "22P05", "23505", "23514", "XX000"] {
            assert_eq!(kind(code), "unexpected", "{code}");
        }
    }
}
