//! Requests that no well-meaning client sends, byte by byte: B15, B19 to B23, B28.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use reqwest::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{GOOD, Trial, complete, with};
use crate::harness::{Database, process};
use crate::slow_clients::resident;

/// What a request was answered, and nothing else: the connection is closed after it.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

/// Sends bytes as they are and reads until the service closes the connection, which it must do.
async fn raw(what: &str, address: impl tokio::net::ToSocketAddrs, request: impl AsRef<[u8]>) -> Answer {
    let mut connection = TcpStream::connect(address).await.unwrap();
    // The service may close before all of it is sent.
    let _ = connection.write_all(request.as_ref()).await;
    let mut said = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(4), connection.read_to_end(&mut said)).await;
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(read.is_ok(), "{what}: the connection is still open after {said:?}");
    let (head, body) = said.split_once("\r\n\r\n").unwrap_or((&said, ""));
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let status = status.unwrap_or_else(|| panic!("{what}: no answer but {said:?}"));
    assert!(!body.contains("HTTP/1.1 "), "{what}: two answers: {said}");
    Answer { status, head: head.to_lowercase(), body: body.to_owned() }
}

/// A request without a body, after which the connection ends.
fn get(target: &str, headers: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{headers}\r\n")
}

/// A POST with these headers and this body, byte by byte.
fn post(headers: &str, body: &str) -> String {
    format!("POST /api/v1/requests HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n{headers}\r\n{body}")
}

impl Trial {
    /// The bytes are answered with `status`, nothing is stored, and the next good request is fine.
    async fn answers(&self, what: &str, request: impl AsRef<[u8]>, status: u16) -> Answer {
        let before = self.stored().await;
        let answer = raw(what, self.app.address, request).await;
        assert_eq!(answer.status, status, "{what}: {} {}", answer.head, answer.body);
        assert_eq!(self.stored().await, before, "{what}: something was stored");
        self.still_answers(what).await;
        answer
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b15_control_characters_are_refused_and_never_become_headers() {
    let trial = Trial::start().await;
    let header = |value: &str| get("/livez", &format!("idempotency-key: {value}\r\nx-request-id: {value}\r\n"));
    let key = |value: &str| {
        post(&format!("idempotency-key: {value}\r\nconnection: close\r\ncontent-length: {}\r\n", GOOD.len()), GOOD)
    };
    for (what, request, status) in [
        ("CR in the path", get("/livez\rinjected: 1", ""), 400),
        ("LF in the path", get("/livez\ninjected: 1", ""), 400),
        ("CRLF in the path", get("/livez\r\ninjected: 1", ""), 400),
        ("NUL in the path", get("/livez\0", ""), 400),
        ("CR in the query", get("/api/v1/overview?service=a\rinjected: 1", ""), 400),
        ("LF in the query", get("/api/v1/overview?service=a\ninjected: 1", ""), 400),
        ("NUL in the query", get("/api/v1/overview?service=a\0", ""), 400),
        ("a space in the query", get("/api/v1/overview?service=a b", ""), 400),
        ("CR in a header", header("a\rinjected: 1"), 400),
        ("NUL in a header", header("a\0b"), 400),
        ("DEL in a header", header("a\x7fb"), 400),
        ("ESC in a header", header("a\x1b[31mb"), 400),
        ("CR in the name of a header", get("/livez", "x\ry: 1\r\n"), 400),
        ("NUL in the name of a header", get("/livez", "x\0y: 1\r\n"), 400),
        // Encoded, they are characters like any others, and no route or parameter has them.
        ("CRLF in the path, encoded", get("/livez%0d%0ainjected:%201", ""), 404),
        ("NUL in the path, encoded", get("/livez%00", ""), 404),
        ("CRLF in the query, encoded", get("/api/v1/overview?service=a%0d%0ainjected:%201", ""), 400),
        ("NUL in the query, encoded", get("/api/v1/overview?service=%00", ""), 400),
        ("CRLF in the name of a parameter", get("/api/v1/overview?a%0d%0ainjected:%201=1", ""), 400),
        ("a tab in the key", key("a\tb"), 400),
        ("a space in the key", key("a b"), 400),
        ("NUL in the key", key("a\0b"), 400),
        ("CR in the key", key("a\rinjected: 1"), 400),
        ("not ASCII in the key", key("é"), 400),
        ("an empty key", key(""), 400),
        ("a long key", key(&"k".repeat(256)), 400),
        ("two keys", key("a\r\nidempotency-key: b"), 400),
    ] {
        let answer = trial.answers(what, request, status).await;
        assert!(!answer.head.contains("injected"), "{what}: {}", answer.head);
        assert!(!answer.body.contains(['\r', '\0']), "{what}: {:?}", answer.body);
    }
    for id in ["<script>", "a b", "a\tb", "\"a\"", "a%0d%0ainjected", "é", "", &"x".repeat(65)] {
        let answer = trial.answers(id, get("/livez", &format!("x-request-id: {id}\r\n")), 200).await;
        let own = answer.head.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap();
        assert!(own != id && own.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'), "{id}: {own}");
    }
    // A bare LF ends a line for httparse, so this is two headers of the client's own, and nothing of it comes back.
    let answer = trial.answers("LF in a header", header("a\ninjected: 1"), 200).await;
    assert!(!answer.head.contains("injected"), "{}", answer.head);
}

#[tokio::test(flavor = "multi_thread")]
async fn b19_a_path_is_never_a_file() {
    let trial = Trial::start().await;
    for path in [
        "/../etc/passwd",
        "/../../../../etc/passwd",
        "/./livez",
        "/livez/../livez",
        "/%2e%2e%2f%2e%2e%2fetc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/%252e%252e%252fetc/passwd",
        "/..%5c..%5cwindows%5cwin.ini",
        "/\\..\\..\\etc\\passwd",
        "/%c0%ae%c0%ae/%c0%ae%c0%ae/etc/passwd",
        "/%c0%af",
        "/%e0%80%af",
        "/%ff%fe",
        "/%",
        "/%zz",
        "/%u002e%u002e",
        "//",
        "//livez",
        "//evil.example/",
        "/livez/",
        "/livez//",
        "/livez;jsessionid=1",
        "/livez%00",
        "/livez%00.html",
        "/.env",
        "/.git/config",
        "/Cargo.toml",
        "/api/v1",
        "/api/v1/",
        "/api/v2/endpoints/top",
        "/API/V1/ENDPOINTS/TOP",
        "/api/v1/endpoints/top/",
        "/api//v1/endpoints/top",
        "/api/v1/endpoints/../overview",
        "/api/v1/endpoints/..%2foverview",
        "/api/v1/endpoints/%2e%2e",
        "/api/v1/endpoints/1%2fseries",
        "/api/v1/endpoints/1%00",
        "/api/v1/endpoints/1;x=1",
        "/api/v1/endpoints/1/",
        "/api/v1/endpoints//1",
        "/api/v1/endpoints/1/series/",
        "/api/v1/endpoints/-1",
        "/api/v1/endpoints/1e0",
        "/api/v1/endpoints/99999999999999999999",
    ] {
        let answer = raw(path, trial.app.address, get(path, "")).await;
        assert!([400, 404].contains(&answer.status), "{path}: {} {}", answer.head, answer.body);
        assert!(!answer.body.contains("root:"), "{path}: {}", answer.body);
        complete(
            path,
            &answer.body,
            answer.status,
            if answer.status == 404 { "not-found" } else { "invalid-parameter" },
        );
    }
    trial.goes_on("paths").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b20_a_method_that_a_resource_does_not_have_is_405_and_costs_no_connection() {
    let trial = Trial::start().await;
    // With Postgres away whoever needed it would answer 503, and late.
    let shut = trial.app.database.shut().await;
    let wrong = ["TRACE", "PUT", "DELETE", "PATCH", "BREW", "PROPFIND", "get", "Get", "post", "OPTIONS"];
    let reads = ["/api/v1/endpoints/top", "/api/v1/endpoints/1", "/api/v1/overview", "/api/v1/daily", "/", "/livez"];
    let reads = reads.iter().map(|path| (*path, "GET, HEAD", "POST"));
    for (path, allow, other) in reads.chain([("/api/v1/requests", "POST", "GET")]) {
        for method in wrong.iter().chain([&other]) {
            let what = format!("{method} {path}");
            let request = format!(
                "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\nx-echo: echoed\r\ncontent-length: 6\r\n\r\nechoed"
            );
            let answer = raw(&what, trial.app.address, request).await;
            assert_eq!(answer.status, 405, "{what}: {}", answer.head);
            assert!(
                answer.head.contains(&format!("\r\nallow: {}\r\n", allow.to_lowercase())),
                "{what}: {}",
                answer.head
            );
            assert!(!format!("{}{}", answer.head, answer.body).contains("echoed"), "{what}: {}", answer.body);
            complete(&what, &answer.body, 405, "method-not-allowed");
        }
    }
    for (what, target) in
        [("an authority", "evil.example:443"), ("a path", "/livez"), ("a resource", "/api/v1/requests")]
    {
        let request = format!("CONNECT {target} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        let answer = raw(what, trial.app.address, request).await;
        assert!([404, 405].contains(&answer.status), "CONNECT {what}: {}", answer.head);
    }
    let whole_server = "OPTIONS * HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";
    let answer = raw("OPTIONS *", trial.app.address, whole_server).await;
    assert!([400, 404, 405].contains(&answer.status), "OPTIONS *: {}", answer.head);
    shut.open().await;
    trial.goes_on("methods").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b20_head_is_get_without_the_body() {
    let trial = Trial::start().await;
    for path in ["/", "/livez", "/readyz", "/api/v1/endpoints/top", "/api/v1/daily", "/nothing", "/api/v1/overview?x=1"]
    {
        // Once before, so that both find the answer made.
        raw(path, trial.app.address, get(path, "")).await;
        let got = raw(path, trial.app.address, get(path, "")).await;
        let head = raw(path, trial.app.address, get(path, "").replacen("GET", "HEAD", 1)).await;
        assert_eq!(head.body, "", "HEAD {path}");
        let told = |answer: &Answer| {
            let changes = ["date: ", "age: ", "server-timing: ", "x-request-id: "];
            let lines = answer.head.lines().filter(|line| !changes.iter().any(|name| line.starts_with(name)));
            let mut lines: Vec<String> = lines.map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(told(&head), told(&got), "HEAD {path}");
        assert!(got.head.contains(&format!("content-length: {}", got.body.len())), "{path}: {}", got.head);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b21_headers_that_a_proxy_would_set_change_nothing() {
    let trial = Trial::start().await;
    let overview = "/api/v1/overview?window=24h";
    raw("warm", trial.app.address, get(overview, "")).await;
    let plain = raw("plain", trial.app.address, get(overview, "")).await;
    for header in [
        "x-http-method-override: DELETE",
        "x-http-method: POST",
        "x-method-override: TRACE",
        "x-forwarded-for: 127.0.0.1, evil.example",
        "x-forwarded-host: evil.example",
        "x-forwarded-proto: https",
        "x-forwarded-port: 1",
        "x-forwarded-prefix: /evil",
        "x-original-url: /api/v1/requests",
        "x-rewrite-url: /api/v1/requests",
        "x-real-ip: 127.0.0.1",
        "forwarded: for=127.0.0.1;host=evil.example;proto=https",
        "forwarded: for=\"[::1\";;;=",
        "x-host: evil.example",
    ] {
        let answer = trial.answers(header, get(overview, &format!("{header}\r\n")), 200).await;
        assert_eq!(answer.body, plain.body, "{header}");
        assert!(!answer.head.contains("evil") && !answer.head.contains("location: "), "{header}: {}", answer.head);
    }
    let record = with("/items/{id}", "/by/override");
    let hidden = get(
        "/api/v1/requests",
        &format!(
            "x-http-method-override: POST\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
            record.len()
        ),
    ) + &record;
    trial.answers("a POST that says it is a GET", hidden, 405).await;
    trial.answers("another host", get(overview, "").replace("host: test", "host: evil.example"), 200).await;
    trial.answers("another host in the target", get(&format!("http://evil.example{overview}"), ""), 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b22_no_page_of_another_origin_is_let_in() {
    let trial = Trial::start().await;
    let own = format!("http://{}", trial.app.address);
    for origin in ["null", "https://evil.example", "http://127.0.0.1.evil.example", "*", &own, "file://", ""] {
        let asking = format!("origin: {origin}\r\ncookie: a=b\r\nauthorization: Bearer x\r\n");
        let preflight = format!(
            "access-control-request-method: POST\r\naccess-control-request-headers: content-type\r\n\
             access-control-request-private-network: true\r\n{asking}"
        );
        for (what, request, status) in [
            ("a question", get("/api/v1/overview", &asking), 200),
            ("an error", get("/api/v1/overview?x=1", &asking), 400),
            ("the page", get("/", &asking), 200),
            ("a preflight", get("/api/v1/requests", &preflight).replacen("GET", "OPTIONS", 1), 405),
            ("a preflight of a question", get("/api/v1/overview", &preflight).replacen("GET", "OPTIONS", 1), 405),
        ] {
            let answer = trial.answers(&format!("{what} of {origin}"), request, status).await;
            assert!(!answer.head.contains("access-control-"), "{what} of {origin}: {}", answer.head);
            assert!(!answer.head.contains("evil"), "{what} of {origin}: {}", answer.head);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b23_a_request_that_two_readers_may_read_differently_is_refused() {
    let trial = Trial::start().await;
    // Whoever takes the body to end early finds a second request here, which would store a record.
    let hidden = with("/items/{id}", "/smuggled");
    let hidden = post(&format!("content-length: {}\r\nconnection: close\r\n", hidden.len()), &hidden);
    let chunks = format!("0\r\n\r\n{hidden}");
    let length = chunks.len();
    let many = |count: usize| {
        (0..count).fold(String::new(), |mut all, n| {
            write!(all, "x-{n}: 1\r\n").unwrap();
            all
        })
    };
    for (what, request, status) in [
        (
            "length and chunks",
            post(&format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n"), &chunks),
            400,
        ),
        ("chunks and length", post("transfer-encoding: chunked\r\ncontent-length: 5\r\n", &chunks), 400),
        ("two lengths", post(&format!("content-length: 0\r\ncontent-length: {length}\r\n"), &chunks), 400),
        ("the same length twice", post("content-length: 5\r\ncontent-length: 5\r\n", &chunks), 400),
        ("a list of lengths", post("content-length: 5, 5\r\n", &chunks), 400),
        ("a length with a sign", post("content-length: +5\r\n", &chunks), 400),
        ("a negative length", post("content-length: -1\r\n", &chunks), 400),
        ("a hexadecimal length", post("content-length: 0x5\r\n", &chunks), 400),
        ("an empty length", post("content-length: \r\n", &chunks), 400),
        ("a length over 2^64", post("content-length: 18446744073709551616\r\n", &chunks), 400),
        ("chunked, identity", post("transfer-encoding: chunked, identity\r\n", &chunks), 400),
        ("identity, chunked", post("transfer-encoding: identity, chunked\r\n", &chunks), 400),
        ("identity", post("transfer-encoding: identity\r\n", &chunks), 400),
        ("chunked twice", post("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", &chunks), 400),
        ("chunked, chunked", post("transfer-encoding: chunked, chunked\r\n", &chunks), 400),
        ("gzip, chunked", post("transfer-encoding: gzip, chunked\r\n", &chunks), 400),
        ("xchunked", post("transfer-encoding: xchunked\r\n", &chunks), 400),
        ("chunked with a vertical tab", post("transfer-encoding: \x0bchunked\r\n", &chunks), 400),
        ("chunked in quotes", post("transfer-encoding: \"chunked\"\r\n", &chunks), 400),
        ("an empty transfer encoding", post("transfer-encoding: \r\n", &chunks), 400),
        ("chunks in HTTP/1.0", post("transfer-encoding: chunked\r\n", &chunks).replacen("1.1", "1.0", 1), 400),
        ("no length in HTTP/1.0", post("", &chunks).replacen("1.1", "1.0", 1), 400),
        ("a space before the colon", post("transfer-encoding : chunked\r\n", &chunks), 400),
        ("a space before a name", post(" transfer-encoding: chunked\r\n", &chunks), 400),
        ("a folded header", post("x: a\r\n b\r\ncontent-length: 0\r\n", &chunks), 400),
        ("a folded encoding", post("transfer-encoding:\r\n chunked\r\n", &chunks), 400),
        ("a bare CR between headers", post("x: a\rcontent-length: 0\r\n", &chunks), 400),
        ("a header without a name", post(": a\r\n", &chunks), 400),
        ("a header without a colon", post("abc\r\n", &chunks), 400),
        ("no host", get("/livez", "").replace("host: test\r\n", ""), 400),
        ("two hosts", get("/livez", "host: evil\r\n"), 400),
        ("HTTP/0.9", "GET /livez\r\n\r\n".to_owned(), 400),
        ("HTTP/2.0 without its preface", get("/livez", "").replace("1.1", "2.0"), 400),
        ("HTTP/1.2", get("/livez", "").replace("1.1", "1.2"), 400),
        ("HTTP/2 on a port without TLS", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 400),
        ("two spaces in the first line", get(" /livez", ""), 400),
        ("no target", "GET  HTTP/1.1\r\nhost: test\r\n\r\n".to_owned(), 400),
        ("not HTTP", "\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03\r\n\r\n".to_owned(), 400),
        ("a hundred headers", get("/livez", &many(100)), 431),
        ("a chunk of no number", post("transfer-encoding: chunked\r\n", &format!("zz\r\n{hidden}")), 400),
        ("a chunk of 2^64", post("transfer-encoding: chunked\r\n", &format!("10000000000000000\r\n{hidden}")), 400),
        (
            "a chunk that is longer than it says",
            post("transfer-encoding: chunked\r\n", &format!("1\r\nxx\r\n{hidden}")),
            400,
        ),
        ("a chunk with a negative length", post("transfer-encoding: chunked\r\n", &format!("-1\r\n{hidden}")), 400),
    ] {
        trial.answers(what, request, status).await;
    }
    trial.answers("as many headers as may be", get("/livez", &many(94)), 200).await;
    trial.answers("a head of 200 KiB", get("/livez", &format!("x: {}\r\n", "y".repeat(200 << 10))), 431).await;
    trial.answers("a target of 70 KiB", get(&format!("/{}", "y".repeat(70 << 10)), ""), 400).await;
    // httparse lets a bare LF end a line, and what stands there is gone before anything of ours could look at it. A proxy that
    // does otherwise refuses the request or sees the same lines: no length depends on it.
    trial.answers("bare LF", get("/livez", "").replace("\r\n", "\n"), 200).await;
    trial.goes_on("what was smuggled").await;
    assert_eq!(trial.app.get("/api/v1/endpoints/top?route=/smuggled").await["total"]["requests"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn b28_ten_thousand_addresses_that_are_not_there_cost_nothing() {
    let database = Database::create().await;
    let (mut service, address) = process::serve(&database, &[("JOBS", "off")]).await;
    let address = address.strip_prefix("http://").unwrap().to_owned();
    let flood = async |from: usize| {
        let clients = (0..4).map(|client| {
            let address = address.clone();
            tokio::spawn(async move {
                let client_builder = crate::harness::http_client();
                for n in from + client * 2_500..from + (client + 1) * 2_500 {
                    let path = format!("http://{address}/{n:x}/{}?{n}={n}", "a".repeat(n % 500));
                    assert_eq!(client_builder.request(Method::GET, path).send().await.unwrap().status(), 404);
                }
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.unwrap();
        }
    };
    flood(0).await;
    let Some(before) = resident(service.id().unwrap()) else { return };
    let began = Instant::now();
    flood(10_000).await;
    let (took, after) = (began.elapsed(), resident(service.id().unwrap()).unwrap());
    println!("10,000 in {took:?}, {} KiB more", after.saturating_sub(before) >> 10);
    assert!(after.saturating_sub(before) < 2 << 20, "{} KiB more", (after - before) >> 10);
    // Two milliseconds each, with the client's share, on machines that do other things too.
    assert!(took < Duration::from_secs(20), "{took:?}");
    service.kill().await.unwrap();
}
