use std::fmt;
use std::net::Ipv4Addr;

use engine_types::ErrorKind;

use super::{Lookup, encode_name};

/// The names of one network.
///
/// Its file has a line `name address` for each, several for a name with several addresses; the first name of an
/// address is the one that the address is looked up as. The engine replaces the file as a whole (it writes a new
/// one aside and renames it), and each container's supervisor reads it again when it changed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Names {
    entries: Vec<(String, Ipv4Addr)>,
}

/// A line of a names file that is not `name address`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the names file is not a name and an IPv4 address: {text:?}")]
pub struct ParseNamesError {
    /// Its number, from 1.
    pub line: usize,
    /// The line.
    pub text: String,
}

impl ParseNamesError {
    /// What this error means to the caller.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Corrupt
    }
}

impl Names {
    /// Reads a names file.
    pub fn parse(text: &str) -> Result<Self, ParseNamesError> {
        let mut names = Self::default();
        for (index, line) in text.lines().enumerate() {
            let entry = line.split_once(' ').and_then(|(name, address)| Some((name, address.parse().ok()?)));
            let (name, address) =
                entry.ok_or_else(|| ParseNamesError { line: index + 1, text: line.to_owned() })?;
            names.insert(name, address);
        }
        Ok(names)
    }

    /// Adds an address of a name; its case and a trailing dot do not matter.
    ///
    /// What can be no name in a query (a label of 64 bytes, say), which is no reason to refuse a container, is
    /// left out.
    pub fn insert(&mut self, name: &str, address: Ipv4Addr) {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let is_askable = name.bytes().all(|b| b.is_ascii_graphic()) && encode_name(&name).is_some();
        let entry = (name, address);
        if is_askable && !self.entries.contains(&entry) {
            self.entries.push(entry);
        }
    }
}

impl Lookup for Names {
    fn addresses(&self, name: &str) -> Vec<Ipv4Addr> {
        self.entries.iter().filter(|(known, _)| known == name).map(|(_, address)| *address).collect()
    }

    fn name_of(&self, address: Ipv4Addr) -> Option<&str> {
        self.entries.iter().find(|(_, known)| *known == address).map(|(name, _)| name.as_str())
    }
}

/// Writes the names file.
impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entries.iter().try_for_each(|(name, address)| writeln!(f, "{name} {address}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_reads_as_it_was_written() {
        let mut names = Names::default();
        names.insert("Web.", Ipv4Addr::new(172, 18, 0, 2));
        names.insert("web", Ipv4Addr::new(172, 18, 0, 2));
        names.insert("web", Ipv4Addr::new(172, 18, 0, 3));
        names.insert("db_1", Ipv4Addr::new(172, 18, 0, 3));
        let text = names.to_string();
        assert_eq!(text, "web 172.18.0.2\nweb 172.18.0.3\ndb_1 172.18.0.3\n");
        assert_eq!(Names::parse(&text), Ok(names));
    }

    #[test]
    fn names_that_no_query_can_have_are_left_out() {
        let mut names = Names::default();
        for name in ["", ".", "a..b", "a b", "a\nb 1.2.3.4", "é", &"x".repeat(64), &"x.".repeat(200)] {
            names.insert(name, Ipv4Addr::LOCALHOST);
        }
        assert_eq!(names, Names::default());
    }

    #[test]
    fn a_damaged_file_is_an_error_that_names_the_line() {
        for (text, line) in [("web", 1), ("web 172.18.0.2\n\n", 2), ("web 172.18.0.256", 1), ("a b c", 1)] {
            let error = Names::parse(text).unwrap_err();
            assert_eq!((error.line, error.kind()), (line, ErrorKind::Corrupt), "{text:?}");
        }
    }
}
