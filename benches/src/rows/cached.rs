//! Row 3: a cached answer, beside an actix handler that does nothing else and beside Redis; and row 7, the memory that takes.

use std::process::Command;

use anyhow::{Context as _, Result};

use super::Served;
use crate::figures::Sample;
use crate::load::{Load, get};
use crate::programs::run;
use crate::progress;
use crate::servers::Bare;
use crate::table::{Line, Table};

/// Connections that are kept alive.
const READERS: u16 = 64;

/// What is asked: the top 10 of a month.
const TARGET: &str = "/api/v1/endpoints/top?by=p95&window=30d";

pub(crate) fn measure(served: &Served<'_>, table: &mut Table) -> Result<()> {
    progress("row 3: cached answers");
    let bench = served.bench;
    served.service.ask(TARGET, &served.keys[0])?;
    // The second answer is from the cache, as all that are measured.
    let answer = served.service.ask(TARGET, &served.keys[0])?;
    let body = answer.windows(4).position(|window| window == b"\r\n\r\n").context("the answer has no body")? + 4;
    let file = bench.folder.join("answer.http");
    std::fs::write(&file, &answer)?;
    let bare = Bare::start(&file)?;
    bench.redis.say(&[b"SET", b"bench", &answer[body..]])?;

    let bearers: Vec<String> = served.keys.iter().map(|key| format!("Bearer {key}")).collect();
    let load = |address: &str| -> Result<Load> {
        let requests = bearers.iter().map(|bearer| get(TARGET, &[("Authorization", bearer)]));
        Load::new(&bench.folder, "questions", address, READERS)?.write(requests)
    };
    let (ours, actix) = (load(&served.service.address())?, load(&bare.address())?);
    ours.run(bench.pace.question)?;
    actix.run(bench.pace.question)?;
    let (mut rate, mut actix_rate, mut redis_rate) = (Sample::default(), Sample::default(), Sample::default());
    for _ in 0..bench.pace.rounds {
        actix_rate.add(actix.run(bench.pace.load)?.per_second());
        rate.add(ours.run(bench.pace.load)?.per_second());
        redis_rate.add(redis(served)?);
    }
    let what = format!("cached top-10 over HTTP, {READERS} keep-alive connections, {} bytes", answer.len() - body);
    let beside = ("a bare actix handler, the same bytes and headers", &actix_rate);
    table.add(Line::rates(3, &what, "answers/s", &rate, beside, 0.9));
    let beside = ("`redis-benchmark` GET of the same bytes", &redis_rate);
    table.add(Line::rates(3, &what, "answers/s", &rate, beside, 0.8));
    table.command("row 3", &ours.command(bench.pace.load));
    table.command("row 3, beside", &format!("redis-benchmark -c {READERS} -n N --csv GET bench"));
    if bench.wants(7) {
        let memory = [served.service.peak_memory()?].into_iter().collect();
        let what = format!("the same at {READERS} readers, after full ingest");
        table.add(Line::at_most(7, &what, "MiB", &memory, 128.0));
    }
    Ok(())
}

/// Answers of Redis a second.
fn redis(served: &Served<'_>) -> Result<f64> {
    let bench = served.bench;
    // Some hundred thousand a second.
    let requests = bench.pace.load.as_secs() * 100_000;
    let mut benchmark = Command::new("redis-benchmark");
    benchmark.args(["-p", &bench.redis.port().to_string(), "-c", &READERS.to_string(), "-n", &requests.to_string()]);
    let told = run(benchmark.args(["--csv", "GET", "bench"]))?;
    // "test","rps",… and below it "GET bench","115207.37",…
    let figures = told.lines().last().unwrap_or_default();
    let rate = figures.split(',').nth(1).map(|rate| rate.trim_matches('"'));
    rate.and_then(|rate| rate.parse().ok()).with_context(|| format!("redis-benchmark tells no rate: {told}"))
}
