//! How our images may differ from Docker's, and why: `differences.txt`.

use std::fs;
use std::path::Path;

use crate::case::Case;

/// The list: blocks apart by empty lines, each with a reason (`#`), the names of cases, and lines of their records that
/// only Docker (`-`) or only we (`+`) have.
pub(crate) struct Differences(Vec<Block>);

#[derive(Default)]
struct Block {
    cases: Vec<String>,
    lines: Vec<String>,
}

impl Differences {
    pub(crate) fn load() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker_compat/differences.txt");
        let text = fs::read_to_string(path).unwrap();
        Self(text.split("\n\n").filter(|block| !block.trim().is_empty()).map(Block::parse).collect())
    }

    pub(crate) fn assert_cases_exist(&self, cases: &[Case]) {
        for name in self.0.iter().flat_map(|block| &block.cases) {
            assert!(
                cases.iter().any(|case| case.name == *name),
                "differences.txt names {name}, which is no case"
            );
        }
    }

    /// What is wrong with our record of a case.
    pub(crate) fn of(&self, case: &Case, docker: &[String], ours: &[String]) -> Option<String> {
        let mut found = Vec::new();
        found.extend(only_in(docker, ours).map(|line| format!("- {line}")));
        found.extend(only_in(ours, docker).map(|line| format!("+ {line}")));
        let listed = self.0.iter().filter(|block| block.cases.contains(&case.name));
        let listed: Vec<String> = listed.flat_map(|block| block.lines.iter().cloned()).collect();
        let mut wrong: Vec<String> = only_in(&found, &listed).cloned().collect();
        let stale = only_in(&listed, &found);
        wrong.extend(stale.map(|line| format!("no difference any more, differences.txt has it: {line}")));
        let said = ours.iter().filter(|line| line.starts_with('#'));
        let said = said.map(|line| format!("\n{line}")).collect::<String>();
        (!wrong.is_empty()).then(|| format!("{}:\n{}{said}", case.name, wrong.join("\n")))
    }
}

impl Block {
    fn parse(text: &str) -> Self {
        let mut block = Self::default();
        let mut reason = false;
        for line in text.lines() {
            match line.chars().next() {
                Some('#') => reason = true,
                Some('-' | '+') => block.lines.push(line.to_owned()),
                _ => block.cases.extend(line.split_whitespace().map(str::to_owned)),
            }
        }
        assert!(reason && !block.cases.is_empty() && !block.lines.is_empty(), "differences.txt: {text}");
        block
    }
}

/// The lines that the others lack, comments aside.
fn only_in<'a>(lines: &'a [String], others: &'a [String]) -> impl Iterator<Item = &'a String> {
    lines.iter().filter(move |line| !line.starts_with('#') && !others.contains(line))
}
