//! Bringing the schema up to date, by however many processes at once.
//!
//! refinery runs the files of `migrations/` and takes no lock of its own, so two processes that start together would both
//! run the same file. Here all take one advisory lock first: one migrates, the others wait and find nothing left to do.
//! The lock belongs to the session, so that of a process that dies is free at once. The connection is a direct one:
//! session locks do not survive a pooler.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres::error::SqlState;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{ANSWER, Store, StoreError, sql, within};

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// Longest wait for the lock and the migrations together; a migration of much data is the longest thing there is.
const DEADLINE: Duration = Duration::from_secs(15 * 60);

/// How often it is looked whether somebody else is done.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Why the schema could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// The address is none.
    #[error("DATABASE_URL is not an address of a Postgres database: {0}")]
    InvalidUrl(String),
    /// No certificate authority to check the server against, or no cipher.
    #[error("TLS to Postgres cannot be set up: {0}")]
    Tls(String),
    /// Postgres could not be reached or refused.
    #[error("Postgres: {0}")]
    Postgres(#[from] tokio_postgres::Error),
    /// A migration failed.
    #[error("migration: {0}")]
    Migration(#[from] refinery::Error),
    /// It took too long.
    #[error("the migrations did not end within 15 minutes; another process may hold their lock")]
    TimedOut,
}

/// The number of the newest migration that this program brings.
#[must_use]
pub fn schema_version() -> u32 {
    let versions = embedded::migrations::runner().get_migrations().iter().map(refinery::Migration::version).max();
    versions.and_then(|version| u32::try_from(version).ok()).unwrap_or_default()
}

/// Runs the migrations that are missing. Returns their names.
///
/// # Errors
/// [`MigrationError`]; a migration that failed left nothing behind.
pub async fn migrate(url: &str) -> Result<Vec<String>, MigrationError> {
    tokio::time::timeout(DEADLINE, run(url)).await.map_err(|_| MigrationError::TimedOut)?
}

async fn run(url: &str) -> Result<Vec<String>, MigrationError> {
    let address = address(url)?;
    let (mut client, connection) = address.config.connect(MakeRustlsConnect::new(tls(&address)?)).await?;
    // Ends when `client` is dropped; an error shows up in the client's own calls.
    let driver = tokio::spawn(connection);
    client.batch_execute("SELECT pg_advisory_lock(hashtext('endpoint_stats'), hashtext('migrate'))").await?;
    // Whoever waits for a table makes all wait who come after. So not for long, and then again: a dump or a long question may
    // be in the way, and the service goes on meanwhile.
    client.batch_execute("SET lock_timeout = '500ms'").await?;
    let mut told = false;
    let report = loop {
        let runner = embedded::migrations::runner();
        // A newer replica may have migrated already: its schema works for this one too (expand, then contract).
        match runner.set_abort_missing(false).run_async(&mut client).await {
            Err(error) if is_lock_timeout(&error) => {
                if !told {
                    tracing::info!("a migration waits for somebody who is at work on a table that it changes");
                    told = true;
                }
                tokio::time::sleep(LOOK_AGAIN_AFTER).await;
            }
            ended => break ended?,
        }
    };
    drop(client);
    let _ = driver.await;
    Ok(report.applied_migrations().iter().map(ToString::to_string).collect())
}

fn is_lock_timeout(error: &refinery::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<tokio_postgres::Error>() {
            return error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE);
        }
        cause = error.source();
    }
    false
}

impl Store {
    /// Waits until somebody else has brought the schema as far as this program needs it.
    ///
    /// # Errors
    /// [`StoreError`]; not because it takes long.
    pub async fn wait_for_schema(&self) -> Result<(), StoreError> {
        let mut told = false;
        loop {
            let mut lease = self.lease().await?;
            let held = sqlx::query_scalar::<_, i64>(sql::SCHEMA_VERSION.sql).fetch_one(lease.connection());
            let held = match within(ANSWER, held).await {
                Err(error) if error.is_missing_table() => 0,
                held => held?,
            };
            if held >= i64::from(schema_version()) {
                lease.give_back();
                return Ok(());
            }
            if !told {
                tracing::warn!(held, needed = schema_version(), "waiting for the schema: run `endpoint-stats migrate`");
                told = true;
            }
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
    }
}

/// How the server's certificate is checked: libpq's `sslmode` (PostgreSQL documentation, section 34.19).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verification {
    /// Encrypted, to whoever answers: `prefer` and `require`.
    None,
    /// `verify-ca` and `verify-full`; both check the name as well here.
    Full,
}

/// The parameters of an address that tokio-postgres knows. Others are sqlx's or libpq's alone and do not matter to a
/// connection that lives for one migration.
const KNOWN: [&str; 11] = [
    "application_name",
    "channel_binding",
    "dbname",
    "host",
    "hostaddr",
    "load_balance_hosts",
    "options",
    "password",
    "port",
    "target_session_attrs",
    "user",
];

/// How to connect, and how to check who answers.
struct Address {
    config: tokio_postgres::Config,
    verification: Verification,
    /// A file of certificate authorities, instead of the machine's.
    authorities: Option<String>,
}

/// The address in tokio-postgres' terms, which knows fewer parameters than libpq and sqlx.
fn address(url: &str) -> Result<Address, MigrationError> {
    // The error of `url` tells what is wrong without repeating the text, which holds a password.
    let mut url = url::Url::parse(url).map_err(|error| MigrationError::InvalidUrl(error.to_string()))?;
    let mut verification = Verification::None;
    let mut authorities = None;
    let mut parameters: Vec<(String, String)> = Vec::new();
    for (name, value) in url.query_pairs() {
        match (&*name, &*value) {
            ("sslmode" | "ssl-mode", "verify-ca" | "verify-full") => {
                verification = Verification::Full;
                parameters.push(("sslmode".to_owned(), "require".to_owned()));
            }
            ("sslmode" | "ssl-mode", "allow") => parameters.push(("sslmode".to_owned(), "prefer".to_owned())),
            ("sslmode" | "ssl-mode", mode) => parameters.push(("sslmode".to_owned(), mode.to_owned())),
            ("sslrootcert" | "ssl-root-cert" | "ssl-ca", file) => authorities = Some(file.to_owned()),
            (name, value) if KNOWN.contains(&name) => parameters.push((name.to_owned(), value.to_owned())),
            _ => {}
        }
    }
    url.set_query(None);
    if !parameters.is_empty() {
        url.query_pairs_mut().extend_pairs(parameters);
    }
    // The form encoding of `url` writes a space as `+`, which tokio-postgres takes for a plus; a plus itself is `%2B`.
    let query = url.query().map(|query| query.replace('+', "%20"));
    url.set_query(query.as_deref());
    let mut config: tokio_postgres::Config = url.as_str().parse().map_err(|error: tokio_postgres::Error| {
        MigrationError::InvalidUrl(
            std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string),
        )
    })?;
    config.application_name("endpoint-stats migrate").connect_timeout(Duration::from_secs(10));
    Ok(Address { config, verification, authorities })
}

fn tls(address: &Address) -> Result<ClientConfig, MigrationError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| MigrationError::Tls(error.to_string()))?;
    let builder = match address.verification {
        Verification::None => builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer(provider))),
        Verification::Full => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(match &address.authorities {
                Some(file) => CertificateDer::pem_file_iter(file)
                    .and_then(Iterator::collect)
                    .map_err(|error| MigrationError::Tls(format!("sslrootcert {file}: {error}")))?,
                None => rustls_native_certs::load_native_certs().certs,
            });
            if roots.is_empty() {
                return Err(MigrationError::Tls(
                    "there are no certificate authorities to check the server by".to_owned(),
                ));
            }
            builder.with_root_certificates(roots)
        }
    };
    Ok(builder.with_no_client_auth())
}

/// Accepts any certificate, as libpq does unless asked to verify; the signatures of the handshake are still checked.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sslmode_of_libpq_is_understood() {
        for (mode, verification) in [
            ("disable", Verification::None),
            ("allow", Verification::None),
            ("prefer", Verification::None),
            ("require", Verification::None),
            ("verify-ca", Verification::Full),
            ("verify-full", Verification::Full),
        ] {
            let found = address(&format!("postgres://u:p@db.example:6543/stats?sslmode={mode}")).unwrap();
            assert_eq!(found.verification, verification, "{mode}");
            assert_eq!(found.config.get_ports(), [6543]);
            assert_eq!(found.config.get_password(), Some(&b"p"[..]));
        }
    }

    #[test]
    fn parameters_of_other_drivers_do_not_keep_it_from_connecting() {
        let url =
            "postgres://u@h/d?statement-cache-capacity=0&sslrootcert=/ca.pem&options=-c%20search_path%3Dstats%2B1";
        let found = address(url).unwrap();
        assert_eq!(found.config.get_options(), Some("-c search_path=stats+1"));
        assert_eq!(found.authorities.as_deref(), Some("/ca.pem"));
    }

    #[test]
    fn a_bad_address_is_refused_without_repeating_it() {
        for url in ["secret", "postgres://u:secret@:x/", "postgres://u:secret@h/?sslmode=maybe"] {
            let error = address(url).map(|_| ()).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
