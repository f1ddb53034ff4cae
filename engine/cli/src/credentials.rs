//! Who one is to a registry: from the configuration file, or from a program that keeps passwords
//! (`docker-credential-…`, <https://github.com/docker/docker-credential-helpers>).

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::{Value, json};

use crate::config::Config;

/// What Docker's registry is called in the file.
pub(crate) const HUB: &str = "https://index.docker.io/v1/";
/// What a helper gives for a name when the secret is a token.
const TOKEN: &str = "<token>";

/// What a registry is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) token: String,
    pub(crate) server: String,
}

impl Credentials {
    /// Docker's `AuthConfig`.
    pub(crate) fn to_value(&self) -> Value {
        let mut value = json!({ "serveraddress": self.server });
        for (name, text) in
            [("username", &self.user), ("password", &self.password), ("identitytoken", &self.token)]
        {
            if !text.is_empty() {
                value[name] = text.as_str().into();
            }
        }
        value
    }

    /// The header that goes with a pull or a push.
    pub(crate) fn to_header(&self) -> String {
        URL_SAFE.encode(self.to_value().to_string())
    }
}

/// What the file calls a registry.
pub(crate) fn key_of(registry: &str) -> &str {
    match registry {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => HUB,
        other => other,
    }
}

/// A registry's host, of what people and files write for it.
fn host(text: &str) -> &str {
    let text = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    text.split('/').next().unwrap_or(text)
}

/// The credentials for a registry; empty ones where there are none.
pub(crate) fn find(config: &Config, registry: &str) -> anyhow::Result<Credentials> {
    let key = key_of(registry);
    if let Some(helper) = helper(config, key) {
        return from_helper(&helper, key);
    }
    let Some(auths) = config.object("auths") else {
        return Ok(Credentials { server: key.to_owned(), ..Credentials::default() });
    };
    let entry = auths.get(key).or_else(|| {
        let alike = auths.iter().find(|(name, _)| host(name) == host(key));
        alike.map(|(_, entry)| entry)
    });
    let Some(entry) = entry else {
        return Ok(Credentials { server: key.to_owned(), ..Credentials::default() });
    };
    from_entry(key, entry)
}

/// All that the file and its helpers know, for a build that may pull from anywhere.
pub(crate) fn all(config: &Config) -> anyhow::Result<Value> {
    let mut found = serde_json::Map::new();
    for (key, entry) in config.object("auths").into_iter().flatten() {
        let credentials = match helper(config, key) {
            Some(helper) => from_helper(&helper, key)?,
            None => from_entry(key, entry)?,
        };
        found.insert(key.clone(), credentials.to_value());
    }
    for (key, helper) in config.object("credHelpers").into_iter().flatten() {
        if let Some(helper) = helper.as_str() {
            found.insert(key.clone(), from_helper(helper, key)?.to_value());
        }
    }
    Ok(found.into())
}

/// Keeps credentials, in a helper if there is one for the registry, else in the file. Says where.
pub(crate) fn store(config: &mut Config, credentials: &Credentials) -> anyhow::Result<bool> {
    let key = credentials.server.clone();
    let helper = helper(config, &key);
    let entry = match &helper {
        Some(helper) => {
            let (user, secret) = match credentials.token.as_str() {
                "" => (credentials.user.as_str(), credentials.password.as_str()),
                token => (TOKEN, token),
            };
            let given = json!({ "ServerURL": key, "Username": user, "Secret": secret });
            run_helper(helper, "store", &given.to_string())?;
            json!({})
        }
        None if !credentials.token.is_empty() => {
            let auth = STANDARD.encode(format!("{}:", credentials.user));
            json!({ "auth": auth, "identitytoken": credentials.token })
        }
        None => json!({ "auth": STANDARD.encode(format!("{}:{}", credentials.user, credentials.password)) }),
    };
    config
        .object_mut("auths")
        .context("\"auths\" of the configuration file is no object")?
        .insert(key, entry);
    config.save()?;
    Ok(helper.is_some())
}

/// Forgets the credentials for a registry; whether there were any.
pub(crate) fn forget(config: &mut Config, registry: &str) -> anyhow::Result<bool> {
    let key = key_of(registry).to_owned();
    if let Some(helper) = helper(config, &key) {
        run_helper(&helper, "erase", &key)?;
    }
    let auths = config.object_mut("auths").context("\"auths\" of the configuration file is no object")?;
    let names: Vec<String> = auths.keys().filter(|name| host(name) == host(&key)).cloned().collect();
    for name in &names {
        auths.shift_remove(name);
    }
    if !names.is_empty() {
        config.save()?;
    }
    Ok(!names.is_empty())
}

fn helper(config: &Config, key: &str) -> Option<String> {
    let own = config.object("credHelpers").and_then(|all| all.get(key).or_else(|| all.get(host(key))));
    let own = own.and_then(Value::as_str).filter(|name| !name.is_empty());
    own.or_else(|| config.text("credsStore")).map(str::to_owned)
}

fn from_helper(helper: &str, key: &str) -> anyhow::Result<Credentials> {
    let server = key.to_owned();
    let answer = match run_helper(helper, "get", key) {
        Ok(answer) => answer,
        // The helper's way to say that it knows nothing.
        Err(error) if error.to_string().contains("credentials not found") => {
            return Ok(Credentials { server, ..Credentials::default() });
        }
        Err(error) => return Err(error),
    };
    let answer: Value =
        serde_json::from_str(&answer).with_context(|| format!("docker-credential-{helper}"))?;
    let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
    let (user, secret) = (text("Username"), text("Secret"));
    Ok(match user.as_str() {
        TOKEN => Credentials { token: secret, server, ..Credentials::default() },
        _ => Credentials { user, password: secret, server, ..Credentials::default() },
    })
}

fn run_helper(helper: &str, action: &str, given: &str) -> anyhow::Result<String> {
    let program = format!("docker-credential-{helper}");
    let failed = || format!("error getting credentials: exec: {program:?}");
    let mut command = Command::new(&program);
    command.arg(action).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = command.spawn().with_context(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read says why in its exit code.
        let _ = stdin.write_all(given.as_bytes());
    }
    let output = child.wait_with_output().with_context(failed)?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() {
        bail!("error getting credentials - err: {}, out: `{said}`", output.status);
    }
    Ok(said)
}

fn from_entry(key: &str, entry: &Value) -> anyhow::Result<Credentials> {
    let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    let mut found = Credentials {
        user: text("username"),
        password: text("password"),
        token: text("identitytoken"),
        server: key.to_owned(),
    };
    let auth = text("auth");
    if !auth.is_empty() {
        let decoded = STANDARD.decode(auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
        let (user, password) = pair.with_context(|| format!("invalid auth configuration file: {key}"))?;
        found.user = user.to_owned();
        found.password = password.trim_matches('\0').to_owned();
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> (tempfile::TempDir, Config) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), text).unwrap();
        let config = Config::load(Some(dir.path()));
        (dir, config)
    }

    #[test]
    fn credentials_are_found_however_the_registry_is_written() {
        let auth = STANDARD.encode("ann:se:cret");
        let (_dir, config) = config(&format!(
            r#"{{"auths": {{"https://one.example/v2/": {{"auth": "{auth}"}}, "{HUB}": {{"identitytoken": "t"}}}}}}"#
        ));
        let found = find(&config, "one.example").unwrap();
        assert_eq!((found.user.as_str(), found.password.as_str()), ("ann", "se:cret"));
        assert_eq!(find(&config, "docker.io").unwrap().token, "t");
        assert_eq!(find(&config, "two.example").unwrap().user, "");
        let header = URL_SAFE.decode(found.to_header()).unwrap();
        let header: Value = serde_json::from_slice(&header).unwrap();
        assert_eq!(header, json!({"serveraddress": "one.example", "username": "ann", "password": "se:cret"}));
    }

    #[test]
    fn they_are_stored_and_forgotten() {
        let (dir, mut config) = config("{}");
        let credentials = Credentials {
            user: "ann".to_owned(),
            password: "p".to_owned(),
            server: "one.example".to_owned(),
            ..Credentials::default()
        };
        assert!(!store(&mut config, &credentials).unwrap());
        let mut again = Config::load(Some(dir.path()));
        assert_eq!(find(&again, "one.example").unwrap(), credentials);
        assert!(forget(&mut again, "one.example").unwrap());
        assert!(!forget(&mut again, "one.example").unwrap());
        assert_eq!(find(&Config::load(Some(dir.path())), "one.example").unwrap().user, "");
    }
}
