//! What HTTP asks of an answer: HEAD, validators, lifetimes, refusals.

use reqwest::{Method, StatusCode};
use serde_json::json;

use super::{id_of, records, refused};
use crate::harness::{TestApp, header};

/// One question of each kind.
async fn questions(app: &TestApp) -> Vec<String> {
    app.accept(&records(30, "2026-11-20T10:05:00Z", "/a", 200, Some(5.0))).await;
    let id = id_of(app, "/a").await;
    ["overview", "daily", "daily?format=csv", "endpoints/top", "endpoints/top?format=csv&compare=previous"]
        .map(str::to_owned)
        .into_iter()
        .chain(["", "/series", "/requests"].map(|path| format!("endpoints/{id}{path}")))
        .map(|question| format!("/api/v1/{question}"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn head_answers_what_get_answers_without_a_body() {
    let app = TestApp::start().await;
    for question in questions(&app).await {
        let ask = |method| app.request(method, &question).header("Cache-Control", "no-cache").send();
        let (get, head) = (ask(Method::GET).await.unwrap(), ask(Method::HEAD).await.unwrap());
        assert_eq!((get.status(), head.status()), (StatusCode::OK, StatusCode::OK), "{question}");
        for name in [
            "content-type",
            "content-length",
            "cache-control",
            "etag",
            "vary",
            "age",
            "x-cache",
            "x-content-type-options",
        ] {
            assert_eq!(header(&get, name), header(&head, name), "{question}: {name}");
        }
        assert!(!get.bytes().await.unwrap().is_empty(), "{question}");
        assert!(head.bytes().await.unwrap().is_empty(), "{question}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_the_answer_gets_304_with_every_header_and_no_body() {
    let app = TestApp::start().await;
    for question in questions(&app).await {
        let first = app.request(Method::GET, &question).send().await.unwrap();
        let etag = header(&first, "etag").to_owned();
        assert!(etag.starts_with("W/\"") && etag.len() == 36, "{etag}");
        for condition in [etag.clone(), etag[2..].to_owned(), format!("\"other\", {etag}"), "*".to_owned()] {
            // Also anew from Postgres: nothing has changed, so the answer has not.
            for cache_control in ["max-age=0", "no-cache"] {
                let request = app.request(Method::GET, &question).header("If-None-Match", &condition);
                let again = request.header("Cache-Control", cache_control).send().await.unwrap();
                assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{question}: {condition}, {cache_control}");
                for name in ["cache-control", "etag", "vary"] {
                    assert_eq!(header(&again, name), header(&first, name), "{question}: {name}");
                }
                header(&again, "age");
                header(&again, "x-cache");
                assert!(again.bytes().await.unwrap().is_empty());
            }
        }
        let other = app.request(Method::GET, &question).header("If-None-Match", "W/\"0\"").send().await.unwrap();
        assert_eq!(other.status(), StatusCode::OK, "{question}");
    }
    // Another answer has another tag.
    let path = "/api/v1/endpoints/top";
    let before = app.request(Method::GET, path).header("Cache-Control", "no-cache").send().await.unwrap();
    app.accept(&records(1, "2026-11-21T10:05:00Z", "/a", 200, Some(5.0))).await;
    let request = app.request(Method::GET, path).header("Cache-Control", "no-cache");
    let after = request.header("If-None-Match", header(&before, "etag")).send().await.unwrap();
    assert_eq!(after.status(), StatusCode::OK);
    assert_ne!(header(&before, "etag"), header(&after, "etag"));
}

/// What a window's answer says about how long it may be kept.
async fn cache_control(app: &TestApp, query: &str) -> String {
    let response = app.request(Method::GET, &format!("/api/v1/endpoints/top?{query}")).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK, "{query}");
    header(&response, "cache-control").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settled_window_may_be_cached_for_half_a_day() {
    let app = TestApp::start().await;
    for settled in ["from=2026-11-20&to=2026-11-21", "from=2026-11-01&to=2026-11-21"] {
        assert_eq!(cache_control(&app, settled).await, "public, max-age=43200", "{settled}");
    }
    // Days tell whole days, whatever part of them was asked for.
    let path = "/api/v1/daily?from=2026-11-19T06:00:00Z&to=2026-11-20T18:00:00Z";
    let response = app.request(Method::GET, path).send().await.unwrap();
    assert_eq!(header(&response, "cache-control"), "public, max-age=43200");
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_hours_may_be_cached_for_half_an_hour_and_the_current_one_for_a_minute() {
    let app = TestApp::start().await;
    for recent in [
        "from=2026-11-21T08:00:00Z&to=2026-11-21T10:00:00Z",
        "from=2026-11-20T08:01:00Z&to=2026-11-20T08:02:00Z",
        "from=2026-11-20&to=2026-11-20T23:00:00Z",
    ] {
        assert_eq!(cache_control(&app, recent).await, "public, max-age=1800", "{recent}");
    }
    for live in ["", "window=400d", "from=2026-11-20&to=2026-11-21T10:01:00Z", "from=2026-11-21&to=2026-11-22"] {
        assert_eq!(cache_control(&app, live).await, "public, max-age=60", "{live}");
    }
    // What is live at half past is recent once the hour is over.
    app.clock.set(crate::harness::at("2026-11-21T11:00:00Z"));
    let over = "from=2026-11-21T10:00:00Z&to=2026-11-21T11:00:00Z";
    assert_eq!(cache_control(&app, over).await, "public, max-age=1800");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_that_is_not_offered_is_told_which_are() {
    let app = TestApp::start().await;
    for (method, path, allow) in [
        (Method::POST, "/api/v1/endpoints/top", "GET, HEAD"),
        (Method::DELETE, "/api/v1/endpoints/1", "GET, HEAD"),
        (Method::PUT, "/api/v1/endpoints/1/series", "GET, HEAD"),
        (Method::PATCH, "/api/v1/endpoints/1/requests", "GET, HEAD"),
        (Method::POST, "/api/v1/overview", "GET, HEAD"),
        (Method::OPTIONS, "/api/v1/daily", "GET, HEAD"),
        (Method::POST, "/", "GET, HEAD"),
        (Method::GET, "/api/v1/requests", "POST"),
    ] {
        let response = app.request(method.clone(), path).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
        assert_eq!(header(&response, "allow"), allow, "{method} {path}");
        assert_eq!(header(&response, "content-type"), "application/problem+json");
        let problem: serde_json::Value = response.json().await.unwrap();
        assert_eq!(problem["code"], "method-not-allowed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_a_problem_in_words_and_is_not_kept() {
    let app = TestApp::start().await;
    for path in ["/api/v1/nothing", "/api/v2/endpoints/top", "/api/v1/endpoints/top/", "/api/v1/endpoints/1/series/1"] {
        let problem = refused(&app, path, StatusCode::NOT_FOUND, "not-found").await;
        assert_eq!(problem["type"], "urn:endpoint-stats:problem:not-found");
        for field in ["title", "detail", "suggestion"] {
            assert!(problem[field].as_str().is_some_and(|text| text.len() > 10), "{path}: {problem}");
        }
    }
    // An endpoint that appears after its 404 is answered at once: errors are never cached.
    let unknown = "/api/v1/endpoints/1";
    refused(&app, unknown, StatusCode::NOT_FOUND, "endpoint-not-found").await;
    let response = app.request(Method::GET, unknown).send().await.unwrap();
    assert_eq!(header(&response, "cache-control"), "no-store");
    app.accept(&records(1, "2026-11-21T10:05:00Z", "/a", 200, Some(5.0))).await;
    let id = id_of(&app, "/a").await;
    let response = app.request(Method::GET, &format!("/api/v1/endpoints/{id}")).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let answer: serde_json::Value = response.json().await.unwrap();
    assert_eq!((&answer["requests"], id), (&json!(1), 1), "the first endpoint has the number that was unknown");
}
