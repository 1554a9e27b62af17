//! `serve`: the service.

use clap::Args;

use super::stop_on_signal;
use crate::app::{AppConfig, Application};
use crate::config::{CacheOptions, DataOptions, DatabaseOptions, LimitOptions, ServeOptions, Switch};
use crate::domain::Clock;

#[derive(Args)]
pub(super) struct ServeCommand {
    #[command(flatten)]
    serve: ServeOptions,
    #[command(flatten)]
    database: DatabaseOptions,
    #[command(flatten)]
    cache: CacheOptions,
    #[command(flatten)]
    data: DataOptions,
    #[command(flatten)]
    limits: LimitOptions,
}

impl ServeCommand {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        self.serve.validate()?;
        // Heard from the beginning: a service told to stop while it starts should stop.
        let stop = stop_on_signal()?;
        let build = Application::build(self.config()?, Clock::system());
        // Starting may take long: another replica that migrates is waited for. Cut off, a migration is rolled back.
        let Some(application) = stop.run_until_cancelled(build).await.transpose()? else { return Ok(()) };
        tracing::info!(address = %application.address(), auth = "off", "serving");
        application.run_until(stop).await
    }

    fn config(&self) -> anyhow::Result<AppConfig> {
        Ok(AppConfig {
            store: self.database.store()?,
            cache: self.cache.cache(),
            ingest: self.data.ingest(),
            retention: self.data.retention(),
            limits: self.limits.limits(),
            trusted_proxies: self.limits.trusted_proxies(),
            listen: self.serve.listen,
            max_body_bytes: usize::try_from(self.serve.max_body_bytes)?,
            jobs: self.serve.jobs == Switch::On,
            migrate: self.serve.migrate == Switch::On,
        })
    }
}
