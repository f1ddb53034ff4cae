//! Jobs whose user is not root: the workspace is theirs.

use crate::checkout::{Checkout, Ended};

const DOCKERFILE: &str = "FROM busybox:latest\n\
    RUN echo app:x:1000:1001::/home/app:/bin/sh >> /etc/passwd && echo staff:x:1001: >> /etc/group \
    && mkdir -p /home/app && chown 1000:1001 /home/app\n\
    USER app\n";

/// A repository with a file, an executable, a link and directories.
fn checkout(pipeline: &str) -> Checkout {
    let checkout = Checkout::new(pipeline);
    checkout.write("Dockerfile", DOCKERFILE);
    checkout.write("dir/deep/file.txt", "old\n");
    checkout.write("run.sh", "#!/bin/sh\necho ran\n");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(checkout.dir.join("run.sh"), executable).unwrap();
    std::os::unix::fs::symlink("dir", checkout.dir.join("link")).unwrap();
    checkout.git(&["init", "--quiet"]);
    checkout.git(&["add", "."]);
    checkout.git(&["commit", "--quiet", "--message=First"]);
    checkout
}

#[test]
fn the_images_user_owns_the_workspace() {
    let checkout = checkout(
        r#"
image: { build: . }
jobs:
  a:
    steps:
      - name: owns
        run: |
          test "$(id -u):$(id -g) $HOME" = "1000:1001 /home/app"
          find /workspace -exec stat -c '%u:%g' {} + | sort -u | sed 's/^/owner=/'
      - name: writes
        run: |
          ./run.sh
          echo new > dir/deep/file.txt
          chmod 600 dir/deep/file.txt
          mkdir -p out/sub && echo made > out/sub/made.txt
          rm link && touch -d '2001-01-01 00:00:00' run.sh
          mv dir moved && stat -c 'made by %u:%g' out/sub/made.txt moved/deep/file.txt
    artifacts: { paths: [out, moved/deep/file.txt] }
"#,
    );
    let ended = checkout.run();
    ended.assert_code(0).assert_says(&["ran"]);
    let owners: Vec<&str> =
        ended.stdout.lines().filter_map(|line| line.strip_prefix("[a | owns] owner=")).collect();
    assert_eq!(owners, ["1000:1001"], "{ended}");
    assert_eq!(ended.stdout.matches("made by 1000:1001").count(), 2, "{ended}");
    assert_eq!(checkout.read(".lighter/artifacts/a/out/sub/made.txt"), "made\n");
    assert_eq!(checkout.read(".lighter/artifacts/a/moved/deep/file.txt"), "new\n");
    assert_eq!(checkout.read("dir/deep/file.txt"), "old\n");
}

#[test]
fn jobs_of_several_users_run_at_the_same_time() {
    let jobs: String = ["root", "app", "\"4242\"", "\"4243:4244\"", "\"0:1001\""]
        .iter()
        .enumerate()
        .map(|(number, user)| {
            format!(
                "  j{number}:\n    user: {user}\n    steps:\n      - name: s\n        run: |\n          \
                 echo changed >> dir/deep/file.txt\n          mkdir made\n          \
                 echo \"all of $(find . -exec stat -c '%u:%g' {{}} + | sort -u) are $(id -u):$(id -g)\"\n"
            )
        })
        .collect();
    let checkout = checkout(&format!("image: {{ build: . }}\njobs:\n{jobs}"));
    let ended = Ended::of(&mut checkout.worker(&["run", "--parallel", "5"]));
    ended.assert_code(0);
    for owner in ["0:0", "1000:1001", "4242:0", "4243:4244", "0:1001"] {
        ended.assert_says(&[&format!("all of {owner} are {owner}")]);
    }
    checkout.world.assert_nothing_is_left();
    assert_eq!(checkout.read("dir/deep/file.txt"), "old\n");
}

#[test]
fn caches_follow_the_images_user() {
    let checkout = checkout(
        r#"
image: { build: . }
jobs:
  a:
    cache: [{ key: k, paths: ["~/.tool/store", kept] }]
    steps:
      - name: s
        run: |
          stat -c '%n is of %u:%g' ~/.tool ~/.tool/store ~/.tool/store/x kept/y || echo nothing" "yet
          mkdir -p ~/.tool/store ~/.tool/more kept && echo x > ~/.tool/store/x && echo y > kept/y
"#,
    );
    checkout.run().assert_code(0).assert_says(&["nothing yet"]);
    let again = checkout.run();
    again.assert_code(0).assert_silent_about(&["nothing yet"]);
    for path in ["/home/app/.tool", "/home/app/.tool/store", "/home/app/.tool/store/x", "kept/y"] {
        again.assert_says(&[&format!("{path} is of 1000:1001")]);
    }
}
