//! The device allow-list, as v1's lines and as a v2 BPF program.

use std::fmt;

use engine_sys::bpf::Instruction;

use crate::spec::{DeviceAccess, DeviceRule as Rule, Security};

/// What every container may use (runc's `AllowedDevices`): making any node, and the standard ones.
const STANDARD: [(Option<u32>, Option<u32>); 9] = [
    (Some(1), Some(3)), // null
    (Some(1), Some(5)), // zero
    (Some(1), Some(7)), // full
    (Some(1), Some(8)), // random
    (Some(1), Some(9)), // urandom
    (Some(5), Some(0)), // tty
    (Some(5), Some(1)), // console
    (Some(5), Some(2)), // ptmx
    (Some(136), None),  // pseudo-terminals
];

pub(super) fn allowed(security: &Security) -> Vec<Rule> {
    let mknod_only = DeviceAccess { read: false, write: false, mknod: true };
    let any = |block| Rule { block, major: None, minor: None, access: mknod_only };
    let standard =
        STANDARD.iter().map(|&(major, minor)| Rule { block: false, major, minor, access: DeviceAccess::ALL });
    let asked = security.devices.iter().map(|device| Rule {
        block: device.block,
        major: Some(device.major),
        minor: Some(device.minor),
        access: device.access,
    });
    let rules = security.device_rules.iter().copied();
    [any(false), any(true)].into_iter().chain(standard).chain(asked).chain(rules).collect()
}

impl fmt::Display for Rule {
    /// As `devices.allow` takes it: `c 1:3 rwm`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
        write!(f, "{} {}:{} ", if self.block { 'b' } else { 'c' }, number(self.major), number(self.minor))?;
        for (letter, allowed) in [('r', self.access.read), ('w', self.access.write), ('m', self.access.mknod)]
        {
            if allowed {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}

// bpf_cgroup_dev_ctx (linux/bpf.h): access_type holds the device type in the low and the access in the high half.
const DEVICE_BLOCK: i32 = 1;
const DEVICE_CHARACTER: i32 = 2;
const ACCESS_MKNOD: i32 = 1;
const ACCESS_READ: i32 = 2;
const ACCESS_WRITE: i32 = 4;

// Opcodes (linux/bpf.h, linux/bpf_common.h).
const LOAD_WORD: u8 = 0x61; // LDX | MEM | W
const MOVE_REGISTER: u8 = 0xbf; // ALU64 | MOV | X
const MOVE_VALUE: u8 = 0xb7; // ALU64 | MOV | K
const AND_VALUE: u8 = 0x57; // ALU64 | AND | K
const SHIFT_RIGHT: u8 = 0x77; // ALU64 | RSH | K
const JUMP_NOT_EQUAL: u8 = 0x55; // JMP | JNE | K
const EXIT: u8 = 0x95;

/// The rules as a program: each is a run of comparisons that skips to the next rule unless all hold. Registers: r1
/// context, r2 type, r3 access, r4 major, r5 minor, r6 scratch, r0 result.
pub(super) fn program(rules: &[Rule]) -> Vec<Instruction> {
    let mut out = vec![
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(AND_VALUE, 2, 0, 0, 0xffff),
        instruction(LOAD_WORD, 3, 1, 0, 0),
        instruction(SHIFT_RIGHT, 3, 0, 0, 16),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in rules {
        out.extend(rule_block(rule));
    }
    out.extend([instruction(MOVE_VALUE, 0, 0, 0, 0), instruction(EXIT, 0, 0, 0, 0)]);
    out
}

fn rule_block(rule: &Rule) -> Vec<Instruction> {
    let kind = if rule.block { DEVICE_BLOCK } else { DEVICE_CHARACTER };
    let mut denied = 0;
    for (bit, allowed) in [
        (ACCESS_MKNOD, rule.access.mknod),
        (ACCESS_READ, rule.access.read),
        (ACCESS_WRITE, rule.access.write),
    ] {
        denied |= if allowed { 0 } else { bit };
    }
    let mut block = vec![
        instruction(JUMP_NOT_EQUAL, 2, 0, 0, kind),
        instruction(MOVE_REGISTER, 6, 3, 0, 0),
        instruction(AND_VALUE, 6, 0, 0, denied),
        instruction(JUMP_NOT_EQUAL, 6, 0, 0, 0),
    ];
    let number = |register, n: Option<u32>| n.map(|n| instruction(JUMP_NOT_EQUAL, register, 0, 0, n as i32));
    block.extend(number(4, rule.major));
    block.extend(number(5, rule.minor));
    block.extend([instruction(MOVE_VALUE, 0, 0, 0, 1), instruction(EXIT, 0, 0, 0, 0)]);
    let end = block.len();
    for (at, instruction) in block.iter_mut().enumerate() {
        if instruction.code == JUMP_NOT_EQUAL {
            instruction.offset = (end - at - 1) as i16;
        }
    }
    block
}

fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: source << 4 | destination, offset, immediate }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_read_as_v1_lines() {
        let lines: Vec<String> = allowed(&Security::default()).iter().map(ToString::to_string).collect();
        assert!(lines.contains(&"c *:* m".to_owned()));
        assert!(lines.contains(&"c 1:3 rwm".to_owned()));
        assert!(lines.contains(&"c 136:* rwm".to_owned()));
    }

    #[test]
    fn jumps_land_on_the_next_rule() {
        let rules = allowed(&Security::default());
        let program = program(&rules);
        for (at, instruction) in program.iter().enumerate().filter(|(_, i)| i.code == JUMP_NOT_EQUAL) {
            let target = at + 1 + instruction.offset as usize;
            assert_eq!(program[target - 1].code, EXIT, "jump at {at}");
        }
    }
}
