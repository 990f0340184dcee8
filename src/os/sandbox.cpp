#include "os/sandbox.hpp"

#include "os/landlock.hpp"
#include "os/sanitizer.hpp"
#include "os/socket.hpp"

#include <fcntl.h>
#include <linux/memfd.h>
#include <linux/sockios.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <string_view>

namespace curvegate::os {
namespace {

// Names of system calls, with spaces between them.

/// What any process of ours needs once it runs: memory, time, its own signals, descriptors that it has. No
/// call here opens a path, makes a socket or starts anything.
constexpr std::string_view kCommon =
    "accept accept4 brk clock_getres clock_gettime clock_nanosleep close close_range dup dup3 exit "
    "exit_group fcntl fdatasync flock fstat fsync futex getegid geteuid getgid getpid getrandom "
    "getsockname getsockopt gettid gettimeofday getuid lseek lstat madvise membarrier mlock mlock2 "
    "mremap munlock munmap nanosleep newfstatat poll ppoll pread64 preadv pwrite64 pwritev read readv "
    "recvfrom recvmmsg recvmsg restart_syscall rseq rt_sigaction rt_sigprocmask rt_sigreturn sched_yield "
    "sendmmsg sendmsg sendto set_robust_list setsockopt shutdown sigaltstack splice stat statx time uname "
    "write "
    "writev";

/// More for the front: sockets and threads, an event loop, and cutting a torn line off the audit file. It
/// neither binds nor listens: the parent does.
constexpr std::string_view kFront =
    "connect epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd2 ftruncate getcpu "
    "getpeername getrlimit pipe2 sched_getaffinity socketpair timerfd_create timerfd_gettime "
    "timerfd_settime";

/// More for the resolver: it opens what Landlock leaves it, and modules of others run in it.
constexpr std::string_view kLookup =
    "access bind epoll_create faccessat faccessat2 fadvise64 fstatfs getcwd getdents64 getpgrp getppid "
    "getpriority getresgid getresuid getrusage open openat pipe pselect6 readlink readlinkat rt_sigtimedwait "
    "select sendfile statfs sysinfo times";

/// More for the parent: it starts, ends and hears the others, binds and listens, edits known_hosts, makes and
/// removes socket files. And what its children, who inherit its filter, need until they have confined
/// themselves.
constexpr std::string_view kParent =
    "alarm arch_prctl dup2 execve fchmod fchownat landlock_add_rule landlock_create_ruleset "
    "landlock_restrict_self lchown listen rename renameat renameat2 seccomp set_tid_address setitimer "
    "signalfd4 umask unlink unlinkat wait4";

/// What a hijacked front would like to have, and a parent but for what it needs. They would be refused anyway
/// (the list above is all there is); with EPERM instead of ENOSYS nobody takes them for missing and looks for
/// another way.
constexpr std::string_view kNever =
    "acct add_key adjtimex bpf capset chmod chown chroot clock_adjtime clock_settime delete_module "
    "execve execveat fchmodat fchown fchownat finit_module fork fsconfig fsmount fsopen fspick "
    "init_module io_uring_enter io_uring_register io_uring_setup ioperm iopl kcmp kexec_file_load "
    "kexec_load keyctl kill lchown link linkat mkdir mkdirat mknod mknodat modify_ldt mount "
    "mount_setattr move_mount name_to_handle_at open openat openat2 open_by_handle_at open_tree "
    "perf_event_open personality "
    "pidfd_getfd pidfd_open pidfd_send_signal pivot_root process_madvise process_vm_readv "
    "process_vm_writev ptrace quotactl reboot remap_file_pages rename renameat renameat2 request_key "
    "rmdir rt_sigqueueinfo rt_tgsigqueueinfo setdomainname setgid setgroups sethostname setns setregid "
    "setresgid setresuid setreuid settimeofday setuid swapoff swapon symlink symlinkat syslog tkill "
    "umount2 unlink unlinkat unshare userfaultfd vfork vmsplice";

/// LeakSanitizer stops the process by ptrace from a clone of it; reports are written by a child.
constexpr std::string_view kSanitizers =
    "arch_prctl clone execve getdents64 getppid getrlimit getrusage ioctl kill mincore open openat pipe "
    "pipe2 "
    "prctl prlimit64 ptrace readlink readlinkat sched_getaffinity set_tid_address sysinfo tkill wait4";

/// A filter under construction. After a first failure further rules do nothing and load() tells of it.
class Filter {
  public:
    explicit Filter(std::uint32_t otherwise) : context_(::seccomp_init(otherwise)) {
        if (!context_) error_ = ENOMEM;
    }

    /// All calls of a list, whatever their arguments; of those that a rule names already, what it says
    /// stands.
    void add_all(std::uint32_t action, std::string_view names) {
        std::istringstream words{std::string(names)};
        for (std::string name; words >> name;) {
            if (!named_.contains(name)) add(action, name.c_str(), {});
        }
    }
    /// Only calls whose arguments match: all of `when`.
    void add(std::uint32_t action, const char* name, std::initializer_list<scmp_arg_cmp> when) {
        named_.insert(name);
        const int number = ::seccomp_syscall_resolve_name(name);
        if (number == __NR_SCMP_ERROR || error_ != 0) return;  // a name that this architecture does not have
        const int done =
            ::seccomp_rule_add_array(context_.get(), action, number, static_cast<unsigned>(when.size()),
                                     when.size() == 0 ? nullptr : when.begin());
        // EDOM: no such call here. EEXIST: the same rule again.
        if (done != 0 && done != -EDOM && done != -EEXIST) error_ = -done;
    }

    [[nodiscard]] Result<> load() {
        if (error_ == 0)
            error_ = -::seccomp_attr_set(context_.get(), SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
        if (error_ == 0) error_ = -::seccomp_attr_set(context_.get(), SCMP_FLTATR_CTL_TSYNC, 1);
        if (error_ == 0) error_ = -::seccomp_load(context_.get());
        if (error_ != 0)
            return fail(SandboxErrc::unavailable, std::string("seccomp: ") + std::strerror(error_));
        return {};
    }

  private:
    struct Release {
        void operator()(void* context) const noexcept { ::seccomp_release(context); }
    };
    std::unique_ptr<void, Release> context_;
    int error_ = 0;
    std::set<std::string, std::less<>> named_;
};

scmp_arg_cmp equals(unsigned argument, std::uint64_t value) {
    return {argument, SCMP_CMP_EQ, value, 0};
}
scmp_arg_cmp masked(unsigned argument, std::uint64_t mask, std::uint64_t value) {
    return {argument, SCMP_CMP_MASKED_EQ, mask, value};
}

void allow_common(Filter& filter) {
    if (kSanitized) filter.add_all(SCMP_ACT_ALLOW, kSanitizers);
    filter.add_all(SCMP_ACT_ALLOW, kCommon);
}

/// Memory is never writable and executable, and never becomes executable after it was mapped.
enum class LoadsCode { no, yes };
void allow_memory(Filter& filter, LoadsCode loads) {
    constexpr std::uint64_t kBoth = PROT_WRITE | PROT_EXEC;
    for (const char* name : {"mmap", "mmap2"}) {
        filter.add(SCMP_ACT_ALLOW, name, {masked(2, PROT_EXEC, 0)});
        if (loads == LoadsCode::yes) filter.add(SCMP_ACT_ALLOW, name, {masked(2, kBoth, PROT_EXEC)});
    }
    filter.add(SCMP_ACT_ALLOW, "mprotect", {masked(2, PROT_EXEC, 0)});
}

/// abort() and pthread_kill() of this very process.
void allow_own_signals(Filter& filter) {
    filter.add(SCMP_ACT_ALLOW, "tgkill", {equals(0, static_cast<std::uint64_t>(::getpid()))});
}

Result<> filter_vault() {
    Filter filter(SCMP_ACT_ERRNO(EPERM));
    allow_common(filter);
    // Reading known_hosts again. Counters and keys are open already.
    filter.add(SCMP_ACT_ALLOW, "openat", {masked(2, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY)});
    filter.add(SCMP_ACT_ALLOW, "open", {masked(1, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY)});
    filter.add(SCMP_ACT_ALLOW, "access", {});
    filter.add(SCMP_ACT_ALLOW, "faccessat", {});
    filter.add(SCMP_ACT_ALLOW, "faccessat2", {});
    allow_memory(filter, LoadsCode::no);
    allow_own_signals(filter);
    return filter.load();
}

void allow_sockets(Filter& filter) {
    for (const int family : {AF_UNIX, AF_INET, AF_INET6}) {
        filter.add(SCMP_ACT_ALLOW, "socket", {equals(0, static_cast<std::uint64_t>(family))});
    }
}

/// clone3 has its flags in memory, where a filter cannot look: glibc takes ENOSYS for "use clone".
void allow_threads(Filter& filter) {
    filter.add(SCMP_ACT_ALLOW, "clone", {masked(0, CLONE_THREAD, CLONE_THREAD)});
}

/// Requests on sockets and the question whether a descriptor is a terminal; not TIOCSTI, which types into
/// one.
void allow_ioctls(Filter& filter) {
    for (const auto request : std::initializer_list<std::uint64_t>{
             FIONBIO, FIONREAD, FIOCLEX, SIOCOUTQ, SIOCATMARK, SIOCGIFINDEX, SIOCGIFNAME, TCGETS}) {
        filter.add(SCMP_ACT_ALLOW, "ioctl", {equals(1, request)});
    }
    // Its own limits, not those of another process of the same uid.
    filter.add(SCMP_ACT_ALLOW, "prlimit64", {equals(0, 0)});
}

/// The resolver asks for the machine's own addresses, to sort a name's by reach (NETLINK_ROUTE is 0).
void allow_route_questions(Filter& filter) {
    filter.add(SCMP_ACT_ALLOW, "socket", {equals(0, AF_NETLINK), equals(2, 0)});
}

enum class Resolves { no, yes };

Result<> filter_front(Resolves resolves) {
    // ENOSYS for what is not listed, as an older kernel would say: libraries know how to go on from that.
    Filter filter(SCMP_ACT_ERRNO(ENOSYS));
    allow_common(filter);
    filter.add_all(SCMP_ACT_ALLOW, kFront);
    // Name service modules are loaded at the first question.
    allow_memory(filter, resolves == Resolves::yes ? LoadsCode::yes : LoadsCode::no);
    allow_own_signals(filter);
    allow_sockets(filter);
    if (resolves == Resolves::yes) {
        filter.add_all(SCMP_ACT_ALLOW, kLookup);
        allow_route_questions(filter);
    }
    allow_threads(filter);
    if (!kSanitized) filter.add(SCMP_ACT_ERRNO(EPERM), "clone", {masked(0, CLONE_THREAD, 0)});
    filter.add(SCMP_ACT_ALLOW, "prctl", {equals(0, PR_SET_NAME)});
    filter.add(SCMP_ACT_ALLOW, "prctl", {equals(0, PR_GET_NAME)});
    allow_ioctls(filter);
    filter.add_all(SCMP_ACT_ERRNO(EPERM), kNever);
    return filter.load();
}

/// A kernel that knows memory files which can never be executed (6.3) is held to them: Landlock does not see
/// such files.
void allow_memory_files(Filter& filter) {
    constexpr unsigned kNeverExecutable = 0x8;  // MFD_NOEXEC_SEAL
    const UniqueFd probe(::memfd_create("curvegate", MFD_CLOEXEC | kNeverExecutable));
    if (probe) {
        filter.add(SCMP_ACT_ALLOW, "memfd_create", {masked(1, kNeverExecutable, kNeverExecutable)});
    } else {
        filter.add(SCMP_ACT_ALLOW, "memfd_create", {});
    }
}

Result<> filter_parent() {
    Filter filter(SCMP_ACT_ERRNO(ENOSYS));
    allow_common(filter);
    for (const auto list : {kFront, kLookup, kParent}) filter.add_all(SCMP_ACT_ALLOW, list);
    allow_memory(filter, LoadsCode::yes);  // of the vault, when it is started again, and of the resolver
    allow_sockets(filter);
    allow_route_questions(filter);
    allow_threads(filter);
    constexpr std::uint64_t kNamespaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |
                                          CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;
    filter.add(SCMP_ACT_ALLOW, "clone", {masked(0, CLONE_THREAD | kNamespaces, 0)});
    allow_ioctls(filter);
    for (const auto request : std::initializer_list<std::uint64_t>{
             TCSETS, TCSETSW, TCSETSF, TIOCGPGRP})  // the vault asks for a passphrase
        filter.add(SCMP_ACT_ALLOW, "ioctl", {equals(1, request)});
    // A child that does not end is killed, abort() of any of them works; nothing else.
    filter.add(SCMP_ACT_ALLOW, "kill", {equals(1, SIGKILL)});
    filter.add(SCMP_ACT_ALLOW, "tgkill", {equals(2, SIGABRT)});
    for (const auto option :
         std::initializer_list<std::uint64_t>{PR_SET_NAME, PR_GET_NAME, PR_SET_NO_NEW_PRIVS})
        filter.add(SCMP_ACT_ALLOW, "prctl", {equals(0, option)});
    filter.add(SCMP_ACT_ALLOW, "prctl", {equals(0, PR_SET_DUMPABLE), equals(1, 0)});
    allow_memory_files(filter);
    filter.add_all(SCMP_ACT_ERRNO(EPERM), kNever);
    return filter.load();
}

}  // namespace

Result<> harden_process() {
    const rlimit none{0, 0};
    if (::setrlimit(RLIMIT_CORE, &none) != 0) return fail_errno("no core dumps");
    if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return fail_errno("not dumpable");
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return fail_errno("no_new_privs");
    return {};
}

Result<> confine(Calls calls, const Reach& reach) {
    if (auto files = restrict_files(calls, reach); !files) return files;
    switch (calls) {
        case Calls::parent: return filter_parent();
        case Calls::front: return filter_front(Resolves::no);
        case Calls::lookup: return filter_front(Resolves::yes);
        case Calls::vault: return filter_vault();
    }
    return fail(SandboxErrc::unavailable, "no such set of calls");
}

}  // namespace curvegate::os
