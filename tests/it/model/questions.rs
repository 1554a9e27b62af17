//! Every question over random windows, compared with the model.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use rand::RngExt as _;
use serde_json::Value;

use super::Story;
use super::expected::{Name, Record, ceil, figures_agree, floor};
use crate::harness::at;

type Checked = Result<(), String>;

pub async fn ask_all(story: &mut Story) -> Checked {
    for _ in 0..2 {
        top(story).await?;
    }
    overview(story).await?;
    daily(story).await?;
    if let Some(id) = an_endpoint(story).await? {
        endpoint(story, &id).await?;
        series(story, &id).await?;
        requests(story, &id).await?;
    }
    Ok(())
}

/// A window of any length and age, on any edges.
fn window(story: &mut Story) -> (DateTime<Utc>, DateTime<Utc>) {
    let now = story.now();
    let random = &mut story.random;
    let grain = [1, 60, 24 * 60][random.random_range(0..3)];
    let to = match random.random_range(0..3) {
        0 => now + TimeDelta::minutes(6),
        1 => now - TimeDelta::minutes(random.random_range(0..3 * 24 * 60)),
        _ => now - TimeDelta::minutes(random.random_range(0..12 * 24 * 60)),
    };
    let length = [90, 26 * 60, 8 * 24 * 60, 50 * 24 * 60][random.random_range(0..4)];
    let from = to - TimeDelta::minutes(random.random_range(1..length));
    if grain == 1 && random.random_bool(0.5) {
        // Not even whole minutes.
        return (from + TimeDelta::seconds(20), to + TimeDelta::seconds(40));
    }
    (floor(from, grain), ceil(to, grain))
}

fn text(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

fn instant(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
}

fn window_agrees(answer: &Value, (from, to): (DateTime<Utc>, DateTime<Utc>)) -> Checked {
    let told = (instant(&answer["window"]["from"]), instant(&answer["window"]["to"]));
    if told == (from, to) { Ok(()) } else { Err(format!("window: told {told:?}, expected {:?}", (from, to))) }
}

fn name_of(row: &Value) -> (String, String, String) {
    let text = |field: &str| row[field].as_str().unwrap().to_owned();
    (text("service"), text("method"), text("route"))
}

fn is_named(row: &Value, (service, method, route): Name) -> bool {
    row["service"] == service && row["method"] == method && row["route"] == route
}

async fn top(story: &mut Story) -> Checked {
    const COLUMNS: [(&str, &str); 10] = [
        ("requests", "requests"),
        ("errors", "errors"),
        ("error_rate", "error_rate"),
        ("client_errors", "client_errors"),
        ("avg", "avg_ms"),
        ("p50", "p50_ms"),
        ("p95", "p95_ms"),
        ("p99", "p99_ms"),
        ("max", "max_ms"),
        ("total_time", "total_time_ms"),
    ];
    let (from, to) = window(story);
    let (by, column) = COLUMNS[story.random.random_range(0..COLUMNS.len())];
    let limit = story.random.random_range(1..=20);
    let service = ["", "shop", "search"][story.random.random_range(0..3)];
    let part = ["", "ITEMS", "buy"][story.random.random_range(0..3)];
    let min_requests = [0, 0, 3][story.random.random_range(0..3)];
    let compare = story.random.random_bool(0.3);
    // Some windows are days of a zone, and written as such.
    let (tz, zone) = a_zone(story);
    let as_days = story.random.random_bool(0.3);
    let (from, to) = if as_days { whole_days(from, to, zone) } else { (from, to) };
    let told = |instant| if as_days { day_of(instant, zone).to_string() } else { text(instant) };

    let mut path = format!(
        "/api/v1/endpoints/top?by={by}&from={}&to={}&limit={limit}&min_requests={min_requests}{tz}",
        told(from),
        told(to)
    );
    for (name, value) in [("service", service), ("route", part), ("compare", if compare { "previous" } else { "" })] {
        if !value.is_empty() {
            path.push_str(&format!("&{name}={value}"));
        }
    }
    let answer = story.app.get(&path).await;
    let fail = |why: String| format!("{path}: {why}");

    let matches = |record: &Record| {
        (service.is_empty() || record.service == service) && record.route.to_lowercase().contains(&part.to_lowercase())
    };
    let enough = |found: BTreeMap<Name, Vec<_>>| -> BTreeMap<Name, Vec<_>> {
        found.into_iter().filter(|(_, records)| records.len() >= min_requests).collect()
    };
    let (from, to) = story.model.widened(from, to);
    window_agrees(&answer, (from, to)).map_err(fail)?;
    let found = enough(story.model.by_endpoint(from, to, matches));
    let rows = answer["rows"].as_array().unwrap();
    if rows.len() != found.len().min(limit) || answer["total"]["endpoints"] != found.len() {
        return Err(fail(format!("{} rows of {}, expected {}", rows.len(), answer["total"]["endpoints"], found.len())));
    }
    let all: Vec<&Record> = found.values().flatten().copied().collect();
    figures_agree(&answer["total"], &all).map_err(|why| fail(format!("total: {why}")))?;
    for row in rows {
        let records = found.iter().find(|(name, _)| is_named(row, **name)).map(|(_, records)| records);
        let records = records.ok_or_else(|| fail(format!("{:?} should not be there", name_of(row))))?;
        figures_agree(row, records).map_err(|why| fail(format!("{:?}: {why}", name_of(row))))?;
    }
    in_order(rows, column).map_err(fail)?;
    // The best that was left out is not better than the worst that was not: by columns that counting gives exactly.
    if let (Some(last), "requests" | "errors" | "client_errors") = (rows.last(), by) {
        let value = |records: &Vec<&Record>| match by {
            "requests" => records.len(),
            "errors" => records.iter().filter(|record| record.status >= 500).count(),
            _ => records.iter().filter(|record| (400..500).contains(&record.status)).count(),
        };
        let left_out = found.iter().filter(|(name, _)| !rows.iter().any(|row| is_named(row, **name)));
        let best = left_out.map(|(_, records)| value(records)).max().unwrap_or(0);
        if last[column].as_u64().unwrap() < best as u64 {
            return Err(fail(format!("an endpoint with {best} was left out")));
        }
    }
    if compare {
        let (from, to) = (instant(&answer["previous_window"]["from"]), instant(&answer["previous_window"]["to"]));
        let found = enough(story.model.by_endpoint(from, to, matches));
        for row in rows {
            match (found.iter().find(|(name, _)| is_named(row, **name)), &row["previous"]) {
                (None, Value::Null) => {}
                (Some((_, records)), previous @ Value::Object(_)) => {
                    figures_agree(previous, records)
                        .map_err(|why| fail(format!("previous {:?}: {why}", name_of(row))))?;
                }
                (_, previous) => return Err(fail(format!("previous of {:?}: {previous}", name_of(row)))),
            }
        }
    }
    Ok(())
}

/// Larger values first, none last, ties by number.
fn in_order(rows: &[Value], column: &str) -> Checked {
    let key = |row: &Value| (row[column].as_f64().unwrap_or(f64::NEG_INFINITY), -row["id"].as_i64().unwrap());
    for pair in rows.windows(2) {
        // Ties that only the digits left out of the answer would break are not ties to the service.
        let (first, second) = (key(&pair[0]), key(&pair[1]));
        if first.0 < second.0 {
            return Err(format!("{first:?} is ranked before {second:?}"));
        }
        let whole = matches!(column, "requests" | "errors" | "client_errors");
        if whole && first < second {
            return Err(format!("a tie is not broken by number: {first:?}, {second:?}"));
        }
    }
    Ok(())
}

async fn overview(story: &mut Story) -> Checked {
    let (from, to) = window(story);
    let path = format!("/api/v1/overview?from={}&to={}", text(from), text(to));
    let answer = story.app.get(&path).await;
    let (from, to) = story.model.widened(from, to);
    window_agrees(&answer, (from, to)).map_err(|why| format!("{path}: {why}"))?;
    let found = story.model.by_endpoint(from, to, |_| true);
    let all: Vec<&Record> = found.values().flatten().copied().collect();
    figures_agree(&answer["total"], &all).map_err(|why| format!("{path}: total: {why}"))?;
    let mut services: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    all.iter().for_each(|record| services.entry(record.service).or_default().push(record));
    let rows = answer["services"].as_array().unwrap();
    if rows.len() != services.len() {
        return Err(format!("{path}: {} services, expected {}", rows.len(), services.len()));
    }
    for row in rows {
        let name = row["service"].as_str().unwrap();
        figures_agree(row, &services[name]).map_err(|why| format!("{path}: {name}: {why}"))?;
    }
    Ok(())
}

/// A parameter `tz`, and how many hours its zone is ahead before the last Sunday of October, in Europe, or the first of
/// November, in America, and from then on. Not from the rules that the service goes by: there is only this change in a run.
fn a_zone(story: &mut Story) -> (&'static str, Zone) {
    let (berlin, new_york) = (at("2026-10-25T01:00:00Z"), at("2026-11-01T06:00:00Z"));
    let zones = [
        ("", Zone { before: 0, change: berlin, after: 0 }),
        ("&tz=UTC", Zone { before: 0, change: berlin, after: 0 }),
        ("&tz=Europe/London", Zone { before: 1, change: berlin, after: 0 }),
        ("&tz=Europe/Berlin", Zone { before: 2, change: berlin, after: 1 }),
        ("&tz=America/New_York", Zone { before: -4, change: new_york, after: -5 }),
        ("&tz=Asia/Tokyo", Zone { before: 9, change: berlin, after: 9 }),
    ];
    zones[story.random.random_range(0..zones.len())]
}

#[derive(Clone, Copy)]
struct Zone {
    before: i64,
    change: DateTime<Utc>,
    after: i64,
}

/// The day in whose hours there an instant lies.
fn day_of(instant: DateTime<Utc>, zone: Zone) -> NaiveDate {
    let hours = if instant < zone.change { zone.before } else { zone.after };
    (instant + TimeDelta::hours(hours)).date_naive()
}

/// A window widened to whole days there, by walking from hour to hour.
fn whole_days(from: DateTime<Utc>, to: DateTime<Utc>, zone: Zone) -> (DateTime<Utc>, DateTime<Utc>) {
    let hour = TimeDelta::hours(1);
    let (mut start, mut end) = (floor(from, 60), ceil(to, 60));
    while day_of(start - hour, zone) == day_of(start, zone) {
        start -= hour;
    }
    while day_of(end - hour, zone) == day_of(end, zone) {
        end += hour;
    }
    (start, end)
}

async fn daily(story: &mut Story) -> Checked {
    let (from, to) = window(story);
    let (tz, zone) = a_zone(story);
    let path = format!("/api/v1/daily?from={}&to={}&limit=10000{tz}", text(from), text(to));
    let answer = story.app.get(&path).await;
    let (from, to) = whole_days(from, to, zone);
    window_agrees(&answer, (from, to)).map_err(|why| format!("{path}: {why}"))?;
    let mut days: BTreeMap<(NaiveDate, Name), Vec<&Record>> = BTreeMap::new();
    for record in story.model.records.iter().filter(|record| record.at >= from && record.at < to) {
        days.entry((day_of(record.at, zone), record.name())).or_default().push(record);
    }
    let rows = answer["rows"].as_array().unwrap();
    if rows.len() != days.len() {
        return Err(format!("{path}: {} rows, expected {}", rows.len(), days.len()));
    }
    for row in rows {
        let day: NaiveDate = row["day"].as_str().unwrap().parse().unwrap();
        let records =
            days.iter().find(|((of, name), _)| *of == day && is_named(row, *name)).map(|(_, records)| records);
        let records = records.ok_or_else(|| format!("{path}: {day} {:?} should not be there", name_of(row)))?;
        figures_agree(row, records).map_err(|why| format!("{path}: {day} {:?}: {why}", name_of(row)))?;
    }
    Ok(())
}

/// One endpoint that is there, with its number.
struct Found {
    id: i64,
    name: Name,
}

async fn an_endpoint(story: &mut Story) -> Result<Option<Found>, String> {
    if story.model.records.is_empty() {
        return Ok(None);
    }
    let index = story.random.random_range(0..story.model.records.len());
    let name = story.model.records[index].name();
    let answer = story.app.get("/api/v1/endpoints/top?window=60d&limit=1000").await;
    let row = answer["rows"].as_array().unwrap().iter().find(|row| is_named(row, name));
    let row = row.ok_or_else(|| format!("{name:?} is not in the ranking of 60 days"))?;
    Ok(Some(Found { id: row["id"].as_i64().unwrap(), name }))
}

async fn endpoint(story: &mut Story, found: &Found) -> Checked {
    let (from, to) = window(story);
    let path = format!("/api/v1/endpoints/{}?from={}&to={}", found.id, text(from), text(to));
    let answer = story.app.get(&path).await;
    let (from, to) = story.model.widened(from, to);
    window_agrees(&answer, (from, to)).map_err(|why| format!("{path}: {why}"))?;
    let records = story.model.by_endpoint(from, to, |record| record.name() == found.name);
    let records = records.into_values().next().unwrap_or_default();
    figures_agree(&answer, &records).map_err(|why| format!("{path}: {why}"))?;
    let (redirects, timed) = (answer["redirects"].as_u64().unwrap(), answer["timed_requests"].as_u64().unwrap());
    let expected = (
        records.iter().filter(|record| (300..400).contains(&record.status)).count() as u64,
        records.iter().filter(|record| record.us.is_some()).count() as u64,
    );
    if (redirects, timed) == expected {
        Ok(())
    } else {
        Err(format!("{path}: {:?}, expected {expected:?}", (redirects, timed)))
    }
}

async fn series(story: &mut Story, found: &Found) -> Checked {
    let (step, minutes) = [("1m", 1), ("5m", 5), ("1h", 60), ("1d", 24 * 60)][story.random.random_range(0..4)];
    let (from, to) = if minutes < 60 {
        let from = story.model.minutes_since + TimeDelta::minutes(story.random.random_range(0..30 * 60));
        (from, from + TimeDelta::minutes(story.random.random_range(1..20 * 60)))
    } else {
        window(story)
    };
    let (tz, zone) = a_zone(story);
    let path = format!("/api/v1/endpoints/{}/series?step={step}&from={}&to={}{tz}", found.id, text(from), text(to));
    let answer = story.app.get(&path).await;
    let of_days = step == "1d";
    let (from, to) = if of_days { whole_days(from, to, zone) } else { (floor(from, minutes), ceil(to, minutes)) };
    window_agrees(&answer, (from, to)).map_err(|why| format!("{path}: {why}"))?;
    let points = answer["points"].as_array().unwrap();
    let (mut counted, mut start) = (0, from);
    for (index, point) in points.iter().enumerate() {
        if instant(&point["start"]) != start {
            return Err(format!("{path}: point {index} begins at {}", point["start"]));
        }
        let within = start + TimeDelta::minutes(1);
        let end = if of_days { whole_days(start, within, zone).1 } else { start + TimeDelta::minutes(minutes) };
        let records = story.model.by_endpoint(start, end, |record| record.name() == found.name);
        let records = records.into_values().next().unwrap_or_default();
        counted += records.len();
        figures_agree(point, &records).map_err(|why| format!("{path}: {start}: {why}"))?;
        start = end;
    }
    let all: usize = story
        .model
        .by_endpoint(from, to, |record| record.name() == found.name)
        .into_values()
        .map(|all| all.len())
        .sum();
    if counted == all { Ok(()) } else { Err(format!("{path}: the points have {counted} of {all} requests")) }
}

async fn requests(story: &mut Story, found: &Found) -> Checked {
    let (from, to) = window(story);
    let by = ["newest", "slowest", "failed"][story.random.random_range(0..3)];
    let path =
        format!("/api/v1/endpoints/{}/requests?by={by}&limit=1000&from={}&to={}", found.id, text(from), text(to));
    let answer = story.app.get(&path).await;
    let (from, to) = (floor(from, 1), ceil(to, 1));
    let records = story.model.by_endpoint(from.max(story.model.raw_since), to, |record| {
        record.name() == found.name
            && (by != "slowest" || record.us.is_some())
            && (by != "failed" || record.status >= 500)
    });
    let key =
        |at: DateTime<Utc>, status: u64, ms: Option<f64>| (at, status, ms.map(|ms| (ms * 1_000.0).round() as u64));
    let mut expected: Vec<_> =
        records.into_values().flatten().map(|record| (record.at, u64::from(record.status), record.us)).collect();
    let rows = answer["requests"].as_array().unwrap();
    let mut told: Vec<_> = rows
        .iter()
        .map(|row| key(instant(&row["timestamp"]), row["status"].as_u64().unwrap(), row["response_time_ms"].as_f64()))
        .collect();
    let sorted = match by {
        "slowest" => told.windows(2).all(|pair| pair[0].2 >= pair[1].2),
        _ => told.windows(2).all(|pair| pair[0].0 >= pair[1].0),
    };
    if !sorted {
        return Err(format!("{path}: not in order"));
    }
    told.sort_unstable();
    expected.sort_unstable();
    if told == expected { Ok(()) } else { Err(format!("{path}: {} requests, expected {}", told.len(), expected.len())) }
}
