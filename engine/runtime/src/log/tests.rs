use std::fs;
use std::io::Write;

use jiff::Timestamp;

use super::write::LINE_MAX;
use super::*;
use crate::spec::LogConfig;

const TIME: Timestamp = Timestamp::UNIX_EPOCH;

fn writer(dir: &Path, max_size: Option<u64>, max_files: u32) -> Writer {
    let attrs = Default::default();
    Writer::open(LogConfig { path: dir.join("log.json"), max_size, max_files, attrs, forward: None }).unwrap()
}

/// What a reader has to tell now.
fn rest(reader: &mut Reader) -> Vec<(Stream, String)> {
    let mut all = Vec::new();
    loop {
        let lines = reader.read_more().unwrap();
        if lines.is_empty() {
            return all;
        }
        let text = |line: Line<'_>| format!("{}{}", line.text, if line.newline { "\n" } else { "" });
        all.extend(lines.iter().map(|line| (line.stream, text(line))));
    }
}

fn texts(dir: &Path) -> Vec<(Stream, String)> {
    rest(&mut Reader::open(dir.join("log.json")).unwrap())
}

fn last(dir: &Path, count: u64) -> Vec<String> {
    let mut reader = Reader::open_at_last(dir.join("log.json"), count).unwrap();
    rest(&mut reader).into_iter().map(|(_, text)| text).collect()
}

#[test]
fn joins_lines_across_pieces_and_keeps_streams_apart() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = writer(dir.path(), None, 1);
    log.write(Stream::Stdout, b"one\ntw", TIME).unwrap();
    log.write(Stream::Stderr, b"err \"q\"\n", TIME).unwrap();
    log.write(Stream::Stdout, b"o\n\xff last", TIME).unwrap();
    log.finish(TIME).unwrap();
    let expected = [
        (Stream::Stdout, "one\n"),
        (Stream::Stderr, "err \"q\"\n"),
        (Stream::Stdout, "two\n"),
        (Stream::Stdout, "\u{fffd} last"),
    ];
    assert_eq!(texts(dir.path()), expected.map(|(s, t)| (s, t.to_owned())));
    let raw = fs::read_to_string(dir.path().join("log.json")).unwrap();
    assert!(
        raw.starts_with(r#"{"log":"one\n","stream":"stdout","time":"1970-01-01T00:00:00.000000000Z"}"#),
        "{raw}"
    );
}

#[test]
fn a_reader_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let mut reader = Reader::open(dir.path().join("log.json")).unwrap();
    assert_eq!(rest(&mut reader), []);
    let mut log = writer(dir.path(), None, 1);
    let mut expect = |texts: &[&str]| {
        let read: Vec<String> = rest(&mut reader).into_iter().map(|(_, text)| text).collect();
        assert_eq!(read, texts);
    };
    log.write(Stream::Stdout, b"one\ntwo\n", TIME).unwrap();
    expect(&["one\n", "two\n"]);
    expect(&[]);
    let mut file = fs::OpenOptions::new().append(true).open(dir.path().join("log.json")).unwrap();
    file.write_all(b"{\"log\":").unwrap();
    expect(&[]);
    file.write_all(b"\"three\\n\",\"stream\":\"stderr\",\"time\":\"1970-01-01T00:00:00Z\"}\n").unwrap();
    expect(&["three\n"]);
}

#[test]
fn a_reader_follows_what_is_put_aside() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = writer(dir.path(), Some(100), 4);
    let mut reader = Reader::open(dir.path().join("log.json")).unwrap();
    let mut told = Vec::new();
    for n in 0..40 {
        log.write(Stream::Stdout, format!("line {n}\n").as_bytes(), TIME).unwrap();
        // Every now and then, so that it has fallen behind by a file or two.
        if n % 4 == 3 {
            told.extend(rest(&mut reader).into_iter().map(|(_, text)| text));
        }
    }
    let all: Vec<String> = (0..40).map(|n| format!("line {n}\n")).collect();
    assert_eq!(told, all);
}

#[test]
fn the_last_entries_are_found_from_the_end() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(last(dir.path(), 3), [""; 0]);
    let mut log = writer(dir.path(), Some(300), 3);
    for n in 0..10 {
        log.write(Stream::Stdout, format!("line {n}\n").as_bytes(), TIME).unwrap();
    }
    let kept: Vec<String> = texts(dir.path()).into_iter().map(|(_, text)| text).collect();
    for count in 0..=kept.len() {
        assert_eq!(last(dir.path(), count as u64), kept[kept.len() - count..], "{count}");
    }
    assert_eq!(last(dir.path(), 1000), kept);
}

#[test]
fn entries_of_others_and_with_attributes_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let attrs = [("tag".to_owned(), "web \"1\"".to_owned())].into();
    let path = dir.path().join("log.json");
    let mut log =
        Writer::open(LogConfig { path: path.clone(), max_size: None, max_files: 1, attrs, forward: None })
            .unwrap();
    log.write(Stream::Stderr, b"caf\xc3\xa9 \x1b[0m\t\\\n", TIME).unwrap();
    // As Docker writes: a short time.
    let docker = r#"{"time":"2020-01-01T00:00:00.5Z","stream":"stdout","log":"\u003ca\u003e"}"#;
    fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap()
        .write_all(format!("{docker}\nbad\n").as_bytes())
        .unwrap();
    let lines = Reader::open(&path).unwrap().read_more().unwrap();
    let lines: Vec<Line<'_>> = lines.iter().collect();
    let [ours, theirs] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!((ours.text.as_ref(), ours.newline), ("caf\u{e9} \u{1b}[0m\t\\", true));
    assert_eq!(ours.attrs["tag"], "web \"1\"");
    assert_eq!((theirs.text.as_ref(), theirs.newline, theirs.stream), ("<a>", false, Stream::Stdout));
    assert_eq!(theirs.long_time(), "2020-01-01T00:00:00.500000000Z");
    assert_eq!(ours.long_time(), "1970-01-01T00:00:00.000000000Z");
}

#[test]
fn cuts_long_lines() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = writer(dir.path(), None, 1);
    log.write(Stream::Stdout, &[b'x'; LINE_MAX + 5], TIME).unwrap();
    log.write(Stream::Stdout, b"\n", TIME).unwrap();
    let lengths: Vec<usize> = texts(dir.path()).iter().map(|(_, text)| text.len()).collect();
    assert_eq!(lengths, [LINE_MAX, 6]);
}

#[test]
fn rotates_and_reads_back_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = writer(dir.path(), Some(100), 3);
    for n in 0..10 {
        log.write(Stream::Stdout, format!("line {n}\n").as_bytes(), TIME).unwrap();
    }
    let kept: Vec<String> = texts(dir.path()).into_iter().map(|(_, text)| text).collect();
    assert_eq!(kept.last().unwrap(), "line 9\n");
    assert!(kept.len() < 10 && kept.windows(2).all(|pair| pair[0] < pair[1]), "{kept:?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
}
