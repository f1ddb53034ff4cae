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
