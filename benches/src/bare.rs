//! An actix handler that does nothing but send bytes: what cached answers are measured beside.

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::web::{self, Bytes, Data};
use actix_web::{App, HttpResponse, HttpServer};
use anyhow::{Context as _, Result};
use clap::Args;

/// One answer at every path.
#[derive(Args)]
pub(crate) struct BareActix {
    /// A file with an answer as it came over the line: head and body
    answer: PathBuf,
    /// Where to listen
    #[arg(long)]
    port: u16,
}

/// An answer taken apart.
struct Answer {
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

impl BareActix {
    /// Serves until it is ended.
    ///
    /// # Errors
    /// The file holds no answer, or the port is taken.
    pub(crate) fn run(self) -> Result<()> {
        let answer = Data::new(parse(&std::fs::read(&self.answer)?).context("the file holds no answer")?);
        let listener = TcpListener::bind(("127.0.0.1", self.port))?;
        let workers = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let server = HttpServer::new(move || {
            App::new().app_data(answer.clone()).route("/api/v1/endpoints/top", web::get().to(send))
        });
        let server = server.workers(workers).keep_alive(Duration::from_secs(75)).listen(listener)?.run();
        Ok(actix_web::rt::System::new().block_on(server)?)
    }
}

async fn send(answer: Data<Answer>) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    for (name, value) in &answer.headers {
        response.insert_header((name.clone(), value.clone()));
    }
    response.body(answer.body.clone())
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let headers = head.lines().skip(1).filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        // Those that actix writes itself.
        let own = ["content-length", "date", "connection"].iter().any(|own| name.eq_ignore_ascii_case(own));
        (!own).then(|| Some((name.to_ascii_lowercase().parse().ok()?, value.parse().ok()?))).flatten()
    });
    Some(Answer { headers: headers.collect(), body: Bytes::copy_from_slice(&answer[end + 4..]) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_apart() {
        let answer = parse(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: \"x\"\r\ndate: today\r\n\r\n{}").unwrap();
        assert_eq!(answer.headers, [(HeaderName::from_static("etag"), HeaderValue::from_static("\"x\""))]);
        assert_eq!(answer.body, "{}");
        assert!(parse(b"HTTP/1.1 200 OK\r\n").is_none());
    }
}
