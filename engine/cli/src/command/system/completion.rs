use std::process::ExitCode;

use clap_complete::Shell;

/// Generate the autocompletion script for the specified shell
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_name = "SHELL", value_parser = shell)]
    shell: Shell,
}

fn shell(text: &str) -> Result<Shell, String> {
    match text {
        "bash" => Ok(Shell::Bash),
        "zsh" => Ok(Shell::Zsh),
        "fish" => Ok(Shell::Fish),
        _ => Err("it is none of bash, zsh and fish".to_owned()),
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::cli::whole(), "engine", &mut script);
    crate::output::text(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
