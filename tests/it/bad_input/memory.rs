//! What large bodies cost when several clients send them at once: B1 to B5, on the real binary.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::{GOOD, JSON, NDJSON};
use crate::harness::compressed::{gzip, zstd};
use crate::harness::{Database, http_client, process};
use crate::slow_clients::resident;

/// What it is, its encoding and type, its bytes, and the status of the answer.
type Sent = (&'static str, &'static str, &'static str, Vec<u8>, u16);

const LIMIT: usize = 16 << 20;
const CLIENTS: usize = 8;
const ROUNDS: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_of_several_clients_take_less_than_twice_the_limit_together() {
    let database = Database::create().await;
    let settings = [("JOBS", "off"), ("MAX_BODY_BYTES", &*LIMIT.to_string())];
    let (mut service, address) = process::serve(&database, &settings).await;
    let address = format!("{address}/api/v1/requests");
    let process_id = service.id().unwrap();

    let spaces = |length: usize| vec![b' '; length];
    let mebibyte = vec![0; 1 << 20];
    let good = GOOD.replace("2026-11-21T10:00:00Z", &chrono::Utc::now().to_rfc3339());
    let bodies: Arc<Vec<Sent>> = Arc::new(vec![
        ("a good record", "gzip", JSON, gzip(&good), 200),
        ("1,000 good records", "zstd", NDJSON, zstd(format!("{good}\n").repeat(1_000)), 200),
        ("over the limit", "identity", JSON, spaces(LIMIT + 1), 413),
        ("a gzip bomb of 200 MiB", "gzip", JSON, gzip(&mebibyte).repeat(200), 413),
        ("a zstd bomb of 200 MiB", "zstd", JSON, zstd(&mebibyte).repeat(200), 413),
        ("as much white space as may be", "zstd", JSON, zstd(spaces(LIMIT)), 400),
        ("as much white space as may be, in gzip", "gzip", NDJSON, gzip(spaces(LIMIT)), 400),
        ("as much white space as may be, as it is", "identity", JSON, spaces(LIMIT), 400),
        ("no UTF-8 at the end", "zstd", JSON, zstd([spaces(LIMIT - 1), vec![0xff]].concat()), 400),
        ("nested, 16 million levels", "zstd", JSON, zstd("[".repeat(LIMIT)), 400),
        ("nested, in objects", "gzip", NDJSON, gzip("{\"a\":".repeat(LIMIT / 5)), 400),
    ]);
    let send = |index: usize, refused: Option<u16>| {
        let (address, bodies, client) = (address.clone(), Arc::clone(&bodies), http_client());
        async move {
            let (what, encoding, content_type, body, expected) = &bodies[index % bodies.len()];
            let request = client.post(address).header("Content-Type", *content_type).body(body.clone());
            // A refusal that comes while the body is still sent may be lost with the connection.
            match request.header("Content-Encoding", *encoding).send().await {
                // 429 where the others have taken the room there is.
                Ok(answer) => {
                    assert!([Some(*expected), refused].contains(&Some(answer.status().as_u16())), "{what}: {answer:?}")
                }
                Err(error) => assert_eq!(*encoding, "identity", "{what}: {error:?}"),
            }
        }
    };
    for index in [0, 1, 0, 1] {
        send(index, None).await;
    }
    let Some(before) = resident(process_id) else { return };
    let (most, over) = (Arc::new(AtomicUsize::new(before)), Arc::new(AtomicBool::new(false)));
    let watching = std::thread::spawn({
        let (most, over) = (Arc::clone(&most), Arc::clone(&over));
        move || {
            while !over.load(Ordering::Relaxed) {
                most.fetch_max(resident(process_id).unwrap_or_default(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    // All kinds by one client after the other, all kinds at once, and each kind by all clients at once.
    let (mixed, same) = (bodies.len() * ROUNDS, bodies.len() * CLIENTS);
    for (how, indexes) in [
        ("one after the other", (0..bodies.len()).map(|index| vec![index]).collect::<Vec<_>>()),
        ("mixed", (0..mixed).collect::<Vec<_>>().chunks(CLIENTS).map(<[usize]>::to_vec).collect()),
        (
            "the same",
            (0..same).map(|n| n / CLIENTS).collect::<Vec<_>>().chunks(CLIENTS).map(<[usize]>::to_vec).collect(),
        ),
    ] {
        for together in indexes {
            let alone = together.len() == 1;
            let sent: Vec<_> =
                together.into_iter().map(|index| tokio::spawn(send(index, (!alone).then_some(429)))).collect();
            for sent in sent {
                sent.await.unwrap();
            }
        }
        let now = resident(process_id).unwrap();
        let mib = |bytes: usize| bytes.saturating_sub(before) >> 20;
        println!("{how}: {} MiB more at most, {} MiB after", mib(most.load(Ordering::Relaxed)), mib(now));
    }
    over.store(true, Ordering::Relaxed);
    watching.join().unwrap();
    assert_eq!(service.try_wait().unwrap(), None, "the service lives");
    let grown = most.load(Ordering::Relaxed) - before;
    assert!(grown < 2 * LIMIT, "{} MiB", grown >> 20);
    service.kill().await.unwrap();
}
