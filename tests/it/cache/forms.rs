//! Compressed bodies, validators, and the headers of every answer.

use std::io::Read as _;

use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::{SETTLED, yesterday};
use crate::harness::{TestApp, header, record};

/// A service whose answer to [`SETTLED`] is worth compressing.
async fn busy() -> TestApp {
    let app = TestApp::start().await;
    let records: Vec<Value> = (0..50).map(|n| record("2026-11-20T10:05:00Z", &format!("/a{n}"), 5.0)).collect();
    app.accept(&records).await;
    app
}

fn unpacked(encoding: &str, bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    match encoding {
        "br" => brotli::Decompressor::new(bytes, 4_096).read_to_end(&mut text),
        "zstd" => zstd::Decoder::new(bytes).unwrap().read_to_end(&mut text),
        "gzip" => flate2::read::GzDecoder::new(bytes).read_to_end(&mut text),
        other => panic!("{other}"),
    }
    .unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_sent_in_the_form_that_the_client_prefers() {
    let app = busy().await;
    for path in [SETTLED, "/api/v1/daily?from=2026-11-20&to=2026-11-21&format=csv", "/"] {
        // Made before, so that every form is of the same answer.
        app.request(Method::GET, path).send().await.unwrap();
        let plain = app.request(Method::GET, path).send().await.unwrap();
        assert!(plain.headers().get("content-encoding").is_none());
        let (etag, vary) = (header(&plain, "etag").to_owned(), header(&plain, "vary").to_owned());
        assert!(vary.contains("Accept-Encoding"), "{vary}");
        let text = plain.bytes().await.unwrap();
        for (accepted, encoding) in [
            ("br", "br"),
            ("zstd", "zstd"),
            ("gzip", "gzip"),
            ("gzip;q=0.2, zstd;q=0.9", "zstd"),
            ("deflate, gzip", "gzip"),
        ] {
            let ask = |method| app.request(method, path).header("Accept-Encoding", accepted);
            let packed = ask(Method::GET).send().await.unwrap();
            assert_eq!(header(&packed, "content-encoding"), encoding, "{path}: {accepted}");
            assert_eq!(
                (header(&packed, "etag"), header(&packed, "vary")),
                (&etag[..], &vary[..]),
                "{path}: {accepted}"
            );
            let head = ask(Method::HEAD).send().await.unwrap();
            assert_eq!(header(&head, "content-length"), header(&packed, "content-length"), "{path}: {accepted}");
            let same = ask(Method::GET).header("If-None-Match", &etag).send().await.unwrap();
            assert_eq!(same.status(), StatusCode::NOT_MODIFIED);
            assert!(same.headers().get("content-encoding").is_none());
            let bytes = packed.bytes().await.unwrap();
            assert!(bytes.len() * 2 < text.len(), "{path}: {accepted}: {} of {}", bytes.len(), text.len());
            assert_eq!(unpacked(encoding, &bytes), text, "{path}: {accepted}");
        }
        for as_it_is in ["identity", "deflate", "br;q=0", "nonsense"] {
            let response = app.request(Method::GET, path).header("Accept-Encoding", as_it_is).send().await.unwrap();
            assert!(response.headers().get("content-encoding").is_none(), "{path}: {as_it_is}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_miss_is_compressed_too_and_says_that_it_is_one() {
    let app = busy().await;
    let request = app.request(Method::GET, SETTLED).header("Accept-Encoding", "gzip");
    let made = request.send().await.unwrap();
    assert_eq!((header(&made, "x-cache"), header(&made, "content-encoding")), ("miss", "gzip"));
    let answer: Value = serde_json::from_slice(&unpacked("gzip", &made.bytes().await.unwrap())).unwrap();
    assert_eq!(answer["cache"], "miss");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_carries_an_id_its_time_and_no_liberties() {
    let app = TestApp::start().await;
    app.accept(&yesterday(3)).await;
    for (path, cache_control) in [
        (SETTLED, "public, max-age=43200"),
        ("/", "public, max-age=300"),
        ("/favicon.ico", "public, max-age=300"),
        ("/livez", "no-store"),
        ("/readyz", "no-store"),
        ("/nothing", "no-store"),
        ("/api/v1/endpoints/top?limit=0", "no-store"),
        ("/api/v1/requests", "no-store"),
    ] {
        let response = app.request(Method::GET, path).send().await.unwrap();
        assert_eq!(header(&response, "cache-control"), cache_control, "{path}");
        assert_eq!(header(&response, "x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header(&response, "x-frame-options"), "DENY", "{path}");
        assert_eq!(header(&response, "referrer-policy"), "no-referrer", "{path}");
        assert_eq!(header(&response, "cross-origin-resource-policy"), "same-origin", "{path}");
        assert!(header(&response, "content-security-policy").starts_with("default-src 'none'"), "{path}");
        assert!(header(&response, "server-timing").contains("total;dur="), "{path}");
        assert!(response.headers().get("strict-transport-security").is_none(), "{path}: only over TLS");
        assert!(response.headers().get("access-control-allow-origin").is_none(), "{path}");
        assert!(!header(&response, "x-request-id").is_empty(), "{path}");
        let mine = app.request(Method::GET, path).header("X-Request-Id", "trace-1.a_B").send().await.unwrap();
        assert_eq!(header(&mine, "x-request-id"), "trace-1.a_B", "{path}");
        for odd in ["a b", "<script>", &"x".repeat(65), "a;b", "\u{e9}"] {
            let response = app.request(Method::GET, path).header("X-Request-Id", odd).send().await.unwrap();
            assert_ne!(header(&response, "x-request-id"), odd, "{path}");
        }
    }
    let timed = app.request(Method::GET, SETTLED).send().await.unwrap();
    assert!(header(&timed, "server-timing").starts_with("cache;desc=hit, answer;dur="), "{timed:?}");
    assert_eq!(header(&timed, "vary"), "Accept-Encoding, Origin");
    let icon = app.request(Method::GET, "/favicon.ico").send().await.unwrap();
    assert_eq!(header(&icon, "content-type"), "image/x-icon");
    assert_eq!(&icon.bytes().await.unwrap()[..4], [0, 0, 1, 0], "an icon file");
}

/// All that an answer says, but for what each says of itself alone.
async fn told(request: reqwest::RequestBuilder) -> (StatusCode, Vec<(String, String)>, Vec<u8>) {
    let response = request.send().await.unwrap();
    let own = ["date", "x-request-id", "server-timing", "ratelimit"];
    let mut headers: Vec<(String, String)> = response
        .headers()
        .iter()
        .filter(|(name, _)| !own.contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    headers.sort();
    (response.status(), headers, response.bytes().await.unwrap().to_vec())
}

/// The service remembers the text of questions that it has read. Here each is asked with a text that was seen before, and with
/// one that says the same and never was: nothing between two `&` is no parameter.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_was_read_before_is_answered_as_one_that_is_new() {
    let app = busy().await;
    let top: Value = app.get(SETTLED).await;
    let endpoint = format!("/api/v1/endpoints/{}", top["rows"][0]["id"]);
    let day = "from=2026-11-20&to=2026-11-21";
    let mut paths = vec![
        SETTLED.to_owned(),
        format!("{SETTLED}&format=csv"),
        "/api/v1/endpoints/top?service=caf%C3%A9&window=7d".to_owned(),
        format!("/api/v1/overview?{day}"),
        format!("/api/v1/daily?{day}"),
        format!("/api/v1/daily?{day}&tz=Europe/Berlin&format=csv"),
        format!("{endpoint}?{day}"),
        format!("{endpoint}/series?{day}&step=1h"),
        format!("{endpoint}/requests?{day}"),
        // Asked amiss.
        format!("/api/v1/endpoints/99999?{day}"),
        format!("/api/v1/endpoints/x?{day}"),
        format!("/api/v1/endpoints/top?{day}&by=nonsense"),
        format!("/api/v1/endpoints/top?{day}&limit=0"),
        format!("/api/v1/endpoints/top?{day}&limit=1&limit=1"),
        format!("/api/v1/overview?{day}&by=p95"),
        "/api/v1/endpoints/top?from=2026-11-21&to=2026-11-20".to_owned(),
        "/api/v1/endpoints/top?window=nonsense".to_owned(),
    ];
    // The same text but for what counts: one that is remembered is not taken for another.
    paths.extend((1..=9).map(|limit| SETTLED.replace("limit=10", &format!("limit={limit}"))));
    let mut never_seen_before = (1..).map(|n| "&".repeat(n));
    for round in 0..2 {
        for path in &paths {
            // Whatever is asked for the first time is a miss.
            let (_, headers, _) = told(app.request(Method::GET, path)).await;
            let etag = headers.iter().find(|(name, _)| name == "etag").map_or("\"none\"", |(_, etag)| etag).to_owned();
            for (name, value) in [
                ("accept", "*/*"),
                ("accept-encoding", "br, gzip"),
                ("accept-encoding", "identity;q=1, zstd"),
                ("if-none-match", etag.as_str()),
                ("if-none-match", "\"another\", *"),
                ("cache-control", "no-cache"),
                ("cache-control", "max-age=0"),
                ("x-request-id", "mine"),
            ] {
                for method in [Method::GET, Method::HEAD, Method::DELETE] {
                    let other = format!("{path}{}", never_seen_before.next().unwrap());
                    let seen = told(app.request(method.clone(), path).header(name, value)).await;
                    let new = told(app.request(method.clone(), &other).header(name, value)).await;
                    assert!(seen == new, "{round}: {method} {path} with {name}: {value}\n{seen:?}\n{new:?}");
                }
            }
        }
    }
    let (status, headers, _) = told(app.request(Method::GET, SETTLED)).await;
    assert_eq!(status, StatusCode::OK);
    assert!(headers.contains(&("x-cache".to_owned(), "hit".to_owned())), "{headers:?}");
}
