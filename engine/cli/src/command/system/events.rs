use std::process::ExitCode;

use jiff::{Timestamp, tz::TimeZone};
use serde_json::Value;

use crate::command::filters;
use crate::context::Context;
use crate::format::{Missing, Template};
use crate::output;
use crate::units::parse_time;

/// Get real time events from the server
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter", value_parser = crate::command::filter_text)]
    filter: Vec<String>,
    /// Format output using a custom template: 'json' or 'TEMPLATE'
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Show all events created since timestamp
    #[arg(long, value_name = "string")]
    since: Option<String>,
    /// Stream events until this timestamp
    #[arg(long, value_name = "string")]
    until: Option<String>,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let source = args.format.as_deref().filter(|format| !format.is_empty());
    let source = source.map(|format| if format == "json" { "{{json .}}" } else { format });
    let template = source.map(Template::parse).transpose();
    let template = template.map_err(|error| anyhow::anyhow!("template parsing error: {error}"))?;
    let time = |text: &Option<String>| text.as_deref().map(parse_time).transpose();
    let request = context.client.get("/events").maybe("since", time(&args.since)?);
    let request = request.maybe("until", time(&args.until)?).filters(&filters(&args.filter));
    let mut events = request.send().await?.lines();
    while let Some(event) = events.next().await? {
        match &template {
            Some(template) => output::line(template.render(&event, Missing::NoEntry)?)?,
            None => output::line(line(&event))?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn line(event: &Value) -> String {
    let time = event["timeNano"].as_i64().map(|nanos| Timestamp::from_nanosecond(nanos.into()));
    let time = match time {
        Some(Ok(time)) => time,
        _ => event["time"].as_i64().and_then(|at| Timestamp::from_second(at).ok()).unwrap_or_default(),
    };
    let zoned = time.to_zoned_datetime(TimeZone::system());
    let zone = if zoned.offset().seconds() == 0 { "Z".to_owned() } else { zoned.strftime("%:z").to_string() };
    let at = zoned.strftime("%Y-%m-%dT%H:%M:%S%.9f");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, action, id) = (text(&event["Type"]), text(&event["Action"]), text(&event["Actor"]["ID"]));
    let mut attributes: Vec<String> = event["Actor"]["Attributes"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| format!("{name}={}", text(value)))
        .collect();
    attributes.sort();
    let more = if attributes.is_empty() { String::new() } else { format!(" ({})", attributes.join(", ")) };
    format!("{at}{zone} {kind} {action} {id}{more}")
}
