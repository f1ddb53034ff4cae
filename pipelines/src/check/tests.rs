use crate::{Diagnostics, MAX_FILE_BYTES, Pipeline, render};

/// Reads a file that is wrong, and gives what its writer is told.
fn told(text: &str) -> String {
    let diagnostics: Diagnostics = Pipeline::parse("pipeline.yaml", text).expect_err("the file is wrong");
    render(&diagnostics, false)
}

/// A file with these lines in its one job.
fn job(lines: &str) -> String {
    let lines: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    format!("image: busybox\njobs:\n  test:\n{lines}")
}

macro_rules! told {
    ($($name:ident: $text:expr;)*) => {
        $(#[test]
        fn $name() {
            insta::assert_snapshot!(told(&$text));
        })*
    };
}

told! {
    unknown_key_of_the_file: "image: busybox\nimages: busybox\njobs: { a: { steps: [{ run: ls }] } }";
    unknown_key_without_near_miss: "image: busybox\nzzz: 1\njobs: { a: { steps: [{ run: ls }] } }";
    unknown_key_of_a_job: job("need: [lint]\nsteps: [{ run: ls }]");
    unknown_key_of_a_step: job("steps:\n  - name: x\n    runs: ls");
    unknown_key_of_a_service: job("services: { db: { image: busybox, healt: ls } }\nsteps: [{ run: ls }]");
    unknown_key_of_a_cache: job("cache: [{ key: a, path: b }]\nsteps: [{ run: ls }]");
    unknown_key_of_post: job("post: { allways: [{ run: ls }] }\nsteps: [{ run: ls }]");
    unknown_key_of_a_build: "image: { build: { file: Dockerfile } }\njobs: { a: { steps: [{ run: ls }] } }";
    unknown_event: format!("on: [push, pull-request]\n{}", job("steps: [{ run: ls }]"));
    unknown_filter: format!("on: {{ push: {{ branch: main }} }}\n{}", job("steps: [{ run: ls }]"));
    wrong_types: job("needs: 5\nretry: often\nallow_failure: maybe\nservices: [db]\nsteps: ls");
    retry_out_of_range: job("retry: 11\nresources: { cpus: 0 }\nsteps: [{ run: ls }]");
    missing_steps: job("timeout: 5m");
    empty_steps: job("steps: []");
    step_without_run: job("steps:\n  - name: nothing\n  - ls");
    missing_jobs: "image: busybox";
    empty_jobs: "image: busybox\njobs: {}";
    jobs_with_nothing: "image: busybox\njobs:\n";
    not_a_map: "just text";
    empty_file: "";
    only_a_comment: "# nothing\n";
    not_yaml: "image: busybox\njobs:\n  a: [\n";
    tabs: "image: busybox\njobs:\n\ta: 1\n";
    two_documents: "image: busybox\n---\nimage: busybox\n";
    duplicate_key: "image: busybox\njobs:\n  a: { steps: [{ run: ls }] }\n  a: { steps: [{ run: ls }] }\n";
    unknown_need: "image: busybox\njobs:\n  lint: { steps: [{ run: ls }] }\n  test:\n    needs: [lintt]\n    steps: [{ run: ls }]";
    need_of_itself_and_twice: "image: busybox\njobs:\n  a: { steps: [{ run: ls }] }\n  b: { needs: [b, a, a], steps: [{ run: ls }] }";
    cycle: "image: busybox
jobs:
  first: { steps: [{ run: ls }] }
  after: { needs: a, steps: [{ run: ls }] }
  a: { needs: [first, b], steps: [{ run: ls }] }
  b: { needs: [c], steps: [{ run: ls }] }
  c: { needs: [a], steps: [{ run: ls }] }
";
    bad_durations: job("timeout: 30\nsteps:\n  - { run: ls, timeout: \"30\" }\n  - { run: ls, timeout: half an hour }\n  - { run: ls, timeout: 8d }");
    bad_sizes: job("resources: { memory: 512 }\nsteps: [{ run: ls }]");
    bad_size_unit: job("resources: { memory: 5 apples }\nsteps: [{ run: ls }]");
    bad_condition_syntax: job("steps:\n  - run: ls\n    when: branch ==");
    bad_condition_variable: job("steps:\n  - run: ls\n    when: brunch == \"main\" && !pr");
    bad_condition_function: job("steps:\n  - run: ls\n    when: branch.startswith(\"x\")");
    bad_condition_type: job("when: branch\nsteps: [{ run: ls }]");
    status_in_a_jobs_condition: job("when: status == \"success\"\nsteps: [{ run: ls }]");
    condition_that_yaml_takes_for_a_tag: job("when: !pr\nsteps: [{ run: ls }]");
    condition_that_starts_with_a_tag: job("when: !pr && tag == \"\"\nsteps: [{ run: ls }]");
    bad_cron: format!("on: {{ schedule: [\"61 * * * *\", \"* * *\"] }}\n{}", job("steps: [{ run: ls }]"));
    bad_globs: job("artifacts: { paths: [\"a[\", ../up, /etc/passwd] }\nsteps: [{ run: ls }]");
    bad_images: job("image: Busy Box\nservices: { db: { image: \"a::b\" } }\nsteps: [{ run: ls }]");
    bad_names: "image: busybox\njobs:\n  a b:\n    env: { 1X: a }\n    secrets: [A-B]\n    services: { My_DB: { image: busybox } }\n    steps: [{ run: ls }]";
    no_image: "jobs: { a: { steps: [{ run: ls }] } }";
    bad_network: job("network: { hots: true }\nsteps: [{ run: ls }]");
    unknown_network: job("network: nine\nsteps: [{ run: ls }]");
    services_without_network: job("network: none\nservices: { db: { image: busybox } }\nsteps: [{ run: ls }]");
    undefined_variables: job("image: busybox:$TAGG\nenv: { TAG: $SECRET }\ncache: [{ key: \"x-${CI_ARC}\", paths: a }]\nsteps: [{ run: echo $ANY, env: { A: $TAG } }]");
    bad_templates: job("image: \"a:${X:-1}\"\nenv: { A: \"${\", B: \"${hash:x}\" }\nsteps: [{ run: ls }]");
    bad_cache_key: job("cache: [{ key: \"a-${hash:../x}\", paths: [] }]\nsteps: [{ run: ls }]");
    matrix_without_values: job("matrix: { A: [] }\nsteps: [{ run: ls }]");
    matrix_of_nothing: job("matrix: { A: [1], exclude: [{ A: 1 }] }\nsteps: [{ run: ls }]");
    matrix_excludes_unknown: job("matrix: { VERSION: [1, 2], exclude: [{ VERSIN: 1 }] }\nsteps: [{ run: ls }]");
    matrix_of_a_map: job("matrix: { A: { b: c } }\nsteps: [{ run: ls }]");
    several_problems: "imge: busybox\njobs:\n  a:\n    timeout: 5\n    steps:\n      - rn: ls\n";
}

#[test]
fn matrix_of_a_million() {
    let values = (0..100).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let matrix =
        format!("matrix:\n  A: [{values}]\n  B: [{values}]\n  C: [{values}]\nsteps: [{{ run: ls }}]");
    insta::assert_snapshot!(told(&job(&matrix)));
}

#[test]
fn too_many_jobs() {
    let values = (0..256).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let jobs: String = (0..5)
        .map(|n| format!("  j{n}: {{ matrix: {{ A: [{values}] }}, steps: [{{ run: ls }}] }}\n"))
        .collect();
    insta::assert_snapshot!(told(&format!("image: busybox\njobs:\n{jobs}")));
}

/// Time must not grow with the square of what a stranger sends.
#[test]
fn a_file_full_of_jobs() {
    let mut text = "image: busybox\njobs:\n".to_owned();
    for n in 0..5000 {
        text.push_str(&format!("  j{n}: {{needs: j{}, steps: [{{run: a}}]}}\n", n + 1));
    }
    insta::assert_snapshot!(told(&text));
}

#[test]
fn too_many_entries() {
    insta::assert_snapshot!(told(&format!("jobs: [{}]", "1,".repeat(100_000))));
}

#[test]
fn yaml_bomb() {
    let mut text = "image: busybox\na0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for n in 1..10 {
        let previous = vec![format!("*a{}", n - 1); 10].join(", ");
        text.push_str(&format!("a{n}: &a{n} [{previous}]\n"));
    }
    insta::assert_snapshot!(told(&text));
}

#[test]
fn too_deep() {
    insta::assert_snapshot!(told(&format!("jobs: {}{}", "[".repeat(40), "]".repeat(40))));
}

#[test]
fn much_too_deep() {
    insta::assert_snapshot!(told(&format!("jobs: {}{}", "[".repeat(500), "]".repeat(500))));
}

#[test]
fn too_large() {
    insta::assert_snapshot!(told(&format!("# {}\n", "x".repeat(MAX_FILE_BYTES))));
}

#[test]
fn colour_is_only_colour() {
    let diagnostics = Pipeline::parse("p.yaml", "imge: x\njobs: {}").unwrap_err();
    assert!(!render(&diagnostics, false).contains('\u{1b}'));
    assert!(render(&diagnostics, true).contains('\u{1b}'));
    assert_eq!(
        diagnostics.to_string(),
        "p.yaml:1:1: unknown key `imge` in the file\np.yaml:2:1: `jobs` is empty"
    );
}

#[test]
fn columns_count_characters() {
    let diagnostics = Pipeline::parse("p.yaml", "name: é\njobs: { é: {} }").unwrap_err();
    let places: Vec<_> = diagnostics.iter().map(|d| (d.line(), d.column(), d.message())).collect();
    assert_eq!(places, [(2, 9, "`é` cannot be a job's name"), (2, 9, "`é` lacks the key `steps`")]);
}

#[test]
fn a_byte_order_mark_moves_nothing() {
    let diagnostics =
        Pipeline::parse("p.yaml", "\u{feff}image: busybox\nzzz: 1\njobs: { a: { steps: [{ run: ls }] } }");
    let diagnostics = diagnostics.unwrap_err();
    assert_eq!(diagnostics.iter().map(|d| (d.line(), d.column())).collect::<Vec<_>>(), [(2, 1)]);
}
