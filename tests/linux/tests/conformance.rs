//! The conformance suite, every rule in a process of its own: under each policy that Linux has, and under
//! `auto` where the kernel refuses what `auto` would like best.

use execmem_conformance::{RULE_COUNT, Rule, SECTIONS, Stop, World};
use execmem_core::abi::*;
use execmem_tests_linux::children::{self, Outcome};
use execmem_tests_linux::confinement::{self, NO_NEW_CODE, NO_WRITABLE_CODE};
use execmem_tests_linux::files::Folder;
use execmem_tests_linux::report::Report;
use execmem_tests_linux::system::{is_emulated, policy_name, world};
use std::process::ExitCode;

/// What a process is asked to be, and what it is let be.
struct Setting {
    name: &'static str,
    policy: i32,
    confine: fn() -> Result<(), String>,
    /// Whether the kernel lets a mapping get EXEC that had none.
    gains_exec: bool,
    /// The policy that must be in force in the end.
    result: i32,
}

const fn free(name: &'static str, policy: i32, result: i32) -> Setting {
    Setting { name, policy, confine: || Ok(()), gains_exec: true, result }
}

const SETTINGS: [Setting; 7] = [
    free("auto", RT_POLICY_AUTO, RT_POLICY_RWX),
    free("rwx", RT_POLICY_RWX, RT_POLICY_RWX),
    free("dual", RT_POLICY_DUAL, RT_POLICY_DUAL),
    free("toggle", RT_POLICY_TOGGLE, RT_POLICY_TOGGLE),
    Setting {
        name: "auto, no page W and X",
        policy: RT_POLICY_AUTO,
        confine: || confinement::refuse(&NO_WRITABLE_CODE),
        gains_exec: true,
        result: RT_POLICY_DUAL,
    },
    Setting {
        name: "auto, mprotect refuses EXEC",
        policy: RT_POLICY_AUTO,
        confine: || confinement::refuse(&NO_NEW_CODE),
        gains_exec: false,
        result: RT_POLICY_DUAL,
    },
    Setting {
        name: "auto, PR_SET_MDWE",
        policy: RT_POLICY_AUTO,
        confine: confinement::refuse_exec_gain,
        gains_exec: false,
        result: RT_POLICY_DUAL,
    },
];

/// Every rule of the suite, counted here a second time: a rule that is lost there must be struck out here.
const RULES: usize = 158;

fn main() -> ExitCode {
    let _folder = Folder::make();
    let mut report = Report::from_arguments();
    let mut settings = 0;
    for setting in &SETTINGS {
        if let Some(reason) = obstacle(setting) {
            report.leave_out(setting.name, &reason);
            continue;
        }
        settings += 1;
        for section in SECTIONS {
            for rule in section.rules {
                let name = format!("{}: {}: {}", setting.name, section.title, rule.name);
                report.run(&name, may_not_apply(setting, rule), || try_rule(setting, rule));
            }
        }
    }
    if report.is_complete() {
        let complete = RULE_COUNT == RULES && report.total() == settings * RULES;
        report.state("every rule ran in every setting", complete);
    }
    report.close()
}

/// Why a process can't be put into the setting. Only an emulated kernel and one before 6.3, without MDWE, have
/// an excuse; elsewhere each rule will tell that it could not run.
fn obstacle(setting: &Setting) -> Option<String> {
    let confine = || match (setting.confine)() {
        Ok(()) => Outcome::Passed,
        Err(reason) => Outcome::NotApplicable(reason),
    };
    match children::run(confine) {
        Outcome::NotApplicable(reason) if is_emulated() || setting.name.contains("MDWE") => Some(reason),
        _ => None,
    }
}

fn try_rule(setting: &Setting, rule: &Rule) -> Outcome {
    // SAFETY: the child has one thread.
    unsafe { std::env::set_var("EXECMEM_POLICY", policy_name(setting.policy)) };
    let mut world = world(setting.policy);
    if !setting.gains_exec {
        world.mappings_gain_exec = Err("the kernel gives no mapping EXEC that had none");
    }
    if let Err(reason) = (setting.confine)() {
        return Outcome::NotApplicable(reason);
    }
    match (rule.run)(&world).and_then(|()| expect_policy(setting, &world)) {
        Ok(()) => Outcome::Passed,
        Err(Stop::NotApplicable(reason)) => Outcome::NotApplicable(reason.to_owned()),
        Err(Stop::Failed(failure)) => Outcome::Failed(failure.to_string()),
    }
}

/// A rule that allocated must have done so under the policy that the setting is about.
fn expect_policy(setting: &Setting, world: &World) -> Result<(), Stop> {
    let policy = execmem_conformance::symbols::rt_exec_memory_policy();
    let is_right = policy == setting.result || policy == world.wished_policy;
    execmem_conformance::verdict::expect(is_right, "the setting's policy is in force")
}

/// What can't be tried in every setting. All else must apply: a rule that quietly stops to do so is a failure.
fn may_not_apply(setting: &Setting, rule: &Rule) -> bool {
    let grants_rwx = setting.result == RT_POLICY_RWX;
    let exceptions = [
        ("a call to half an instruction's address", cfg!(target_arch = "x86_64")),
        ("without `ic ivau`", !(cfg!(target_arch = "aarch64") && is_emulated())),
        ("under a W^X policy no request", grants_rwx),
        ("under a W^X policy no page", grants_rwx || is_emulated()),
        ("under policy rwx", !grants_rwx),
        // qemu says yes to MADV_POPULATE_READ and does nothing, and puts mappings where it likes.
        ("a mapped file that shrinks", is_emulated()),
        ("no range spans two regions", is_emulated()),
    ];
    exceptions.iter().any(|(start, excused)| *excused && rule.name.starts_with(start))
}
