use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::ApiError;

/// What a list is to be narrowed to: `{"name": {"value": true}}`, or `{"name": ["value"]}` from old clients.
#[derive(Debug, Default)]
pub(crate) struct Filters(BTreeMap<String, Vec<String>>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    Set(BTreeMap<String, bool>),
    List(Vec<String>),
}

impl Filters {
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        let parsed = serde_json::from_str::<BTreeMap<String, Values>>(text);
        let parsed = parsed.map_err(|e| ApiError::Invalid(format!("invalid filter: {e}")))?;
        let values = |values| match values {
            Values::Set(set) => set.into_iter().filter(|(_, on)| *on).map(|(value, _)| value).collect(),
            Values::List(list) => list,
        };
        Ok(Self(parsed.into_iter().map(|(name, v)| (name, values(v))).collect()))
    }

    /// Fails if there is one that is not known, as Docker does.
    pub(crate) fn expect(&self, known: &[&str]) -> Result<(), ApiError> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(ApiError::Invalid(format!("invalid filter '{name}'"))),
            None => Ok(()),
        }
    }

    pub(crate) fn get(&self, name: &str) -> &[String] {
        self.0.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether one of the values passes; without any, all do.
    pub(crate) fn any(&self, name: &str, passes: impl Fn(&str) -> bool) -> bool {
        let values = self.get(name);
        values.is_empty() || values.iter().any(|value| passes(value))
    }

    /// A filter that is true or false, if given.
    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.get(name) {
            [] => Ok(None),
            [value] if matches!(value.as_str(), "1" | "true") => Ok(Some(true)),
            [value] if matches!(value.as_str(), "0" | "false") => Ok(Some(false)),
            values => Err(ApiError::Invalid(format!("invalid filter '{name}={}'", values.join(",")))),
        }
    }

    /// Whether all the `label` filters (`name`, `name=value`) pass, and none of `label!`.
    pub(crate) fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |wanted: &String| match wanted.split_once('=') {
            Some((name, value)) => labels.get(name).is_some_and(|found| found == value),
            None => labels.contains_key(wanted),
        };
        self.get("label").iter().all(has) && !self.get("label!").iter().any(has)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let filters = Filters::parse(r#"{"name":{"a":true,"b":false},"label":["x=1","y"]}"#).unwrap();
        assert_eq!(filters.get("name"), ["a"]);
        let labels = |pairs: &[(&str, &str)]| {
            filters.labels(&pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
        };
        assert!(
            labels(&[("x", "1"), ("y", "")]) && !labels(&[("x", "2"), ("y", "")]) && !labels(&[("x", "1")])
        );
        assert!(filters.any("status", |_| false), "a filter that is not given lets all pass");
        assert!(filters.expect(&["name", "label"]).is_ok() && filters.expect(&["name"]).is_err());
        assert!(Filters::parse("[]").is_err());
    }
}
