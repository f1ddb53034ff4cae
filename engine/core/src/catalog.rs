//! The catalog's queries. Whatever must be exclusive is a UNIQUE column.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use engine_network::{Protocol, PublishedPort};
use engine_types::{ContainerId, NetworkId, SessionId};
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Row, SqliteConnection};

use crate::error::Error;

/// How long a write waits for another process's.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the log may get before it is moved into the database, in pages of 4 KiB. Who opens the catalog alone reads
/// all of the log; moving it syncs the disk twice. A container's life adds about 14 pages.
const WAL_PAGES: u32 = 128;
/// Connections of one process.
const CONNECTIONS_MAX: u32 = 4;

/// Events that are kept.
const EVENTS_KEPT: i64 = 1000;

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!();

/// The SQLite database of one engine root.
#[derive(Debug, Clone)]
pub(crate) struct Catalog {
    pool: SqlitePool,
    path: PathBuf,
}

/// A container's row.
#[derive(Debug, Clone)]
pub(crate) struct ContainerRow {
    pub(crate) id: ContainerId,
    pub(crate) name: String,
    pub(crate) config: String,
    /// When it was made; set by the catalog.
    pub(crate) created: Timestamp,
}

/// A network's row.
#[derive(Debug, Clone)]
pub(crate) struct NetworkRow {
    pub(crate) id: NetworkId,
    pub(crate) name: String,
    pub(crate) subnet: String,
    pub(crate) config: String,
    /// When it was made; set by the catalog.
    pub(crate) created: Timestamp,
}

/// A volume's row.
#[derive(Debug, Clone)]
pub(crate) struct VolumeRow {
    pub(crate) name: String,
    pub(crate) labels: String,
    pub(crate) created: Timestamp,
}

impl Catalog {
    pub(crate) async fn open(path: PathBuf) -> Result<Self, Error> {
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // In WAL mode a crash of the machine may lose the last commits, never the database: what they named is
            // then swept like everything that has no row.
            .synchronous(SqliteSynchronous::Normal)
            .foreign_keys(true)
            .pragma("wal_autocheckpoint", WAL_PAGES.to_string())
            .busy_timeout(BUSY_TIMEOUT);
        let failed = |source| Error::catalog(&path, source);
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .connect_with(options)
            .await
            .map_err(failed)?;
        let catalog = Self { pool, path };
        catalog.migrate().await?;
        Ok(catalog)
    }

    /// Applies what is missing. The migrator's own bookkeeping costs milliseconds, so SQLite's `user_version` is asked
    /// first, which comes with the header that has been read anyway.
    async fn migrate(&self) -> Result<(), Error> {
        let newest = MIGRATIONS.iter().map(|m| m.version).max().unwrap_or_default();
        let version: i64 = sqlx::query_scalar("PRAGMA user_version")
            .fetch_one(&self.pool)
            .await
            .map_err(|e| self.failed(e))?;
        if version == newest {
            return Ok(());
        }
        MIGRATIONS.run(&self.pool).await.map_err(|e| self.failed(sqlx::Error::Migrate(Box::new(e))))?;
        let set = sqlx::AssertSqlSafe(format!("PRAGMA user_version = {newest}"));
        sqlx::query(set).execute(&self.pool).await.map_err(|e| self.failed(e))?;
        Ok(())
    }

    pub(crate) async fn insert_session(&self, id: SessionId) -> Result<(), Error> {
        let query = sqlx::query("INSERT INTO sessions (id) VALUES (?)").bind(id.to_string());
        query.execute(&self.pool).await.map_err(|e| self.failed(e))?;
        Ok(())
    }

    pub(crate) async fn delete_session(&self, id: SessionId) -> Result<(), Error> {
        let query = sqlx::query("DELETE FROM sessions WHERE id = ?").bind(id.to_string());
        query.execute(&self.pool).await.map_err(|e| self.failed(e))?;
        Ok(())
    }

    pub(crate) async fn sessions(&self) -> Result<Vec<SessionId>, Error> {
        let rows = sqlx::query_scalar::<_, String>("SELECT id FROM sessions").fetch_all(&self.pool).await;
        rows.map_err(|e| self.failed(e))?.iter().map(|id| parse(id)).collect()
    }

    /// Inserts a container; the id of the one that has the name already, if so.
    pub(crate) async fn insert_container(
        &self,
        row: &ContainerRow,
        image: &str,
        session: Option<SessionId>,
    ) -> Result<Result<(), String>, Error> {
        let query = sqlx::query(
            "INSERT INTO containers (id, name, image, config, session, created) VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(row.id.to_string())
        .bind(&row.name)
        .bind(image)
        .bind(&row.config)
        .bind(session.map(|s| s.to_string()))
        .bind(row.created.as_millisecond());
        match query.execute(&self.pool).await {
            Ok(_) => Ok(Ok(())),
            Err(e) if is_unique_violation(&e) => {
                let holder = sqlx::query_scalar("SELECT id FROM containers WHERE name = ?").bind(&row.name);
                let holder = holder.fetch_optional(&self.pool).await.map_err(|e| self.failed(e))?;
                Ok(Err(holder.unwrap_or_default()))
            }
            Err(e) => Err(self.failed(e)),
        }
    }

    /// Finds a container by id, name or id prefix.
    pub(crate) async fn container(&self, key: &str) -> Result<ContainerRow, Error> {
        let key = key.strip_prefix('/').unwrap_or(key);
        let query = sqlx::query(
            "SELECT id, name, config, created FROM containers WHERE id = ?1 OR name = ?1 OR (?2 AND substr(id, 1, length(?1)) = ?1)",
        )
        .bind(key)
        .bind(is_prefix(key));
        let rows = query.fetch_all(&self.pool).await.map_err(|e| self.failed(e))?;
        let rows = rows.iter().map(container_row).collect::<Result<Vec<_>, _>>()?;
        let exact = rows.iter().find(|row| row.id.to_string() == key || row.name == key).cloned();
        match (exact, rows.as_slice()) {
            (Some(row), _) => Ok(row),
            (None, [row]) => Ok(row.clone()),
            (None, []) => Err(Error::NoSuchContainer(key.to_owned())),
            (None, _) => Err(Error::AmbiguousContainer(key.to_owned())),
        }
    }

    pub(crate) async fn containers(&self) -> Result<Vec<ContainerRow>, Error> {
        let rows = sqlx::query("SELECT id, name, config, created FROM containers ORDER BY created DESC")
            .fetch_all(&self.pool);
        rows.await.map_err(|e| self.failed(e))?.iter().map(container_row).collect()
    }

    pub(crate) async fn containers_of(&self, session: SessionId) -> Result<Vec<ContainerId>, Error> {
        let query = sqlx::query_scalar::<_, String>("SELECT id FROM containers WHERE session = ?");
        let rows = query.bind(session.to_string()).fetch_all(&self.pool).await.map_err(|e| self.failed(e))?;
        rows.iter().map(|id| parse(id)).collect()
    }

    /// Changes what a container is to be; nothing if it is gone.
    pub(crate) async fn update_config(&self, id: ContainerId, config: &str) -> Result<(), Error> {
        let query =
            sqlx::query("UPDATE containers SET config = ? WHERE id = ?").bind(config).bind(id.to_string());
        query.execute(&self.pool).await.map_err(|e| self.failed(e))?;
        Ok(())
    }

    pub(crate) async fn delete_container(&self, id: ContainerId) -> Result<(), Error> {
        let query = sqlx::query("DELETE FROM containers WHERE id = ?").bind(id.to_string());
        query.execute(&self.pool).await.map_err(|e| self.failed(e))?;
        Ok(())
    }

    /// Inserts a network; false if its name or subnet is taken.
    pub(crate) async fn insert_network(
        &self,
        row: &NetworkRow,
        session: Option<SessionId>,
    ) -> Result<bool, Error> {
        let query = sqlx::query(
            "INSERT INTO networks (id, name, subnet, config, session, created) VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(row.id.to_string())
        .bind(&row.name)
        .bind(&row.subnet)
        .bind(&row.config)
        .bind(session.map(|s| s.to_string()))
        .bind(row.created.as_millisecond());
        match query.execute(&self.pool).await {
            Ok(_) => Ok(true),
            Err(e) if is_unique_violation(&e) => Ok(false),
            Err(e) => Err(self.failed(e)),
        }
    }

    /// Finds a network by id, name or id prefix.
    pub(crate) async fn network(&self, key: &str) -> Result<Option<NetworkRow>, Error> {
        let query = sqlx::query(
            "SELECT id, name, subnet, config, created FROM networks WHERE id = ?1 OR name = ?1 OR (?2 AND substr(id, 1, length(?1)) = ?1)",
        )
        .bind(key)
        .bind(is_prefix(key));
        let rows = query.fetch_all(&self.pool).await.map_err(|e| self.failed(e))?;
        let mut rows = rows.iter().map(network_row).collect::<Result<Vec<_>, _>>()?;
        if let Some(n) = rows.iter().position(|row| row.id.to_string() == key || row.name == key) {
            return Ok(Some(rows.swap_remove(n)));
        }
        match rows.len() {
            0 | 1 => Ok(rows.pop()),
            count => Err(Error::AmbiguousNetwork { key: key.to_owned(), count }),
        }
    }

    pub(crate) async fn networks(&self) -> Result<Vec<NetworkRow>, Error> {
        let rows = sqlx::query("SELECT id, name, subnet, config, created FROM networks ORDER BY created")
            .fetch_all(&self.pool);
        rows.await.map_err(|e| self.failed(e))?.iter().map(network_row).collect()
    }

    pub(crate) async fn networks_of(&self, session: SessionId) -> Result<Vec<NetworkId>, Error> {
        let query = sqlx::query_scalar::<_, String>("SELECT id FROM networks WHERE session = ?");
        let rows = query.bind(session.to_string()).fetch_all(&self.pool).await.map_err(|e| self.failed(e))?;
        rows.iter().map(|id| parse(id)).collect()
    }

    pub(crate) async fn delete_network(&self, id: NetworkId) -> Result<(), Error> {
        let query = sqlx::query("DELETE FROM networks WHERE id = ?").bind(id.to_string());
        query.execute(&self.pool).await.map_err(|e| self.failed(e))?;
        Ok(())
    }

    /// Takes the first address that `candidates` yields and nobody on the network has; a container that has one keeps
    /// it. `None` if all are taken.
    pub(crate) async fn allocate_address(
        &self,
        container: ContainerId,
        network: NetworkId,
        names: &[String],
        mut candidates: impl Iterator<Item = std::net::Ipv4Addr>,
    ) -> Result<Option<std::net::Ipv4Addr>, Error> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(|e| self.failed(e))?;
        let taken = addresses(&mut transaction, network).await.map_err(|e| self.failed(e))?;
        if let Some((_, own)) = taken.iter().find(|(holder, _)| *holder == container.to_string()) {
            return parse(own).map(Some);
        }
        let Some(address) = candidates.find(|a| !taken.iter().any(|(_, t)| *t == a.to_string())) else {
            return Ok(None);
        };
        let query =
            sqlx::query("INSERT INTO endpoints (container, network, address, names) VALUES (?, ?, ?, ?)")
                .bind(container.to_string())
                .bind(network.to_string())
                .bind(address.to_string())
                .bind(to_json(&names)?);
        query.execute(&mut *transaction).await.map_err(|e| self.failed(e))?;
        transaction.commit().await.map_err(|e| self.failed(e))?;
        Ok(Some(address))
    }

    /// Gives a container's address on a network back.
    pub(crate) async fn release_address(
        &self,
        container: ContainerId,
        network: NetworkId,
    ) -> Result<(), Error> {
        let query = sqlx::query("DELETE FROM endpoints WHERE container = ? AND network = ?");
        let query = query.bind(container.to_string()).bind(network.to_string());
        query.execute(&self.pool).await.map_err(|e| self.failed(e))?;
        Ok(())
    }

    /// Gives a container's addresses back; the networks they were on.
    pub(crate) async fn release_addresses(&self, container: ContainerId) -> Result<Vec<NetworkId>, Error> {
        let query =
            sqlx::query_scalar::<_, String>("DELETE FROM endpoints WHERE container = ? RETURNING network");
        let rows =
            query.bind(container.to_string()).fetch_all(&self.pool).await.map_err(|e| self.failed(e))?;
        rows.iter().map(|id| parse(id)).collect()
    }

    /// The names on a network, each with its address.
    pub(crate) async fn names(&self, network: NetworkId) -> Result<Vec<(String, std::net::Ipv4Addr)>, Error> {
        let query =
            sqlx::query("SELECT names, address FROM endpoints WHERE network = ?").bind(network.to_string());
        let rows = query.fetch_all(&self.pool).await.map_err(|e| self.failed(e))?;
        let mut out = Vec::new();
        for row in rows {
            let names: Vec<String> = from_json(row.get(0))?;
            let address = parse(row.get(1))?;
            out.extend(names.into_iter().map(|name| (name, address)));
        }
        Ok(out)
    }

    /// The containers that have an address on a network.
    pub(crate) async fn members(&self, network: NetworkId) -> Result<Vec<ContainerId>, Error> {
        let query =
            sqlx::query_scalar("SELECT container FROM endpoints WHERE network = ?").bind(network.to_string());
        let ids: Vec<String> = query.fetch_all(&self.pool).await.map_err(|e| self.failed(e))?;
        ids.iter().map(|id| parse(id)).collect()
    }

    /// Gives a container ports of the host, all or none; otherwise who has which of them.
    pub(crate) async fn insert_ports(
        &self,
        container: ContainerId,
        address: Ipv4Addr,
        ports: &[PublishedPort],
    ) -> Result<Result<(), (ContainerId, PublishedPort)>, Error> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(|e| self.failed(e))?;
        for port in ports {
            let holder = port_holder(&mut transaction, port.protocol, port.host_ip, port.host_port).await;
            if let Some(holder) = holder.map_err(|e| self.failed(e))? {
                return Ok(Err((parse(&holder)?, *port)));
            }
            let query = sqlx::query(
                "INSERT INTO ports (container, protocol, host_ip, host_port, container_ip, container_port) \
                 VALUES (?, ?, ?, ?, ?, ?)",
            )
            .bind(container.to_string())
            .bind(port.protocol.to_string())
            .bind(port.host_ip.to_string())
            .bind(port.host_port)
            .bind(address.to_string())
            .bind(port.container_port);
            query.execute(&mut *transaction).await.map_err(|e| self.failed(e))?;
        }
        transaction.commit().await.map_err(|e| self.failed(e))?;
        Ok(Ok(()))
    }

    /// The container that has a port of the host.
    pub(crate) async fn port_holder(
        &self,
        protocol: Protocol,
        host_ip: Ipv4Addr,
        port: u16,
    ) -> Result<Option<ContainerId>, Error> {
        let mut connection = self.pool.acquire().await.map_err(|e| self.failed(e))?;
        let holder = port_holder(&mut connection, protocol, host_ip, port).await;
        holder.map_err(|e| self.failed(e))?.map(|id| parse(&id)).transpose()
    }

    /// The ports of a container or of all, each with the container and its address.
    pub(crate) async fn ports(
        &self,
        container: Option<ContainerId>,
    ) -> Result<Vec<(ContainerId, Ipv4Addr, PublishedPort)>, Error> {
        let query = sqlx::query(
            "SELECT container, container_ip, protocol, host_ip, host_port, container_port FROM ports \
             WHERE ?1 IS NULL OR container = ?1 ORDER BY rowid",
        )
        .bind(container.map(|id| id.to_string()));
        let rows = query.fetch_all(&self.pool).await.map_err(|e| self.failed(e))?;
        rows.iter()
            .map(|row| {
                let port = PublishedPort {
                    protocol: parse(row.get(2))?,
                    host_ip: parse(row.get(3))?,
                    host_port: row.get(4),
                    container_port: row.get(5),
                };
                Ok((parse(row.get(0))?, parse(row.get(1))?, port))
            })
            .collect()
    }

    pub(crate) async fn delete_ports(&self, container: ContainerId) -> Result<(), Error> {
        let query = sqlx::query("DELETE FROM ports WHERE container = ?").bind(container.to_string());
        query.execute(&self.pool).await.map_err(|e| self.failed(e))?;
        Ok(())
    }

    /// Inserts a volume; false if there was one of that name.
    pub(crate) async fn insert_volume(
        &self,
        name: &str,
        labels: &str,
        session: Option<SessionId>,
    ) -> Result<bool, Error> {
        let query =
            sqlx::query("INSERT OR IGNORE INTO volumes (name, labels, session, created) VALUES (?, ?, ?, ?)")
                .bind(name)
                .bind(labels)
                .bind(session.map(|s| s.to_string()))
                .bind(Timestamp::now().as_millisecond());
        let done = query.execute(&self.pool).await.map_err(|e| self.failed(e))?;
        Ok(done.rows_affected() > 0)
    }

    pub(crate) async fn volumes(&self) -> Result<Vec<VolumeRow>, Error> {
        let rows =
            sqlx::query("SELECT name, labels, created FROM volumes ORDER BY name").fetch_all(&self.pool);
        let row = |row: &sqlx::sqlite::SqliteRow| {
            Ok(VolumeRow { name: row.get(0), labels: row.get(1), created: time(row.get(2))? })
        };
        rows.await.map_err(|e| self.failed(e))?.iter().map(row).collect()
    }

    /// Gives a container another name, also on its networks; the id of the one that has the name already, if so. The
    /// networks that know it by its name.
    pub(crate) async fn rename_container(
        &self,
        row: &ContainerRow,
        name: &str,
    ) -> Result<Result<Vec<NetworkId>, String>, Error> {
        let failed = |e| self.failed(e);
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        let id = row.id.to_string();
        let holder = sqlx::query_scalar("SELECT id FROM containers WHERE name = ?").bind(name);
        if let Some(holder) = holder.fetch_optional(&mut *transaction).await.map_err(failed)? {
            return Ok(Err(holder));
        }
        let renaming = sqlx::query("UPDATE containers SET name = ? WHERE id = ?").bind(name).bind(&id);
        renaming.execute(&mut *transaction).await.map_err(failed)?;
        let endpoints = sqlx::query("SELECT network, names FROM endpoints WHERE container = ?").bind(&id);
        let mut networks = Vec::new();
        for endpoint in endpoints.fetch_all(&mut *transaction).await.map_err(failed)? {
            let network: String = endpoint.get(0);
            let mut names: Vec<String> = from_json(endpoint.get(1))?;
            names.iter_mut().filter(|known| **known == row.name).for_each(|known| name.clone_into(known));
            let query = sqlx::query("UPDATE endpoints SET names = ? WHERE container = ? AND network = ?");
            let query = query.bind(to_json(&names)?).bind(&id).bind(&network);
            query.execute(&mut *transaction).await.map_err(failed)?;
            networks.push(parse(&network)?);
        }
        transaction.commit().await.map_err(failed)?;
        Ok(Ok(networks))
    }

    /// Gives back all addresses on a network.
    pub(crate) async fn release_network(&self, network: NetworkId) -> Result<(), Error> {
        let query = sqlx::query("DELETE FROM endpoints WHERE network = ?").bind(network.to_string());
        query.execute(&self.pool).await.map_err(|e| self.failed(e))?;
        Ok(())
    }

    /// A container's address on each of its networks.
    pub(crate) async fn addresses_of(
        &self,
        container: ContainerId,
    ) -> Result<Vec<(NetworkId, std::net::Ipv4Addr)>, Error> {
        let query = sqlx::query("SELECT network, address FROM endpoints WHERE container = ?");
        let rows = query.bind(container.to_string()).fetch_all(&self.pool).await;
        let pair = |row: &sqlx::sqlite::SqliteRow| Ok((parse(row.get(0))?, parse(row.get(1))?));
        rows.map_err(|e| self.failed(e))?.iter().map(pair).collect()
    }

    /// Inserts an event and forgets the oldest.
    pub(crate) async fn insert_event(&self, time: Timestamp, event: &str) -> Result<(), Error> {
        let time = i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX);
        let query = sqlx::query("INSERT INTO events (time, event) VALUES (?, ?)").bind(time).bind(event);
        let id = query.execute(&self.pool).await.map_err(|e| self.failed(e))?.last_insert_rowid();
        let query = sqlx::query("DELETE FROM events WHERE id <= ?").bind(id - EVENTS_KEPT);
        query.execute(&self.pool).await.map_err(|e| self.failed(e))?;
        Ok(())
    }

    pub(crate) async fn events_since(&self, since: Timestamp) -> Result<Vec<String>, Error> {
        // A time further back than 64 bits reach is before all of them.
        let since = i64::try_from(since.as_nanosecond().max(0)).unwrap_or(i64::MAX);
        let query = sqlx::query_scalar("SELECT event FROM events WHERE time >= ? ORDER BY id").bind(since);
        query.fetch_all(&self.pool).await.map_err(|e| self.failed(e))
    }

    pub(crate) async fn volumes_of(&self, session: SessionId) -> Result<Vec<String>, Error> {
        let query =
            sqlx::query_scalar("SELECT name FROM volumes WHERE session = ?").bind(session.to_string());
        query.fetch_all(&self.pool).await.map_err(|e| self.failed(e))
    }

    pub(crate) async fn delete_volume(&self, name: &str) -> Result<(), Error> {
        let query = sqlx::query("DELETE FROM volumes WHERE name = ?").bind(name);
        query.execute(&self.pool).await.map_err(|e| self.failed(e))?;
        Ok(())
    }

    fn failed(&self, source: sqlx::Error) -> Error {
        Error::catalog(&self.path, source)
    }
}

/// A port on all addresses is the same as that on any.
async fn port_holder(
    connection: &mut SqliteConnection,
    protocol: Protocol,
    host_ip: Ipv4Addr,
    port: u16,
) -> Result<Option<String>, sqlx::Error> {
    let query = sqlx::query_scalar(
        "SELECT container FROM ports WHERE protocol = ?1 AND host_port = ?2 \
         AND (host_ip = ?3 OR host_ip = ?4 OR ?3 = ?4)",
    )
    .bind(protocol.to_string())
    .bind(port)
    .bind(host_ip.to_string())
    .bind(Ipv4Addr::UNSPECIFIED.to_string());
    query.fetch_optional(connection).await
}

async fn addresses(
    connection: &mut SqliteConnection,
    network: NetworkId,
) -> Result<Vec<(String, String)>, sqlx::Error> {
    let query =
        sqlx::query("SELECT container, address FROM endpoints WHERE network = ?").bind(network.to_string());
    Ok(query.fetch_all(connection).await?.iter().map(|row| (row.get(0), row.get(1))).collect())
}

fn is_prefix(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|b| b.is_ascii_hexdigit())
}

fn container_row(row: &sqlx::sqlite::SqliteRow) -> Result<ContainerRow, Error> {
    Ok(ContainerRow {
        id: parse(row.get(0))?,
        name: row.get(1),
        config: row.get(2),
        created: time(row.get(3))?,
    })
}

fn network_row(row: &sqlx::sqlite::SqliteRow) -> Result<NetworkRow, Error> {
    Ok(NetworkRow {
        id: parse(row.get(0))?,
        name: row.get(1),
        subnet: row.get(2),
        config: row.get(3),
        created: time(row.get(4))?,
    })
}

fn time(milliseconds: i64) -> Result<Timestamp, Error> {
    Timestamp::from_millisecond(milliseconds).map_err(|e| Error::Damaged(e.to_string()))
}

fn parse<T: FromStr>(text: &str) -> Result<T, Error> {
    text.parse().map_err(|_| Error::Damaged(text.to_owned()))
}

pub(crate) fn to_json(value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|e| Error::Damaged(e.to_string()))
}

pub(crate) fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|e| Error::Damaged(e.to_string()))
}

fn is_unique_violation(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}
