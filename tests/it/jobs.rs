//! Scheduled maintenance: slots, who runs them, and what each job does.

mod slots;
mod upkeep;
