//! What commands print: tables in Docker's columns, Go templates, JSON.

mod columns;
mod inspect;
mod template;

use serde_json::{Map, Value};

pub(crate) use columns::{align, align_wide};
pub(crate) use inspect::{Inspected, inspect};
pub(crate) use template::{Missing, Template, TemplateError};

use template::Subject;

/// What a command lists, and how if nothing else is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listing {
    /// What errors call a row.
    pub(crate) kind: &'static str,
    /// Every field of a row, with the header of its column.
    pub(crate) headers: &'static [(&'static str, &'static str)],
    /// The template of the usual table.
    pub(crate) table: &'static str,
}

/// One thing of a list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    pub(crate) fields: Map<String, Value>,
    /// What `.Label "name"` looks in.
    pub(crate) labels: Map<String, Value>,
}

impl Row {
    pub(crate) fn new<const N: usize>(fields: [(&str, Value); N]) -> Self {
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { fields, labels: Map::new() }
    }

    pub(crate) fn labelled(mut self, labels: &Value) -> Self {
        self.labels = labels.as_object().cloned().unwrap_or_default();
        self
    }
}

/// How a list is to be shown.
#[derive(Debug)]
pub(crate) struct Format {
    template: Template,
    /// Whether it is a table with a header.
    table: bool,
    /// Whether it is JSON, in which Go escapes what means something in HTML.
    escape: bool,
    listing: Listing,
}

impl Format {
    /// `asked` is `--format`, `configured` what the configuration file says, `quiet` the template for `--quiet`.
    pub(crate) fn choose(
        listing: Listing,
        asked: Option<&str>,
        configured: Option<&str>,
        quiet: Option<&str>,
    ) -> anyhow::Result<Self> {
        let asked = asked.filter(|text| !text.is_empty());
        let source = match (asked, quiet) {
            (None | Some("table"), Some(quiet)) => quiet,
            (None, None) => configured.filter(|text| !text.is_empty()).unwrap_or(listing.table),
            (Some(asked), Some(quiet)) if asked.starts_with("table ") || asked == "json" => {
                if asked == "json" { asked } else { quiet }
            }
            (Some(asked), _) => asked,
        };
        Self::read(listing, source)
    }

    fn read(listing: Listing, source: &str) -> anyhow::Result<Self> {
        let source = if source == "table" { listing.table } else { source };
        let escape = source == "json";
        let source = if escape { "{{json .}}" } else { source };
        let (table, source) = match source.strip_prefix("table") {
            Some(rest) => (true, rest),
            None => (false, source),
        };
        let source = source.trim_matches(' ').replace("\\t", "\t").replace("\\n", "\n");
        let template = Template::parse(&source);
        let template = template.map_err(|error| anyhow::anyhow!("failed to parse template: {error}"))?;
        Ok(Self { template, table, escape, listing })
    }

    pub(crate) fn uses(&self, field: &str) -> bool {
        self.template.uses(field)
    }

    /// All rows, and the header where there is one.
    pub(crate) fn render(&self, rows: &[Row]) -> anyhow::Result<String> {
        let mut out = String::new();
        if self.table {
            let headers = self.listing.headers.iter();
            let headers = headers.map(|(name, header)| ((*name).to_owned(), Value::from(*header))).collect();
            self.one(&Row { fields: headers, labels: Map::new() }, true, &mut out)?;
        }
        for row in rows {
            self.one(row, false, &mut out)?;
        }
        Ok(if self.table { align(&out) } else { out })
    }

    fn one(&self, row: &Row, header: bool, out: &mut String) -> anyhow::Result<()> {
        let value = Value::Object(row.fields.clone());
        let missing = Missing::Unknown(self.listing.kind);
        let subject = Subject { value: &value, labels: Some(&row.labels), missing, header };
        let line = self.template.render_subject(subject);
        let line = line.map_err(|error| anyhow::anyhow!("failed to execute template: {error}"))?;
        out.push_str(&if self.escape { escaped(&line) } else { line });
        out.push('\n');
        Ok(())
    }
}

/// Fills `--format` of a command that shows one object, such as `version`.
pub(crate) fn object(asked: &str, value: &Value) -> anyhow::Result<String> {
    let source = if asked == "json" { "{{json .}}" } else { asked };
    let template = Template::parse(source).map_err(parsing)?;
    template.render(value, Missing::NoEntry).map_err(parsing)
}

/// These occur in JSON's texts alone.
fn escaped(json: &str) -> String {
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

fn parsing(error: TemplateError) -> anyhow::Error {
    anyhow::anyhow!("template parsing error: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: Listing = Listing {
        kind: "*formatter.Thing",
        headers: &[("ID", "THING ID"), ("Name", "NAME")],
        table: "table {{.ID}}\\t{{.Name}}",
    };

    fn rows() -> Vec<Row> {
        [("a1", "short"), ("b2", "a name that is long")]
            .map(|(id, name)| Row::new([("ID", id.into()), ("Name", name.into())]))
            .to_vec()
    }

    #[track_caller]
    fn check(asked: Option<&str>, configured: Option<&str>, quiet: bool, wanted: &str) {
        let format = Format::choose(LISTING, asked, configured, quiet.then_some("{{.ID}}")).unwrap();
        assert_eq!(format.render(&rows()).unwrap(), wanted);
    }

    #[test]
    fn tables_templates_and_json() {
        check(None, None, false, "THING ID   NAME\na1         short\nb2         a name that is long\n");
        check(
            Some("table"),
            None,
            false,
            "THING ID   NAME\na1         short\nb2         a name that is long\n",
        );
        check(None, None, true, "a1\nb2\n");
        check(None, Some("{{.Name}}"), false, "short\na name that is long\n");
        check(Some("{{.ID}}={{upper .Name}}"), None, false, "a1=SHORT\nb2=A NAME THAT IS LONG\n");
        check(
            Some("table {{upper .Name}}\\t{{.ID}}"),
            None,
            false,
            "NAME                  THING ID\nSHORT                 a1\nA NAME THAT IS LONG   b2\n",
        );
        check(
            Some("json"),
            None,
            false,
            "{\"ID\":\"a1\",\"Name\":\"short\"}\n{\"ID\":\"b2\",\"Name\":\"a name that is long\"}\n",
        );
    }

    #[test]
    fn a_field_that_there_is_not_is_an_error() {
        let format = Format::choose(LISTING, Some("{{.Nope}}"), None, None).unwrap();
        let error = format.render(&rows()).unwrap_err().to_string();
        assert_eq!(
            error,
            "failed to execute template: template: :1:2: executing \"\" at <.Nope>: can't evaluate field Nope in type \
             *formatter.Thing"
        );
        let error = Format::choose(LISTING, Some("{{"), None, None).unwrap_err().to_string();
        assert_eq!(error, "failed to parse template: template: :1: unclosed action");
    }
}
