//! Hosts whose iptables FORWARD policy is DROP (Docker sets it, so does ufw).
//!
//! An accept in our own table does not override a drop in another, so two constant rules are appended to that
//! FORWARD chain. Appended, not inserted, nor put into DOCKER-USER: whatever rule the administrator, Docker or
//! ufw wrote keeps its force (Docker's drops for its own bridges among them), and only the policy is overridden
//! for our bridges, whose packets our own table filters. Neither a restart of Docker nor a reload of ufw empties
//! FORWARD; where something else did, the next network puts the rules back.

use std::path::{Path, PathBuf};
use std::{fs, io};

use engine_types::ErrorKind;

use crate::firewall::BaseChain;
use crate::name::PREFIX;
use crate::program::{self, ProgramError};

/// What marks our rules in the host's FORWARD chain.
const COMMENT: &str = "lighter: filtered by its own nftables table";
const CHAIN: &str = "FORWARD";

/// A FORWARD chain that could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum ForwardPolicyError {
    /// `iptables` failed.
    #[error(transparent)]
    Iptables(#[from] ProgramError),
    /// The list of the kernel's iptables tables could not be read.
    #[error("cannot read {}", path.display())]
    Tables {
        /// The list.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl ForwardPolicyError {
    /// What this error means to the caller.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Iptables(e) => e.kind(),
            Self::Tables { .. } => ErrorKind::Internal,
        }
    }
}

/// Lets our bridges' packets past every iptables FORWARD policy of DROP; `dropping` are the chains that drop what they
/// forward. Repeating it changes nothing.
pub(crate) fn override_drop(dropping: Vec<BaseChain>, proc: &Path) -> Result<(), ForwardPolicyError> {
    let (iptables, others): (Vec<_>, Vec<_>) = dropping.into_iter().partition(BaseChain::is_iptables_forward);
    for chain in others {
        tracing::warn!(
            family = chain.family,
            table = chain.table,
            chain = chain.name,
            "the host's nftables rules drop forwarded packets: accept those with iifname or oifname \"{PREFIX}*\""
        );
    }
    let nft_backend = (!iptables.is_empty()).then(|| first_of(["iptables-nft", "iptables"])).flatten();
    for program in nft_backend.into_iter().chain(legacy_backend(proc)?) {
        let rules = list(&program)?;
        if rules.lines().any(|line| line == "-P FORWARD DROP") {
            for rule in our_rules().iter().filter(|rule| !stands_in(&rules, rule)) {
                edit(&program, "-A", rule)?;
            }
        }
    }
    Ok(())
}

/// Takes our rules out of every FORWARD chain; to be called when no bridge of any instance is left.
pub(crate) fn restore(proc: &Path) -> Result<(), ForwardPolicyError> {
    for program in first_of(["iptables-nft", "iptables"]).into_iter().chain(legacy_backend(proc)?) {
        let rules = list(&program)?;
        for rule in our_rules() {
            // Two processes may each have added it.
            for _ in 0..rules.lines().filter(|line| is_rule(line, &rule)).count() {
                edit(&program, "-D", &rule)?;
            }
        }
    }
    Ok(())
}

impl BaseChain {
    fn is_iptables_forward(&self) -> bool {
        self.family == "ip" && self.table == "filter" && self.name == CHAIN
    }
}

/// The legacy iptables, but only where its filter table exists: asking it would create the table.
fn legacy_backend(proc: &Path) -> Result<Option<PathBuf>, ForwardPolicyError> {
    // The process's own `net` is its first thread's.
    let path = proc.join("thread-self/net/ip_tables_names");
    let tables = match fs::read_to_string(&path) {
        Ok(tables) => tables,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ForwardPolicyError::Tables { path, source }),
    };
    let in_use = tables.lines().any(|table| table == "filter");
    Ok(in_use.then(|| first_of(["iptables-legacy", "iptables"])).flatten())
}

fn first_of(programs: [&str; 2]) -> Option<PathBuf> {
    programs.into_iter().find_map(program::find)
}

/// The matches of our rules: an interface option and the pattern of our bridges.
fn our_rules() -> [[String; 2]; 2] {
    ["-i", "-o"].map(|direction| [direction.to_owned(), format!("{PREFIX}+")])
}

fn list(program: &Path) -> Result<String, ProgramError> {
    // `-w`: wait for the lock that the iptables programs share.
    program::run(program.to_owned(), &["-w", "-S", CHAIN], "", "list the FORWARD chain")
}

fn edit(program: &Path, action: &str, [direction, pattern]: &[String; 2]) -> Result<(), ProgramError> {
    let comment = ["-m", "comment", "--comment", COMMENT];
    let args = [&["-w", action, CHAIN, direction, pattern], &comment[..], &["-j", "ACCEPT"]].concat();
    program::run(program.to_owned(), &args, "", "change the FORWARD chain").map(drop)
}

fn stands_in(rules: &str, rule: &[String; 2]) -> bool {
    rules.lines().any(|line| is_rule(line, rule))
}

/// Recognises one of our rules in a line of `iptables -S`.
fn is_rule(line: &str, [direction, pattern]: &[String; 2]) -> bool {
    line == format!("-A {CHAIN} {direction} {pattern} -m comment --comment \"{COMMENT}\" -j ACCEPT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_legacy_iptables_is_asked_only_where_its_filter_table_exists() {
        let proc = tempfile::tempdir().unwrap();
        assert_eq!(legacy_backend(proc.path()).unwrap(), None);
        let net = proc.path().join("thread-self/net");
        fs::create_dir_all(&net).unwrap();
        fs::write(net.join("ip_tables_names"), "nat\n").unwrap();
        assert_eq!(legacy_backend(proc.path()).unwrap(), None);
    }

    #[test]
    fn recognises_only_its_own_rules() {
        let [incoming, outgoing] = our_rules();
        let line = "-A FORWARD -i lt+ -m comment --comment \"lighter: filtered by its own nftables table\" -j ACCEPT";
        assert!(is_rule(line, &incoming));
        assert!(!is_rule(line, &outgoing));
        assert!(!is_rule("-A FORWARD -i lt+ -j ACCEPT", &incoming));
    }
}
