//! Made-up requests: as records, as lines of NDJSON and of an access log, as rows of the plain table.

use std::fmt::Write as _;

use chrono::{DateTime, TimeDelta, Utc};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, LogNormal, Zipf};

/// How many endpoints there are.
pub(crate) const ENDPOINTS: usize = 500;

/// An endpoint; the busiest has number 0.
pub(crate) struct Endpoint {
    /// Who answers.
    pub(crate) service: String,
    /// The method.
    pub(crate) method: &'static str,
    /// The route.
    pub(crate) route: String,
}

impl Endpoint {
    /// One of [`ENDPOINTS`]. Method and route together have 44 bytes, the mean of a real system (78,160 spans of Train Ticket).
    pub(crate) fn numbered(number: usize) -> Self {
        let method = ["GET", "GET", "POST", "GET", "PUT", "GET", "DELETE"][number % 7];
        Self {
            service: format!("service-{}", number % 8),
            method,
            route: format!("/api/v1/resource-{number}/things/{{id}}/history"),
        }
    }

    /// As one text, the way the plain schema has it.
    pub(crate) fn plain(&self) -> String {
        format!("{} {}", self.method, self.route)
    }
}

/// A request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    endpoint: usize,
    timestamp: DateTime<Utc>,
    status: u16,
    response_time_ms: f64,
}

/// Requests as they come in, without end: endpoints by Zipf's law, times evenly apart.
pub(crate) struct Traffic {
    random: ChaCha8Rng,
    popularity: Zipf<f64>,
    response_times: LogNormal<f64>,
    next: DateTime<Utc>,
    apart: TimeDelta,
}

impl Traffic {
    /// From this instant on, so many a second.
    pub(crate) fn from(begin: DateTime<Utc>, per_second: f64) -> Self {
        Self {
            random: ChaCha8Rng::seed_from_u64(begin.timestamp_micros().unsigned_abs()),
            popularity: Zipf::new(ENDPOINTS as f64, 1.0).expect("a law of Zipf"),
            // A median of 20 ms, and one in a hundred over 130 ms.
            response_times: LogNormal::new(3.0, 0.8).expect("a distribution"),
            next: begin,
            apart: TimeDelta::nanoseconds((1e9 / per_second) as i64),
        }
    }
}

impl Iterator for Traffic {
    type Item = Request;

    fn next(&mut self) -> Option<Request> {
        let timestamp = self.next;
        self.next += self.apart;
        let endpoint = self.popularity.sample(&mut self.random) as usize - 1;
        let response_time_ms = self.response_times.sample(&mut self.random);
        // By the microsecond, which is as good as any die: 90 % well, 3 % redirects, 5 % clients' mistakes, 2 % failures.
        let status = match (response_time_ms * 1_000.0) as u64 % 100 {
            0..90 => 200,
            90..93 => 302,
            93..98 => 404,
            _ => 500,
        };
        Some(Request { endpoint, timestamp, status, response_time_ms })
    }
}

/// The names of all endpoints, made once for many requests.
pub(crate) struct Names(Vec<(Endpoint, String)>);

impl Names {
    /// Of all.
    pub(crate) fn all() -> Self {
        let named = |number| {
            let endpoint = Endpoint::numbered(number);
            let plain = endpoint.plain();
            (endpoint, plain)
        };
        Self((0..ENDPOINTS).map(named).collect())
    }

    /// A record as a line of NDJSON.
    pub(crate) fn push_ndjson(&self, request: &Request, out: &mut String) {
        let Request { endpoint, timestamp, status, response_time_ms } = request;
        let (Endpoint { service, method, route }, _) = &self.0[*endpoint];
        let timestamp = timestamp.format("%Y-%m-%dT%H:%M:%S%.3fZ");
        let _ = writeln!(
            out,
            r#"{{"timestamp":"{timestamp}","service":"{service}","method":"{method}","route":"{route}","status":{status},"response_time_ms":{response_time_ms:.3}}}"#
        );
    }

    /// A row of the plain table, as `COPY` reads text.
    pub(crate) fn push_plain(&self, request: &Request, out: &mut String) {
        let Request { endpoint, timestamp, status, response_time_ms } = request;
        let plain = &self.0[*endpoint].1;
        let _ =
            writeln!(out, "{plain}\t{}\t{response_time_ms:.3}\t{status}", timestamp.format("%Y-%m-%d %H:%M:%S%.3f+00"));
    }

    /// A line of an access log in the combined format, with the path that a client would have asked for.
    pub(crate) fn push_combined(&self, request: &Request, out: &mut String) {
        let Request { endpoint, timestamp, status, response_time_ms } = request;
        let (Endpoint { method, route, .. }, _) = &self.0[*endpoint];
        let number = (response_time_ms * 1_000.0) as u64;
        let path = route.replace("{id}", &(number % 90_000 + 1).to_string());
        let _ = writeln!(
            out,
            r#"10.{}.{}.{} - - [{}] "{method} {path}?page={} HTTP/1.1" {status} {} "https://shop.example/" "Mozilla/5.0 (X11; Linux x86_64; rv:{}.0) Gecko/20100101 Firefox/{}.0""#,
            number % 4,
            number / 4 % 250,
            number / 1_000 % 250,
            timestamp.format("%d/%b/%Y:%H:%M:%S +0000"),
            number % 20,
            200 + number % 50_000,
            120 + number % 20,
            120 + number % 20,
        );
    }
}

/// Bodies of NDJSON, so many records each, of the seconds from now on.
pub(crate) fn bodies(count: usize, records: usize, seconds: f64) -> Vec<Vec<u8>> {
    let names = Names::all();
    let mut traffic = Traffic::from(Utc::now(), (count * records) as f64 / seconds);
    let body = |_| {
        let mut body = String::with_capacity(records * 160);
        for request in traffic.by_ref().take(records) {
            names.push_ndjson(&request, &mut body);
        }
        body.into_bytes()
    };
    (0..count).map(body).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_endpoint_has_number_0_and_all_are_asked_for() {
        let mut counts = [0; ENDPOINTS];
        Traffic::from(DateTime::UNIX_EPOCH, 1.0).take(200_000).for_each(|request| counts[request.endpoint] += 1);
        assert!(counts[0] > counts[1] && counts[1] > counts[10] && counts[10] > counts[400], "{counts:?}");
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    }

    #[test]
    fn a_request_is_written_in_every_form() {
        let timestamp = "2026-11-21T10:20:30.123Z".parse().unwrap();
        let request = Request { endpoint: 2, timestamp, status: 404, response_time_ms: 12.345 };
        let (names, mut line) = (Names::all(), String::new());
        names.push_ndjson(&request, &mut line);
        names.push_plain(&request, &mut line);
        names.push_combined(&request, &mut line);
        let lines: Vec<&str> = line.lines().collect();
        assert_eq!(
            lines[0],
            r#"{"timestamp":"2026-11-21T10:20:30.123Z","service":"service-2","method":"POST","route":"/api/v1/resource-2/things/{id}/history","status":404,"response_time_ms":12.345}"#
        );
        assert_eq!(lines[1], "POST /api/v1/resource-2/things/{id}/history\t2026-11-21 10:20:30.123+00\t12.345\t404");
        assert!(
            lines[2].contains(
                r#"[21/Nov/2026:10:20:30 +0000] "POST /api/v1/resource-2/things/12346/history?page=5 HTTP/1.1" 404"#
            ),
            "{}",
            lines[2]
        );
    }
}
