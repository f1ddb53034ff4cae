use std::process::ExitCode;

use serde_json::{Value, json};

use crate::command::image::prune as images;
use crate::command::{filters, print_pruned, reclaimed};
use crate::context::Context;
use crate::output;

/// Remove unused data
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Remove all unused images not just dangling ones
    #[arg(short, long)]
    all: bool,
    /// Provide filter values (e.g. "label=<key>=<value>")
    #[arg(long, value_name = "filter", value_parser = crate::command::filter_text)]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
    /// Prune anonymous volumes
    #[arg(long)]
    volumes: bool,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let filters = filters(&args.filter);
    anyhow::ensure!(
        !(args.volumes && filters.get("until").is_some()),
        "ERROR: The \"until\" filter is not supported with \"--volumes\""
    );
    if !args.force && !output::confirm(&warning(args))? {
        return Ok(ExitCode::SUCCESS);
    }
    let client = &context.client;
    let prune = |path: &str, filters: &Value| client.post(path).filters(filters).value();
    let containers = prune("/containers/prune", &filters).await?;
    print_pruned("Deleted Containers", &containers["ContainersDeleted"])?;
    let networks = prune("/networks/prune", &filters).await?;
    print_pruned("Deleted Networks", &networks["NetworksDeleted"])?;
    let mut volumes = Value::Null;
    if args.volumes {
        volumes = prune("/volumes/prune", &filters).await?;
        print_pruned("Deleted Volumes", &volumes["VolumesDeleted"])?;
    }
    let mut of_images = filters.clone();
    of_images["dangling"] = json!([(!args.all).to_string()]);
    let pruned_images = prune("/images/prune", &of_images).await?;
    images::print(&pruned_images)?;
    // What is cached has no labels.
    let mut of_cache = filters;
    if let Some(filters) = of_cache.as_object_mut() {
        filters.retain(|name, _| name == "until");
    }
    let cache = client.post("/build/prune").flag("all", args.all).filters(&of_cache).value().await?;
    print_pruned("Deleted build cache objects", &cache["CachesDeleted"])?;
    output::line(reclaimed(&[&containers, &volumes, &pruned_images, &cache]))?;
    Ok(ExitCode::SUCCESS)
}

fn warning(args: &Args) -> String {
    let volumes = "  - all anonymous volumes not used by at least one container\n";
    let (images, cache) = match args.all {
        true => ("all images without at least one container associated to them", "all build cache"),
        false => ("all dangling images", "unused build cache"),
    };
    let filters = match args.filter.as_slice() {
        [] => String::new(),
        all => format!("\n\n  Items to be pruned will be filtered with:\n  - {}", all.join("\n  - ")),
    };
    format!(
        "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one \
         container\n{}  - {images}\n  - {cache}{filters}\n\nAre you sure you want to continue?",
        if args.volumes { volumes } else { "" }
    )
}
