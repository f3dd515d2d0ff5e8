//! A profile as data, its JSON (the `linux.seccomp` object of the OCI runtime specification, as the kubelet's profile
//! files are), and its translation into filters for the kernel.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, sock_filter,
};
use serde::Deserialize;
use syscalls::Sysno;

/// What happens to a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Action {
    Allow,
    Errno(u32),
    KillThread,
    KillProcess,
    Log,
    Trace(u32),
    Trap,
}

/// How an argument is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// The bits of the mask are equal to the value's.
    MaskedEqual(u64),
}

/// A condition on one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Argument {
    pub(super) index: u8,
    pub(super) compare: Compare,
    pub(super) value: u64,
}

/// An action for system calls whose arguments meet all conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) names: Vec<String>,
    pub(super) action: Action,
    pub(super) arguments: Vec<Argument>,
}

/// A whole profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Profile {
    pub(super) default: Action,
    pub(super) rules: Vec<Rule>,
}

// === JSON ===

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProfileFile {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    listener_path: String,
    #[serde(default)]
    syscalls: Vec<RuleFile>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuleFile {
    names: Vec<String>,
    action: String,
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<ArgumentFile>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArgumentFile {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

fn action(text: &str, errno: Option<u32>) -> Result<Action, String> {
    Ok(match text {
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_ERRNO" => Action::Errno(errno.unwrap_or(EPERM)),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        "SCMP_ACT_LOG" => Action::Log,
        "SCMP_ACT_TRACE" => Action::Trace(errno.unwrap_or(EPERM)),
        "SCMP_ACT_TRAP" => Action::Trap,
        other => return Err(format!("action {other} is not supported")),
    })
}

impl ArgumentFile {
    fn read(&self) -> Result<Argument, String> {
        let (compare, value) = match self.op.as_str() {
            "SCMP_CMP_EQ" => (Compare::Equal, self.value),
            "SCMP_CMP_NE" => (Compare::NotEqual, self.value),
            "SCMP_CMP_LT" => (Compare::Less, self.value),
            "SCMP_CMP_LE" => (Compare::LessOrEqual, self.value),
            "SCMP_CMP_GT" => (Compare::Greater, self.value),
            "SCMP_CMP_GE" => (Compare::GreaterOrEqual, self.value),
            "SCMP_CMP_MASKED_EQ" => (Compare::MaskedEqual(self.value), self.value_two),
            other => return Err(format!("operator {other} is unknown")),
        };
        Ok(Argument { index: self.index, compare, value })
    }
}

impl Profile {
    /// Reads a profile file. The error is for people.
    pub(super) fn parse(bytes: &[u8]) -> Result<Profile, String> {
        let file: ProfileFile = serde_json::from_slice(bytes).map_err(|err| err.to_string())?;
        if !file.listener_path.is_empty() {
            return Err("listenerPath is not supported".into());
        }
        const HARMLESS: [&str; 3] = [
            "SECCOMP_FILTER_FLAG_LOG",
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
            "SECCOMP_FILTER_FLAG_TSYNC",
        ];
        if let Some(flag) = file.flags.iter().find(|flag| !HARMLESS.contains(&flag.as_str())) {
            return Err(format!("flag {flag} is not supported"));
        }
        let mut rules = Vec::new();
        for rule in file.syscalls {
            let arguments = rule.args.iter().flatten().map(ArgumentFile::read);
            rules.push(Rule {
                action: action(&rule.action, rule.errno_ret)?,
                arguments: arguments.collect::<Result<_, _>>()?,
                names: rule.names,
            });
        }
        Ok(Profile { default: action(&file.default_action, file.default_errno_ret)?, rules })
    }

    /// The kernel's filters, in the order of their installation. Of several filters the strictest answer counts, so one
    /// filter for each action gives the whole profile; the one with the default comes last, because it may forbid to
    /// install another. Names that this architecture does not have are skipped, as every runtime does.
    pub(super) fn filters(&self) -> Result<Vec<BpfProgram>, String> {
        let mut by_action: BTreeMap<Action, Rules> = BTreeMap::new();
        let mut named = Rules::new();
        for rule in self.rules.iter().filter(|rule| rule.action != self.default) {
            let conditions = conditions(&rule.arguments)?;
            for number in rule.names.iter().filter_map(|name| number(name)) {
                add(&mut named, number, &conditions)?;
                if rule.action != Action::Allow {
                    add(by_action.entry(rule.action).or_default(), number, &conditions)?;
                }
            }
        }
        let mut filters = Vec::new();
        for (action, rules) in by_action {
            filters.push(compile(rules, Action::Allow, action)?);
        }
        if self.default != Action::Allow {
            let mut base = compile(named, self.default, Action::Allow)?;
            if matches!(self.default, Action::Errno(_)) {
                base.splice(..0, unknown_calls());
            }
            filters.push(base);
        }
        Ok(filters)
    }
}

// === filters ===

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn number(name: &str) -> Option<i64> {
    name.parse::<Sysno>().ok().map(|call| i64::from(call.id()))
}

/// An empty list of a call means: with any arguments.
fn add(rules: &mut Rules, number: i64, conditions: &[SeccompCondition]) -> Result<(), String> {
    let known = rules.get(&number).is_some_and(Vec::is_empty);
    let entry = rules.entry(number).or_default();
    if conditions.is_empty() {
        entry.clear();
    } else if !known {
        entry.push(SeccompRule::new(conditions.to_vec()).map_err(|err| err.to_string())?);
    }
    Ok(())
}

fn conditions(arguments: &[Argument]) -> Result<Vec<SeccompCondition>, String> {
    let condition = |argument: &Argument| {
        let operator = match argument.compare {
            Compare::Equal => SeccompCmpOp::Eq,
            Compare::NotEqual => SeccompCmpOp::Ne,
            Compare::Less => SeccompCmpOp::Lt,
            Compare::LessOrEqual => SeccompCmpOp::Le,
            Compare::Greater => SeccompCmpOp::Gt,
            Compare::GreaterOrEqual => SeccompCmpOp::Ge,
            Compare::MaskedEqual(mask) => SeccompCmpOp::MaskedEq(mask),
        };
        let whole = SeccompCmpArgLen::Qword;
        SeccompCondition::new(argument.index, whole, operator, argument.value)
            .map_err(|err| err.to_string())
    };
    arguments.iter().map(condition).collect()
}

fn compile(rules: Rules, otherwise: Action, matched: Action) -> Result<BpfProgram, String> {
    let arch = std::env::consts::ARCH.try_into().map_err(|_| {
        format!("seccomp filters cannot be made for this machine's {}", std::env::consts::ARCH)
    })?;
    let filter = SeccompFilter::new(rules, kernel(otherwise), kernel(matched), arch)
        .map_err(|err| err.to_string())?;
    filter.try_into().map_err(|err: seccompiler::BackendError| err.to_string())
}

fn kernel(action: Action) -> SeccompAction {
    match action {
        Action::Allow => SeccompAction::Allow,
        Action::Errno(number) => SeccompAction::Errno(number),
        Action::KillThread => SeccompAction::KillThread,
        Action::KillProcess => SeccompAction::KillProcess,
        Action::Log => SeccompAction::Log,
        Action::Trace(number) => SeccompAction::Trace(number),
        Action::Trap => SeccompAction::Trap,
    }
}

/// Calls newer than this program fail with `ENOSYS` instead of the default: C libraries then use an older one. Goes
/// before a filter: load the number; beyond the last known one, return.
fn unknown_calls() -> [sock_filter; 3] {
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_GREATER: u16 = 0x25;
    const RETURN: u16 = 0x06;
    let last = Sysno::last().id().unsigned_abs();
    [
        sock_filter { code: LOAD_WORD, jt: 0, jf: 0, k: 0 },
        sock_filter { code: JUMP_IF_GREATER, jt: 0, jf: 1, k: last },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: SeccompAction::Errno(ENOSYS).into() },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_file_is_read_whole_or_refused() {
        let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [
            {"names": ["mkdir", "mkdirat", "not_of_this_kernel"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13},
            {"names": ["clone"], "action": "SCMP_ACT_KILL_PROCESS",
             "args": [{"index": 0, "value": 268435456, "valueTwo": 268435456, "op": "SCMP_CMP_MASKED_EQ"}]}]}"#;
        let profile = Profile::parse(text.as_bytes()).unwrap();
        assert_eq!(profile.rules[0].action, Action::Errno(13));
        assert_eq!(profile.rules[1].arguments[0].compare, Compare::MaskedEqual(0x1000_0000));
        assert_eq!(
            profile.filters().unwrap().len(),
            2,
            "one for each action, none for the default"
        );
        for (bad, why) in [
            (r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#, "SCMP_ACT_NOTIFY"),
            (r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"}"#, "listenerPath"),
            (r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["X"]}"#, "flag X"),
            (r#"{"syscalls": []}"#, "defaultAction"),
            ("", "EOF"),
        ] {
            let err = Profile::parse(bad.as_bytes()).unwrap_err();
            assert!(err.contains(why), "{err}");
        }
    }

    #[test]
    fn a_call_that_is_allowed_without_conditions_stays_so() {
        let mut rules = Rules::new();
        let argument = Argument { index: 0, compare: Compare::Equal, value: 1 };
        let condition = conditions(&[argument]).unwrap();
        add(&mut rules, 1, &condition).unwrap();
        add(&mut rules, 1, &[]).unwrap();
        add(&mut rules, 1, &condition).unwrap();
        add(&mut rules, 2, &condition).unwrap();
        assert_eq!((rules[&1].len(), rules[&2].len()), (0, 1));
    }
}
