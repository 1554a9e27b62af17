//! Scheduled maintenance: slots, who runs them, and what each job does.
//!
//! | file | what it holds the scheduler to |
//! |---|---|
//! | `slots` | one claim after another, on one replica |
//! | `catch_up` | what runs after a time in which nobody ran, and after a failure |
//! | `replicas` | three replicas: every slot once, also where their clocks disagree |
//! | `killed` | the same with fifty kills, most in the middle of a run |
//! | `paused` | a process that is killed, paused or cut off loses its job and cannot write when it wakes |
//! | `late_data` | answers while late data, folds and refreshes go on in any order |
//! | `stopped` | SIGTERM while a job has pieces left |
//! | `fleet` | replicas as processes, with a clock that the test sets |
//! | `api`, `commands` | seeing and running jobs over HTTP and in a terminal |
//! | `retention`, `housekeeping`, `upkeep` | what each job does |
//! | `beside` | reads and ingest go on while any job runs |
//! | `measured` | how long it takes at full size |

mod api;
mod beside;
mod catch_up;
mod commands;
mod fleet;
mod housekeeping;
mod killed;
mod late_data;
mod measured;
mod paused;
mod replicas;
mod retention;
mod slots;
mod stopped;
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
