//! The conformance suite, compiled into a library for macOS and run rule by rule on a modelled Mac.

use crate::library::Library;
use crate::rules::{Mood, Rules};
use crate::scenarios::{End, Machine, in_child};
use crate::{files_for_rules as files, host, kernel};
use execmem_core::abi::*;
use execmem_tests_darwin_suite::{FAILED, Host, NOT_APPLICABLE, PASSED};
use std::cell::RefCell;
use std::path::Path;

/// A machine and the policy that is wished for on it.
#[derive(Clone, Debug)]
pub struct Setting {
    /// For people.
    pub name: String,
    /// The machine.
    pub rules: Rules,
    /// `RT_POLICY_*`.
    pub policy: i32,
}

/// The four moods with what each chooses by itself, and every other policy where all are granted.
pub fn settings() -> Vec<Setting> {
    let moods = Mood::ALL.map(|mood| (mood, RT_POLICY_AUTO));
    let wishes = [RT_POLICY_JIT, RT_POLICY_DUAL, RT_POLICY_TOGGLE].map(|policy| (Mood::Plain, policy));
    let setting = |(mood, policy): (Mood, i32)| {
        let name = format!("{}, {}", mood.name(), policy_name(policy));
        Setting { name, rules: Rules::new(mood), policy }
    };
    moods.into_iter().chain(wishes).map(setting).collect()
}

/// The environment variable's word for a policy.
fn policy_name(policy: i32) -> &'static str {
    match policy {
        RT_POLICY_RWX => "rwx",
        RT_POLICY_DUAL => "dual",
        RT_POLICY_TOGGLE => "toggle",
        RT_POLICY_JIT => "jit",
        _ => "auto",
    }
}

impl Setting {
    /// What `auto` becomes, or the policy itself.
    fn result(&self) -> i32 {
        match (self.policy, self.rules.mood) {
            (RT_POLICY_AUTO, Mood::Plain) if !self.rules.is_arm => RT_POLICY_RWX,
            (RT_POLICY_AUTO, _) => RT_POLICY_JIT,
            (policy, _) => policy,
        }
    }

    /// Whether a rule may find that it doesn't apply here, for this reason. A rule that quietly stops to
    /// apply for any other is a failure.
    fn may_lack(&self, reason: &str) -> bool {
        let grants_nothing = self.rules.mood == Mood::Hardened;
        let grants_jit = !grants_nothing && self.result() == RT_POLICY_JIT;
        let excuses = [
            ("the system grants no memory that could hold code", grants_nothing),
            ("pages behind a write switch keep their protection", grants_jit),
            ("the system executes no file that isn't signed", self.rules.is_hardened()),
            ("Intel processors have no write switch", !self.rules.is_arm),
            ("instructions start at any address", !self.rules.is_arm),
            ("only qemu's user mode for aarch64", !self.rules.is_arm),
            ("policy rwx grants it", self.result() == RT_POLICY_RWX),
            ("the policy in force does not grant it", self.result() != RT_POLICY_RWX),
        ];
        excuses.iter().any(|(start, excused)| *excused && reason.starts_with(start))
    }
}

thread_local! {
    static REPORT: RefCell<String> = const { RefCell::new(String::new()) };
}

unsafe extern "C" fn report(text: *const u8, length: usize) {
    // SAFETY: the suite gives readable text.
    let text = unsafe { std::slice::from_raw_parts(text, length) };
    REPORT.with_borrow_mut(|report| report.push_str(&String::from_utf8_lossy(text)));
}

/// The names of all rules in a suite.
pub fn rule_names(file: &Path) -> Result<Vec<String>, String> {
    let (end, text) = in_child(false, || match names(file) {
        Ok(names) => (0, names.join("\n")),
        Err(reason) => (1, reason),
    });
    if end == End::Status(0) { Ok(text.lines().map(str::to_owned).collect()) } else { Err(text) }
}

fn names(file: &Path) -> Result<Vec<String>, String> {
    let library = Library::load(file, Rules::new(Mood::Plain))?;
    let count = library.call("suite_count", &[]);
    let name = |index| {
        REPORT.take();
        library.call("suite_name", &[index, report as *const () as i64]);
        REPORT.take()
    };
    Ok((0..count).map(name).collect())
}

/// What became of a rule.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It holds.
    Passed,
    /// The machine lacks what it needs.
    NotApplicable(String),
    /// It was broken.
    Failed(String),
}

/// Runs a rule in a process of its own.
pub fn run(file: &Path, setting: &Setting, index: usize) -> Outcome {
    let machine = Machine { file: file.to_owned(), rules: setting.rules };
    let (end, text) = in_child(false, || try_rule(&machine, setting, index));
    match end {
        End::Status(PASSED) => Outcome::Passed,
        End::Status(NOT_APPLICABLE) if setting.may_lack(&text) => Outcome::NotApplicable(text),
        End::Status(NOT_APPLICABLE) => Outcome::Failed(format!("it must apply on this machine, but: {text}")),
        End::Status(FAILED) => Outcome::Failed(text),
        other => Outcome::Failed(format!("the process ended with {other:?}: {text}")),
    }
}

fn try_rule(machine: &Machine, setting: &Setting, index: usize) -> (i32, String) {
    // SAFETY: the child has one thread.
    unsafe { std::env::set_var("EXECMEM_POLICY", policy_name(setting.policy)) };
    let library = match machine.load() {
        Ok(library) => library,
        Err(reason) => return (FAILED, reason),
    };
    let table = table(setting);
    let result = library.call("suite_run", &[index as i64, &raw const table as i64]) as i32;
    (result, REPORT.take())
}

fn table(setting: &Setting) -> Host {
    Host {
        wished_policy: setting.policy,
        gains_exec: setting.rules.allows_unsigned_code(),
        lacks_write_switch: !setting.rules.has_write_switch(),
        shows_stale_code: setting.rules.is_arm,
        file: files::file,
        open: files::open,
        close: files::close,
        shrink_file: files::shrink,
        missing_file: files::missing().as_ptr(),
        directory: files::directory().as_ptr(),
        fifo: files::fifo().as_ptr(),
        foreign_code,
        foreign_data: (&raw const FOREIGN_DATA).addr() as i64,
        unmapped: a_hole(),
        has_writable_code: kernel::has_writable_code,
        two_views,
        report,
    }
}

extern "C" fn foreign_code() -> i64 {
    0x5ca1_ab1e
}

/// 64 bytes in the program's own data.
static FOREIGN_DATA: [std::sync::atomic::AtomicU64; 8] =
    [const { std::sync::atomic::AtomicU64::new(0x0101_0101_0101_0101) }; 8];

/// The middle of a range where nothing is mapped, far from where anything new would be put.
fn a_hole() -> i64 {
    let length = 1 << 30;
    let start = host::map_anywhere(length, 16384, libc::PROT_NONE).expect("a gigabyte of addresses");
    host::unmap(start..start + length).expect("the addresses are ours");
    (start + length / 2) as i64
}

/// A memory file, mapped read-write and read-execute.
unsafe extern "C" fn two_views(size: usize, views: *mut [i64; 2]) {
    let memory = host::memory_file(size).expect("memory");
    let view = |protection| {
        let start = host::map_anywhere(size, 16384, protection).expect("addresses");
        host::map_over(start, size, protection, host::Source::Shared(&memory, 0)).expect("a view");
        start as i64
    };
    let both = [libc::PROT_READ | libc::PROT_WRITE, libc::PROT_READ | libc::PROT_EXEC].map(view);
    // SAFETY: the suite gave room.
    unsafe { views.write(both) };
}
