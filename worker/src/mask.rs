//! Secrets out of output: every occurrence becomes `***`, across chunk borders too.
//!
//! Searched for are, of each secret: the value without its trailing line ends, the same with `\r\n` (as a terminal
//! writes it), each of its lines of [`MIN_LINE_CHARS`] or more, and the value as base64 (standard and URL-safe, at
//! any offset in the encoded text, or wrapped as `base64` and `openssl` do), percent-encoded and JSON-escaped. Where
//! several could be replaced the leftmost is, and of those the longest.
//!
//! This guards against accidents. A job that means to show a secret can always spell it in another way.

use std::collections::BTreeSet;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine as _;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::NO_PAD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What stands in a secret's place.
pub const MASK: &str = "***";
/// The shortest line of a longer secret that is replaced on its own; `{` or `fi` are in every second output.
pub const MIN_LINE_CHARS: usize = 4;
/// The shortest piece of base64 that is replaced; shorter ones are in every second word.
const MIN_BASE64_CHARS: usize = 6;
/// After how many characters `openssl base64` (PEM, RFC 7468) and `base64` (MIME, RFC 2045) begin a new line.
const BASE64_LINE_CHARS: [usize; 2] = [64, 76];
/// All but RFC 3986's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Knows what to replace; cheap to clone.
#[derive(Debug, Clone)]
pub struct Masker {
    needles: Arc<Needles>,
}

#[derive(Debug)]
struct Needles {
    search: AhoCorasick,
    /// In order, so that those with a prefix stand together.
    sorted: Vec<Vec<u8>>,
    longest: usize,
    /// The bytes that any of them begins with.
    first: [bool; 256],
}

impl Masker {
    /// A masker for these values; empty ones are ignored.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut forms = BTreeSet::new();
        for secret in secrets {
            add_forms(secret, &mut forms);
        }
        let sorted: Vec<Vec<u8>> = forms.into_iter().filter(|form| !form.is_empty()).collect();
        let search = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(&sorted)
            .expect("all secrets together are far smaller than the 2 GiB that an automaton may have");
        let mut first = [false; 256];
        for form in &sorted {
            first[usize::from(form[0])] = true;
        }
        let longest = sorted.iter().map(Vec::len).max().unwrap_or(0);
        Self { needles: Arc::new(Needles { search, sorted, longest, first }) }
    }

    /// Begins to mask a stream of output.
    pub fn stream(&self) -> MaskedStream {
        MaskedStream { needles: Arc::clone(&self.needles), held: Vec::new() }
    }

    /// Masks a text that is complete.
    pub fn mask(&self, text: &str) -> String {
        let mut stream = self.stream();
        let mut out = stream.push(text.as_bytes());
        out.extend(stream.finish());
        String::from_utf8_lossy(&out).into_owned()
    }
}

/// One stream of output on its way through a [`Masker`].
///
/// It holds back only what may still become a secret: fewer bytes than the longest form of one.
#[derive(Debug)]
pub struct MaskedStream {
    needles: Arc<Needles>,
    held: Vec<u8>,
}

impl MaskedStream {
    /// Takes the next chunk; gives what can be shown now.
    #[must_use]
    pub fn push(&mut self, chunk: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(chunk);
        let (out, done) = self.needles.replace(&self.held, false);
        self.held.drain(..done);
        out
    }

    /// Gives what was held back, at the end of the stream.
    #[must_use]
    pub fn finish(&mut self) -> Vec<u8> {
        let (out, _) = self.needles.replace(&self.held, true);
        self.held.clear();
        out
    }
}

impl Needles {
    /// Replaces the secrets in `text`; also says how much of it is settled whatever follows: all of it at the `end`.
    fn replace(&self, text: &[u8], end: bool) -> (Vec<u8>, usize) {
        let mut out = Vec::with_capacity(text.len());
        let mut at = 0;
        let mut open = if end { text.len() } else { self.open_end(text, at) };
        while let Some(found) = self.search.find(&text[at..]) {
            let (start, stop) = (at + found.start(), at + found.end());
            // What begins before, or here but longer, would take precedence.
            if open <= start {
                break;
            }
            out.extend_from_slice(&text[at..start]);
            out.extend_from_slice(MASK.as_bytes());
            at = stop;
            if open < at {
                open = self.open_end(text, at);
            }
        }
        out.extend_from_slice(&text[at..open]);
        (out, open)
    }

    /// Where the longest end of `text` begins, no earlier than `from`, that a secret continues.
    fn open_end(&self, text: &[u8], from: usize) -> usize {
        let earliest = (text.len() + 1).saturating_sub(self.longest).max(from);
        let continued = |&at: &usize| self.first[usize::from(text[at])] && self.is_continued(&text[at..]);
        (earliest..text.len()).find(continued).unwrap_or(text.len())
    }

    /// Whether any secret begins so and goes on.
    fn is_continued(&self, text: &[u8]) -> bool {
        let next = self.sorted.partition_point(|form| form.as_slice() <= text);
        self.sorted.get(next).is_some_and(|form| form.starts_with(text))
    }
}

fn add_forms(secret: &str, forms: &mut BTreeSet<Vec<u8>>) {
    let value = secret.trim_end_matches(['\r', '\n']);
    let mut add = |form: &str| {
        forms.insert(form.as_bytes().to_vec());
    };
    let unix = value.replace("\r\n", "\n");
    add(value);
    add(&unix);
    add(&unix.replace('\n', "\r\n"));
    if unix.contains('\n') {
        for line in unix.lines().map(str::trim).filter(|line| line.chars().count() >= MIN_LINE_CHARS) {
            add(line);
        }
    }
    let encoded = utf8_percent_encode(value, RESERVED).to_string();
    add(&encoded);
    add(&encoded.replace("%20", "+"));
    if let Ok(json) = serde_json::to_string(value) {
        add(&json[1..json.len() - 1]);
    }
    for alphabet in [&STANDARD, &URL_SAFE] {
        for form in base64_forms(value, alphabet) {
            add(&form);
        }
    }
}

/// The characters of base64 that depend on the value alone, whatever stands before and after it in the encoded text.
fn base64_forms(value: &str, alphabet: &Alphabet) -> Vec<String> {
    let engine = GeneralPurpose::new(alphabet, NO_PAD);
    let mut forms = Vec::new();
    for offset in 0..3 {
        let mut bytes = vec![0; offset];
        bytes.extend_from_slice(value.as_bytes());
        // Six bits a character, eight a byte: the first character that has none of the offset's bits, and the last
        // that has only the value's.
        let (first, end) = ((offset * 8).div_ceil(6), bytes.len() * 8 / 6);
        let whole = engine.encode(&bytes);
        let Some(own) = whole.get(first..end) else { continue };
        forms.push(own.to_owned());
        if offset == 0 {
            // The alphabet is ASCII, so that every cut is at a character.
            let lines = |width: usize| (0..own.len()).step_by(width).map(move |at| (at, width));
            let cuts = BASE64_LINE_CHARS.into_iter().filter(|&width| own.len() > width).flat_map(lines);
            forms.extend(cuts.map(|(at, width)| own[at..own.len().min(at + width)].to_owned()));
        }
    }
    forms.retain(|form| form.len() >= MIN_BASE64_CHARS);
    forms
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(secrets: &[&str], text: &str, expected: &str) {
        assert_eq!(Masker::new(secrets.iter().copied()).mask(text), expected);
    }

    #[test]
    fn replaces_each_occurrence() {
        check(&["hunter2"], "hunter2 and hunter2hunter2.", "*** and ******.");
        check(&[], "nothing to hide", "nothing to hide");
        check(&["", "\n"], "nothing to hide\n", "nothing to hide\n");
    }

    #[test]
    fn a_secret_within_another_does_not_cut_it() {
        check(&["pass", "password", "word"], "my password is a pass", "my *** is a ***");
    }

    #[test]
    fn ignores_the_line_end_of_a_value() {
        check(&["token\n"], "a token here", "a *** here");
        check(&["token\r\n"], "token\n", "***\n");
    }

    #[test]
    fn replaces_lines_alone_but_short_ones() {
        let key = "-----BEGIN KEY-----\nMIIBOg\n  abc\nfi\n-----END KEY-----\n";
        check(&[key], &format!("<{key}>"), "<***\n>");
        check(&[key], &format!("<{}>", key.replace('\n', "\r\n")), "<***\r\n>");
        check(&[key], "if MIIBOg; fi abc", "if ***; fi abc");
    }

    #[test]
    fn replaces_base64_at_any_offset() {
        let secret = "s3cr3t-välue/with+more";
        for prefix in ["", "a", "ab", "user:"] {
            for alphabet in [&STANDARD, &URL_SAFE] {
                let engine = GeneralPurpose::new(alphabet, NO_PAD);
                let masked = Masker::new([secret]).mask(&engine.encode(format!("{prefix}{secret}\n")));
                let rest = masked.replacen(MASK, "", 1);
                assert!(masked.contains(MASK) && rest.len() <= prefix.len() * 4 / 3 + 4, "{masked}");
            }
        }
    }

    #[test]
    fn replaces_wrapped_base64() {
        let secret: String = (0..40).map(|i| format!("k{i}-")).collect();
        let encoded = GeneralPurpose::new(&STANDARD, NO_PAD).encode(&secret);
        for width in BASE64_LINE_CHARS {
            let lines: Vec<&str> =
                encoded.as_bytes().chunks(width).map(|line| std::str::from_utf8(line).unwrap()).collect();
            let masked = Masker::new([secret.as_str()]).mask(&lines[..lines.len() - 1].join("\n"));
            assert!(masked.lines().all(|line| line == MASK), "{masked}");
        }
    }

    #[test]
    fn replaces_url_and_json_forms() {
        check(&["p w/\"ö\n!"], "https://u:p%20w%2F%22%C3%B6%0A%21@h", "https://u:***@h");
        check(&["p w/x"], "q=p+w%2Fx&", "q=***&");
        check(&["p\"w\\x"], r#"{"pw":"p\"w\\x"}"#, r#"{"pw":"***"}"#);
    }

    #[test]
    fn holds_back_only_what_may_become_a_secret() {
        let mut stream = Masker::new(["secret"]).stream();
        assert_eq!(stream.push(b"Continue? "), b"Continue? ");
        assert_eq!(stream.push(b"the sec"), b"the ");
        assert_eq!(stream.push(b"ond se"), b"second ");
        assert_eq!(stream.push(b"cret!"), b"***!");
        assert_eq!(stream.push(b"s"), b"");
        assert_eq!(stream.finish(), b"s");
    }

    #[test]
    fn waits_for_the_longer_of_two() {
        let mut stream = Masker::new(["abc", "abcdef"]).stream();
        assert_eq!(stream.push(b"abcd"), b"");
        assert_eq!(stream.push(b"x"), b"***dx");
        assert_eq!(stream.push(b"abc"), b"");
        assert_eq!(stream.finish(), b"***");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn chunking_makes_no_difference_and_nothing_leaks(
            secrets in proptest::collection::vec("[ab\n]{1,7}", 0..5),
            text in "[abc\n]{0,60}",
            cuts in proptest::collection::vec(0_usize..60, 0..8),
        ) {
            let masker = Masker::new(secrets.iter().map(String::as_str));
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            let mut stream = masker.stream();
            let (mut chunked, mut start) = (Vec::new(), 0);
            for end in cuts.into_iter().chain([text.len()]) {
                chunked.extend(stream.push(&text.as_bytes()[start..end]));
                prop_assert!(stream.held.len() < masker.needles.longest.max(1));
                start = end;
            }
            chunked.extend(stream.finish());
            let whole = masker.needles.search.replace_all_bytes(
                text.as_bytes(),
                &vec![MASK.as_bytes(); masker.needles.sorted.len()],
            );
            prop_assert_eq!(&chunked, &whole);
            let shown = String::from_utf8(chunked).unwrap();
            for secret in secrets.iter().map(|secret| secret.trim_end_matches('\n')).filter(|s| !s.is_empty()) {
                prop_assert!(!shown.contains(secret), "{:?} shows {:?}", shown, secret);
            }
        }
    }
}
