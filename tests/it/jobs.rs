//! Scheduled maintenance: slots, who runs them, and what each job does.

mod housekeeping;
mod retention;
mod slots;

use std::time::Duration;

use chrono::TimeDelta;
use endpoint_stats::jobs::{Begun, Job};
use endpoint_stats::store::{Ending, Outcome};
use tokio_util::sync::CancellationToken;

use crate::harness::TestApp;

/// Runs a job as if a person had asked for it.
async fn run(app: &TestApp, job: Job) -> Ending {
    // As every service does each two seconds.
    app.jobs.synchronise().await.expect("Postgres answers");
    loop {
        match app.jobs.begin(job, true).await.expect("Postgres answers") {
            Begun::Won(run) => return run.perform(&CancellationToken::new(), None).await.ending,
            // A run is named by the instant at which it was asked for, and the clock stands still.
            Begun::Settled | Begun::Waiting(_) => app.clock.advance(TimeDelta::microseconds(1)),
            Begun::Held => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// The same, and it must succeed.
pub async fn perform(app: &TestApp, job: Job) -> Ending {
    let ending = run(app, job).await;
    assert_eq!(ending.outcome, Outcome::Succeeded, "{job}: {:?}", ending.error);
    ending
}
