use std::path::Path;
use std::time::Duration;

/// One measurement: medians.
pub(crate) struct Row {
    name: &'static str,
    ours: Duration,
    docker: Option<Duration>,
}

impl Row {
    pub(crate) fn new(name: &'static str, ours: Duration, docker: Option<Duration>) -> Self {
        Self { name, ours, docker }
    }

    pub(crate) fn alone(name: &'static str, ours: Duration) -> Self {
        Self::new(name, ours, None)
    }
}

/// Prints the table and writes it as JSON: milliseconds, and bytes of a supervisor's memory.
pub(crate) fn print(rows: &[Row], pss: Option<u64>, json: &Path) {
    println!("{:54} {:>12} {:>12} {:>8}", "median of whole commands", "Lighter", "Docker", "ratio");
    for row in rows {
        let docker = row.docker.map_or_else(|| "-".to_owned(), milliseconds);
        let ratio = row
            .docker
            .map_or_else(|| "-".to_owned(), |d| format!("{:.1}", d.as_secs_f64() / row.ours.as_secs_f64()));
        println!("{:54} {:>12} {docker:>12} {ratio:>8}", row.name, milliseconds(row.ours));
    }
    if let Some(pss) = pss {
        println!(
            "{:54} {:>12}",
            "memory of a supervisor (PSS), fifty running",
            format!("{} KiB", pss / 1024)
        );
    }
    let list: Vec<serde_json::Value> = rows
        .iter()
        .map(|row| {
            let docker = row.docker.map(|d| d.as_secs_f64() * 1e3);
            serde_json::json!({ "name": row.name, "lighter_ms": row.ours.as_secs_f64() * 1e3, "docker_ms": docker })
        })
        .collect();
    let all = serde_json::json!({ "commands": list, "supervisor_pss_bytes": pss });
    std::fs::write(json, format!("{all:#}\n")).unwrap();
    println!("\nthe same as JSON: {}", json.canonicalize().unwrap().display());
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}
