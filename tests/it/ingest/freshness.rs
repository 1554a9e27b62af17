//! What was acknowledged is in the next answer.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;

use crate::harness::{TestApp, record};

#[tokio::test(flavor = "multi_thread")]
async fn a_client_finds_its_records_in_the_very_next_answer() {
    let app = TestApp::start().await;
    let done = AtomicBool::new(false);
    let clients = async {
        join_all((0..6).map(|client| one_client(&app, client))).await;
        done.store(true, Ordering::Relaxed);
    };
    // Deltas move into minutes and hours all the while: what is in both, or in neither, would be seen.
    let folding = async {
        while !done.load(Ordering::Relaxed) {
            app.fold().await;
        }
    };
    tokio::join!(clients, folding);
    assert_eq!(app.get("/api/v1/overview").await["total"]["requests"], 6 * (1 + 2 + 3) * 8);
}

/// Sends and asks in turn, as a client whose clock is right, behind, and 4 minutes ahead.
async fn one_client(app: &TestApp, client: u32) {
    let service = format!("client-{client}");
    let mut sent = 0;
    for round in 0..24 {
        let timestamp = ["2026-11-21T10:20:30Z", "2026-11-21T10:24:30Z", "2026-11-20T23:59:59.999Z"]
            [((round + client) % 3) as usize];
        let mut records = vec![record(timestamp, &format!("/{}", round % 5), 1.0); (round % 3 + 1) as usize];
        records.iter_mut().for_each(|record| record["service"] = service.clone().into());
        app.accept(&records).await;
        sent += records.len();
        let answers = [
            app.get(&format!("/api/v1/endpoints/top?service={service}")).await["total"]["requests"].clone(),
            app.get(&format!("/api/v1/overview?window=12h&service={service}")).await["total"]["requests"].clone(),
            app.get(&format!("/api/v1/endpoints/top?from=2026-11-20&service={service}")).await["total"]["requests"]
                .clone(),
        ];
        assert_eq!(answers, [(); 3].map(|()| serde_json::Value::from(sent)), "{service} in round {round}, {timestamp}");
    }
}
