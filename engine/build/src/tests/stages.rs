use super::*;

#[tokio::test]
async fn builds_an_image_of_layers_and_configuration() {
    let world = World::new();
    world.file("src/main.c", "int main;");
    let built = world
        .build(
            "FROM base AS build\nARG WHO=you\nENV GREETING=\"hello $WHO\"\nWORKDIR /app\nCOPY src ./src\n\
             RUN write x out/bin\nEXPOSE 80 53/udp\nUSER app\nCMD [\"sh\"]\nLABEL a=1 b='two words'\n\
             HEALTHCHECK --interval=30s --retries=3 CMD curl -f localhost\nSTOPSIGNAL SIGINT\nVOLUME /data\n",
        )
        .await;
    let config = &built.image.config.config;
    assert!(config.env.contains(&"GREETING=hello you".to_owned()));
    assert_eq!((&*config.working_dir, &*config.user), ("/app", "app"));
    assert_eq!(config.cmd.as_deref(), Some(&["sh".to_owned()][..]));
    assert_eq!(config.labels["b"], "two words");
    assert_eq!(config.exposed_ports.keys().collect::<Vec<_>>(), ["53/udp", "80/tcp"]);
    let check = config.healthcheck.as_ref().unwrap();
    assert_eq!((check.interval, check.retries), (30_000_000_000, 3));
    assert_eq!(check.test, ["CMD-SHELL", "curl -f localhost"]);
    assert_eq!(
        world.added(&built),
        [
            "/app/ 755 0:0",
            "/app/src/ 755 0:0",
            "/app/src/main.c 644 0:0 int main;",
            "/out/ 755 0:0",
            "/out/bin 644 0:0 x",
        ]
    );
    let history: Vec<_> = built.image.config.history.iter().map(|h| h.created_by.clone().unwrap()).collect();
    assert_eq!(history[4], "RUN |1 WHO=you /bin/sh -c write x out/bin # buildkit");
    assert_eq!(history.iter().filter(|h| h.starts_with("WORKDIR")).count(), 1);
    assert_eq!(built.image.layers.len(), 4);
    assert_eq!(world.staged(), 0);
}

#[tokio::test]
async fn builds_only_what_the_target_needs_and_a_shared_stage_once() {
    let world = World::new();
    let text = "FROM base AS common\nRUN write c /common\n\
        FROM common AS left\nRUN write l /left\nFROM common AS right\nRUN write r /right\n\
        FROM base AS unused\nRUN false\n\
        FROM scratch\nCOPY --from=left /left /common /\nCOPY --from=2 /right /\n";
    let built = world.build(text).await;
    let mut ran = world.ran();
    ran.sort();
    assert_eq!(ran, ["write c /common", "write l /left", "write r /right"]);
    let root = world.root(&built.image);
    assert_eq!(root.entries().unwrap().into_keys().collect::<Vec<_>>(), ["common", "left", "right"]);
    assert_eq!(*world.fake.images.lock().unwrap(), ["base:latest"], "one pull for all stages");
    assert_eq!(built.image.config.config.working_dir, "/");
}

#[tokio::test]
async fn independent_stages_run_at_the_same_time() {
    let world = World::new();
    // Each waits for the other: one after the other they would never end.
    let text = "FROM base AS a\nRUN meet\nFROM base AS b\nRUN meet\nFROM scratch\n\
        COPY --from=a /etc /a\nCOPY --from=b /etc /b\n";
    world.build(text).await;
    assert_eq!(world.ran(), ["meet", "meet"]);
}

#[tokio::test]
async fn builds_the_stage_that_is_asked_for() {
    let mut world = World::new();
    world.request.target = Some("First".to_owned());
    world.build("FROM base AS first\nRUN write 1 /1\nFROM base\nRUN write 2 /2\n").await;
    assert_eq!(world.ran(), ["write 1 /1"]);
    world.request.target = Some("1".to_owned());
    world.request.no_cache = true;
    world.build("FROM base AS first\nRUN write 1 /1\nFROM base\nRUN write 2 /2\n").await;
    assert_eq!(world.ran(), ["write 2 /2"]);
}

#[tokio::test]
async fn commands_see_their_variables_directory_and_user() {
    let mut world = World::new();
    let args = [("GIVEN", "outside"), ("HTTP_PROXY", "http://proxy"), ("UNDECLARED", "x"), ("BASE", "base")];
    world.request.args = args.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    world
        .build(
            "ARG BASE=nothing\nARG SHARED=global\nFROM ${BASE}\nARG GIVEN=default\nARG SHARED\nARG EMPTY\n\
             ARG OVER=arg\nENV OVER=env PLAIN=$GIVEN-$TARGETARCH\nARG TARGETOS\nENV OS=$TARGETOS\n\
             WORKDIR /a\nWORKDIR b\nUSER app:staff\nSHELL [\"/bin/bash\", \"-ec\"]\nRUN command $PLAIN\n",
        )
        .await;
    let saw = world.fake.saw.lock().unwrap().remove(0);
    let mut env = saw.0;
    env.retain(|entry| !entry.starts_with("PATH="));
    let expected = [
        "GIVEN=outside",
        "SHARED=global",
        "OVER=env",
        "PLAIN=outside-",
        "TARGETOS=linux",
        "OS=linux",
        "HTTP_PROXY=http://proxy",
        "http_proxy=http://proxy",
    ];
    assert_eq!(env, expected);
    assert_eq!((&*saw.1, &*saw.2), ("/a/b", "app:staff"));
    assert_eq!(world.ran(), ["command $PLAIN"], "the shell expands variables of a command, not the builder");
}

#[tokio::test]
async fn an_entry_point_resets_the_inherited_command() {
    let world = World::new();
    let base = world.build("FROM base\nENTRYPOINT [\"old\"]\nCMD [\"a\"]\n").await;
    world.store.tag(base.image.id, &"withcmd".parse().unwrap()).unwrap();
    let config = |built: Built| (built.image.config.config.entrypoint, built.image.config.config.cmd);
    let list = |words: &[&str]| Some(words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
    assert_eq!(config(world.build("FROM withcmd\n").await), (list(&["old"]), list(&["a"])));
    assert_eq!(
        config(world.build("FROM withcmd\nENTRYPOINT new\n").await),
        (list(&["/bin/sh", "-c", "new"]), None)
    );
    assert_eq!(
        config(world.build("FROM withcmd\nCMD [\"b\"]\nENTRYPOINT [\"new\"]\n").await),
        (list(&["new"]), list(&["b"]))
    );
    assert_eq!(config(world.build("FROM withcmd\nENTRYPOINT []\n").await), (None, None));
}

#[tokio::test]
async fn runs_the_triggers_of_the_base() {
    let world = World::new();
    world.file("app.txt", "app");
    let base = world.build("FROM base\nONBUILD COPY app.txt /srv/\nONBUILD RUN write t /trigger\n").await;
    assert_eq!(base.image.config.config.on_build, ["COPY app.txt /srv/", "RUN write t /trigger"]);
    assert!(world.ran().is_empty());
    world.store.tag(base.image.id, &"triggers".parse().unwrap()).unwrap();
    let built = world.build("FROM triggers\nRUN write own /own\n").await;
    assert_eq!(world.ran(), ["write t /trigger", "write own /own"]);
    assert!(built.image.config.config.on_build.is_empty());
    assert!(world.root(&built.image).resolve(Path::new("/srv/app.txt"), true).unwrap().node.is_some());
}

#[tokio::test]
async fn here_documents_are_scripts_and_files() {
    let world = World::new();
    let built = world
        .build(
            "FROM base\nARG A=1\nRUN <<EOF\nwrite x /script\nEOF\nRUN cat <<'A' > /a && cat <<-B\n$A\nA\n\tb\n\tB\n\
             COPY <<one <<\"two\" /srv/\nvalue $A\none\nvalue $A\ntwo\n",
        )
        .await;
    assert_eq!(world.ran(), ["write x /script\n", "cat <<'A' > /a && cat <<-B\n$A\nA\n\tb\n\tB"]);
    assert_eq!(
        world.added(&built),
        ["/script 644 0:0 x", "/srv/ 755 0:0", "/srv/one 644 0:0 value 1", "/srv/two 644 0:0 value $A",]
    );
}

#[tokio::test]
async fn a_dropped_build_leaves_nothing_staged_and_keeps_what_is_done() {
    let world = World::new();
    world.dockerfile("FROM base\nRUN write 1 /1\nRUN hang\n");
    {
        let mut building = std::pin::pin!(world.try_build());
        // The first layer is settled while the second command runs; its record tells when.
        let steps = world.request.cache_dir.join("steps");
        let recorded = || fs::read_dir(&steps).is_ok_and(|mut entries| entries.next().is_some());
        while !recorded() {
            tokio::select! {
                biased;
                _ = &mut building => unreachable!("it hangs"),
                () = tokio::task::yield_now() => {}
            }
        }
        assert!(world.staged() > 0, "the hanging command's own layer");
    }
    assert_eq!(world.staged(), 0);
    world.build("FROM base\nRUN write 1 /1\n").await;
    assert!(world.ran().is_empty());
}

#[tokio::test]
async fn events_tell_each_step_in_order() {
    let world = World::new();
    world.build("FROM base AS one\nENV A=1\nRUN write 1 /1\n").await;
    let shown = |event: &BuildEvent| match event {
        BuildEvent::Instruction { stage, number, total, text } => {
            format!("{stage}: instruction {number}/{total} {text}")
        }
        BuildEvent::Reached { state, last, .. } => format!("reached {} {last}", !state.is_empty()),
        BuildEvent::Started(s) => format!("started [{} {}/{}] {}", s.stage, s.index, s.total, s.text),
        BuildEvent::Cached(s) => format!("cached {}", s.index),
        BuildEvent::Output { step, bytes, .. } => {
            format!("{}: {}", step.index, String::from_utf8_lossy(bytes))
        }
        BuildEvent::Done { step, .. } => format!("done {}", step.index),
        BuildEvent::Failed(s) => format!("failed {}", s.index),
        BuildEvent::Exporting => "exporting".to_owned(),
    };
    let events = || world.events.lock().unwrap().iter().map(shown).collect::<Vec<_>>();
    let from = [
        "0: instruction 1/3 FROM base AS one",
        "started [one 1/2] FROM base",
        "done 1",
        "reached true false",
        "0: instruction 2/3 ENV A=1",
        "reached true false",
        "0: instruction 3/3 RUN write 1 /1",
        "started [one 2/2] RUN write 1 /1",
    ];
    let end = ["done 2", "reached true true", "exporting"];
    assert_eq!(events(), [&from[..], &["2: write 1 /1"], &end].concat());
    world.try_build().await.unwrap();
    assert_eq!(events(), [&from[..], &["cached 2"], &end].concat());
}

#[tokio::test]
async fn request_labels_join_those_of_the_file() {
    let mut world = World::new();
    world.request.labels = [("b".to_owned(), "request".to_owned())].into();
    let built = world.build("FROM base\nLABEL a=1 b=file\n").await;
    let labels: Vec<_> = built.image.config.config.labels.into_iter().collect();
    assert_eq!(labels, [("a".into(), "1".into()), ("b".to_owned(), "request".to_owned())]);
}

#[tokio::test]
async fn the_future_can_be_spawned() {
    fn check<T: Send>(value: T) -> T {
        value
    }
    let world = World::new();
    world.dockerfile("FROM base\n");
    check(world.try_build()).await.unwrap();
}
