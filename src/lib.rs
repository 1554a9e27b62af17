//! `endpoint-stats` answers one question: which endpoints are the busiest, the slowest, the most failing, now and over the
//! last month? It takes in a record of every finished HTTP request, keeps exact aggregates beside the records in an ordinary
//! Postgres, and ranks endpoints from the aggregates, so that the answer costs the same however many requests there were.
//!
//! # The map
//!
//! In reading order. The head of each module says what it owns and what it may use.
//!
//! | module | what it is |
//! |---|---|
//! | [`domain`] | the words as types: record, endpoint, route, window, time zone, counters, the histogram that adds up |
//! | [`store`] | Postgres: one statement a file in `sql/`, `COPY`, transactions, the sorting of errors |
//! | [`cache`] | finished answers, in the process and in Redis; the count of admitted requests that replicas share |
//! | [`ingest`] | from the bytes of a body to the answer after `COMMIT` |
//! | [`stats`] | questions and their answers: ranking, overview, one endpoint, days |
//! | [`auth`] | who is asking: API keys, checked in memory |
//! | [`limits`] | how much one client may ask: decided here, counted with the other replicas |
//! | [`jobs`] | maintenance: what is done, when, and each time by one replica |
//! | [`http`] | the table of routes, bounded bodies, statuses, headers, the description of the API, the pages |
//! | [`app`] | all of it put together, run, and stopped in the right order |
//! | [`cli`] | the commands, and what people read in a terminal |
//! | [`config`] | options as plain data |
//! | [`logs`] | log files by day, and the removal of old ones |
//! | [`access_log`] | lines of web servers' logs, for `import` |
//! | [`embedded`] | a Postgres of one's own, for `demo` and the tests |
//!
//! Arrows go one way. Each module uses only what stands to its right:
//!
//! ```text
//! main → cli → app → http → { auth, limits, stats, ingest, jobs } → { store, cache, logs } → domain
//!
//!        access_log → domain     config: plain data     embedded: stands alone
//! ```
//!
//! Only `store` knows sqlx, only `cache` knows Redis, only `http` knows actix, only `domain` knows the rules of time zones.
//!
//! # Three ways through the house
//!
//! **A record.** `POST /api/v1/requests` arrives in [`http`], which reads the body up to a limit, unpacks it into the same
//! limit, and hands it to [`ingest::read_json`] or [`ingest::read_ndjson`]. Each record becomes domain types or an error with
//! its index; the good ones go on. [`ingest::Ingest::submit`] looks up the numbers of their endpoints, takes room in a bounded
//! queue (none left: 429) and waits. The writer takes whatever has gathered when the flush under way ends, when it is much, or when
//! that flush is late. A flush is one transaction of [`store`]: claim the idempotency keys, write the raw rows sorted by endpoint (in bulk by `COPY`), insert
//! their counts as deltas, `COMMIT`. Only then is the client answered. A batch whose key is known gets the answer it was given before.
//!
//! **A question.** `GET /api/v1/endpoints/top?by=p95&window=30d` becomes a [`stats::Question`]; everything in it is parsed, so
//! equal questions have equal keys. On the way in [`auth`] knows the key and [`limits`] counts the request, both in memory.
//! [`stats::Stats::ask`] looks in the process, then in Redis; whoever asks the same meanwhile, here or at another replica, waits
//! for the one that works. Found nowhere, one statement of [`store`], on the read replica if there is a good one, returns the
//! counters of every endpoint over the window: whole days from the materialized view, hours around them, minutes at the edges,
//! and the deltas not folded yet, all in one snapshot. Days of a [`domain::Zone`] are sums of hours, between bounds that are made
//! here. Endpoints are ranked here too, and the answer becomes bytes once. [`domain::Freshness`] of the window decides how long
//! they may be kept; one middleware of [`http`] says so in the headers. Where Postgres is away, the answer last known is told and
//! marked.
//!
//! **A tick.** One loop in [`jobs::Jobs::run`] looks twice a second which slots are due, a slot being a job and an instant of its
//! schedule. [`jobs::Jobs::begin`] opens a session of [`store`] that takes the advisory lock of the job, and claims the slot in
//! `job_runs`; where another replica has the lock, or the slot has been run, there is nothing to do. [`jobs::Run::perform`]
//! does all its work over that session, piece by piece, and writes down how it ended. A process that dies or is cut off loses the
//! session, and so the lock: whoever asks next finds the slot unfinished and takes it up before the one after it. A job has
//! no input; it reads from the database what there is to do. So a run may be cut off anywhere, what failed is tried again,
//! and of slots that went by while nobody ran the last is made up for. `POST /api/v1/jobs/{name}/run` and `job run` go the same
//! way with the present instant as the slot; [`jobs::Jobs::report`] tells how all of it goes.

pub mod access_log;
pub mod app;
pub mod auth;
pub mod cache;
pub mod cli;
pub mod config;
pub mod domain;
pub mod embedded;
pub mod http;
pub mod ingest;
pub mod jobs;
pub mod limits;
pub mod logs;
pub mod stats;
pub mod store;
