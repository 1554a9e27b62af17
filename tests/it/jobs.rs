//! Scheduled maintenance: slots, who runs them, and what each job does.

mod api;
mod commands;
mod measured;
mod slots;
mod upkeep;
