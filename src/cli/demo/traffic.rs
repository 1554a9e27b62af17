//! The demo shop's month: how traffic follows day and week, and what went wrong before its `end`.
//!
//! Decides the daily curve and where two slow deploys and an outage lie. Decides nothing about which endpoints there
//! are (`endpoints`), nor how a request is drawn (`shop`). Every moment is a number of whole minutes since 1970, UTC.

use std::f64::consts::TAU;
use std::ops::Range;

const HOUR: i64 = 60;
const DAY: i64 = 24 * HOUR;
const WEEK: i64 = 7 * DAY;

/// A deploy of the catalog that made some routes slower until it was taken back.
pub(super) struct Deploy {
    pub(super) routes: &'static [&'static str],
    /// How many times slower.
    pub(super) factor: f64,
}

/// The first lost an index that nearly every read of items used; the second, another try, hits fewer routes less hard.
/// Several times slower each, since response times of one endpoint differ by a factor of two or three on a good day.
pub(super) const DEPLOYS: [Deploy; 2] = [
    Deploy {
        routes: &[
            "/v1/categories/{id}/items",
            "/v1/items",
            "/v1/items/{id}",
            "/v1/items/{id}/price",
            "/v1/items/{id}/stock",
            "/v1/search",
        ],
        factor: 4.5,
    },
    Deploy { routes: &["/v1/items/{id}", "/v1/items/{id}/stock", "/v1/search"], factor: 3.0 },
];

/// First deploy, from the start of the last day, and its length: 13:00 to 18:00 nine days earlier, so outside the last
/// week: it is found by looking back, not at first glance.
const FIRST_DEPLOY: (i64, i64) = (-9 * DAY + 13 * HOUR, 5 * HOUR);
/// Second deploy, from the last full hour: between 48 and 24 hours before the end whatever the minute, and so wholly in
/// the day that the last 24 hours are compared with.
const SECOND_DEPLOY: (i64, i64) = (-30 * HOUR, 4 * HOUR);
/// Outage, from the start of the last day: 18:20 three days earlier, in the busiest hour, for 40 minutes.
const OUTAGE: (i64, i64) = (-3 * DAY + 18 * HOUR + 20, 40);
/// What checkout needs to be well again: queues drain and caches fill for about half as long as it was down.
const RECOVERY: i64 = 25;

/// Average of a working day and of a weekend day, in average days: five and two make seven.
const WORKDAY: f64 = 0.98;
const WEEKEND: f64 = 1.05;
/// Minutes around midnight over which one kind of day becomes the other, long enough that no step shows.
const CHANGEOVER: f64 = 240.0;

/// When things went wrong in the month before an end.
#[derive(Debug)]
pub(super) struct Events {
    pub(super) deploys: [Range<i64>; 2],
    pub(super) outage: Range<i64>,
}

impl Events {
    pub(super) fn before(end: i64) -> Self {
        let hour = end - end.rem_euclid(HOUR);
        let day = end - end.rem_euclid(DAY);
        let lasting = |anchor: i64, (offset, length): (i64, i64)| anchor + offset..anchor + offset + length;
        Self { deploys: [lasting(day, FIRST_DEPLOY), lasting(hour, SECOND_DEPLOY)], outage: lasting(day, OUTAGE) }
    }

    /// How bad the outage is in a minute: 0 not at all, 1 fully, sinking while checkout recovers.
    pub(super) fn outage_at(&self, minute: i64) -> f64 {
        let since = minute - self.outage.end;
        if self.outage.contains(&minute) {
            1.0
        } else if (0..RECOVERY).contains(&since) {
            1.0 - since as f64 / RECOVERY as f64
        } else {
            0.0
        }
    }
}

/// Traffic of a minute beside the average of a week: 0.2 in the night, 1.7 in the early evening.
pub(super) fn load(minute: i64) -> f64 {
    let hour = minute.rem_euclid(DAY) as f64 / HOUR as f64;
    // Two waves that both average 0 over a day: one of 24 hours, whose crest is the afternoon, and one of 12, which
    // digs the night at two and lifts the evening at eight.
    let day = |crest: f64, wide: f64, narrow: f64| {
        let wave = |crest: f64, period: f64| ((hour - crest) / period * TAU).cos();
        1.0 + wide * wave(crest, 24.0) + narrow * wave(20.0, 12.0)
    };
    // At the weekend people get up later, shop through the day and go out in the evening.
    let workday = WORKDAY * day(16.5, 0.65, 0.25);
    let weekend = WEEKEND * day(15.5, 0.5, 0.1);
    // Minutes to the nearest Sunday 00:00, the middle of a weekend; 1970 began on a Thursday.
    let after_sunday = (minute - 3 * DAY).rem_euclid(WEEK);
    let distance = after_sunday.min(WEEK - after_sunday) as f64;
    let ramp = ((DAY as f64 - distance) / CHANGEOVER + 0.5).clamp(0.0, 1.0);
    let weekendness = ramp * ramp * (3.0 - 2.0 * ramp);
    workday + (weekend - workday) * weekendness
}

#[cfg(test)]
mod tests {
    use super::super::endpoints::{CATALOG, SERVICES};
    use super::*;

    /// Days since 1970, a Thursday.
    const MONDAY: i64 = 4;
    const SATURDAY: i64 = 9;

    fn load_at(day: i64, hour: i64) -> f64 {
        load(day * DAY + hour * HOUR)
    }

    #[test]
    fn nights_are_quieter_than_evenings_every_day_of_the_week() {
        for day in MONDAY..MONDAY + 7 {
            assert!(load_at(day, 3) * 2.5 < load_at(day, 19), "day {day}");
        }
    }

    #[test]
    fn weekends_are_busier_before_noon_and_quieter_in_the_evening() {
        assert!(load_at(SATURDAY, 11) > 1.1 * load_at(MONDAY, 11));
        assert!(load_at(SATURDAY, 19) < 0.9 * load_at(MONDAY, 19));
    }

    #[test]
    fn traffic_changes_smoothly_and_averages_one_over_a_week() {
        for minute in 0..WEEK {
            assert!((load(minute + 1) - load(minute)).abs() < 0.01, "a step at {minute}");
            assert!(load(minute) > 0.1, "no traffic at {minute}");
        }
        let mean = (0..WEEK).map(load).sum::<f64>() / WEEK as f64;
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
    }

    #[test]
    fn events_lie_where_they_are_looked_for_whatever_the_minute_of_the_end() {
        for end in 20_000 * DAY..20_001 * DAY {
            let events = Events::before(end);
            let within = |event: &Range<i64>, from: i64, to: i64| end - from <= event.start && event.end <= end - to;
            assert!(within(&events.deploys[0], 10 * DAY, 8 * DAY), "{end}");
            assert!(within(&events.deploys[1], 2 * DAY, DAY), "{end}");
            assert!(within(&events.outage, 4 * DAY, 2 * DAY), "{end}");
        }
    }

    #[test]
    fn the_outage_begins_at_once_and_fades() {
        let events = Events::before(20_000 * DAY);
        let Range { start, end } = events.outage;
        let course: Vec<f64> = (end - 1..=end + RECOVERY).map(|minute| events.outage_at(minute)).collect();
        assert_eq!((events.outage_at(start - 1), events.outage_at(start)), (0.0, 1.0));
        assert!(course.is_sorted_by(|earlier, later| earlier >= later));
        assert_eq!(course.last(), Some(&0.0));
    }

    #[test]
    fn deploys_slow_routes_that_exist() {
        let catalog = SERVICES.iter().find(|(service, _)| *service == CATALOG).unwrap().1;
        for route in DEPLOYS.iter().flat_map(|deploy| deploy.routes) {
            assert!(catalog.iter().any(|endpoint| endpoint.route == *route), "{route}");
        }
    }
}
