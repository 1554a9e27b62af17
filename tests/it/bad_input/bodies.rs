//! Bodies that are refused before or while they are read.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{GOOD, JSON, NDJSON, Trial, complete, with};
use crate::harness::compressed::{gzip, zstd};
use crate::harness::{Database, Setup, TestApp, http_client, process};

/// Small, so that a body over it is quickly made.
const LIMIT: usize = 256 * 1024;

async fn small() -> Trial {
    Trial::with(Setup { max_body_bytes: LIMIT, ..Setup::default() }).await
}

/// Sends bytes as they are and reads until the service closes the connection, which it must do.
async fn raw(what: &str, app: &TestApp, bytes: &[u8]) -> String {
    let mut connection = TcpStream::connect(app.address).await.unwrap();
    connection.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), connection.read_to_end(&mut answer)).await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(matches!(read, Ok(Ok(_))), "{what}: {read:?} instead of the end of the connection, after {answer:?}");
    answer
}

/// A zstd frame that is to be skipped, with so much in it: magic, length, content. Of ASCII alone for these lengths, so
/// that it can stand in a text.
fn skipped(length: usize) -> String {
    let mut frame = vec![0x50, 0x2a, 0x4d, 0x18];
    frame.extend((length as u32).to_le_bytes());
    frame.resize(frame.len() + length, b'x');
    String::from_utf8(frame).unwrap()
}

fn head(headers: &str) -> String {
    format!("POST /api/v1/requests HTTP/1.1\r\nhost: test\r\ncontent-type: {JSON}\r\n{headers}\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn b1_a_body_over_the_limit_is_refused_and_the_connection_closed() {
    let trial = small().await;
    let exactly = format!("{GOOD}{}", " ".repeat(LIMIT - GOOD.len()));
    trial.takes("as large as may be", trial.post(JSON, exactly.clone()), 1).await;

    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let cases = [
        // Nothing of the body is sent, so nothing of it can have been waited for.
        ("one byte over, by Content-Length", head(&format!("content-length: {}", LIMIT + 1))),
        ("Content-Length of 2^64 - 1", head(&format!("content-length: {}", u64::MAX))),
        // The last chunk, which would end the body, never comes: the answer does not wait for it.
        ("chunked, without length", format!("{}{}1\r\n \r\n", head("transfer-encoding: chunked"), chunk.repeat(4))),
        // Decodes to nothing, so only the limit on what is received can hold it.
        (
            "chunked frames to be skipped",
            format!(
                "{}{}",
                head("transfer-encoding: chunked\r\ncontent-encoding: zstd"),
                format!("7f80\r\n{}\r\n", skipped(0x7f78)).repeat(9)
            ),
        ),
        (
            "sent whole and twice the limit",
            format!("{}{exactly}{exactly}", head(&format!("content-length: {}", 2 * LIMIT))),
        ),
    ];
    for (what, request) in cases {
        let before = trial.stored().await;
        let answer = raw(what, &trial.app, request.as_bytes()).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{what}: {answer}"));
        assert!(head.starts_with("HTTP/1.1 413 "), "{what}: {head}");
        let head = head.to_lowercase();
        for header in ["connection: close", "content-type: application/problem+json", "cache-control: no-store"] {
            assert!(head.contains(header), "{what}: {head}");
        }
        let told = complete(what, body, 413, "body-too-large");
        assert!(told["detail"].as_str().unwrap().contains(&LIMIT.to_string()), "{what}: {told}");
        assert_eq!(trial.stored().await, before, "{what}");
        trial.goes_on(what).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b2_a_bomb_is_too_large_and_a_damaged_stream_is_corrupt() {
    let trial = small().await;
    let mebibyte = vec![0; 1 << 20];
    let text = GOOD.repeat(100);
    let cut = |bytes: Vec<u8>| bytes[..bytes.len() - 5].to_vec();
    let flipped = |mut bytes: Vec<u8>, from_end: usize| {
        let at = bytes.len() - from_end;
        bytes[at] ^= 1;
        bytes
    };
    let checked = {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
        encoder.include_checksum(true).unwrap();
        std::io::Write::write_all(&mut encoder, text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    // Magic, no single segment, window descriptor of exponent 21: two gibibytes.
    let window = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x01, 0x00, 0x00];
    assert!(zstd(&mebibyte).len() < 60, "the ratio that the row names");

    let cases: Vec<(&str, &str, Vec<u8>, u16, &str)> = vec![
        ("200 MiB of zeros in gzip members", "gzip", gzip(&mebibyte).repeat(200), 413, "body-too-large"),
        ("200 MiB of zeros in zstd frames", "zstd", zstd(&mebibyte).repeat(200), 413, "body-too-large"),
        ("50 bytes of zstd", "zstd", zstd(&mebibyte), 413, "body-too-large"),
        ("one byte over the limit", "gzip", gzip(vec![b' '; LIMIT + 1]), 413, "body-too-large"),
        ("a zstd window of two gibibytes", "zstd", window, 413, "body-too-large"),
        // Decodes to nothing, so only the limit on what is received holds it.
        ("frames to be skipped, over the limit", "zstd", skipped(0x378).repeat(300).into(), 413, "body-too-large"),
        ("frames to be skipped, under it", "zstd", skipped(0x378).into(), 400, "invalid-json"),
        // Decoded once, as the header says; what comes out is no text.
        ("gzip in gzip", "gzip", gzip(gzip(&text)), 400, "invalid-utf8"),
        ("zstd in zstd", "zstd", zstd(zstd(&text)), 400, "invalid-utf8"),
        ("gzip cut short", "gzip", cut(gzip(&text)), 400, "corrupt-encoding"),
        ("zstd cut short", "zstd", cut(zstd(&text)), 400, "corrupt-encoding"),
        ("gzip with a wrong checksum", "gzip", flipped(gzip(&text), 6), 400, "corrupt-encoding"),
        ("zstd with a wrong checksum", "zstd", flipped(checked, 2), 400, "corrupt-encoding"),
        ("JSON that says it is gzip", "gzip", GOOD.into(), 400, "corrupt-encoding"),
        ("JSON that says it is zstd", "zstd", GOOD.into(), 400, "corrupt-encoding"),
        ("zstd that says it is gzip", "gzip", zstd(&text), 400, "corrupt-encoding"),
        ("JSON behind a gzip member", "gzip", [gzip(GOOD), GOOD.into()].concat(), 400, "corrupt-encoding"),
        ("JSON behind a zstd frame", "zstd", [zstd(GOOD), GOOD.into()].concat(), 400, "corrupt-encoding"),
    ];
    for (what, encoding, body, status, code) in cases {
        let request = trial.post(JSON, body).header("Content-Encoding", encoding);
        trial.refuses(what, request, status, code).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b3_a_body_of_an_unknown_type_or_encoding_is_not_supported() {
    let trial = Trial::start().await;
    for encodings in
        [&["br"][..], &["deflate"], &["gzip, zstd"], &["gzip,gzip"], &["gzip", "zstd"], &["gzip", "gzip"], &[""]]
    {
        let request =
            encodings.iter().fold(trial.post(JSON, GOOD), |request, value| request.header("Content-Encoding", *value));
        trial.refuses(&format!("{encodings:?}"), request, 415, "unsupported-content-encoding").await;
    }
    let refused = trial.post(JSON, GOOD).header("Content-Encoding", "br").send().await.unwrap();
    assert_eq!(refused.headers()["accept-encoding"], "gzip, zstd", "a client learns what would do");

    let path = "/api/v1/requests";
    let missing = trial.app.request(reqwest::Method::POST, path).body(GOOD);
    trial.refuses("no content type", missing, 415, "unsupported-content-type").await;
    for other in [
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "application/xml",
        "application/jsonx",
        "json",
        "",
    ] {
        trial.refuses(other, trial.post(other, GOOD), 415, "unsupported-content-type").await;
    }
    for known in ["application/json; charset=utf-8", "Application/JSON", "application/ndjson", "application/jsonl"] {
        trial.takes(known, trial.post(known, GOOD), 1).await;
    }
    let identity = trial.post(JSON, GOOD).header("Content-Encoding", "identity");
    trial.takes("identity", identity, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b4_bytes_that_are_not_utf8_are_told_with_their_offset() {
    let trial = Trial::start().await;
    let at = GOOD.find("shop").unwrap();
    for (what, bytes) in [
        ("a byte that never occurs", &b"\xff"[..]),
        ("an overlong slash", b"\xc0\xaf"),
        ("a surrogate", b"\xed\xa0\x80"),
        ("beyond Unicode", b"\xf4\x90\x80\x80"),
        ("a character cut short", b"\xe2\x82"),
        ("Latin-1", b"caf\xe9"),
    ] {
        let body = [&GOOD.as_bytes()[..at], bytes, &GOOD.as_bytes()[at..]].concat();
        let first = at + bytes.iter().take_while(|byte| byte.is_ascii()).count();
        for content_type in [JSON, NDJSON] {
            let told = trial.refuses(what, trial.post(content_type, body.clone()), 400, "invalid-utf8").await;
            assert!(told["detail"].as_str().unwrap().contains(&format!("offset {first} ")), "{what}: {told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b5_a_body_nested_too_deep_is_refused() {
    let trial = Trial::start().await;
    let nested = |open: &str, close: &str, depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
    let in_a_field = |value: String| with("200", &format!("200,\"extra\":{value}"));
    for (what, body) in [
        ("arrays", nested("[", "]", 10_000)),
        ("arrays without end", "[".repeat(10_000)),
        ("objects", nested("{\"a\":", "}", 10_000)),
        ("arrays in a field that is not known", in_a_field(nested("[", "]", 10_000))),
        ("objects in a field that is not known", in_a_field(nested("{\"a\":", "}", 10_000))),
        ("arrays in a known field", with("\"shop\"", &nested("[", "]", 10_000))),
        ("one level too many", in_a_field(nested("[", "]", 127))),
    ] {
        for content_type in [JSON, NDJSON] {
            trial.refuses(what, trial.post(content_type, body.clone()), 400, "invalid-json").await;
        }
    }
    trial.takes("as deep as may be", trial.post(JSON, in_a_field(nested("[", "]", 120))), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b6_a_body_is_one_document() {
    let trial = Trial::start().await;
    for (what, body) in [
        ("a known key twice", with("\"status\":200", "\"status\":200,\"status\":201")),
        ("the same key twice, once escaped", with("\"status\":200", "\"status\":200,\"\\u0073tatus\":201")),
        (
            "a key twice in one record of an array",
            format!("[{GOOD},{}]", with("\"status\":200", "\"status\":200,\"status\":200")),
        ),
        ("garbage behind a record", format!("{GOOD} x")),
        ("garbage behind an array", format!("[{GOOD}],")),
        ("a byte order mark", format!("\u{feff}{GOOD}")),
        ("two documents", format!("{GOOD}{GOOD}")),
        ("two documents on two lines", format!("{GOOD}\n{GOOD}")),
        ("an array that does not end", format!("[{GOOD},")),
        ("an array with a comma too many", format!("[{GOOD},]")),
        ("nothing", String::new()),
        ("white space", " \r\n\t".to_owned()),
        ("a number", "7".to_owned()),
        ("null", "null".to_owned()),
        ("a text", format!("{GOOD:?}")),
    ] {
        trial.refuses(what, trial.post(JSON, body), 400, "invalid-json").await;
    }
    for (what, body) in [
        ("nothing", String::new()),
        ("empty lines", "\n\r\n\n".to_owned()),
        ("a byte order mark before the only line", format!("\u{feff}{GOOD}")),
        ("not a line of JSON", "one\ntwo".to_owned()),
        ("two records on the only line", format!("{GOOD}{GOOD}")),
    ] {
        trial.refuses(what, trial.post(NDJSON, body), 400, "invalid-json").await;
    }

    let before = trial.stored().await;
    for (what, body) in [("an empty array", "[]"), ("an empty array with spaces", " [ ] ")] {
        trial.takes(what, trial.post(JSON, body), 0).await;
    }
    assert_eq!(trial.stored().await, before, "an empty array stores nothing");
}

/// The most memory a process has had, bytes; where Linux tells.
fn most_memory(process: u32) -> Option<usize> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1_024)
}

#[tokio::test(flavor = "multi_thread")]
async fn b2_a_bomb_costs_less_memory_than_twice_the_limit() {
    const LIMIT: usize = 16 << 20;
    let database = Database::create().await;
    // A process of its own: in this one other tests take memory too.
    let settings = [("JOBS", "off"), ("MAX_BODY_BYTES", &*LIMIT.to_string())];
    let (mut service, address) = process::serve(&database, &settings).await;
    let client = http_client();
    let send = async |encoding: &str, body: Vec<u8>| {
        let request = client.post(format!("{address}/api/v1/requests")).header("Content-Type", JSON).body(body);
        request.header("Content-Encoding", encoding).send().await.unwrap().status().as_u16()
    };
    assert_eq!(send("gzip", gzip(GOOD.replace("2026-11-21T10:00:00Z", &chrono::Utc::now().to_rfc3339()))).await, 200);
    let Some(before) = most_memory(service.id().unwrap()) else { return };
    let grown = || most_memory(service.id().unwrap()).unwrap() - before;
    let (gzip_bomb, zstd_bomb) = (gzip(vec![0; 1 << 20]).repeat(200), zstd(vec![0; 1 << 20]).repeat(200));
    assert_eq!(send("zstd", zstd_bomb.clone()).await, 413);
    assert!(grown() < 2 * LIMIT, "{} MiB for one bomb", grown() >> 20);
    for _ in 0..10 {
        assert_eq!(send("gzip", gzip_bomb.clone()).await, 413);
        assert_eq!(send("zstd", zstd_bomb.clone()).await, 413);
    }
    assert!(grown() < 2 * LIMIT, "{} MiB for twenty-one", grown() >> 20);
    assert_eq!(service.try_wait().unwrap(), None, "and the service lives");
    service.kill().await.unwrap();
}
