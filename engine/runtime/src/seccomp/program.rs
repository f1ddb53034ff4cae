//! Rules into a classic BPF program (linux/bpf_common.h, seccomp(2)).
//!
//! The numbers of the system calls are searched as a binary tree of ranges. When a filter is installed the kernel runs
//! it once for every number there is, to learn which it always allows: a chain of comparisons costs milliseconds then,
//! in every container and every exec.

use std::collections::BTreeMap;

use engine_sys::seccomp::Instruction;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
pub(super) const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
pub(super) const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
pub(super) const JUMP_IF_GREATER_OR_EQUAL: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
pub(super) const JUMP_IF_GREATER: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K
/// Where `struct seccomp_data` has the number, the architecture and the low half of the first argument, in bytes.
pub(super) const NUMBER: u32 = 0;
pub(super) const ARCHITECTURE: u32 = 4;
pub(super) const FIRST_ARGUMENT: u32 = if cfg!(target_endian = "little") { 16 } else { 20 };
/// SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_ERRNO, SECCOMP_RET_ALLOW (linux/seccomp.h).
pub(super) const KILL: u32 = 0x8000_0000;
const ERRNO: u32 = 0x0005_0000;
const ALLOW: u32 = 0x7fff_0000;

/// What a filter answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Allow,
    Errno(rustix::io::Errno),
}

/// What is asked of a call's first argument, as 32 bits, before it gets its action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Condition {
    None,
    Not(u32),
    OneOf(&'static [u32]),
    /// Not one of these bits is set.
    Without(u32),
}

/// What one architecture's calls get: `matched` where there is an entry whose condition holds, else `otherwise`.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// As the kernel calls the architecture (AUDIT_ARCH_*, linux/audit.h).
    pub(super) audit_arch: u32,
    pub(super) calls: BTreeMap<u32, Condition>,
    pub(super) matched: Action,
    pub(super) otherwise: Action,
}

/// One program for several architectures; it kills whoever calls in yet another's.
pub(super) fn assemble(architectures: &[Rules]) -> Vec<Instruction> {
    let mut program = vec![load(ARCHITECTURE)];
    for rules in architectures {
        let body = body(rules);
        // The way past it is too far for a conditional jump.
        program.push(jump_if(JUMP_IF_EQUAL, rules.audit_arch, 1, 0));
        program.push(jump(body.len()));
        program.extend(body);
    }
    program.push(ret(KILL));
    program
}

fn body(rules: &Rules) -> Vec<Instruction> {
    let mut program = vec![load(NUMBER)];
    program.extend(search(&ranges(rules), &|condition: &Option<&Condition>| leaf(*condition, rules)));
    program
}

/// Where a range begins and what is asked of its calls; no condition at all stands for `otherwise`.
type Range<'a> = (u32, Option<&'a Condition>);

/// All numbers, in as few ranges as there are changes from one to the next.
fn ranges(rules: &Rules) -> Vec<Range<'_>> {
    let mut ranges: Vec<Range<'_>> = vec![(0, None)];
    let mut begin = |at: u32, condition| match ranges.last_mut() {
        Some(last) if last.0 == at => last.1 = condition,
        _ => ranges.push((at, condition)),
    };
    for (&number, condition) in &rules.calls {
        begin(number, Some(condition));
        begin(number + 1, None);
    }
    ranges.dedup_by(|next, before| next.1 == before.1 && matches!(next.1, None | Some(Condition::None)));
    ranges
}

/// Finds the range that the loaded number is in, and does what `leaf` makes of it.
pub(super) fn search<T>(ranges: &[(u32, T)], leaf: &impl Fn(&T) -> Vec<Instruction>) -> Vec<Instruction> {
    if let [(_, only)] = ranges {
        return leaf(only);
    }
    let (below, above) = ranges.split_at(ranges.len() / 2);
    let pivot = above.first().map_or(0, |range| range.0);
    let (below, above) = (search(below, leaf), search(above, leaf));
    let mut program = match u8::try_from(above.len()) {
        Ok(over) => vec![jump_if(JUMP_IF_GREATER_OR_EQUAL, pivot, 0, over)],
        Err(_) => vec![jump_if(JUMP_IF_GREATER_OR_EQUAL, pivot, 1, 0), jump(above.len())],
    };
    program.extend(above);
    program.extend(below);
    program
}

fn leaf(condition: Option<&Condition>, rules: &Rules) -> Vec<Instruction> {
    let (matched, otherwise) = (ret(code(rules.matched)), ret(code(rules.otherwise)));
    match condition {
        None => vec![otherwise],
        Some(Condition::None) => vec![matched],
        Some(Condition::Not(value)) => {
            vec![load(FIRST_ARGUMENT), jump_if(JUMP_IF_EQUAL, *value, 0, 1), otherwise, matched]
        }
        Some(Condition::OneOf(values)) => {
            let each = values.iter().flat_map(|&v| [jump_if(JUMP_IF_EQUAL, v, 0, 1), matched]);
            [load(FIRST_ARGUMENT)].into_iter().chain(each).chain([otherwise]).collect()
        }
        Some(Condition::Without(bits)) => {
            let and = Instruction { code: AND, jt: 0, jf: 0, k: *bits };
            vec![load(FIRST_ARGUMENT), and, jump_if(JUMP_IF_EQUAL, 0, 0, 1), matched, otherwise]
        }
    }
}

fn code(action: Action) -> u32 {
    match action {
        Action::Allow => ALLOW,
        Action::Errno(errno) => ERRNO | errno.raw_os_error() as u32,
    }
}

pub(super) fn load(offset: u32) -> Instruction {
    Instruction { code: LOAD, jt: 0, jf: 0, k: offset }
}

pub(super) fn jump(over: usize) -> Instruction {
    Instruction { code: JUMP, jt: 0, jf: 0, k: over as u32 }
}

/// Jumps over `jt` instructions if the comparison holds, else over `jf`.
pub(super) fn jump_if(code: u16, value: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k: value }
}

pub(super) fn ret(value: u32) -> Instruction {
    Instruction { code: RETURN, jt: 0, jf: 0, k: value }
}

/// What the kernel's interpreter does with a call of these first arguments, and how many instructions it takes.
#[cfg(test)]
pub(super) fn run(program: &[Instruction], number: u32, arch: u32, arguments: &[u64]) -> (u32, usize) {
    let (mut at, mut accumulator, mut steps) = (0, 0, 0);
    loop {
        let i = program[at];
        steps += 1;
        at += 1;
        let compared = match i.code {
            LOAD => {
                accumulator = match i.k {
                    NUMBER => number,
                    ARCHITECTURE => arch,
                    offset => {
                        let half = (offset - 16) as usize / 4;
                        (arguments[half / 2] >> (32 * (half % 2))) as u32
                    }
                };
                continue;
            }
            AND => {
                accumulator &= i.k;
                continue;
            }
            JUMP => {
                at += i.k as usize;
                continue;
            }
            RETURN => return (i.k, steps),
            JUMP_IF_EQUAL => accumulator == i.k,
            JUMP_IF_GREATER => accumulator > i.k,
            JUMP_IF_GREATER_OR_EQUAL => accumulator >= i.k,
            other => panic!("instruction {other:#x}"),
        };
        at += usize::from(if compared { i.jt } else { i.jf });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ARCH: u32 = 0xc000_003e;
    const OTHER: u32 = 0x4000_0003;
    const EPERM: Action = Action::Errno(rustix::io::Errno::PERM);

    fn rules(audit_arch: u32, calls: BTreeMap<u32, Condition>) -> Rules {
        Rules { audit_arch, calls, matched: Action::Allow, otherwise: EPERM }
    }

    fn expected(calls: &BTreeMap<u32, Condition>, number: u32, argument: u32) -> u32 {
        let holds = match calls.get(&number) {
            None => false,
            Some(Condition::None) => true,
            Some(Condition::Not(value)) => argument != *value,
            Some(Condition::OneOf(values)) => values.contains(&argument),
            Some(Condition::Without(bits)) => argument & bits == 0,
        };
        code(if holds { Action::Allow } else { EPERM })
    }

    fn condition() -> impl Strategy<Value = Condition> {
        prop_oneof![
            8 => Just(Condition::None),
            1 => (0..4u32).prop_map(Condition::Not),
            1 => Just(Condition::OneOf(&[0, 2])),
            1 => (0..4u32).prop_map(Condition::Without),
        ]
    }

    proptest! {
        #[test]
        fn does_what_the_rules_say(
            own in prop::collection::btree_map(0..600u32, condition(), 0..500),
            compat in prop::collection::btree_map(0..600u32, condition(), 0..500),
        ) {
            let program = assemble(&[rules(ARCH, own.clone()), rules(OTHER, compat.clone())]);
            for number in (0..=601).chain([u32::MAX]) {
                for argument in 0..4 {
                    prop_assert_eq!(run(&program, number, ARCH, &[argument.into()]).0, expected(&own, number, argument));
                    prop_assert_eq!(
                        run(&program, number, OTHER, &[argument.into()]).0,
                        expected(&compat, number, argument)
                    );
                }
            }
        }
    }

    #[test]
    fn searches_as_a_tree() {
        let scattered = (0..500).map(|n| (n * 2, Condition::None)).collect();
        let program = assemble(&[rules(ARCH, scattered)]);
        assert!((0..1000).all(|number| run(&program, number, ARCH, &[0]).1 <= 28), "{}", program.len());
    }

    #[test]
    fn kills_what_calls_in_another_architectures_numbers() {
        let program = assemble(&[rules(ARCH, BTreeMap::from([(0, Condition::None)]))]);
        assert_eq!(run(&program, 0, OTHER, &[0]).0, KILL);
        assert_eq!(run(&program, 0, ARCH, &[0]).0, ALLOW);
    }
}
