use proptest::prelude::*;

use super::*;

#[track_caller]
fn actions(text: &str) -> Vec<Action> {
    let mut file = parse("Dockerfile", &format!("FROM base\n{text}")).unwrap_or_else(|e| panic!("{e}"));
    file.stages.pop().unwrap().instructions.into_iter().map(|i| i.action).collect()
}

fn shell(line: &str) -> Action {
    Action::Run(Run::Command(Command::Shell(line.to_owned())))
}

fn exec(args: &[&str]) -> Command {
    Command::Exec(args.iter().map(|arg| (*arg).to_owned()).collect())
}

#[test]
fn joins_continued_lines_without_the_comments_between() {
    let text = "run apt-get update && \\\n  # why\n\n  apt-get \\   \n  install x\r\nRUN echo '#no comment' # kept\n";
    assert_eq!(
        actions(text),
        [shell("apt-get update &&   apt-get   install x"), shell("echo '#no comment' # kept"),]
    );
}

#[test]
fn the_escape_character_can_be_chosen() {
    let file = parse("Dockerfile", "# escape=`\nFROM base\nRUN dir `\n c:\\\nENV A=b` c\n").unwrap();
    assert_eq!(file.escape, '`');
    let stage = &file.stages[0];
    assert_eq!(stage.instructions[0].action, shell("dir  c:\\"));
    assert_eq!(stage.instructions[1].action, Action::Env(vec![("A".into(), "b` c".into())]));
}

#[test]
fn tells_exec_form_from_shell_form() {
    assert_eq!(
        actions("CMD [\"a\", \"b c\"]\nCMD [ a ]\nENTRYPOINT []\nentrypoint [ ]\nCMD []"),
        [
            Action::Cmd(exec(&["a", "b c"])),
            Action::Cmd(Command::Shell("[ a ]".to_owned())),
            Action::Entrypoint(exec(&[])),
            Action::Entrypoint(exec(&[])),
            Action::Cmd(exec(&[])),
        ]
    );
    assert_eq!(actions("RUN [ -e /x ] && true"), [shell("[ -e /x ] && true")]);
}

#[test]
fn reads_pairs_in_both_forms() {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        actions("ENV A=1 B=\"two words\" C=x\\ y\nENV D  a  b=c\nLABEL \"k\"='v'"),
        [
            Action::Env(vec![pair("A", "1"), pair("B", "\"two words\""), pair("C", "x\\ y")]),
            Action::Env(vec![pair("D", "a  b=c")]),
            Action::Label(vec![pair("\"k\"", "'v'")]),
        ]
    );
}

#[test]
fn here_documents_stand_anywhere_in_a_command() {
    assert_eq!(actions("RUN <<EOF\n  a # not a comment\nb \\\nEOF\nRUN x")[0], {
        Action::Run(Run::Script("  a # not a comment\nb \\\n".to_owned()))
    });
    let text = "RUN cat <<A >x && cat <<-\"B C\" | tee\nFROM nothing\nA\n\tb\n\tB C\nRUN echo $((1<<2)) '<<X' <<<x\n";
    assert_eq!(
        actions(text),
        [
            shell("cat <<A >x && cat <<-\"B C\" | tee\nFROM nothing\nA\n\tb\n\tB C"),
            shell("echo $((1<<2)) '<<X' <<<x"),
        ]
    );
}

#[test]
fn positions_point_at_what_they_mean() {
    let file = parse("Dockerfile", "FROM base\n  COPY --from=x a \\\n  b /c/\n").unwrap();
    let instruction = &file.stages[0].instructions[0];
    let location = instruction.place.location();
    assert_eq!((location.line, location.column, location.width), (2, 3, 17));
    let Action::Copy(copy) = &instruction.action else { panic!("{instruction:?}") };
    let at = |span| {
        let location = instruction.place.at(span).location();
        (location.line, location.column, location.width)
    };
    assert_eq!(copy.spans.iter().cloned().map(at).collect::<Vec<_>>(), [(2, 17, 1), (3, 3, 1), (3, 5, 3)]);
    assert_eq!(at(copy.flag_span("from").unwrap()), (2, 8, 8));
    assert_eq!(instruction.text, "COPY --from=x a b /c/");
}

#[test]
fn reads_durations_as_go_does() {
    let check = |flags: &str| match actions(&format!("HEALTHCHECK {flags} CMD true")).remove(0) {
        Action::Healthcheck(Check::Command { interval, .. }) => interval,
        other => panic!("{other:?}"),
    };
    assert_eq!(check("--interval=1h2m3s"), 3_723_000_000_000);
    assert_eq!(check("--interval=1.5s"), 1_500_000_000);
    assert_eq!(check("--interval=500ms"), 500_000_000);
    assert_eq!(check("--interval=0"), 0);
    assert_eq!(actions("HEALTHCHECK NONE"), [Action::Healthcheck(Check::None)]);
    for bad in ["5", "", "s", "1x", "-1s", "100us", "1e3s", "9999999999h"] {
        let text = format!("FROM base\nHEALTHCHECK --interval={bad} CMD true\n");
        assert!(parse("Dockerfile", &text).is_err(), "{bad}");
    }
}

#[test]
fn a_byte_order_mark_is_no_instruction() {
    assert_eq!(parse("Dockerfile", "\u{feff}FROM base\n").unwrap().stages[0].image, "base");
}

/// Lines made of what Dockerfiles are made of, in any order.
fn lines() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "FROM",
        "RUN",
        "COPY",
        "ADD",
        "ENV",
        "ONBUILD",
        "HEALTHCHECK",
        "CMD",
        "SHELL",
        "ENTRYPOINT",
        "LABEL",
        "VOLUME",
        "ARG",
        "NONE",
        "AS",
        "[",
        "]",
        "\"",
        "'",
        ",",
        "<<EOF",
        "<<-\"E",
        "EOF",
        "\\",
        "\\\n",
        "\n",
        "\r\n",
        " ",
        "\t",
        "#",
        "# escape=`\n",
        "`",
        "`\n",
        "--from=",
        "--chown",
        "=",
        "$",
        "${",
        "}",
        "x",
        "é",
        "\u{feff}",
        "\u{b}",
        "\u{85}",
        "\u{2028}",
        "\\u00",
        "[]",
        "{}",
        "1s",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn never_panics_on_any_text(text in any::<String>()) {
        check_total(&text);
    }

    #[test]
    fn never_panics_on_pieces_of_dockerfiles(text in lines(), from in any::<bool>()) {
        check_total(&if from { format!("FROM base\n{text}") } else { text });
    }

    #[test]
    fn never_panics_on_triggers(text in lines()) {
        if let Err(error) = parse_trigger("trigger", &text) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}

/// Parses, and shows every place that the result or the error names.
fn check_total(text: &str) {
    match parse("Dockerfile", text) {
        Ok(file) => {
            for instruction in file.stages.iter().flat_map(|stage| &stage.instructions) {
                let location = instruction.place.location();
                assert!(location.line >= 1 && location.width >= 1);
                if let Action::Copy(copy) = &instruction.action {
                    assert_eq!(copy.spans.len(), copy.sources.len() + 1);
                }
            }
        }
        Err(error) => assert!(error.to_string().starts_with("Dockerfile:")),
    }
}
