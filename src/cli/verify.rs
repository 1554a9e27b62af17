//! `verify`: rollups against what they were made of.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Args;

use super::printable;
use crate::config::DatabaseOptions;
use crate::store::{Difference, Store};

/// The longest count printed whole; a histogram has thousands of digits.
const PRINTED_DIGITS: usize = 40;

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
                writeln!(std::io::stdout(), "{}", line(difference))?;
            }
            if left == 0 {
                writeln!(std::io::stdout(), "… and perhaps more: --limit prints more than {}", self.limit)?;
                break;
            }
        }
        Ok(if found { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

fn line(difference: &Difference) -> String {
    let Difference { hour, endpoint, what, told, known } = difference;
    let endpoint = printable(endpoint);
    let count = |(name, count): &(String, Option<String>)| match count {
        None => format!("{name} none"),
        Some(digits) if digits.len() > PRINTED_DIGITS => {
            format!("{name} …{} ({} digits)", &digits[digits.len() - PRINTED_DIGITS..], digits.len())
        }
        Some(digits) => format!("{name} {digits}"),
    };
    let number = |(_, count): &(String, Option<String>)| count.as_ref().and_then(|digits| digits.parse::<i128>().ok());
    let by = match (number(told), number(known)) {
        (Some(told), Some(known)) => format!(" (difference {:+})", told - known),
        _ => String::new(),
    };
    format!("{} {endpoint}: {what}: {}, {}{by}", hour.format("%Y-%m-%dT%H:%MZ"), count(told), count(known))
}
