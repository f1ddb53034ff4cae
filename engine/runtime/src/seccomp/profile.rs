//! A filter by a profile in Docker's format (moby `profiles/seccomp`), JSON: of each architecture that a machine runs,
//! its system calls are searched as a tree, and of each call the first rule that holds gives the answer.

use std::collections::BTreeMap;
use std::str::FromStr;

use engine_sys::seccomp::Instruction;
use serde::Deserialize;
use syscalls::{aarch64, arm, x86, x86_64};

use super::calls::Calls;
use super::program::{
    AND, ARCHITECTURE, FIRST_ARGUMENT, JUMP_IF_EQUAL, JUMP_IF_GREATER, JUMP_IF_GREATER_OR_EQUAL, KILL,
    NUMBER, jump, jump_if, load, ret, search,
};
use crate::capabilities::Capabilities;
use crate::error::SetupError;

/// The longest program that the kernel takes (BPF_MAXINSNS, linux/bpf_common.h).
const PROGRAM_MAX: usize = 4096;
/// Arguments of a system call.
const ARGUMENTS: u32 = 6;
/// SECCOMP_RET_* (linux/seccomp.h); data is in the low 16 bits.
const ALLOW: u32 = 0x7fff_0000;
const LOG: u32 = 0x7ffc_0000;
const TRACE: u32 = 0x7ff0_0000;
const TRAP: u32 = 0x0003_0000;
const ERRNO: u32 = 0x0005_0000;
const KILL_THREAD: u32 = 0;
const DATA: u32 = 0xffff;
const EPERM: u32 = rustix::io::Errno::PERM.raw_os_error() as u32;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    syscalls: Vec<Rule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rule {
    name: String,
    names: Vec<String>,
    action: String,
    errno_ret: Option<u32>,
    args: Option<Vec<Argument>>,
    includes: Filter,
    excludes: Filter,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Argument {
    index: u32,
    value: u64,
    value_two: u64,
    op: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Filter {
    caps: Vec<String>,
    arches: Vec<String>,
    min_kernel: Option<String>,
}

/// What one call gets: the first answer whose conditions all hold.
type Answers = Vec<(Vec<Argument>, u32)>;

/// Compiles a profile for the two architectures whose programs this machine runs.
pub(super) fn compile(
    text: &str,
    calls: [&Calls; 2],
    capabilities: Capabilities,
) -> Result<Vec<Instruction>, SetupError> {
    let profile: Profile = serde_json::from_str(text)
        .map_err(|e| SetupError::Invalid(format!("decoding seccomp profile failed: {e}")))?;
    let otherwise = action(&profile.default_action, profile.default_errno_ret)?;
    let rules: Vec<&Rule> = profile.syscalls.iter().filter(|rule| rule.applies(capabilities)).collect();
    let mut program = vec![load(ARCHITECTURE)];
    for (calls, number) in calls.into_iter().zip(numbers()) {
        let body = body(&rules, number, otherwise)?;
        program.push(jump_if(JUMP_IF_EQUAL, calls.audit_arch, 1, 0));
        program.push(jump(body.len()));
        program.extend(body);
    }
    program.push(ret(KILL));
    if program.len() > PROGRAM_MAX {
        return Err(SetupError::Invalid("the seccomp profile is too long for the kernel".to_owned()));
    }
    Ok(program)
}

/// A call's number by its name, on an architecture.
type Numbers = fn(&str) -> Option<u32>;

/// In the order of [`super::calls::of`].
fn numbers() -> [Numbers; 2] {
    if cfg!(target_arch = "aarch64") {
        [
            |name| aarch64::Sysno::from_str(name).ok().map(|number| number as u32),
            |name| arm::Sysno::from_str(name).ok().map(|number| number as u32),
        ]
    } else {
        [
            |name| x86_64::Sysno::from_str(name).ok().map(|number| number as u32),
            |name| x86::Sysno::from_str(name).ok().map(|number| number as u32),
        ]
    }
}

fn body(rules: &[&Rule], number: Numbers, otherwise: u32) -> Result<Vec<Instruction>, SetupError> {
    let mut all: BTreeMap<u32, Answers> = BTreeMap::new();
    for rule in rules {
        let answer = action(&rule.action, rule.errno_ret)?;
        let conditions = rule.args.clone().unwrap_or_default();
        for name in rule.names.iter().chain([&rule.name]).filter(|name| !name.is_empty()) {
            // What this architecture does not have cannot be called.
            if let Some(number) = number(name) {
                all.entry(number).or_default().push((conditions.clone(), answer));
            }
        }
    }
    let mut leaves = BTreeMap::new();
    for (number, answers) in all {
        leaves.insert(number, leaf(&answers, otherwise)?);
    }
    let mut program = vec![load(NUMBER)];
    program.extend(search(&ranges(leaves, otherwise), &|leaf: &Vec<Instruction>| leaf.clone()));
    Ok(program)
}

/// All numbers, in as few ranges as there are changes from one to the next.
fn ranges(leaves: BTreeMap<u32, Vec<Instruction>>, otherwise: u32) -> Vec<(u32, Vec<Instruction>)> {
    let none = vec![ret(otherwise)];
    let mut ranges: Vec<(u32, Vec<Instruction>)> = vec![(0, none.clone())];
    for (number, leaf) in leaves {
        match ranges.last_mut() {
            Some(last) if last.0 == number => last.1 = leaf,
            _ => ranges.push((number, leaf)),
        }
        ranges.push((number + 1, none.clone()));
    }
    // Two that ask for arguments are told apart by their numbers still.
    ranges.dedup_by(|next, before| next.1 == before.1);
    ranges
}

fn leaf(answers: &Answers, otherwise: u32) -> Result<Vec<Instruction>, SetupError> {
    let mut program = Vec::new();
    for (conditions, answer) in answers {
        let steps = conditions.iter().map(Argument::steps).collect::<Result<Vec<_>, _>>()?;
        let length: usize = steps.iter().map(Vec::len).sum();
        let mut at = 0;
        for condition in &steps {
            let passed = at + condition.len();
            for step in condition {
                at += 1;
                // A rule has too few instructions for a jump out of reach.
                let over = |to: To| match to {
                    To::Next => 0,
                    To::Pass => (passed - at) as u8,
                    To::Fail => (length + 1 - at) as u8,
                };
                program.push(match *step {
                    Step::Do(instruction) => instruction,
                    Step::Jump(code, value, yes, no) => jump_if(code, value, over(yes), over(no)),
                });
            }
        }
        program.push(ret(*answer));
        if conditions.is_empty() {
            return Ok(program);
        }
    }
    program.push(ret(otherwise));
    Ok(program)
}

#[derive(Debug, Clone, Copy)]
enum To {
    /// The next instruction.
    Next,
    /// Past this condition: it holds.
    Pass,
    /// Past this rule: it does not.
    Fail,
}

enum Step {
    Do(Instruction),
    Jump(u16, u32, To, To),
}

impl Argument {
    /// Compares 64 bits in two halves, high one first.
    fn steps(&self) -> Result<Vec<Step>, SetupError> {
        use Step::{Do, Jump};
        if self.index >= ARGUMENTS {
            return Err(SetupError::Invalid(format!("invalid argument {} in a seccomp profile", self.index)));
        }
        let at = FIRST_ARGUMENT + self.index * 8;
        let (low, high) = if cfg!(target_endian = "little") { (at, at + 4) } else { (at, at - 4) };
        let halves = |value: u64| ((value >> 32) as u32, value as u32);
        let (above, below) = halves(self.value);
        // The high half decides, or the low one does.
        let order = |decides: (To, To), last: Step| {
            vec![
                Do(load(high)),
                Jump(JUMP_IF_GREATER, above, decides.0, To::Next),
                Jump(JUMP_IF_EQUAL, above, To::Next, decides.1),
                Do(load(low)),
                last,
            ]
        };
        Ok(match self.op.as_str() {
            "SCMP_CMP_EQ" => vec![
                Do(load(high)),
                Jump(JUMP_IF_EQUAL, above, To::Next, To::Fail),
                Do(load(low)),
                Jump(JUMP_IF_EQUAL, below, To::Next, To::Fail),
            ],
            "SCMP_CMP_NE" => vec![
                Do(load(high)),
                Jump(JUMP_IF_EQUAL, above, To::Next, To::Pass),
                Do(load(low)),
                Jump(JUMP_IF_EQUAL, below, To::Fail, To::Next),
            ],
            "SCMP_CMP_MASKED_EQ" => {
                let (wanted_above, wanted_below) = halves(self.value_two);
                let and = |mask| Do(Instruction { code: AND, jt: 0, jf: 0, k: mask });
                vec![
                    Do(load(high)),
                    and(above),
                    Jump(JUMP_IF_EQUAL, wanted_above, To::Next, To::Fail),
                    Do(load(low)),
                    and(below),
                    Jump(JUMP_IF_EQUAL, wanted_below, To::Next, To::Fail),
                ]
            }
            "SCMP_CMP_GT" => order((To::Pass, To::Fail), Jump(JUMP_IF_GREATER, below, To::Next, To::Fail)),
            "SCMP_CMP_GE" => {
                order((To::Pass, To::Fail), Jump(JUMP_IF_GREATER_OR_EQUAL, below, To::Next, To::Fail))
            }
            "SCMP_CMP_LT" => {
                order((To::Fail, To::Pass), Jump(JUMP_IF_GREATER_OR_EQUAL, below, To::Fail, To::Next))
            }
            "SCMP_CMP_LE" => order((To::Fail, To::Pass), Jump(JUMP_IF_GREATER, below, To::Fail, To::Next)),
            other => {
                return Err(SetupError::Invalid(format!("invalid operator {other:?} in a seccomp profile")));
            }
        })
    }
}

impl Rule {
    /// Whether this machine, and a container with these capabilities, is meant.
    fn applies(&self, capabilities: Capabilities) -> bool {
        let has = |name: &String| name.parse().is_ok_and(|one| capabilities.contains(one));
        let own = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let is_own = |arch: &String| arch == own;
        let (includes, excludes) = (&self.includes, &self.excludes);
        includes.caps.iter().all(has)
            && (includes.arches.is_empty() || includes.arches.iter().any(is_own))
            && includes.min_kernel.as_ref().is_none_or(|version| kernel_is_at_least(version))
            && !excludes.caps.iter().any(has)
            && !excludes.arches.iter().any(is_own)
            && !excludes.min_kernel.as_ref().is_some_and(|version| kernel_is_at_least(version))
    }
}

fn kernel_is_at_least(version: &str) -> bool {
    let parts = |text: &str| -> Vec<u32> {
        let text: String = text.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
        text.split('.').filter_map(|part| part.parse().ok()).take(2).collect()
    };
    parts(&rustix::system::uname().release().to_string_lossy()) >= parts(version)
}

fn action(name: &str, data: Option<u32>) -> Result<u32, SetupError> {
    let with = |base: u32| base | (data.unwrap_or(EPERM) & DATA);
    Ok(match name {
        "SCMP_ACT_ALLOW" => ALLOW,
        "SCMP_ACT_ERRNO" => with(ERRNO),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => KILL,
        "SCMP_ACT_LOG" => LOG,
        "SCMP_ACT_TRAP" => TRAP,
        "SCMP_ACT_TRACE" => with(TRACE),
        other => return Err(SetupError::Invalid(format!("invalid action {other:?} in a seccomp profile"))),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::calls;
    use super::super::program::run;
    use super::*;

    const CHMOD: u32 = 90;
    const READ: u32 = 0;
    const ARCH: u32 = 0xc000_003e;

    fn compiled(profile: serde_json::Value) -> Result<Vec<Instruction>, SetupError> {
        compile(&profile.to_string(), calls::of("x86_64").unwrap(), Capabilities::default_set())
    }

    #[test]
    fn the_first_rule_that_holds_counts() {
        let program = compiled(json!({
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
            "syscalls": [
                {"names": ["read", "no_such_call"], "action": "SCMP_ACT_ALLOW"},
                {"name": "chmod", "action": "SCMP_ACT_KILL_PROCESS", "args": [{"index": 1, "value": 7, "op": "SCMP_CMP_EQ"}]},
                {"names": ["chmod"], "action": "SCMP_ACT_ALLOW"},
                {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
                {"names": ["umount2"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_CHOWN"]}},
                {"names": ["brk"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "3.0", "arches": ["amd64"]}},
            ],
        }))
        .unwrap();
        let answer = |number, arguments: [u64; 2]| run(&program, number, ARCH, &arguments).0;
        assert_eq!(answer(READ, [0, 0]), ALLOW);
        assert_eq!(
            (answer(CHMOD, [0, 7]), answer(CHMOD, [0, 8]), answer(CHMOD, [0, 7 << 32])),
            (KILL, ALLOW, ALLOW)
        );
        assert_eq!(
            (answer(165, [0, 0]), answer(166, [0, 0]), answer(12, [0, 0])),
            (ERRNO | 38, ERRNO | 38, ALLOW)
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for profile in [
            json!({"defaultAction": "SCMP_ACT_NOTIFY"}),
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "read", "action": "no"}]}),
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"name": "read", "action": "SCMP_ACT_ALLOW", "args": [{"index": 6, "op": "SCMP_CMP_EQ"}]}]}),
        ] {
            assert!(compiled(profile.clone()).is_err(), "{profile}");
        }
    }

    proptest! {
        #[test]
        fn comparisons_are_of_64_bits(value: u64, other: u64, argument: u64, near in -1i64..=1) {
            for argument in [argument, value.wrapping_add_signed(near), (value & 0xffff_ffff) | (argument << 32)] {
                for (op, holds) in [
                    ("SCMP_CMP_EQ", argument == value),
                    ("SCMP_CMP_NE", argument != value),
                    ("SCMP_CMP_GT", argument > value),
                    ("SCMP_CMP_GE", argument >= value),
                    ("SCMP_CMP_LT", argument < value),
                    ("SCMP_CMP_LE", argument <= value),
                    ("SCMP_CMP_MASKED_EQ", argument & value == other),
                ] {
                    let rule = json!({"name": "chmod", "action": "SCMP_ACT_LOG",
                        "args": [{"index": 1, "value": value, "valueTwo": other, "op": op}]});
                    let program = compiled(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})).unwrap();
                    let expected = if holds { LOG } else { ALLOW };
                    prop_assert_eq!(run(&program, CHMOD, ARCH, &[0, argument]).0, expected, "{} {}", op, argument);
                }
            }
        }
    }
}
