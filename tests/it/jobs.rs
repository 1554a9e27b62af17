//! Scheduled maintenance: slots, who runs them, and what each job does.

mod measured;
mod slots;
mod upkeep;
