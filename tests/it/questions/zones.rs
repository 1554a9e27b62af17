//! Days of a time zone, against counting what was sent by the calendars there.
//!
//! The offsets are written down here, by hand, from the published dates of the changes: nothing is asked of the rules that
//! the service goes by.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{id_of, records, refused};
use crate::harness::{Setup, TestApp, at};

/// A place, the instants from which its clocks are so many hours ahead, and a window around one change or more.
struct Place {
    tz: &'static str,
    hours_ahead: &'static [(&'static str, i64)],
    /// First day and the day after the last, as calendars there say it, and when those days begin.
    from: (&'static str, &'static str),
    to: (&'static str, &'static str),
    /// The day of a change and its hours.
    odd: (&'static str, i64),
}

const PLACES: [Place; 5] = [
    Place {
        tz: "Europe/Berlin",
        hours_ahead: &[("2026-01-01T00:00:00Z", 1), ("2026-03-29T01:00:00Z", 2)],
        from: ("2026-03-27", "2026-03-26T23:00:00Z"),
        to: ("2026-04-01", "2026-03-31T22:00:00Z"),
        odd: ("2026-03-29", 23),
    },
    Place {
        tz: "Europe/Berlin",
        hours_ahead: &[("2026-04-01T00:00:00Z", 2), ("2026-10-25T01:00:00Z", 1)],
        from: ("2026-10-23", "2026-10-22T22:00:00Z"),
        to: ("2026-10-28", "2026-10-27T23:00:00Z"),
        odd: ("2026-10-25", 25),
    },
    Place {
        tz: "America/New_York",
        hours_ahead: &[("2026-04-01T00:00:00Z", -4), ("2026-11-01T06:00:00Z", -5)],
        from: ("2026-10-30", "2026-10-30T04:00:00Z"),
        to: ("2026-11-04", "2026-11-04T05:00:00Z"),
        odd: ("2026-11-01", 25),
    },
    // Clocks go from 24:00 to 1:00, so this day has no midnight.
    Place {
        tz: "Africa/Cairo",
        hours_ahead: &[("2026-01-01T00:00:00Z", 2), ("2026-04-23T22:00:00Z", 3)],
        from: ("2026-04-22", "2026-04-21T22:00:00Z"),
        to: ("2026-04-26", "2026-04-25T21:00:00Z"),
        odd: ("2026-04-24", 23),
    },
    // With minutes of these days still at hand, and days of which the view speaks.
    Place {
        tz: "Asia/Tokyo",
        hours_ahead: &[("2026-01-01T00:00:00Z", 9)],
        from: ("2026-11-17", "2026-11-16T15:00:00Z"),
        to: ("2026-11-21", "2026-11-20T15:00:00Z"),
        odd: ("2026-11-19", 24),
    },
];

impl Place {
    /// The day there at an instant.
    fn day(&self, instant: DateTime<Utc>) -> String {
        let (_, hours) = self.hours_ahead.iter().rfind(|(since, _)| at(since) <= instant).unwrap();
        (instant + TimeDelta::hours(*hours)).date_naive().to_string()
    }

    /// Instants all over the window and beyond, and close to where days of this place and of UTC meet.
    fn instants(&self) -> Vec<DateTime<Utc>> {
        let (from, to) = (at(self.from.1), at(self.to.1));
        let mut instants = Vec::new();
        let mut hour = from - TimeDelta::hours(30);
        while hour < to + TimeDelta::hours(30) {
            let close = [(0, 1), (0, 0), (59, 59_999_999), (31, 0)];
            instants.extend(close.map(|(minute, us)| hour + TimeDelta::minutes(minute) + TimeDelta::microseconds(us)));
            hour += TimeDelta::hours(1);
        }
        // Some hours saw more than others, so that a day shifted by an hour has another count.
        let busier = instants.iter().enumerate().filter(|(index, _)| index % 7 < 3).map(|(_, instant)| *instant);
        let mut all: Vec<DateTime<Utc>> = busier.chain(instants.iter().copied()).collect();
        all.retain(|instant| *instant < at("2026-11-21T10:20:00Z"));
        all
    }

    fn ask(&self, path: &str) -> String {
        format!("{path}?from={}&to={}&tz={}", self.from.0, self.to.0, self.tz)
    }
}

fn text(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn instant(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
}

/// Asks everything about a place and compares with what was sent.
async fn agrees(app: &TestApp, place: &Place, route: &str, sent: &[DateTime<Utc>], stage: &str) {
    let id = id_of(app, route).await;
    let context = format!("{} {}, {stage}", place.tz, place.from.0);
    let mut expected: BTreeMap<String, i64> = BTreeMap::new();
    sent.iter().for_each(|instant| *expected.entry(place.day(*instant)).or_default() += 1);
    expected.retain(|day, _| (place.from.0..place.to.0).contains(&day.as_str()));
    let window = json!({"from": place.from.1, "to": place.to.1});

    let daily = app.get(&format!("{}&endpoint_id={id}", place.ask("/api/v1/daily"))).await;
    assert_eq!((&daily["tz"], &daily["window"]), (&json!(place.tz), &window), "{context}");
    let told = daily["rows"].as_array().unwrap().iter();
    let told: Vec<(String, i64)> =
        told.map(|row| (row["day"].as_str().unwrap().to_owned(), row["requests"].as_i64().unwrap())).collect();
    let newest_first: Vec<_> = expected.clone().into_iter().rev().collect();
    assert_eq!(told, newest_first, "{context}");
    let days = daily["days"].as_array().unwrap();
    assert_eq!(
        (&days[0]["from"], &days[days.len() - 1]["to"]),
        (&json!(place.from.1), &json!(place.to.1)),
        "{context}"
    );
    for (index, day) in days.iter().enumerate() {
        let length = (instant(&day["to"]) - instant(&day["from"])).num_hours();
        let odd = day["day"] == place.odd.0;
        assert_eq!(length, if odd { place.odd.1 } else { 24 }, "{context}: {day}");
        assert!(index == 0 || days[index - 1]["to"] == day["from"], "{context}: {day}");
        // The first instant of the day there, and the last.
        assert_eq!(day["day"], place.day(instant(&day["from"])), "{context}");
        assert_eq!(day["day"], place.day(instant(&day["to"]) - TimeDelta::microseconds(1)), "{context}");
    }
    assert_eq!(days.iter().filter(|day| day["day"] == place.odd.0).count(), 1, "{context}");

    let series = app.get(&format!("{}&step=1d", place.ask(&format!("/api/v1/endpoints/{id}/series")))).await;
    assert_eq!((&series["tz"], &series["window"]), (&json!(place.tz), &window), "{context}");
    let points = series["points"].as_array().unwrap();
    assert_eq!(points.len(), days.len(), "{context}");
    for (point, day) in points.iter().zip(days) {
        assert_eq!(point["start"], day["from"], "{context}");
        assert_eq!(point["requests"], expected[day["day"].as_str().unwrap()], "{context}: {day}");
    }

    let total: i64 = expected.values().sum();
    let top = app.get(&format!("{}&route={route}", place.ask("/api/v1/endpoints/top"))).await;
    assert_eq!((&top["tz"], &top["window"]), (&json!(place.tz), &window), "{context}");
    assert_eq!(top["total"]["requests"], total, "{context}");
    let hours = app.get(&format!("{}&step=1h", place.ask(&format!("/api/v1/endpoints/{id}/series")))).await;
    assert_eq!(hours["window"], window, "{context}");
    let sum: i64 = hours["points"].as_array().unwrap().iter().map(|point| point["requests"].as_i64().unwrap()).sum();
    assert_eq!(sum, total, "{context}");
}

#[tokio::test(flavor = "multi_thread")]
async fn days_of_a_zone_are_counted_by_its_calendar_over_changes_of_clocks_and_at_every_stage() {
    let app = TestApp::start().await;
    for (index, place) in PLACES.iter().enumerate() {
        // Each place an endpoint of its own: what was sent for the one before is in the view already.
        let route = format!("/{index}");
        let sent = place.instants();
        let (early, late) = sent.split_at(sent.len() / 2);
        let records = |sent: &[DateTime<Utc>]| -> Vec<Value> {
            sent.iter().flat_map(|instant| records(1, &text(*instant), &route, 200, Some(5.0))).collect()
        };
        app.accept(&records(early)).await;
        agrees(&app, place, &route, early, "in deltas").await;
        app.fold().await;
        agrees(&app, place, &route, early, "folded").await;
        app.refresh().await;
        agrees(&app, place, &route, early, "in the view").await;
        app.accept(&records(late)).await;
        agrees(&app, place, &route, &sent, "late, in deltas").await;
        app.fold().await;
        agrees(&app, place, &route, &sent, "late, folded").await;
        app.refresh().await;
        agrees(&app, place, &route, &sent, "late, in the view").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_zone_utc_is_the_same_as_none_and_so_is_one_that_keeps_its_time() {
    let app = TestApp::start().await;
    let mut all = records(3, "2026-11-17T23:59:59.999999Z", "/a", 200, Some(5.0));
    all.extend(records(2, "2026-11-18T00:00:00Z", "/a", 500, Some(7.0)));
    all.extend(records(1, "2026-11-20T12:00:00Z", "/b", 200, None));
    app.accept(&all).await;
    let id = id_of(&app, "/a").await;
    let questions = [
        "/api/v1/endpoints/top?window=7d".to_owned(),
        "/api/v1/endpoints/top?from=2026-11-17&to=2026-11-18&compare=previous".to_owned(),
        "/api/v1/daily?window=7d".to_owned(),
        "/api/v1/daily?from=2026-11-17&to=2026-11-19".to_owned(),
        format!("/api/v1/endpoints/{id}/series?step=1d&window=7d"),
        format!("/api/v1/endpoints/{id}/series?from=2026-11-17&to=2026-11-19"),
    ];
    for stage in ["in deltas", "folded", "in the view"] {
        for question in &questions {
            let mut plain = app.get(question).await;
            assert_eq!(plain["tz"], "UTC", "{stage}: {question}");
            assert_eq!(app.get(&format!("{question}&tz=UTC")).await, plain, "{stage}: {question}");
            for zone in ["Etc/UTC", "Africa/Abidjan", "Europe/London"] {
                let there = app.get(&format!("{question}&tz={zone}")).await;
                plain["tz"] = json!(zone);
                assert_eq!(there, plain, "{stage}: {question}");
            }
        }
        match stage {
            "in deltas" => app.fold().await,
            _ => app.refresh().await,
        }
    }
    // The same question, so the same copy of its answer.
    let cached = async |query: &str| {
        let answer = app.request(Method::GET, &format!("/api/v1/daily?window=8d{query}")).send().await.unwrap();
        answer.headers()["x-cache"].to_str().unwrap().to_owned()
    };
    assert_eq!((cached("").await, cached("&tz=UTC").await), ("miss".to_owned(), "hit".to_owned()));
    assert_eq!(
        (cached("&tz=Asia/Tokyo").await, cached("&tz=Asia/Seoul").await),
        ("miss".to_owned(), "miss".to_owned())
    );
    assert_eq!(cached("&tz=Asia/Tokyo").await, "hit");
}

#[tokio::test(flavor = "multi_thread")]
async fn days_of_a_zone_come_newest_first_the_busiest_endpoint_first_and_no_more_than_asked_for() {
    let app = TestApp::start().await;
    // In Tokyo the 19th begins at 15:00 on the 18th.
    let mut all = records(2, "2026-11-18T15:00:00Z", "/a", 200, Some(2.0));
    all.extend(records(5, "2026-11-18T14:59:59Z", "/c", 200, Some(2.0)));
    all.extend(records(3, "2026-11-19T14:59:59Z", "/b", 500, Some(4.0)));
    all.extend(records(4, "2026-11-20T15:00:00Z", "/b", 200, None));
    all.extend(records(1, "2026-11-21T10:00:00Z", "/a", 200, None));
    app.accept(&all).await;
    let expected = [
        ("2026-11-21", "/b", 4),
        ("2026-11-21", "/a", 1),
        ("2026-11-19", "/b", 3),
        ("2026-11-19", "/a", 2),
        ("2026-11-18", "/c", 5),
    ];
    let id = id_of(&app, "/b").await;
    let rows = async |query: &str| -> Vec<(String, String, i64)> {
        let answer = app.get(&format!("/api/v1/daily?tz=Asia/Tokyo&{query}")).await;
        let text = |row: &Value, field: &str| row[field].as_str().unwrap().to_owned();
        let rows = answer["rows"].as_array().unwrap().iter();
        rows.map(|row| (text(row, "day"), text(row, "route"), row["requests"].as_i64().unwrap())).collect()
    };
    let of = |rows: &[(&str, &str, i64)]| -> Vec<(String, String, i64)> {
        rows.iter().map(|(day, route, requests)| ((*day).to_owned(), (*route).to_owned(), *requests)).collect()
    };
    for stage in ["in deltas", "folded", "in the view"] {
        assert_eq!(rows("window=7d").await, of(&expected), "{stage}");
        for limit in 1..=5 {
            assert_eq!(rows(&format!("window=7d&limit={limit}")).await, of(&expected[..limit]), "{stage}");
        }
        assert_eq!(rows(&format!("window=400d&endpoint_id={id}")).await, of(&[expected[0], expected[2]]), "{stage}");
        assert_eq!(rows("window=400d&route=C&service=shop&method=GET").await, of(&expected[4..]), "{stage}");
        // Widened to whole days there.
        assert_eq!(rows("from=2026-11-19T14:00:00Z&to=2026-11-19T14:30:00Z").await, of(&expected[2..4]), "{stage}");
        match stage {
            "in deltas" => app.fold().await,
            _ => app.refresh().await,
        }
    }
    let answer = app.get("/api/v1/daily?tz=Asia/Tokyo&window=7d").await;
    assert_eq!(answer["window"], json!({"from": "2026-11-13T15:00:00Z", "to": "2026-11-21T15:00:00Z"}));
    // Of a day that is not over: by what has passed of it, 19 hours and 21 minutes.
    assert_eq!(answer["rows"][0]["requests_per_second"], json!(0.000057));
    let csv = app.request(Method::GET, "/api/v1/daily?tz=Asia/Tokyo&window=7d&format=csv").send().await.unwrap();
    let text = csv.text().await.unwrap();
    assert!(text.starts_with("day,id,service,method,route,requests,"), "{text}");
    assert!(text.contains(&format!("\r\n2026-11-19,{id},shop,GET,/b,3,0.000035,3,1,0,4,4,4,,,,12\r\n")), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_in_days_of_a_zone_may_be_as_long_as_400_of_them() {
    let setup = Setup { now: at("2026-10-26T10:20:30Z"), ..Setup::default() };
    let app = TestApp::with(setup).await;
    // An hour longer than 400 times 24: clocks are put back twice and forward once.
    let longest = "from=2025-09-21&to=2026-10-26&tz=Europe/Berlin";
    assert_eq!(app.get(&format!("/api/v1/daily?{longest}")).await["days"].as_array().unwrap().len(), 400);
    app.get(&format!("/api/v1/endpoints/top?{longest}")).await;
    let longer = "/api/v1/endpoints/top?from=2025-09-20&to=2026-10-26&tz=Europe/Berlin";
    refused(&app, longer, StatusCode::BAD_REQUEST, "invalid-parameter").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_off_the_full_hour_is_answered_422_in_words_that_say_why() {
    let app = TestApp::start().await;
    app.accept(&records(1, "2026-11-20T12:00:00Z", "/a", 200, Some(5.0))).await;
    let id = id_of(&app, "/a").await;
    let series = format!("/api/v1/endpoints/{id}/series");
    let routes = ["/api/v1/endpoints/top", "/api/v1/daily", &series];
    for route in routes {
        for window in ["window=7d", "from=2026-11-18&to=2026-11-20", "from=2026-11-18T00:00:00Z"] {
            for (zone, begins) in [("Asia/Kolkata", "18:30:00Z"), ("Asia/Kathmandu", "18:15:00Z")] {
                let path = format!("{route}?{window}&tz={zone}");
                let told = refused(&app, &path, StatusCode::UNPROCESSABLE_ENTITY, "time-zone-off-the-hour").await;
                let detail = told["detail"].as_str().unwrap();
                assert!(detail.contains("whole hours of UTC") && detail.contains(zone), "{path}: {detail}");
                assert!(detail.contains(begins), "{path}: {detail}");
                let suggestion = told["suggestion"].as_str().unwrap();
                assert!(suggestion.contains("neighbouring") && suggestion.contains("UTC"), "{suggestion}");
            }
        }
        // Only where clocks are off the hour: in its summer Lord Howe is eleven hours ahead, in its winter half an hour less.
        let path = |from: &str, to: &str| format!("{route}?from={from}&to={to}&tz=Australia/Lord_Howe");
        let summer = app.get(&path("2026-11-10", "2026-11-12")).await;
        assert_eq!(summer["window"]["from"], "2026-11-09T13:00:00Z");
        let winter = path("2026-09-10", "2026-09-12");
        refused(&app, &winter, StatusCode::UNPROCESSABLE_ENTITY, "time-zone-off-the-hour").await;
    }
    for step in ["1d", "1h", "5m", "1m"] {
        let path = format!("{series}?window=1h&step={step}&tz=Asia/Kolkata");
        refused(&app, &path, StatusCode::UNPROCESSABLE_ENTITY, "time-zone-off-the-hour").await;
    }
    // What is suggested works.
    let top = app.get("/api/v1/endpoints/top?from=2026-11-20T00:00:00%2B05:30&to=2026-11-21T00:00:00%2B05:30").await;
    assert_eq!(top["window"], json!({"from": "2026-11-19T18:30:00Z", "to": "2026-11-20T18:30:00Z"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_that_is_not_known_or_given_twice_is_answered_400() {
    let app = TestApp::start().await;
    app.accept(&records(1, "2026-11-20T12:00:00Z", "/a", 200, Some(5.0))).await;
    let series = format!("/api/v1/endpoints/{}/series", id_of(&app, "/a").await);
    for route in ["/api/v1/endpoints/top", "/api/v1/daily", &series] {
        for (query, says) in [
            ("tz=Europe/Nowhere", "`tz` must be the name of a time zone in the IANA database, such as Europe/Berlin"),
            ("tz=", "`tz` must be the name"),
            ("tz=%2B05:30", "`tz` must be the name"),
            ("tz=europe/berlin", "`tz` must be the name"),
            ("tz=UTC&tz=UTC", "`tz` must be given once"),
            ("tz=UTC&tz=Europe/Berlin", "`tz` must be given once"),
        ] {
            let told = refused(&app, &format!("{route}?{query}"), StatusCode::BAD_REQUEST, "invalid-parameter").await;
            assert!(told["detail"].as_str().unwrap().starts_with(says), "{route}?{query}: {told}");
        }
    }
    // Where there are no days, there is no zone of them.
    for path in ["/api/v1/overview", &series.replace("/series", ""), &series.replace("/series", "/requests")] {
        refused(&app, &format!("{path}?tz=UTC"), StatusCode::BAD_REQUEST, "invalid-parameter").await;
    }
}
