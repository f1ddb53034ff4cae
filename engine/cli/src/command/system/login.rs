use std::io::Read as _;
use std::process::ExitCode;

use anyhow::ensure;
use rustix::termios::{LocalModes, OptionalActions};

use crate::context::Context;
use crate::credentials::{self, Credentials};
use crate::{output, streams};

/// Authenticate to a registry
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Password or Personal Access Token (PAT)
    #[arg(short, long, value_name = "string")]
    password: Option<String>,
    /// Take the Password or Personal Access Token (PAT) from stdin
    #[arg(long)]
    password_stdin: bool,
    /// Username
    #[arg(short, long, value_name = "string")]
    username: Option<String>,
    /// The registry; Docker Hub if absent
    #[arg(value_name = "SERVER")]
    server: Option<String>,
}

pub(crate) async fn run(context: &mut Context, args: &Args) -> anyhow::Result<ExitCode> {
    let server = args.server.as_deref().unwrap_or("docker.io").trim_end_matches('/');
    let server = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://")).unwrap_or(server);
    let known = credentials::find(&context.config, server)?;
    let password = match (&args.password, args.password_stdin) {
        (Some(_), true) => {
            anyhow::bail!("conflicting options: cannot specify both --password and --password-stdin")
        }
        (Some(password), false) => {
            output::complain("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
            Some(password.clone())
        }
        (None, true) => {
            ensure!(args.username.is_some(), "the --password-stdin option requires --username to be set");
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            let text = text.trim_end_matches(['\n', '\r']).to_owned();
            ensure!(!text.is_empty(), "password is empty");
            Some(text)
        }
        (None, false) => None,
    };
    let given = match (&args.username, password) {
        (Some(user), Some(password)) => (user.clone(), password),
        // What is known is tried before anyone is asked.
        (None, None) if !known.user.is_empty() && !known.password.is_empty() => {
            (known.user.clone(), known.password.clone())
        }
        (user, password) => ask(user.clone(), password, &known.user)?,
    };
    let (user, password) = given;
    let mut credentials = Credentials { user, password, ..known };
    let answer = context.client.post("/auth").json(&credentials.to_value()).value().await?;
    if let Some(token) = answer["IdentityToken"].as_str().filter(|token| !token.is_empty()) {
        token.clone_into(&mut credentials.token);
        credentials.password.clear();
    }
    let helped = credentials::store(&mut context.config, &credentials)?;
    if !helped {
        output::complain(format_args!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this \
             warning. See\nhttps://docs.docker.com/go/credential-store/\n",
            context.config.path().display()
        ));
    }
    output::line(answer["Status"].as_str().filter(|text| !text.is_empty()).unwrap_or("Login Succeeded"))?;
    Ok(ExitCode::SUCCESS)
}

/// Asks for what is missing.
fn ask(user: Option<String>, password: Option<String>, default: &str) -> anyhow::Result<(String, String)> {
    ensure!(
        streams::stdin_is_terminal(),
        "cannot perform an interactive login from a non TTY device: use --username and --password-stdin"
    );
    let prompt = |text: &str| -> anyhow::Result<String> {
        use std::io::Write as _;
        print_prompt(text)?;
        std::io::stdout().flush()?;
        let mut line = String::new();
        std::io::stdin().read_line(&mut line)?;
        Ok(line.trim_end_matches(['\n', '\r']).to_owned())
    };
    let user = match user {
        Some(user) => user,
        None => {
            let shown =
                if default.is_empty() { "Username: ".to_owned() } else { format!("Username ({default}): ") };
            let typed = prompt(&shown)?;
            if typed.is_empty() { default.to_owned() } else { typed }
        }
    };
    ensure!(!user.is_empty(), "username is required");
    let password = match password {
        Some(password) => password,
        None => {
            let _silent = NoEcho::enter()?;
            let typed = prompt("Password: ")?;
            output::line("")?;
            typed
        }
    };
    ensure!(!password.is_empty(), "password is required");
    Ok((user, password))
}

fn print_prompt(text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    write!(std::io::stdout(), "{text}")
}

/// A terminal that does not show what is typed, until it is dropped.
struct NoEcho(rustix::termios::Termios);

impl NoEcho {
    fn enter() -> std::io::Result<Self> {
        let before = rustix::termios::tcgetattr(std::io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        rustix::termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for NoEcho {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}
