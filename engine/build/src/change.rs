use std::collections::BTreeMap;

use engine_image::ImageConfig;

use crate::config::{Outside, StageConfig};
use crate::diagnostic::Diagnostic;
use crate::dockerfile::{Action, parse_trigger};
use crate::error::Problem;

/// Changes an image's configuration by instructions of a Dockerfile that write no files, as `commit --change` and
/// `import --change` do. Its history stays as it is.
///
/// # Errors
/// When a line is no such instruction.
pub fn change_config(config: &mut ImageConfig, changes: &[String]) -> Result<(), Diagnostic> {
    let nothing = BTreeMap::new();
    let outside = Outside { args: &nothing, global_args: &nothing, escape: '\\' };
    let mut stage = StageConfig::bare(config);
    for line in changes.iter().flat_map(|change| change.lines()).filter(|line| !line.trim().is_empty()) {
        let instruction = parse_trigger("change", line)?;
        let result = match &instruction.action {
            Action::Run(_) | Action::Copy(_) | Action::Arg(_) | Action::Shell(_) | Action::Maintainer(_) => {
                let word = line.split_whitespace().next().unwrap_or_default().to_lowercase();
                Err(Problem::Syntax(format!("{word} is not a valid change command")))
            }
            Action::Workdir(dir) => stage.expand(dir, &outside).map(|dir| stage.set_working_dir(&dir)),
            action => stage.apply(action, &instruction.text, &outside),
        };
        result.map_err(|problem| instruction.problem(problem))?;
    }
    config.config = stage.image.config;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_change_the_configuration_and_nothing_else() {
        let mut config = ImageConfig::default();
        let changes = ["ENV A=1 B=$A", "CMD [\"x\"]\nEXPOSE 80", "WORKDIR /srv", "LABEL l=m"];
        change_config(&mut config, &changes.map(str::to_owned)).unwrap();
        assert_eq!(config.config.env, ["A=1", "B="]);
        assert_eq!(config.config.cmd, Some(vec!["x".to_owned()]));
        assert!(config.config.exposed_ports.contains_key("80/tcp"));
        assert_eq!((config.config.working_dir.as_str(), config.history.len()), ("/srv", 0));
        for (bad, part) in [("RUN x", "run is not a valid change command"), ("NOPE x", "unknown instruction")]
        {
            let error = change_config(&mut config, &[bad.to_owned()]).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
