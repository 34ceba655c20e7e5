//! What a worker takes away from itself before it reads anything of a plugin: every file, every socket, every other
//! process, and, once the machine code is loaded, every further page of it.
//!
//! Two walls, each of which holds alone: Landlock, which knows files and addresses, and seccomp, which knows system calls.
//! Both last for the life of the process and of all its threads. Where the kernel lacks one, the worker says so and the
//! host tells the operator.

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus, Scope,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;

/// Which walls stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jailed {
    /// All that this program asks of Landlock is enforced.
    pub landlock: bool,
    /// The filter of system calls is in force.
    pub seccomp: bool,
}

impl Jailed {
    /// What is missing, for a person; `None` if both walls stand.
    pub fn lacks(self) -> Option<&'static str> {
        match (self.landlock, self.seccomp) {
            (true, true) => None,
            (false, true) => Some("Landlock"),
            (true, false) => Some("seccomp"),
            (false, false) => Some("Landlock and seccomp"),
        }
    }
}

/// Shuts this process in, with at most so many open files. Must be called by its only thread: Landlock holds for the
/// calling thread and for those that it begins later.
///
/// # Errors
/// What the kernel says; the process must end then.
pub fn shut(open_files_max: u64) -> io::Result<Jailed> {
    limit(Resource::Nofile, open_files_max)?;
    limit(Resource::Core, 0)?;
    let landlock = landlocked()?;
    let seccomp = filtered(no_clone3(), Whom::ThisThread)? && filtered(allowed(), Whom::ThisThread)?;
    Ok(Jailed { landlock, seccomp })
}

/// Takes the rest away, once the machine code is loaded and all threads run: memory beyond `data_bytes_max`, further
/// machine code, further threads.
///
/// # Errors
/// What the kernel says; the process must end then.
pub fn seal(data_bytes_max: u64) -> io::Result<()> {
    limit(Resource::Data, data_bytes_max)?;
    filtered(sealed(), Whom::AllThreads).map(|_| ())
}

fn limit(resource: Resource, to: u64) -> io::Result<()> {
    let limit = Rlimit { current: Some(to), maximum: Some(to) };
    setrlimit(resource, limit).map_err(io::Error::from)
}

/// No file, no port, no socket of another, no signal to another: nothing is handled by a rule, so nothing is allowed.
fn landlocked() -> io::Result<bool> {
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(ABI::V5)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(ABI::V6)))
        .and_then(Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(io::Error::other)?;
    Ok(ruleset.ruleset == RulesetStatus::FullyEnforced)
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// A filter: what becomes of the system calls that are listed, and of all others.
struct Filter {
    rules: Rules,
    listed: SeccompAction,
    others: SeccompAction,
}

const DENIED: SeccompAction = SeccompAction::Errno(libc::EPERM as u32);

/// False if this kernel, or this kind of processor, has no filters.
fn filtered(filter: Result<Filter, BackendError>, whom: Whom) -> io::Result<bool> {
    let Ok(arch) = TargetArch::try_from(std::env::consts::ARCH) else { return Ok(false) };
    let program: Result<BpfProgram, BackendError> = filter
        .and_then(|it| SeccompFilter::new(it.rules, it.others, it.listed, arch))
        .and_then(TryInto::try_into);
    let program = program.map_err(io::Error::other)?;
    let applied = match whom {
        Whom::ThisThread => seccompiler::apply_filter(&program),
        Whom::AllThreads => seccompiler::apply_filter_all_threads(&program),
    };
    match applied {
        Ok(()) => Ok(true),
        Err(seccompiler::Error::Seccomp(error)) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        Err(error) => Err(io::Error::other(error)),
    }
}

/// For whom a filter holds, beside the threads that those begin later.
enum Whom {
    ThisThread,
    AllThreads,
}

/// What is needed to load and to run: memory, time, threads, and the files that are open already.
fn allowed() -> Result<Filter, BackendError> {
    let mut rules: Rules = NEEDED.iter().chain(NEEDED_HERE).map(|call| (*call, Vec::new())).collect();
    // Whether the socket blocks, and which pages of this process were written.
    rules.insert(libc::SYS_ioctl, vec![is(1, FIONBIO)?, is(1, PAGEMAP_SCAN)?]);
    // Threads, and no processes.
    rules.insert(libc::SYS_clone, vec![has(0, CLONE_THREAD)?]);
    Ok(Filter { rules, listed: SeccompAction::Allow, others: DENIED })
}

/// `clone3` keeps its flags where no filter can read them. Where it is not there, the C library takes `clone`.
fn no_clone3() -> Result<Filter, BackendError> {
    let rules = Rules::from([(libc::SYS_clone3, Vec::new())]);
    Ok(Filter { rules, listed: SeccompAction::Errno(libc::ENOSYS as u32), others: SeccompAction::Allow })
}

/// What is not needed any more once everything is loaded and all threads run: memory that can be run, memory that is
/// nobody's to count, and threads.
fn sealed() -> Result<Filter, BackendError> {
    let mut rules = Rules::new();
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![has(2, PROT_EXEC)?]);
    }
    let others =
        [libc::SYS_clone, libc::SYS_memfd_create, libc::SYS_prctl, libc::SYS_prlimit64, libc::SYS_seccomp];
    for call in others {
        rules.insert(call, Vec::new());
    }
    Ok(Filter { rules, listed: DENIED, others: SeccompAction::Allow })
}

/// System calls of the C library, the runtime and the engine, on any processor.
const NEEDED: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_clone3,
    libc::SYS_close,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fcntl,
    libc::SYS_ftruncate,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_memfd_create,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_ppoll,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_process_madvise,
    libc::SYS_pwrite64,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_seccomp,
    libc::SYS_sendto,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_write,
    libc::SYS_writev,
];

/// The older ones that only this processor has.
#[cfg(target_arch = "x86_64")]
const NEEDED_HERE: &[i64] = &[libc::SYS_epoll_wait, libc::SYS_poll];
#[cfg(not(target_arch = "x86_64"))]
const NEEDED_HERE: &[i64] = &[];

/// `FIONBIO` of the C library, the same on every processor that is served.
const FIONBIO: u64 = 0x5421;
/// `PAGEMAP_SCAN` of `linux/fs.h`.
const PAGEMAP_SCAN: u64 = 0xC060_6610;
const CLONE_THREAD: u64 = libc::CLONE_THREAD as u64;
const PROT_EXEC: u64 = libc::PROT_EXEC as u64;

/// An argument of the system call, by its number, has this value.
fn is(number: u8, value: u64) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(number, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)?])
}

/// An argument has these bits.
fn has(number: u8, bits: u64) -> Result<SeccompRule, BackendError> {
    let masked = SeccompCmpOp::MaskedEq(bits);
    SeccompRule::new(vec![SeccompCondition::new(number, SeccompCmpArgLen::Qword, masked, bits)?])
}
