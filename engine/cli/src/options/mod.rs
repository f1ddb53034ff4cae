//! The options of `run` and `create` into the body of `containers/create`.

mod container;
mod csv;
mod devices;
mod environment;
mod health;
mod mount;
mod network;
mod ports;
mod security;
mod volume;

#[cfg(test)]
mod tests;

pub(crate) use container::{ContainerOptions, cpus, swap, variable};
pub(crate) use devices::ulimit;
pub(crate) use environment::{environment, labels, pairs};
pub(crate) use security::restart_policy;

use serde_json::{Map, Value};

/// Members of a JSON object, of which those that ask for nothing are left out.
#[derive(Debug, Default)]
pub(crate) struct Members(Map<String, Value>);

impl Members {
    /// Adds a member unless it is null, false, zero or empty.
    pub(crate) fn put(&mut self, name: &str, value: impl Into<Value>) -> &mut Self {
        let value = value.into();
        let empty = match &value {
            Value::Null => true,
            Value::Bool(on) => !on,
            Value::Number(number) => number.as_f64() == Some(0.0),
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(members) => members.is_empty(),
        };
        if !empty {
            self.0.insert(name.to_owned(), value);
        }
        self
    }

    /// Adds a member whatever it is.
    pub(crate) fn always(&mut self, name: &str, value: impl Into<Value>) -> &mut Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn into_value(self) -> Value {
        Value::Object(self.0)
    }
}
