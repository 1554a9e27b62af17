//! Scheduled maintenance: slots, who runs them, and what each job does.

mod api;
mod beside;
mod commands;
mod housekeeping;
mod measured;
mod retention;
mod slots;
mod upkeep;

use std::time::Duration;

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
            // A session that has just been left is not gone yet.
            Begun::Held => tokio::time::sleep(Duration::from_millis(5)).await,
            Begun::Settled | Begun::Waiting(_) => panic!("what is asked for by hand has no slot to wait for"),
        }
    }
}

/// The same, and it must succeed.
pub async fn perform(app: &TestApp, job: Job) -> Ending {
    let ending = run(app, job).await;
    assert_eq!(ending.outcome, Outcome::Succeeded, "{job}: {:?}", ending.error);
    ending
}
