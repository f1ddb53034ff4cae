use super::*;

const TEXT: &str = "FROM base\nARG V=1\nCOPY a.txt /srv/\nRUN write x /x\nRUN echo $V\n";

#[tokio::test]
async fn a_second_build_runs_nothing_and_gives_the_same_image() {
    let world = World::new();
    world.file("a.txt", "a");
    let first = world.build(TEXT).await;
    assert_eq!((first.steps, first.cached), (3, 0));
    let second = world.build(TEXT).await;
    assert_eq!((second.steps, second.cached), (3, 3));
    assert_eq!(second.image.id, first.image.id);
    assert!(world.ran().is_empty());
}

#[tokio::test]
async fn what_a_step_reads_decides() {
    let mut world = World::new();
    let file = world.file("a.txt", "a");
    world.build(TEXT).await;

    world.file("unrelated.txt", "new");
    fs::File::open(&file).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    world.build(TEXT).await;
    assert!(world.ran().is_empty(), "times and other files do not matter");

    world.request.args = [("V".to_owned(), "2".to_owned())].into();
    world.build(TEXT).await;
    assert_eq!(world.ran(), ["write x /x", "echo $V"], "an argument that commands see");

    world.request.args.clear();
    world.build(&TEXT.replace("FROM base\n", "FROM base\nLABEL new=1\n")).await;
    assert!(world.ran().is_empty(), "what does not change what commands see");

    world.build(&TEXT.replace("echo", "printf")).await;
    assert_eq!(world.ran(), ["printf $V"], "the instruction");

    world.build(&TEXT.replace("write x /x", "write   x /x")).await;
    assert_eq!(world.ran(), ["write   x /x", "echo $V"], "blanks may matter to a command");

    world.file("a.txt", "b");
    world.build(TEXT).await;
    assert_eq!(world.ran(), ["write x /x", "echo $V"], "content");

    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&file, mode).unwrap();
    world.build(TEXT).await;
    assert_eq!(world.ran(), ["write x /x", "echo $V"], "mode");
}

#[tokio::test]
async fn a_new_base_image_starts_anew() {
    let world = World::new();
    world.build("FROM base\nRUN write x /x\n").await;
    world.image("base", ImageConfig::default(), &[&|root| fs::write(root.join("new"), "").unwrap()]);
    world.build("FROM base\nRUN write x /x\n").await;
    assert_eq!(world.ran(), ["write x /x"]);
}

#[tokio::test]
async fn copies_from_stages_depend_on_what_the_stage_made() {
    let world = World::new();
    let text = |comment: &str| {
        format!(
            "FROM base AS build\nRUN write same /out {comment}\nFROM base\nCOPY --from=build /out /\nRUN echo\n"
        )
    };
    // The fake writes only for three words.
    world.build(&text("").replace(" \n", "\n")).await;
    let changed = "FROM base AS build\nRUN echo changed\nRUN write same /out\nFROM base\nCOPY --from=build /out /\nRUN echo\n";
    world.build(changed).await;
    assert_eq!(world.ran(), ["echo changed", "write same /out"], "the copied file is the same");
}

#[tokio::test]
async fn no_cache_runs_all_and_remembers_it() {
    let mut world = World::new();
    world.build("FROM base\nRUN write x /x\n").await;
    world.request.no_cache = true;
    assert_eq!(world.build("FROM base\nRUN write x /x\n").await.cached, 0);
    assert_eq!(world.ran(), ["write x /x"]);
    world.request.no_cache = false;
    assert_eq!(world.build("FROM base\nRUN write x /x\n").await.cached, 1);
}

#[tokio::test]
async fn damaged_records_and_lost_layers_are_misses() {
    let world = World::new();
    let text = "FROM base\nRUN write x /x\nRUN write y /y\n";
    let built = world.build(text).await;
    for entry in fs::read_dir(world.request.cache_dir.join("steps")).unwrap() {
        fs::write(entry.unwrap().path(), "{").unwrap();
    }
    world.build(text).await;
    assert_eq!(world.ran(), ["write x /x", "write y /y"]);
    // All that the images named was removed; the base stays.
    for summary in world.store.list().unwrap() {
        if summary.references.is_empty() {
            world.store.remove(summary.id).unwrap();
        }
    }
    world.store.collect(&Default::default()).unwrap();
    assert!(world.store.layer(built.image.layers[1].chain_id).is_err());
    world.build(text).await;
    assert_eq!(world.ran(), ["write x /x", "write y /y"]);
}

#[tokio::test]
async fn steps_before_a_failed_one_are_kept() {
    let world = World::new();
    world.dockerfile("FROM base\nRUN write x /x\nRUN false\n").try_build().await.unwrap_err();
    assert_eq!(world.staged(), 0);
    world.build("FROM base\nRUN write x /x\nRUN write y /y\n").await;
    assert_eq!(world.ran(), ["write y /y"]);
}

#[tokio::test]
async fn proxies_are_no_part_of_the_key() {
    let mut world = World::new();
    world.build("FROM base\nRUN write x /x\n").await;
    world.request.args = [("https_proxy".to_owned(), "http://proxy".to_owned())].into();
    world.build("FROM base\nRUN write x /x\n").await;
    assert!(world.ran().is_empty());
}

#[tokio::test]
async fn a_created_working_directory_is_cached() {
    let world = World::new();
    let first = world.build("FROM base\nWORKDIR /new/dir\n").await;
    let second = world.build("FROM base\nWORKDIR /new/dir\n").await;
    assert_eq!((second.cached, second.image.id), (1, first.image.id));
    let existing = world.build("FROM base\nWORKDIR /srv\n").await;
    assert_eq!(existing.image.layers.len(), 2, "nothing to create, an empty layer, as with Docker");
}

#[tokio::test]
async fn a_layer_that_exists_already_stays_while_it_is_mounted() {
    let mut world = World::new();
    let file = world.file("a.txt", "a");
    fs::File::open(&file).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    // The copy gives the same layer each time; `settled` looks at it by the path that it was mounted from.
    let text = "FROM base\nCOPY a.txt /a.txt\nRUN settled /a.txt\n";
    world.build(text).await;
    world.request.no_cache = true;
    let steps = world.request.cache_dir.join("steps");
    fs::remove_dir_all(&steps).unwrap();
    world.build(text).await;
    assert_eq!(world.ran(), ["settled /a.txt"]);
}

#[tokio::test]
async fn the_text_of_a_program_decides() {
    let world = World::new();
    let text = |line: &str| format!("FROM base\nRUN <<P\n#!/bin/awk -f\n{line}\nP\n");
    world.build(&text("one")).await;
    assert_eq!(world.ran(), ["/dev/pipes/P"]);
    assert_eq!(world.build(&text("one")).await.cached, 1);
    assert_eq!(world.build(&text("two")).await.cached, 0);
}
