//! The same answer at every stage of the data's way: deltas, minutes and hours, the view, a stale day, the view again.
//!
//! What the answer must be is counted here, request by request, by nothing of the service's own arithmetic.

use std::collections::BTreeMap;

use chrono::{DateTime, DurationRound as _, SecondsFormat, TimeDelta, Utc};
use endpoint_stats::jobs::Retention;
use serde_json::{Value, json};

use super::{records, routes};
use crate::harness::{NOW, Setup, TestApp, at, record};

/// One request that was sent.
struct Sent {
    at: DateTime<Utc>,
    route: &'static str,
    status: u16,
    us: u64,
}

impl Sent {
    fn record(&self) -> Value {
        let timestamp = self.at.to_rfc3339_opts(SecondsFormat::Micros, true);
        let mut record = record(&timestamp, self.route, self.us as f64 / 1_000.0);
        record["status"] = json!(self.status);
        record
    }
}

/// Requests spread over `[from, to)`, always the same; the first lies on its first microsecond, the last on its last.
fn traffic(from: &str, to: &str, count: usize) -> Vec<Sent> {
    let (from, to) = (at(from), at(to));
    let length = (to - from).num_microseconds().unwrap();
    let mut state = 20_261_121_u64;
    let mut next = || {
        // Knuth's MMIX generator; its upper bits are good enough to spread requests.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    (0..count)
        .map(|index| {
            let at = match index {
                0 => from,
                1 => to - TimeDelta::microseconds(1),
                // Every tenth on a full hour, where one rollup hands over to the next.
                _ if index % 10 == 0 => {
                    let hours = next() as i64 % (length / 3_600_000_000).max(1);
                    from + TimeDelta::hours(hours)
                }
                _ => from + TimeDelta::microseconds((next() as i64 * 1_000_003) % length),
            };
            Sent {
                at,
                route: ["/a", "/a", "/a", "/b", "/b", "/c"][next() as usize % 6],
                status: [200, 200, 200, 301, 404, 500][next() as usize % 6],
                us: next() % 2_000_000,
            }
        })
        .collect()
}

/// The windows asked about, each for what it crosses.
const WINDOWS: [(&str, &str, &str); 14] = [
    ("one minute", "2026-11-20T14:05:00Z", "2026-11-20T14:06:00Z"),
    ("inside one hour", "2026-11-20T14:05:00Z", "2026-11-20T14:40:00Z"),
    ("one hour exactly", "2026-11-20T14:00:00Z", "2026-11-20T15:00:00Z"),
    ("over an hour boundary", "2026-11-20T14:40:00Z", "2026-11-20T15:20:00Z"),
    ("up to a full hour", "2026-11-20T14:05:00Z", "2026-11-20T15:00:00Z"),
    ("hours with edges", "2026-11-20T09:13:00Z", "2026-11-20T17:47:00Z"),
    ("over midnight", "2026-11-19T23:30:00Z", "2026-11-20T00:30:00Z"),
    ("one whole day", "2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z"),
    ("several whole days", "2026-11-17T00:00:00Z", "2026-11-20T00:00:00Z"),
    ("a day but its edges", "2026-11-18T00:01:00Z", "2026-11-18T23:59:00Z"),
    ("whole days with edges", "2026-11-17T10:17:00Z", "2026-11-20T05:43:00Z"),
    ("edges on both sides of the oldest minute kept", "2026-11-19T09:59:00Z", "2026-11-19T10:01:00Z"),
    ("today", "2026-11-21T00:00:00Z", "2026-11-21T10:26:00Z"),
    ("everything", "2026-11-15T00:00:00Z", "2026-11-21T10:26:00Z"),
];

/// The window that is used for one asked for, where minutes are kept from `since` on.
fn widened(from: &str, to: &str, since: Option<DateTime<Utc>>) -> (DateTime<Utc>, DateTime<Utc>) {
    let hour = TimeDelta::hours(1);
    let (mut from, mut to) = (at(from), at(to));
    if since.is_some_and(|since| from < since) {
        from = from.duration_trunc(hour).unwrap();
    }
    if since.is_some_and(|since| to < since) && to.duration_trunc(hour).unwrap() != to {
        to = to.duration_trunc(hour).unwrap() + hour;
    }
    (from, to)
}

/// Asks about every window and compares with what was sent. Returns the answers.
async fn ask_all(app: &TestApp, sent: &[Sent], since: Option<DateTime<Utc>>, stage: &str) -> Vec<Value> {
    let mut answers = Vec::new();
    for (name, asked_from, asked_to) in WINDOWS {
        let context = format!("{stage}, {name}");
        let (from, to) = widened(asked_from, asked_to, since);
        let text = |instant: DateTime<Utc>| instant.to_rfc3339_opts(SecondsFormat::Secs, true);
        let window = json!({"from": text(from), "to": text(to)});
        let answer = app.get(&format!("/api/v1/endpoints/top?from={asked_from}&to={asked_to}&limit=1000")).await;
        assert_eq!(answer["window"], window, "{context}");

        let mut expected: BTreeMap<&str, Vec<&Sent>> = BTreeMap::new();
        for request in sent.iter().filter(|request| from <= request.at && request.at < to) {
            expected.entry(request.route).or_default().push(request);
        }
        let mut found = routes(&answer);
        found.sort_unstable();
        assert_eq!(found, expected.keys().copied().collect::<Vec<_>>(), "{context}");
        for row in answer["rows"].as_array().unwrap() {
            assert_figures(row, &expected[row["route"].as_str().unwrap()], &context);
        }
        let all: Vec<&Sent> = expected.into_values().flatten().collect();
        assert_figures(&answer["total"], &all, &context);
        let overview = app.get(&format!("/api/v1/overview?from={asked_from}&to={asked_to}")).await;
        assert_eq!((&overview["total"], &overview["window"]), (&answer["total"], &window), "{context}");
        answers.push(answer);
    }
    answers
}

fn assert_figures(row: &Value, requests: &[&Sent], context: &str) {
    let count = |class: u16| requests.iter().filter(|request| request.status / 100 == class).count();
    let mut times: Vec<u64> = requests.iter().map(|request| request.us).collect();
    times.sort_unstable();
    let ms = |us: u64| json!(us as f64 / 1_000.0);
    let total: u64 = times.iter().sum();
    assert_eq!(row["requests"], requests.len(), "{context}: {row}");
    assert_eq!((&row["errors"], &row["client_errors"]), (&json!(count(5)), &json!(count(4))), "{context}: {row}");
    assert_eq!(row["total_time_ms"], ms(total), "{context}: {row}");
    assert_eq!(row["min_ms"], times.first().copied().map_or(Value::Null, ms), "{context}: {row}");
    assert_eq!(row["max_ms"], times.last().copied().map_or(Value::Null, ms), "{context}: {row}");
    for (figure, percent, least) in [("p50_ms", 50, 5), ("p95_ms", 95, 20), ("p99_ms", 99, 100)] {
        if times.len() < least {
            assert!(row[figure].is_null(), "{context}: {figure} of {}", times.len());
            continue;
        }
        let exact = times[(times.len() * percent).div_ceil(100) - 1] as f64 / 1_000.0;
        let found = row[figure].as_f64().unwrap();
        // The error promised, and what rounding to a microsecond adds.
        assert!((found - exact).abs() <= exact * 0.044 + 0.001, "{context}: {figure} {found}, exactly {exact}");
    }
}

async fn the_answers_are_the_same_at_every_stage(minutes: Option<TimeDelta>) {
    let retention = Retention { minutes, ..Setup::default().retention };
    let app = TestApp::with(Setup { retention, ..Setup::default() }).await;
    let since = retention.horizons(at(NOW)).minutes_since;

    let mut sent = traffic("2026-11-16T00:00:00Z", "2026-11-21T10:25:00Z", 3_000);
    app.accept(&sent.iter().map(Sent::record).collect::<Vec<_>>()).await;
    let in_deltas = ask_all(&app, &sent, since, "in deltas").await;
    app.fold().await;
    assert_eq!(app.database.number("SELECT count(*) FROM rollup_deltas").await, 0);
    assert_eq!(ask_all(&app, &sent, since, "folded").await, in_deltas);
    app.refresh().await;
    assert_eq!(app.database.number("SELECT count(*) FROM stale_days").await, 0);
    assert_eq!(ask_all(&app, &sent, since, "in the view").await, in_deltas);

    // Late: into days that the view speaks for, on both sides of the oldest minute kept, and into today.
    let late = traffic("2026-11-18T00:00:00Z", "2026-11-20T00:00:00Z", 400);
    let late = late.into_iter().chain(traffic("2026-11-21T08:00:00Z", "2026-11-21T10:25:00Z", 100)).collect::<Vec<_>>();
    app.accept(&late.iter().map(Sent::record).collect::<Vec<_>>()).await;
    sent.extend(late);
    let late_in_deltas = ask_all(&app, &sent, since, "late, in deltas").await;
    assert_ne!(late_in_deltas, in_deltas);
    app.fold().await;
    assert_eq!(app.database.number("SELECT count(*) FROM stale_days").await, 2);
    assert_eq!(ask_all(&app, &sent, since, "late, on stale days").await, late_in_deltas);
    app.refresh().await;
    assert_eq!(app.database.number("SELECT count(*) FROM stale_days").await, 0);
    assert_eq!(ask_all(&app, &sent, since, "late, in the view").await, late_in_deltas);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_window_reads_the_same_at_every_stage_where_all_minutes_are_kept() {
    the_answers_are_the_same_at_every_stage(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_window_reads_the_same_at_every_stage_where_minutes_are_kept_two_days() {
    the_answers_are_the_same_at_every_stage(Some(TimeDelta::hours(48))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_older_than_the_minutes_kept_is_widened_to_hours_and_the_answer_says_so() {
    let app = TestApp::start().await;
    // Minutes are kept from 10:00 on the 19th, 48 hours before.
    let mut all = records(1, "2026-11-19T08:00:00Z", "/a", 200, Some(1.0));
    all.extend(records(2, "2026-11-19T09:59:59Z", "/a", 200, Some(1.0)));
    all.extend(records(4, "2026-11-19T10:00:00Z", "/a", 200, Some(1.0)));
    all.extend(records(8, "2026-11-19T10:31:00Z", "/a", 200, Some(1.0)));
    app.accept(&all).await;
    for stage in ["in deltas", "folded", "in the view"] {
        for (asked, used, requests) in [
            (("08:10:00Z", "08:20:00Z"), ("08:00:00Z", "09:00:00Z"), 1),
            (("08:10:00Z", "09:10:00Z"), ("08:00:00Z", "10:00:00Z"), 3),
            (("09:59:00Z", "10:30:00Z"), ("09:00:00Z", "10:30:00Z"), 6),
            (("10:01:00Z", "10:32:00Z"), ("10:01:00Z", "10:32:00Z"), 8),
        ] {
            let query = format!("from=2026-11-19T{}&to=2026-11-19T{}", asked.0, asked.1);
            let answer = app.get(&format!("/api/v1/endpoints/top?{query}")).await;
            let window = json!({"from": format!("2026-11-19T{}", used.0), "to": format!("2026-11-19T{}", used.1)});
            assert_eq!(
                (&answer["window"], &answer["total"]["requests"]),
                (&window, &json!(requests)),
                "{stage}: {query}"
            );
            let seconds = (at(window["to"].as_str().unwrap()) - at(window["from"].as_str().unwrap())).num_seconds();
            let rate = answer["total"]["requests_per_second"].as_f64().unwrap();
            // The rate is over the window used, not the one asked for.
            assert!((rate - f64::from(requests) / seconds as f64).abs() < 1e-6, "{stage}: {query}: {rate}");
        }
        match stage {
            "in deltas" => app.fold().await,
            _ => app.refresh().await,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_that_was_open_when_the_view_was_refreshed_is_not_read_from_it() {
    let app = TestApp::start().await;
    app.accept(&records(3, "2026-11-21T10:00:00Z", "/a", 200, Some(1.0))).await;
    app.fold().await;
    app.refresh().await;
    let row = "SELECT request_count FROM endpoint_daily_stats WHERE day = '2026-11-21'";
    assert_eq!(app.database.number(row).await, 3, "the view holds what it saw of the open day");
    app.accept(&records(4, "2026-11-21T10:10:00Z", "/a", 200, Some(1.0))).await;
    app.fold().await;
    // The day closes, and nobody has refreshed yet.
    app.clock.set(at("2026-11-22T00:00:30Z"));
    for stage in ["closed", "folded again", "refreshed"] {
        for path in ["/api/v1/endpoints/top", "/api/v1/daily"] {
            let answer = app.get(&format!("{path}?from=2026-11-21&to=2026-11-22")).await;
            assert_eq!(answer["rows"][0]["requests"], 7, "{stage}: {path}");
        }
        match stage {
            "closed" => app.fold().await,
            _ => app.refresh().await,
        }
    }
    assert_eq!(app.database.number(row).await, 7);
}
