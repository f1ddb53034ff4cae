use indexmap::IndexMap;

use crate::Matrix;
use crate::model::Env;

/// One combination of a matrix's values, in the file's order.
pub(crate) type Combination = IndexMap<String, String>;

impl Matrix {
    /// The most combinations there can be, counted without making them: exclusions are not subtracted.
    pub fn count(&self) -> u64 {
        let product = if self.variables.is_empty() {
            0
        } else {
            self.variables
                .values()
                .fold(1, |product: u64, values| product.saturating_mul(values.len() as u64))
        };
        product.saturating_add(self.include.len() as u64)
    }

    /// The combinations, the last variable changing fastest.
    ///
    /// `exclude` and `include` follow GitHub's rules: an included entry is added to each combination whose own
    /// values it does not contradict, and is a combination by itself if there is none such.
    pub(crate) fn combinations(&self) -> Vec<Combination> {
        let mut combinations = self.product();
        combinations.retain(|combination| !self.exclude.iter().any(|entry| has_all(combination, entry)));
        let originals = combinations.len();
        for entry in &self.include {
            let mut added = false;
            for combination in &mut combinations[..originals] {
                let contradicts = entry.iter().any(|(name, value)| {
                    self.variables.contains_key(name) && combination.get(name) != Some(value)
                });
                if !contradicts {
                    combination.extend(entry.clone());
                    added = true;
                }
            }
            if !added {
                combinations.push(entry.clone().into_iter().collect());
            }
        }
        combinations
    }

    fn product(&self) -> Vec<Combination> {
        if self.variables.is_empty() {
            return Vec::new();
        }
        let mut combinations = vec![Combination::new()];
        for (name, values) in &self.variables {
            let extended = combinations.iter().flat_map(|combination| {
                values.iter().map(|value| {
                    let mut combination = combination.clone();
                    combination.insert(name.clone(), value.clone());
                    combination
                })
            });
            combinations = extended.collect();
        }
        combinations
    }
}

fn has_all(combination: &Combination, entry: &Env) -> bool {
    entry.iter().all(|(name, value)| combination.get(name) == Some(value))
}

/// `PG=15, OS=debian`.
pub(crate) fn describe(combination: &Combination) -> String {
    combination.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(matrix: &str, expected: &[&str]) {
        let matrix: Matrix = serde_json::from_str(matrix).unwrap();
        let combinations: Vec<_> = matrix.combinations().iter().map(describe).collect();
        assert_eq!(combinations, expected);
        assert!(matrix.count() >= combinations.len() as u64);
    }

    #[test]
    fn multiplies() {
        check(r#"{"B": ["1", "2"], "A": ["x", "y"]}"#, &["B=1, A=x", "B=1, A=y", "B=2, A=x", "B=2, A=y"]);
        check("{}", &[]);
    }

    #[test]
    fn excludes_what_has_all_of_an_entry() {
        check(
            r#"{"A": ["1", "2"], "B": ["x", "y"], "exclude": [{"A": "1", "B": "x"}, {"A": "2"}]}"#,
            &["A=1, B=y"],
        );
    }

    #[test]
    fn includes_as_github_does() {
        // The example of GitHub's documentation, "Expanding or adding matrix configurations".
        check(
            r#"{"fruit": ["apple", "pear"], "animal": ["cat", "dog"], "include": [
                {"color": "green"}, {"color": "pink", "animal": "cat"}, {"fruit": "apple", "shape": "circle"},
                {"fruit": "banana"}, {"fruit": "banana", "animal": "cat"}]}"#,
            &[
                "fruit=apple, animal=cat, color=pink, shape=circle",
                "fruit=apple, animal=dog, color=green, shape=circle",
                "fruit=pear, animal=cat, color=pink",
                "fruit=pear, animal=dog, color=green",
                "fruit=banana",
                "animal=cat, fruit=banana",
            ],
        );
        check(r#"{"include": [{"A": "1"}, {"A": "2"}]}"#, &["A=1", "A=2"]);
    }

    #[test]
    fn counts_without_multiplying() {
        let values: Vec<_> = (0..1000).map(|n| n.to_string()).collect();
        let variables = (0..20).map(|n| (format!("V{n}"), values.clone())).collect();
        assert_eq!(Matrix { variables, ..Matrix::default() }.count(), u64::MAX);
    }
}
