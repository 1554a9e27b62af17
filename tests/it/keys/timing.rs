//! What the time of a refusal tells about a key: nothing.
//!
//! Each kind of wrong key is tried 100,000 times, all kinds in turn, each from the same place in memory. Two kinds are told
//! apart by Welch's t-test, after the slowest tries of all are cut to one value (as dudect does): those are the machine's
//! interruptions, a thousand times as long as what is looked for. A busy machine may fool one run, so a difference counts
//! only if three runs of three find it.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::Instant;

use endpoint_stats::auth::KeyRing;
use endpoint_stats::domain::Scope;
use futures_util::FutureExt as _;

use super::{made, store_on};
use crate::harness::Database;

const TRIES: usize = 100_000;

/// The quantile of the standard normal distribution for p = 0.01, two-sided; t is normal with so many tries.
const SIGNIFICANT: f64 = 2.576;

/// Each order of three: drawn by lot, so that no kind follows the same other more often than the others do.
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/// A line of the processor's cache, so that copying one kind is no other work than copying another.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([u8; 64]);

impl Line {
    fn holding(text: &str) -> Self {
        let mut line = [0; 64];
        line[..text.len()].copy_from_slice(text.as_bytes());
        Self(line)
    }
}

/// Welch's t of each two of three kinds of input to `refuse`.
fn compared(kinds: &[String; 3], refuse: impl Fn(&str)) -> [f64; 3] {
    let mut took: [Vec<f64>; 3] = std::array::from_fn(|_| Vec::with_capacity(TRIES));
    let lines: [Line; 3] = std::array::from_fn(|kind| Line::holding(&kinds[kind]));
    let mut random = 1_u64;
    for try_ in 0..TRIES + 1_000 {
        // Knuth's generator; its upper bits are the better ones.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        for kind in ORDERS[(random >> 33) as usize % ORDERS.len()] {
            let place = black_box(lines[kind]);
            // Read whole: a loop of another length would leave the processor's guesses about jumps in another state.
            let presented = &std::str::from_utf8(&place.0).unwrap()[..kinds[kind].len()];
            // The copy is done before the clock is read, not while what is measured runs already.
            fence(Ordering::SeqCst);
            let began = Instant::now();
            refuse(black_box(presented));
            let nanoseconds = began.elapsed().as_nanos() as f64;
            // The first ones warm caches up.
            if try_ >= 1_000 {
                took[kind].push(nanoseconds);
            }
        }
    }
    let mut all: Vec<f64> = took.iter().flatten().copied().collect();
    all.sort_by(f64::total_cmp);
    let slowest = all[all.len() * 9 / 10];
    let cut = took.map(|times| times.into_iter().map(|time| time.min(slowest)).collect::<Vec<_>>());
    [welch(&cut[0], &cut[1]), welch(&cut[0], &cut[2]), welch(&cut[1], &cut[2])]
}

fn welch(one: &[f64], other: &[f64]) -> f64 {
    let mean_and_error = |sample: &[f64]| {
        let count = sample.len() as f64;
        let mean = sample.iter().sum::<f64>() / count;
        let variance = sample.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
        (mean, variance / count)
    };
    let ((one, one_error), (other, other_error)) = (mean_and_error(one), mean_and_error(other));
    (one - other) / (one_error + other_error).sqrt().max(f64::MIN_POSITIVE)
}

/// Which two of the kinds three runs of three tell apart, always in the same direction.
fn told_apart(kinds: &[String; 3], refuse: impl Fn(&str)) -> (Vec<&'static str>, Vec<[f64; 3]>) {
    let mut runs = Vec::new();
    let names = ["first byte / last byte", "first byte / length", "last byte / length"];
    let mut still = vec![0, 1, 2];
    while runs.len() < 3 && !still.is_empty() {
        runs.push(compared(kinds, &refuse));
        let is_found = |pair: &usize| {
            let (up, down) = (|t: &[f64; 3]| t[*pair] > SIGNIFICANT, |t: &[f64; 3]| t[*pair] < -SIGNIFICANT);
            runs.iter().all(up) || runs.iter().all(down)
        };
        still.retain(is_found);
    }
    (still.into_iter().map(|pair| names[pair]).collect(), runs)
}

/// `key`, of which a byte differs: the first of its secret, its last, and none, but the last is missing.
fn wrong(key: &str) -> [String; 3] {
    let at = |index: usize| {
        let mut bytes = key.as_bytes().to_vec();
        bytes[index] = if bytes[index] == b'A' { b'B' } else { b'A' };
        String::from_utf8(bytes).unwrap()
    };
    [at(12), at(key.len() - 1), key[..key.len() - 1].to_owned()]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_a_refusal_does_not_tell_where_a_key_is_wrong() {
    let database = Database::create().await;
    let store = Arc::new(store_on(&database));
    let key = made(&store, Scope::Read).await;
    let ring = KeyRing::new(store);
    ring.load().await.unwrap();
    assert!(ring.check(key.reveal()).await.is_ok());

    let kinds = wrong(key.reveal());
    let (found, runs) = told_apart(&kinds, |presented| {
        let refused = ring.check(presented).now_or_never().expect("a known prefix needs no wait");
        assert!(refused.is_err());
    });
    assert!(found.is_empty(), "told apart: {found:?}; t by run: {runs:?}");
}

#[test]
fn the_same_instrument_notices_a_comparison_that_ends_early() {
    let key = "es_abcdefgh_".to_owned() + &"k".repeat(43);
    let kinds = wrong(&key);
    let (found, runs) = told_apart(&kinds, |presented| {
        let same = presented.len() == key.len() && presented.bytes().zip(key.bytes()).all(|(one, other)| one == other);
        assert!(!black_box(same));
    });
    assert_eq!(found.len(), 3, "told apart only: {found:?}; t by run: {runs:?}");
}
