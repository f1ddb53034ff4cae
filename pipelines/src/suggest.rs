//! Near misses: the words of "did you mean".

/// How alike two words must be, from 0 to 1 (Jaro-Winkler), before one is suggested for the other.
const SIMILARITY: f64 = 0.85;

/// The help that offers the nearest of the known words, if one is near.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let word = word.to_ascii_lowercase();
    let length = word.chars().count();
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(edits, candidate)| {
            // One slip in a short word, or one in three letters; or a word that starts the same.
            let few = *edits < length && *edits <= (length / 3).max(1);
            few || strsim::jaro_winkler(&word, &candidate.to_ascii_lowercase()) >= SIMILARITY
        })
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| format!("did you mean `{candidate}`?"))
}

/// Words in a sentence: `` `a`, `b` ``.
pub(crate) fn list<S: AsRef<str>>(words: &[S]) -> String {
    words.iter().map(|word| format!("`{}`", word.as_ref())).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_only_what_is_near() {
        let known = ["needs", "run", "services", "steps"];
        let suggested = |word| did_you_mean(word, known);
        assert_eq!(suggested("need").unwrap(), "did you mean `needs`?");
        assert_eq!(suggested("rn").unwrap(), "did you mean `run`?");
        assert_eq!(suggested("Step").unwrap(), "did you mean `steps`?");
        assert_eq!(suggested("serivces").unwrap(), "did you mean `services`?");
        assert_eq!(suggested("zzz"), None);
        assert_eq!(suggested("x"), None);
    }
}
