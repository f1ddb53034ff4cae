//! 32-bit programs on a 64-bit machine: allowed, and filtered like any other.
#![cfg(target_arch = "x86_64")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::runtime::{Box, bind};

/// Writes a line, calls mount and clone3, and exits with the sum of their error numbers.
const PROGRAM: &str = r#"
    .globl _start
_start:
    mov $4, %eax
    mov $1, %ebx
    mov $text, %ecx
    mov $9, %edx
    int $0x80
    mov $21, %eax
    xor %ebx, %ebx
    xor %ecx, %ecx
    int $0x80
    mov %eax, %esi
    mov $435, %eax
    int $0x80
    add %eax, %esi
    neg %esi
    mov $1, %eax
    mov %esi, %ebx
    int $0x80
text:
    .ascii "32 bits.\n"
"#;

#[test]
fn run_and_are_filtered() {
    let world = Box::new();
    let dir = world.world.dir("programs");
    assemble(&dir.join("program"));
    let mut spec = world.spec(&["/programs/program"]);
    spec.mounts.push(bind(dir, "/programs", true));
    let (code, log) = world.run(&spec);
    let (eperm, enosys) = (1, 38);
    assert_eq!((code, log.as_str()), (eperm + enosys, "32 bits.\n"));
}

fn assemble(to: &Path) {
    let mut gcc = Command::new("gcc")
        .args(["-m32", "-nostdlib", "-static", "-x", "assembler", "-", "-o"])
        .arg(to)
        .stdin(Stdio::piped())
        .spawn()
        .expect("gcc");
    gcc.stdin.take().unwrap().write_all(PROGRAM.as_bytes()).unwrap();
    assert!(gcc.wait().unwrap().success());
}
