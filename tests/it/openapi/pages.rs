//! The reference at `/docs`: whole, and without the internet.

use reqwest::{Method, StatusCode};

use super::ask;
use crate::harness::TestApp;

/// The addresses that a page loads or leads to.
fn addresses(page: &str) -> Vec<String> {
    let after = |mark: &str| {
        page.split(mark).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect::<Vec<_>>()
    };
    [after(" src=\""), after(" href=\"")].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_is_served_with_every_file_it_names() {
    let app = TestApp::start().await;
    let response = ask(&app, "/docs").await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/html; charset=utf-8");
    let page = response.text().await.unwrap();
    let named = addresses(&page);
    assert_eq!(named.len(), 5, "{named:?}");
    for name in named {
        let response = ask(&app, &format!("/{name}")).await;
        assert_eq!(response.status(), StatusCode::OK, "{name}");
        assert!(response.headers()["cache-control"].to_str().unwrap().starts_with("public, max-age="), "{name}");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff", "{name}");
        let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
        let expected = match name.rsplit('.').next().unwrap() {
            "css" => "text/css",
            "js" => "text/javascript",
            "json" => "application/json",
            "png" => "image/png",
            other => panic!("{other}"),
        };
        assert!(content_type.starts_with(expected), "{name}: {content_type}");
        assert!(response.bytes().await.unwrap().len() > 100, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_loads_nothing_from_elsewhere() {
    let app = TestApp::start().await;
    let response = ask(&app, "/docs").await;
    let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
    // Nothing but what is named, and nothing named is another host or runs what stands in the page.
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    let sources = policy.split(';').flat_map(|rule| rule.split_whitespace().skip(1));
    assert!(sources.clone().all(|source| ["'none'", "'self'", "data:"].contains(&source)), "{policy}");
    assert!(policy.contains("script-src 'self';") && policy.contains("connect-src 'self';"), "{policy}");
    let page = response.text().await.unwrap();
    let start = ask(&app, "/docs/start.js").await.text().await.unwrap();
    for text in [&page, &start] {
        assert!(!text.contains("://") && !text.contains("\"//"), "{text}");
    }
    assert!(start.contains("validatorUrl: null"), "{start}");
    assert!(page.matches("<script").count() == page.matches("<script src=").count(), "no script in the page: {page}");
    assert!(!page.contains("<style") && !page.contains(" style=") && !page.contains(" onload="), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_else_is_served_below_docs() {
    let app = TestApp::start().await;
    for path in [
        "/docs/",
        "/docs/index.html",
        "/docs/oauth2-redirect.html",
        "/docs/swagger-initializer.js",
        "/docs/..%2f..%2fetc%2fpasswd",
        "/docs/..%2fopenapi.json",
        "/docs/%2e%2e%2f%2e%2e%2fCargo.toml",
        "/docs/%2fetc%2fpasswd",
        "/docs/..%5c..%5cCargo.toml",
        "/docs/start.js%00.css",
        "/docs/START.JS",
        "/docs/a/b",
    ] {
        let response = app.request(Method::GET, path).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{path}");
    }
}
