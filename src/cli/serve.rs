//! `serve`: the service.

use clap::Args;

use tokio_util::sync::CancellationToken;

use super::{log_to_files, log_to_stdout, stop_on_signal};
use crate::app::{AppConfig, Application};
use crate::config::{
    Auth, CacheOptions, DataOptions, DatabaseOptions, LimitOptions, LogOptions, MaintenanceOptions, ReplicaOptions,
    ServeOptions, Switch,
};
use crate::domain::Clock;
use crate::http::{TimeOuts, TlsFiles};
use crate::logs::LogFiles;

/// actix tells of each client that speaks no HTTP or goes away as of an error of its own.
const LOGGED: &str = "info,actix_server=warn,actix_http=off,refinery_core=warn,tokio_postgres=warn";

#[derive(Args)]
pub(super) struct ServeCommand {
    #[command(flatten)]
    serve: ServeOptions,
    #[command(flatten)]
    database: DatabaseOptions,
    #[command(flatten)]
    replica: ReplicaOptions,
    #[command(flatten)]
    cache: CacheOptions,
    #[command(flatten)]
    data: DataOptions,
    #[command(flatten)]
    limits: LimitOptions,
    #[command(flatten)]
    maintenance: MaintenanceOptions,
    #[command(flatten)]
    logs: LogOptions,
}

impl ServeCommand {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        self.serve.validate()?;
        let files = self.logs.dir().map(LogFiles::open).transpose()?;
        match &files {
            Some(files) => log_to_files(LOGGED, files, module_path!()),
            None => log_to_stdout(LOGGED),
        }
        // The last lines are the ones that people look for.
        let close = move || files.iter().for_each(LogFiles::close);
        // Heard from the beginning: a service told to stop while it starts should stop.
        let served = match stop_on_signal(close.clone()) {
            Ok(stop) => self.serve(stop).await,
            Err(error) => Err(error),
        };
        close();
        served
    }

    async fn serve(self, stop: CancellationToken) -> anyhow::Result<()> {
        let auth = if self.serve.auth == Auth::Required { "required" } else { "off" };
        let logs = self.logs.dir().map(|dir| tracing::field::display(dir.display()));
        let config = self.config()?;
        let tls = config.tls.is_some();
        let build = Application::build(config, Clock::system());
        // Starting may take long: another replica that migrates is waited for. Cut off, a migration is rolled back.
        let Some(application) = stop.run_until_cancelled(build).await.transpose()? else { return Ok(()) };
        tracing::info!(address = %application.address(), tls, auth, logs, "serving");
        application.run_until(stop).await
    }

    fn config(&self) -> anyhow::Result<AppConfig> {
        let store = self.database.store()?;
        Ok(AppConfig {
            replica: self.replica.replica(&store)?,
            store,
            cache: self.cache.cache(),
            ingest: self.data.ingest(),
            maintenance: self.maintenance.jobs(&self.data, Some(&self.logs))?,
            limits: self.limits.limits(),
            trusted_proxies: self.limits.trusted_proxies(),
            listen: self.serve.listen,
            auth: self.serve.auth == Auth::Required,
            tls: self.serve.tls()?.map(|(certificates, key)| TlsFiles { certificates, key }),
            time_outs: TimeOuts::default(),
            max_body_bytes: usize::try_from(self.serve.max_body_bytes)?,
            jobs: self.serve.jobs == Switch::On,
            migrate: self.serve.migrate == Switch::On,
        })
    }
}
