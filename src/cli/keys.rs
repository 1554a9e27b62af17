//! `keys`: API keys, made, listed and revoked.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::printable;
use crate::config::DatabaseOptions;
use crate::domain::{ApiKey, InvalidScope, KeyPrefix, Scope};
use crate::store::{self, ListedKey, Store};

/// The longest name, characters: as much as a table in a terminal has room for.
const NAME_MAX: usize = 64;

#[derive(Args)]
pub(super) struct KeysCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a key and print it, alone, on standard output. It is kept nowhere: this is the one time it can be read
    Create(Create),
    /// Print which keys there are, revoked ones too
    List(List),
    /// Revoke a key: within seconds, every replica refuses it
    Revoke(Revoke),
}

#[derive(Args)]
struct Create {
    /// What the key allows: ingest (sending records), read (asking), admin (everything)
    #[arg(long, value_parser = scope, value_name = "SCOPE")]
    scope: Scope,

    /// What to call it; made from the scope and the prefix if left out
    #[arg(long, value_parser = name, value_name = "NAME")]
    name: Option<String>,

    #[command(flatten)]
    database: DatabaseOptions,
}

#[derive(Args)]
struct List {
    #[command(flatten)]
    database: DatabaseOptions,
}

#[derive(Args)]
struct Revoke {
    /// Name or prefix of the key
    #[arg(value_name = "NAME")]
    key: String,

    #[command(flatten)]
    database: DatabaseOptions,
}

fn scope(text: &str) -> Result<Scope, String> {
    text.parse().map_err(|error: InvalidScope| error.to_string())
}

fn name(text: &str) -> Result<String, String> {
    let shown = text.trim() == text && printable(text) == text;
    if shown && (1..=NAME_MAX).contains(&text.chars().count()) && KeyPrefix::at_start_of(text).is_none() {
        Ok(text.to_owned())
    } else {
        Err(format!("must have 1 to {NAME_MAX} printable characters, no space at either end, and not be a key"))
    }
}

impl KeysCommand {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Create(command) => command.run().await,
            Command::List(command) => command.run().await,
            Command::Revoke(command) => command.run().await,
        }
    }
}

impl Create {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let config = self.database.store()?;
        // As `import` does: the first key may be made before the service ran for the first time.
        store::migrate(&config.url).await?;
        let store = Store::new(&config)?;
        let key = ApiKey::generate()?;
        let name = self.name.unwrap_or_else(|| format!("{}-{}", self.scope.name(), key.prefix()));
        if !store.create_api_key(&name, key.prefix(), &key.hash(), self.scope).await? {
            anyhow::bail!("there is, or was, a key named {name}; choose another --name");
        }
        eprintln!("Made the key {name} (scope {}). It is shown only now; keep it safe:", self.scope.name());
        writeln!(std::io::stdout(), "{}", key.reveal())?;
        Ok(ExitCode::SUCCESS)
    }
}

impl List {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let keys = Store::new(&self.database.store()?)?.api_keys().await?;
        std::io::stdout().write_all(table(&keys).as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Revoke {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let store = Store::new(&self.database.store()?)?;
        // Whoever has found a key where it should not be has it as a whole.
        let prefix = KeyPrefix::at_start_of(&self.key);
        let wanted = prefix.as_ref().map_or(self.key.as_str(), KeyPrefix::as_str);
        match store.revoke_api_key(wanted).await? {
            Some(name) => {
                eprintln!("Revoked the key {}. Every replica that runs refuses it within 5 seconds.", printable(&name));
                Ok(ExitCode::SUCCESS)
            }
            None => {
                eprintln!("There is no key with the name or prefix {}.", printable(wanted));
                Ok(ExitCode::FAILURE)
            }
        }
    }
}

/// The keys, a line each.
fn table(keys: &[ListedKey]) -> String {
    let head = ["NAME", "PREFIX", "SCOPE", "CREATED", "REVOKED"].map(str::to_owned);
    let instant = |at: chrono::DateTime<chrono::Utc>| at.format("%Y-%m-%d %H:%M:%SZ").to_string();
    let rows = keys.iter().map(|key| {
        [
            printable(&key.name),
            key.prefix.to_string(),
            key.scope.name().to_owned(),
            instant(key.created_at),
            key.revoked_at.map_or_else(|| "-".to_owned(), instant),
        ]
    });
    let rows: Vec<[String; 5]> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| width(&row[column])).max().unwrap_or_default();
    let widths = [0, 1, 2, 3].map(width);
    rows.iter().fold(String::new(), |mut text, row| {
        for (cell, wanted) in row.iter().zip(widths) {
            text.push_str(cell);
            text.push_str(&" ".repeat(wanted + 2 - self::width(cell)));
        }
        text + &row[4] + "\n"
    })
}

/// Columns that a text takes in a terminal.
fn width(text: &str) -> usize {
    unicode_width::UnicodeWidthStr::width(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_keys_has_a_line_for_each() {
        let key = |name: &str, revoked: Option<&str>| ListedKey {
            name: name.to_owned(),
            prefix: KeyPrefix::parse("abcdefg2").unwrap(),
            scope: Scope::Ingest,
            created_at: "2026-11-21T10:20:30Z".parse().unwrap(),
            revoked_at: revoked.map(|at| at.parse().unwrap()),
        };
        assert_eq!(
            table(&[key("shop", None), key("商店", Some("2026-11-22T00:00:00Z"))]),
            "NAME  PREFIX    SCOPE   CREATED               REVOKED\n\
             shop  abcdefg2  ingest  2026-11-21 10:20:30Z  -\n\
             商店  abcdefg2  ingest  2026-11-21 10:20:30Z  2026-11-22 00:00:00Z\n"
        );
    }

    #[test]
    fn a_name_is_something_to_read() {
        assert!(["shop", "Grafana, Büro 2"].iter().all(|text| name(text).is_ok()));
        for wrong in ["", " ", " shop", "shop\n", "a\u{1b}[2J", &"x".repeat(65), "es_abcdefg2_secret"] {
            assert!(name(wrong).is_err(), "{wrong:?}");
        }
    }
}
