//! The specification, as tests: over HTTP and the command line, on a real Postgres and a real Redis.
//!
//! | module | what it holds the service to |
//! |---|---|
//! | `model` | every answer equals plain counting, after any history; and the model notices a broken service |
//! | `schema` | migrations, also by five at once; every statement fits the schema; every column is explained |

#![expect(unreachable_pub, reason = "in a binary of tests `pub` only says what a module offers the others")]

mod harness;
mod model;
mod schema;
