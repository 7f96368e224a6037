//! The conformance suite, every rule in a process of its own: under each policy that Linux has, and under `auto` on
//! hosts that lock a process down.

use execmem_conformance::{RULE_COUNT, Rule, SECTIONS, Stop, World, symbols};
use execmem_core::abi::*;
use execmem_tests_linux::children::Outcome;
use execmem_tests_linux::files::Folder;
use execmem_tests_linux::hosts::{FREE, HOSTS, Host};
use execmem_tests_linux::report::{Report, dumped_by};
use execmem_tests_linux::system::{is_emulated, policy_name, world};
use std::process::ExitCode;

/// What a process is asked to be, and where.
struct Setting<'a> {
    policy: i32,
    host: &'a Host,
}

/// Every rule of the suite, counted here a second time: a rule that is lost there must be struck out here.
const RULES: usize = 165;

fn main() -> ExitCode {
    let _folder = Folder::make();
    let mut report = Report::from_arguments();
    let mut settings = 0;
    let free = FREE.iter().map(|(policy, host)| Setting { policy: *policy, host });
    let locked_down = HOSTS.iter().map(|host| Setting { policy: RT_POLICY_AUTO, host });
    for setting in free.chain(locked_down) {
        let name = setting.host.name;
        if let Some(reason) = setting.host.obstacle() {
            report.leave_out(name, &reason);
            continue;
        }
        settings += 1;
        report.run(&format!("{name}: the dump says {:?}", setting.host.dump), false, || try_dump(&setting));
        for section in SECTIONS {
            for rule in section.rules {
                let name = format!("{name}: {}: {}", section.title, rule.name);
                let is_excused =
                    |reason: &str| may_not_apply(&setting, rule) || setting.host.lacks.contains(&reason);
                report.run_unless(&name, is_excused, || try_rule(&setting, rule));
            }
        }
    }
    if report.is_complete() {
        let complete = RULE_COUNT == RULES && report.total() == settings * (RULES + 1);
        report.state("every rule ran in every setting", complete);
    }
    report.close()
}

fn wish(setting: &Setting) {
    // SAFETY: the child has one thread.
    unsafe { std::env::set_var("EXECMEM_POLICY", policy_name(setting.policy)) };
}

fn try_dump(setting: &Setting) -> Outcome {
    wish(setting);
    let mut outcome = Outcome::Passed;
    let dumped = dumped_by(|| {
        outcome = (setting.host.enter)(&|| {
            let region = symbols::rt_alloc_exec_memory(100);
            symbols::rt_exec_memory_dump_stats();
            match symbols::rt_free_exec_memory(region, 100) {
                true => Outcome::Passed,
                false => Outcome::Failed("there is no code memory".to_owned()),
            }
        });
    });
    let expected = format!("execmem: executable memory, {}", setting.host.dump);
    match dumped.lines().next() == Some(&expected) {
        true => outcome,
        false => Outcome::Failed(format!("{outcome}, and the dump says:\n{dumped}")),
    }
}

fn try_rule(setting: &Setting, rule: &Rule) -> Outcome {
    wish(setting);
    let mut world = world(setting.policy);
    setting.host.describe(&mut world);
    (setting.host.enter)(&|| match (rule.run)(&world).and_then(|()| expect_policy(setting, &world)) {
        Ok(()) => Outcome::Passed,
        Err(Stop::NotApplicable(reason)) => Outcome::NotApplicable(reason.to_owned()),
        Err(Stop::Failed(failure)) => Outcome::Failed(failure.to_string()),
    })
}

/// A rule that allocated must have done so under the policy that the setting is about.
fn expect_policy(setting: &Setting, world: &World) -> Result<(), Stop> {
    let policy = symbols::rt_exec_memory_policy();
    let is_right = policy == setting.host.policy || policy == world.wished_policy;
    execmem_conformance::verdict::expect(is_right, "the setting's policy is in force")
}

/// What can't be tried in every setting. All else must apply: a rule that quietly stops to do so is a failure.
fn may_not_apply(setting: &Setting, rule: &Rule) -> bool {
    let grants_rwx = setting.host.policy == RT_POLICY_RWX;
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
