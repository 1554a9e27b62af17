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

mod catch_up;
mod fleet;
mod killed;
mod late_data;
mod paused;
mod replicas;
mod slots;
mod stopped;
