//! The specification, as tests: over HTTP and the command line, on a real Postgres and a real Redis.
//!
//! | module | what it holds the service to |
//! |---|---|
//! | `model` | every answer equals plain counting, after any history; and the model notices a broken service |
//! | `ingest` | the ways in for records, batches that count once, what a full queue, a lost connection or a lost client does |
//! | `bad_input` | each bad input is refused by name, stores nothing and harms nobody |
//! | `questions` | every answer over HTTP: figures, windows, filters, forms, headers, and one snapshot while data comes in |
//! | `cache` | what the caches may save and what they must never change: replicas, garbage, Redis away, late data |
//! | `histogram` | the latency histogram adds up in Postgres as it does in Rust |
//! | `jobs` | maintenance: each slot run once by whichever replica, what was cut off finished, what each job does |
//! | `keys` | who is let in: scopes, refusals and their time, keys made and revoked while it runs, Postgres away |
//! | `layers` | each module uses only what stands to its right on the map of `lib.rs` |
//! | `limits` | how much a client may ask: exact bursts, who is one client, replicas together, Redis away |
//! | `logs` | the log in files: the last line, a second signal, a full disk, a directory that cannot be written |
//! | `import` | logs and records go in whole, once, with rejects named by line; also after kills and when a file has grown |
//! | `openapi` | the description of the API is that of the service: routes, parameters and their bounds, answers field by field |
//! | `plans` | the questions asked most read what they tell and little else, by the right index |
//! | `readme` | the README's options and their defaults, commands and links are the program's |
//! | `replica` | questions answered by a streaming replica: as of when, how far behind, and while it hangs or is gone |
//! | `schema` | migrations, also by five at once; every statement fits the schema; every column is explained |
//! | `shutdown` | SIGTERM and SIGKILL under load, with Postgres well, held up and out of reach |
//! | `slow_clients` | a head, a body, an answer that goes slowly: the connection ends, nobody else waits, memory is bounded |
//! | `tls` | HTTP/2 and 1.1 over TLS, wrong files told at the start, a new certificate without a restart |
//! | `trainticket` | two days of a real system: counts exact, percentiles within the bound |
//! | `verify` | silent on a good database; names whatever was tampered with |

#![expect(unreachable_pub, reason = "in a binary of tests `pub` only says what a module offers the others")]

mod bad_input;
mod cache;
mod harness;
mod histogram;
mod import;
mod ingest;
mod jobs;
mod keys;
mod layers;
mod limits;
mod logs;
mod model;
mod openapi;
mod plans;
mod questions;
mod readme;
mod replica;
mod schema;
mod shutdown;
mod slow_clients;
mod tls;
mod trainticket;
mod verify;
