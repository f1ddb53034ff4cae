use super::*;

/// What the build of this Dockerfile fails with, causes and all.
async fn failure(text: &str) -> String {
    let world = World::new();
    world.file("a.txt", "a");
    world.file("b.txt", "b");
    let error = world.dockerfile(text).try_build().await.expect_err(text);
    assert_eq!(world.staged(), 0);
    chain(&error)
}

const CASES: &[(&str, &str)] = &[
    ("unknown_instruction", "FROM base\n\nRUNN true\n"),
    ("unknown_word", "FROM base\nFOO bar\n"),
    ("missing_arguments", "FROM base\nCOPY a.txt\n"),
    ("copy_of_nothing", "FROM base\nCOPY a.txt nope /x/\n"),
    ("copy_of_nothing_in_a_stage", "FROM base AS build\nFROM base\nCOPY --from=build /nope /x\n"),
    ("unknown_stage", "FROM base AS builder\nFROM base\nCOPY --from=biulder /a /b\n"),
    ("unknown_stage_number", "FROM base\nCOPY --from=3 /a /b\n"),
    ("own_stage", "FROM base AS me\nCOPY --from=me /a /b\n"),
    ("later_stage", "FROM base AS early\nCOPY --from=later /a /b\nFROM base AS later\nFROM early\n"),
    ("unknown_flag", "FROM base\nCOPY --chwon=app a.txt /x\n"),
    ("flag_for_later", "FROM base\nRUN --mount=type=cache,target=/c make\n"),
    ("no_from", "RUN true\n"),
    ("nothing", "# only a comment\n"),
    ("only_arguments", "ARG A=1\n"),
    ("unknown_image", "FROM nope:1\n"),
    ("bad_image_name", "FROM Base\n"),
    ("blank_base", "FROM $NOTHING\n"),
    ("other_platform", "FROM --platform=windows/amd64 base\n"),
    ("exit_code", "FROM base\nRUN \\\n  # a comment\n  false\n"),
    ("no_such_program", "FROM base\nRUN [\"missing\"]\n"),
    ("unknown_user", "FROM base\nCOPY --chown=nobody:staff a.txt /x\n"),
    ("unknown_group", "FROM base\nCOPY --chown=app:nobody a.txt /x\n"),
    ("bad_mode", "FROM base\nCOPY --chmod=u+x a.txt /x\n"),
    ("several_into_one", "FROM base\nCOPY a.txt b.txt /x\n"),
    ("directory_over_file", "FROM base\nCOPY . /etc/passwd\n"),
    ("directory_over_link", "FROM scratch AS tree\nCOPY a.txt /lib/\nFROM base\nCOPY --from=tree / /\n"),
    ("file_as_directory", "FROM base\nCOPY a.txt /etc/passwd/\n"),
    ("file_over_directory", "FROM base\nWORKDIR /x/a.txt\nCOPY a.txt /x\n"),
    ("below_a_file", "FROM base\nCOPY a.txt /etc/passwd/x\n"),
    ("bad_substitution", "FROM base\nENV A=${B\n"),
    ("required_variable", "FROM base\nWORKDIR /${DIR:?has to be given}\n"),
    ("bad_pair", "FROM base\nENV A=1 B\n"),
    ("bad_port", "FROM base\nEXPOSE 80x\n"),
    ("bad_signal", "FROM base\nSTOPSIGNAL SIGNOPE\n"),
    ("bad_duration", "FROM base\nHEALTHCHECK --interval=3 CMD true\n"),
    ("bad_stage_name", "FROM base AS 1st\n"),
    ("open_here_document", "FROM base\nRUN cat <<EOF\nline\n"),
    ("address", "FROM base\nADD https://example.com/x /x\n"),
    ("bad_trigger", "FROM base\nONBUILD FROM base\n"),
    ("shell_without_a_list", "FROM base\nSHELL /bin/sh\n"),
    ("tabs_and_wide_letters", "FROM base\nCOPY\t--nö=1 ä /x\n"),
];

#[tokio::test]
async fn point_at_what_is_wrong() {
    let mut shown = String::new();
    for (name, text) in CASES {
        shown.push_str(&format!("--- {name}\n{}\n\n", failure(text).await));
    }
    insta::assert_snapshot!(shown);
}

#[tokio::test]
async fn unknown_target() {
    let mut world = World::new();
    world.request.target = Some("tset".to_owned());
    let error = world.dockerfile("FROM base AS test\n").try_build().await.unwrap_err();
    assert_eq!(error.to_string(), "target stage \"tset\" could not be found, did you mean test?");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn missing_files_are_named() {
    let mut world = World::new();
    let error = world.try_build().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("context/Dockerfile"), "{error}");
    world.dockerfile("FROM base\n");
    world.request.dockerfile = Some(world.request.context.join("Dockerfile"));
    world.request.context = world.request.context.join("absent");
    let error = world.try_build().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("context/absent"), "{error}");
}

#[tokio::test]
async fn a_failing_trigger_is_shown_itself() {
    let world = World::new();
    let base = world.build("FROM base\nONBUILD COPY nope /x\n").await;
    world.store.tag(base.image.id, &"triggers".parse().unwrap()).unwrap();
    let error = world.dockerfile("FROM triggers\n").try_build().await.unwrap_err();
    insta::assert_snapshot!(error);
}

#[tokio::test]
async fn the_first_failure_ends_the_other_stages() {
    let world = World::new();
    let text = "FROM base AS a\nRUN hang\nFROM base AS b\nRUN false\nFROM scratch\n\
        COPY --from=a / /\nCOPY --from=b / /\n";
    let error = world.dockerfile(text).try_build().await.unwrap_err();
    assert!(error.to_string().contains("exit code: 1"), "{error}");
    assert_eq!(world.staged(), 0);
}
