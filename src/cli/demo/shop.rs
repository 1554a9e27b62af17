//! The invented shop behind `endpoint-stats demo`: which requests arrive in a given minute.
//!
//! Decides how one request is drawn: its endpoint by popularity, its status, its response time. The endpoints are in
//! `endpoints`; day, week and mishaps in `traffic`. Decides nothing about where requests go, how many minutes are asked
//! for or how fast they are replayed. Reads neither clock nor environment: a minute depends on seed, end, rate and the
//! minute alone, on every machine (but for the last bits of logarithms, which rounding to microseconds hides).

use chrono::{DateTime, TimeDelta, Utc};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::weighted::WeightedAliasIndex;
use rand_distr::{Distribution, LogNormal, Poisson};

use super::endpoints::{CATALOG, CHECKOUT, Endpoint, SERVICES};
use super::traffic::{DEPLOYS, Deploy, Events, load};

/// Response time at which the load balancer gives up and answers 504, in milliseconds: a common setting, and well below
/// the minute that no response time may reach.
const LIMIT_MS: f64 = 30_000.0;
/// What giving up takes at most on top, in milliseconds: timers are late by a scheduler's turn.
const GIVING_UP_MS: f64 = 25.0;
/// The least time of an answer, in milliseconds: a turn through the local network.
const FLOOR_MS: f64 = 0.1;
/// How far response times follow the load: at twice the average load by this share, enough to be seen in a chart of a
/// day and too little to be taken for a mishap.
const LOAD_SLOWS: f64 = 0.15;
/// Share of checkout's requests that fail in the outage: most, as if two of three instances were down.
const OUTAGE_FAILING: f64 = 0.6;
/// Share of those that hang until the limit (504); the others are refused at once (503). Enough to move the 95th
/// percentile to the limit.
const OUTAGE_HANGING: f64 = 0.4;
/// How many times slower the requests that survive the outage are: a third of the instances does the work.
const OUTAGE_SLOWS: f64 = 3.0;

/// One request to the shop, as its access log would tell it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Request {
    /// When it arrived, in whole microseconds, as Postgres keeps them.
    pub timestamp: DateTime<Utc>,
    /// The service that answered.
    pub service: &'static str,
    /// The HTTP method, in capitals.
    pub method: &'static str,
    /// The route template, such as `/items/{id}`.
    pub route: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// Milliseconds until the answer, in whole microseconds: more than 0, less than 60 000.
    pub response_time_ms: f64,
    /// The W3C trace id, never 0; as text `{:032x}`.
    pub trace_id: u128,
}

/// The shop: everything that does not depend on the minute, computed once.
#[derive(Debug)]
pub(super) struct Shop {
    seed: u64,
    /// Requests a minute, averaged over a week.
    mean: f64,
    lanes: Vec<Lane>,
    popularity: WeightedAliasIndex<f64>,
    events: Events,
}

/// An endpoint made ready to be drawn from.
#[derive(Debug)]
struct Lane {
    service: &'static str,
    endpoint: &'static Endpoint,
    time_ms: LogNormal<f64>,
    /// How many times slower each deploy makes it; 1 if it does not.
    deployed: [f64; 2],
}

impl Shop {
    /// A shop whose month ends, and whose live traffic begins, at `end`: its mishaps lie before it.
    ///
    /// `mean_rate` is in requests a second, averaged over a week (a day is within some 5 % of it). A rate that is
    /// negative or not finite means no traffic.
    #[must_use]
    pub(super) fn new(seed: u64, end: DateTime<Utc>, mean_rate: f64) -> Self {
        let lanes: Vec<Lane> = SERVICES
            .iter()
            .flat_map(|&(service, endpoints)| endpoints.iter().map(move |endpoint| Lane::new(service, endpoint)))
            .collect();
        // Zipf's law with exponent 1, as popularity of pages tends to follow: the weight of a rank is one over it.
        let weights = lanes.iter().map(|lane| 1.0 / f64::from(lane.endpoint.rank)).collect();
        Self {
            seed,
            mean: if mean_rate.is_finite() { mean_rate.max(0.0) * 60.0 } else { 0.0 },
            lanes,
            // Cannot fail: the table of endpoints is constant and not empty, and its ranks start at 1 (a test holds it
            // to that), so that every weight is positive and finite.
            popularity: WeightedAliasIndex::new(weights).expect("ranks start at 1"),
            events: Events::before(minute_number(end)),
        }
    }

    /// Every endpoint as service, method and route template.
    #[cfg(test)]
    pub(super) fn endpoints(&self) -> impl ExactSizeIterator<Item = (&'static str, &'static str, &'static str)> {
        self.lanes.iter().map(|lane| (lane.service, lane.endpoint.method, lane.endpoint.route))
    }

    /// The requests of the whole minute that `minute` lies in, sorted by timestamp: the same ones for the same shop and
    /// minute, in whatever order minutes are asked for.
    #[must_use]
    pub(super) fn minute(&self, minute: DateTime<Utc>) -> Vec<Request> {
        let number = minute_number(minute);
        let start = minute
            - TimeDelta::seconds(minute.timestamp().rem_euclid(60))
            - TimeDelta::nanoseconds(i64::from(minute.timestamp_subsec_nanos()));
        let load = load(number);
        // Refused are a mean of 0, which is right, and one beyond 1.8e19, which no memory would hold.
        let Ok(arrivals) = Poisson::new(self.mean * load) else { return Vec::new() };
        let mut rng = self.rng(number);
        let count = arrivals.sample(&mut rng) as usize;
        let mut offsets: Vec<u32> = (0..count).map(|_| rng.random_range(0..60_000_000)).collect();
        offsets.sort_unstable();

        let slowed = 1.0 + LOAD_SLOWS * (load - 1.0);
        let deployed = self.events.deploys.each_ref().map(|stretch| stretch.contains(&number));
        let outage = self.events.outage_at(number);
        let draw = |offset: u32| {
            let lane = &self.lanes[self.popularity.sample(&mut rng)];
            let deploys = deployed.iter().zip(lane.deployed).filter(|(running, _)| **running);
            let factor = slowed * deploys.map(|(_, factor)| factor).product::<f64>();
            let outage = if lane.service == CHECKOUT { outage } else { 0.0 };
            let (status, response_time_ms) = lane.answer(&mut rng, factor, outage);
            Request {
                timestamp: start + TimeDelta::microseconds(i64::from(offset)),
                service: lane.service,
                method: lane.endpoint.method,
                route: lane.endpoint.route,
                status,
                response_time_ms,
                trace_id: rng.random::<u128>().max(1),
            }
        };
        offsets.into_iter().map(draw).collect()
    }

    /// A generator of the minute's own, so that no minute depends on another having been drawn.
    fn rng(&self, minute: i64) -> ChaCha8Rng {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.seed.to_le_bytes());
        key[8..16].copy_from_slice(&minute.to_le_bytes());
        ChaCha8Rng::from_seed(key)
    }
}

impl Lane {
    fn new(service: &'static str, endpoint: &'static Endpoint) -> Self {
        let slows = |deploy: &Deploy| service == CATALOG && deploy.routes.contains(&endpoint.route);
        Self {
            service,
            endpoint,
            // Cannot fail: only a sigma that is not finite is refused, and all are constants.
            time_ms: LogNormal::new(endpoint.median_ms.ln(), endpoint.sigma).expect("a finite sigma"),
            deployed: DEPLOYS.each_ref().map(|deploy| if slows(deploy) { deploy.factor } else { 1.0 }),
        }
    }

    /// Status and response time in milliseconds of one request, everything `factor` times slower than usual, and an
    /// outage of a severity from 0 to 1.
    fn answer(&self, rng: &mut ChaCha8Rng, factor: f64, outage: f64) -> (u16, f64) {
        let mut status = self.status(rng);
        if outage > 0.0 && rng.random_bool(OUTAGE_FAILING * outage) {
            status = if rng.random_bool(OUTAGE_HANGING) { 504 } else { 503 };
        }
        let effort = if status == self.endpoint.answers.usual { 1.0 } else { effort(status) };
        let time = self.time_ms.sample(rng) * effort * factor * (1.0 + (OUTAGE_SLOWS - 1.0) * outage);
        if status == 504 || time >= LIMIT_MS {
            (504, to_microseconds(LIMIT_MS + GIVING_UP_MS * rng.random::<f64>()))
        } else {
            (status, to_microseconds(time.max(FLOOR_MS)))
        }
    }

    fn status(&self, rng: &mut ChaCha8Rng) -> u16 {
        let mut percent = rng.random::<f64>() * 100.0;
        for &(status, share) in self.endpoint.answers.others {
            if percent < share {
                return status;
            }
            percent -= share;
        }
        self.endpoint.answers.usual
    }
}

/// Whole minutes since 1970.
fn minute_number(at: DateTime<Utc>) -> i64 {
    at.timestamp().div_euclid(60)
}

/// How long an unusual answer takes beside the endpoint's usual one: who refuses early does less, who fails has mostly
/// waited for something first.
fn effort(status: u16) -> f64 {
    match status {
        429 | 503 => 0.15,            // turned away at the door
        300..400 => 0.4,              // nothing to render
        401 | 402 | 403 | 409 => 0.9, // found out at the end
        400..500 => 0.5,              // found out on reading the request
        _ => 1.7,
    }
}

/// Rounded as an access log would.
fn to_microseconds(ms: f64) -> f64 {
    (ms * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::ops::Range;

    const HOUR: i64 = 60; // minutes
    const DAY: i64 = 24 * HOUR;
    const WEEK: i64 = 7 * DAY;

    /// No whole minute, so that truncation matters.
    fn end() -> DateTime<Utc> {
        "2026-08-15T14:37:21.5Z".parse().unwrap()
    }

    fn at(minute: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(minute * 60, 0).unwrap()
    }

    fn requests(shop: &Shop, minutes: Range<i64>) -> Vec<Request> {
        minutes.flat_map(|minute| shop.minute(at(minute))).collect()
    }

    fn failing(requests: &[Request], of: impl Fn(&Request) -> bool) -> f64 {
        let asked: Vec<_> = requests.iter().filter(|request| of(request)).collect();
        asked.iter().filter(|request| request.status >= 500).count() as f64 / asked.len() as f64
    }

    fn median_ms(requests: &[Request], service: &str) -> f64 {
        let of = requests.iter().filter(|request| request.service == service);
        let mut times: Vec<f64> = of.map(|request| request.response_time_ms).collect();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    }

    #[test]
    fn the_same_seed_gives_the_same_requests_and_another_gives_others() {
        let minute = end() - TimeDelta::hours(5);
        let requests = Shop::new(7, end(), 20.0).minute(minute);
        assert!(requests.len() > 500);
        assert_eq!(requests, Shop::new(7, end(), 20.0).minute(minute));
        assert_ne!(requests, Shop::new(8, end(), 20.0).minute(minute));
        assert_ne!(requests, Shop::new(7, end(), 20.0).minute(minute + TimeDelta::minutes(1)));
    }

    #[test]
    fn a_seed_gives_what_it_gave_when_this_was_written() {
        let requests = Shop::new(7, end(), 20.0).minute(end());
        let last = requests.last().unwrap(); // depends on every draw before it
        let Request { timestamp, service, method, route, status, response_time_ms, trace_id } = last;
        let last = format!("{timestamp:?} {service} {method} {route} {status} {response_time_ms} {trace_id:032x}");
        assert_eq!(
            (requests.len(), last.as_str()),
            (
                1758,
                "2026-08-15T14:37:59.973017Z checkout GET /checkout/{id} 200 23.046 13390a97da56f9c03ec3ab2ee70272d8"
            )
        );
    }

    #[test]
    fn minutes_may_be_asked_for_in_any_order_and_by_any_instant_within() {
        let shop = Shop::new(7, end(), 5.0);
        let last = minute_number(end());
        let forwards: Vec<_> = (last - 50..=last).map(|minute| shop.minute(at(minute))).collect();
        let backwards: Vec<_> = (last - 50..=last).rev().map(|minute| shop.minute(at(minute))).collect();
        assert!(forwards.iter().eq(backwards.iter().rev()));
        assert_eq!(shop.minute(end()), backwards[0]);
        assert_eq!(shop.minute(at(-1)), shop.minute(at(-1) + TimeDelta::milliseconds(59_999)));
    }

    #[test]
    fn requests_are_sorted_and_lie_within_their_minute() {
        let shop = Shop::new(1, end(), 50.0);
        for minute in [-1, 0, minute_number(end())] {
            let requests = shop.minute(at(minute));
            let within = at(minute)..at(minute + 1);
            assert!(requests.is_sorted_by_key(|request| request.timestamp));
            assert!(requests.iter().all(|request| within.contains(&request.timestamp)));
        }
    }

    #[test]
    fn a_week_has_the_rate_that_was_asked_for() {
        let last = minute_number(end());
        let rate = requests(&Shop::new(3, end(), 1.0), last - WEEK..last).len() as f64 / (WEEK * 60) as f64;
        assert!((0.98..1.02).contains(&rate), "{rate}");
    }

    #[test]
    fn a_rate_that_is_none_gives_no_requests() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::MAX] {
            assert!(Shop::new(3, end(), rate).minute(end()).is_empty(), "{rate}");
        }
    }

    #[test]
    fn in_the_outage_checkout_fails_and_nothing_else_does() {
        let shop = Shop::new(7, end(), 5.0);
        let in_checkout = |request: &Request| request.service == CHECKOUT;
        let down = requests(&shop, shop.events.outage.clone());
        assert!(failing(&down, in_checkout) > 0.5);
        assert!(failing(&down, |request| !in_checkout(request)) < 0.01);
        assert!(down.iter().any(|request| request.status == 504 && request.response_time_ms >= LIMIT_MS));
    }

    #[test]
    fn after_the_outage_checkout_recovers() {
        let shop = Shop::new(7, end(), 5.0);
        let in_checkout = |request: &Request| request.service == CHECKOUT;
        let up = shop.events.outage.end;
        assert!((0.1..0.5).contains(&failing(&requests(&shop, up..up + 20), in_checkout)));
        assert!(failing(&requests(&shop, up + HOUR..up + 3 * HOUR), in_checkout) < 0.02);
    }

    #[test]
    fn slow_deploys_move_the_median_of_the_catalog_alone() {
        let shop = Shop::new(7, end(), 5.0);
        for (slow, times) in shop.events.deploys.iter().zip([2.5, 1.4]) {
            let before = requests(&shop, slow.start - WEEK..slow.end - WEEK);
            let slow = requests(&shop, slow.clone());
            assert!(median_ms(&slow, CATALOG) > times * median_ms(&before, CATALOG));
            let elsewhere = median_ms(&slow, "shop-web") / median_ms(&before, "shop-web");
            assert!((0.9..1.1).contains(&elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn every_answer_is_one_that_the_service_accepts_even_in_the_outage() {
        let shop = Shop::new(11, end(), 2.0);
        let outage = shop.events.outage.start;
        for request in requests(&shop, outage - DAY..outage + DAY) {
            assert!((100..=599).contains(&request.status), "{request:?}");
            assert!(request.response_time_ms > 0.0 && request.response_time_ms < 60_000.0, "{request:?}");
            assert_ne!(request.trace_id, 0);
        }
    }

    #[test]
    fn every_endpoint_occurs_within_a_day_at_one_request_a_second() {
        let shop = Shop::new(11, end(), 1.0);
        let last = minute_number(end());
        let mut seen: HashMap<_, u32> = HashMap::new();
        for request in requests(&shop, last - DAY..last) {
            *seen.entry((request.service, request.method, request.route)).or_default() += 1;
        }
        assert_eq!(shop.endpoints().len(), seen.len());
        for endpoint in shop.endpoints() {
            assert!(seen.get(&endpoint).is_some_and(|count| *count > 100), "{endpoint:?}");
        }
    }
}
