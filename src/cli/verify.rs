//! `verify`: rollups against what they were made of.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Args;

use super::printable;
use crate::config::DatabaseOptions;
use crate::store::Store;

#[derive(Args)]
pub(super) struct VerifyCommand {
    #[command(flatten)]
    database: DatabaseOptions,

    /// How many differences to print
    #[arg(long, default_value_t = 20, value_name = "N")]
    limit: u32,
}

impl VerifyCommand {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let store = Store::new(&self.database.store()?)?;
        let mut left = self.limit.max(1);
        let mut found = false;
        for day in store.verifiable_days().await?.into_iter().flat_map(|days| days.iter()) {
            let differences = store.verify_day(day, left).await?;
            left = left.saturating_sub(u32::try_from(differences.len())?);
            found |= !differences.is_empty();
            for difference in &differences {
                writeln!(std::io::stdout(), "{}", printable(&difference.to_string()))?;
            }
            if left == 0 {
                writeln!(std::io::stdout(), "… and perhaps more: --limit prints more than {}", self.limit)?;
                break;
            }
        }
        Ok(if found { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}
