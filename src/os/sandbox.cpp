#include "os/sandbox.hpp"

#include "os/landlock.hpp"
#include "os/sanitizer.hpp"
#include "os/socket.hpp"

#include <fcntl.h>
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
#include <cstring>
#include <initializer_list>
#include <memory>
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
    "sendmmsg sendmsg "
    "sendto set_robust_list setsockopt shutdown sigaltstack stat statx time uname write writev";

/// More for the front: it opens what Landlock leaves it, has sockets and threads, and runs an event loop.
constexpr std::string_view kFront =
    "access arch_prctl bind connect epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait "
    "eventfd2 faccessat faccessat2 fadvise64 fallocate fchmod fstatfs ftruncate getcpu getcwd "
    "getdents64 getpeername getpgrp getppid getpriority getresgid getresuid getrlimit getrusage listen "
    "open openat pipe pipe2 pselect6 readlink readlinkat rt_sigpending rt_sigsuspend "
    "rt_sigtimedwait sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getparam "
    "sched_getscheduler sched_setaffinity select sendfile set_tid_address signalfd4 socketpair "
    "splice statfs sysinfo tee timerfd_create timerfd_gettime timerfd_settime times";

/// What a hijacked front would like to have. They would be refused anyway (the list above is all there is);
/// with EPERM instead of ENOSYS nobody takes them for missing and looks for another way.
constexpr std::string_view kNever =
    "acct add_key adjtimex bpf capset chmod chown chroot clock_adjtime clock_settime delete_module "
    "execve execveat fchmodat fchown fchownat finit_module fork fsconfig fsmount fsopen fspick "
    "init_module io_uring_enter io_uring_register io_uring_setup ioperm iopl kcmp kexec_file_load "
    "kexec_load keyctl kill lchown link linkat mkdir mkdirat mknod mknodat modify_ldt mount "
    "mount_setattr move_mount name_to_handle_at open_by_handle_at open_tree perf_event_open personality "
    "pidfd_getfd pidfd_open pidfd_send_signal pivot_root process_madvise process_vm_readv "
    "process_vm_writev ptrace quotactl reboot remap_file_pages rename renameat renameat2 request_key "
    "rmdir rt_sigqueueinfo rt_tgsigqueueinfo setdomainname setgid setgroups sethostname setns setregid "
    "setresgid setresuid setreuid settimeofday setuid swapoff swapon symlink symlinkat syslog tkill "
    "umount2 unlink unlinkat unshare userfaultfd vfork vmsplice";

/// LeakSanitizer stops the process by ptrace from a clone of it; reports are written by a child.
constexpr std::string_view kSanitizers =
    "arch_prctl clone getdents64 getppid getrlimit ioctl kill mincore pipe pipe2 prctl prlimit64 ptrace "
    "readlink readlinkat sched_getaffinity set_tid_address tkill wait4";

/// A filter under construction. After a first failure further rules do nothing and load() tells of it.
class Filter {
  public:
    explicit Filter(std::uint32_t otherwise) : context_(::seccomp_init(otherwise)) {
        if (!context_) error_ = ENOMEM;
    }

    /// All calls of a list, whatever their arguments.
    void add_all(std::uint32_t action, std::string_view names) {
        std::istringstream words{std::string(names)};
        for (std::string name; words >> name;) add(action, name.c_str(), {});
    }
    /// Only calls whose arguments match: all of `when`.
    void add(std::uint32_t action, const char* name, std::initializer_list<scmp_arg_cmp> when) {
        const int number = ::seccomp_syscall_resolve_name(name);
        if (number == __NR_SCMP_ERROR || error_ != 0) return;  // a name that this architecture does not have
        const int done =
            ::seccomp_rule_add_array(context_.get(), action, number, static_cast<unsigned>(when.size()),
                                     when.size() == 0 ? nullptr : when.begin());
        // EDOM: no such call here. EEXIST: another list came first, and its action stands.
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
};

scmp_arg_cmp equals(unsigned argument, std::uint64_t value) {
    return {argument, SCMP_CMP_EQ, value, 0};
}
scmp_arg_cmp masked(unsigned argument, std::uint64_t mask, std::uint64_t value) {
    return {argument, SCMP_CMP_MASKED_EQ, mask, value};
}

/// Memory is never writable and executable, and never becomes executable after it was mapped.
void allow_memory(Filter& filter, bool may_load_code) {
    constexpr std::uint64_t kBoth = PROT_WRITE | PROT_EXEC;
    for (const char* name : {"mmap", "mmap2"}) {
        filter.add(SCMP_ACT_ALLOW, name, {masked(2, PROT_EXEC, 0)});
        if (may_load_code) filter.add(SCMP_ACT_ALLOW, name, {masked(2, kBoth, PROT_EXEC)});
    }
    filter.add(SCMP_ACT_ALLOW, "mprotect", {masked(2, PROT_EXEC, 0)});
}

/// abort() and pthread_kill() of this very process.
void allow_own_signals(Filter& filter) {
    filter.add(SCMP_ACT_ALLOW, "tgkill", {equals(0, static_cast<std::uint64_t>(::getpid()))});
}

Result<> filter_vault() {
    Filter filter(SCMP_ACT_ERRNO(EPERM));
    filter.add_all(SCMP_ACT_ALLOW, kCommon);
    // Reading known_hosts again. Counters and keys are open already.
    filter.add(SCMP_ACT_ALLOW, "openat", {masked(2, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY)});
    filter.add(SCMP_ACT_ALLOW, "open", {masked(1, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY)});
    filter.add(SCMP_ACT_ALLOW, "access", {});
    filter.add(SCMP_ACT_ALLOW, "faccessat", {});
    filter.add(SCMP_ACT_ALLOW, "faccessat2", {});
    allow_memory(filter, false);
    allow_own_signals(filter);
    if (kSanitized) filter.add_all(SCMP_ACT_ALLOW, kSanitizers);
    return filter.load();
}

void allow_front_sockets(Filter& filter) {
    for (const int family : {AF_UNIX, AF_INET, AF_INET6}) {
        filter.add(SCMP_ACT_ALLOW, "socket", {equals(0, static_cast<std::uint64_t>(family))});
    }
}

void allow_front_threads(Filter& filter) {
    filter.add(SCMP_ACT_ALLOW, "clone", {masked(0, CLONE_THREAD, CLONE_THREAD)});
    if (!kSanitized) filter.add(SCMP_ACT_ERRNO(EPERM), "clone", {masked(0, CLONE_THREAD, 0)});
    // clone3 has its flags in memory, where a filter cannot look: glibc takes ENOSYS for "use clone".
    filter.add(SCMP_ACT_ALLOW, "prctl", {equals(0, PR_SET_NAME)});
    filter.add(SCMP_ACT_ALLOW, "prctl", {equals(0, PR_GET_NAME)});
}

/// Requests on sockets and the question whether a descriptor is a terminal; not TIOCSTI, which types into
/// one.
void allow_front_ioctls(Filter& filter) {
    for (const auto request : std::initializer_list<std::uint64_t>{
             FIONBIO, FIONREAD, FIOCLEX, SIOCOUTQ, SIOCATMARK, SIOCGIFINDEX, SIOCGIFNAME, TCGETS}) {
        filter.add(SCMP_ACT_ALLOW, "ioctl", {equals(1, request)});
    }
    // Its own limits, not those of another process of the same uid.
    filter.add(SCMP_ACT_ALLOW, "prlimit64", {equals(0, 0)});
}

enum class Resolves { no, yes };

Result<> filter_front(Resolves resolves) {
    // ENOSYS for what is not listed, as an older kernel would say: libraries know how to go on from that.
    Filter filter(SCMP_ACT_ERRNO(ENOSYS));
    filter.add_all(SCMP_ACT_ALLOW, kCommon);
    filter.add_all(SCMP_ACT_ALLOW, kFront);
    allow_memory(filter, resolves == Resolves::yes);  // name service modules are loaded at the first question
    allow_own_signals(filter);
    allow_front_sockets(filter);
    if (resolves == Resolves::yes) {
        // The resolver asks for the machine's own addresses, to sort a name's by reach (NETLINK_ROUTE is 0).
        filter.add(SCMP_ACT_ALLOW, "socket", {equals(0, AF_NETLINK), equals(2, 0)});
    }
    allow_front_threads(filter);
    allow_front_ioctls(filter);
    if (kSanitized) filter.add_all(SCMP_ACT_ALLOW, kSanitizers);
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
    const bool vault = calls == Calls::vault;
    auto files = restrict_files(reach, vault ? Tcp::forbidden : Tcp::allowed);
    if (!files) return files;
    return vault ? filter_vault() : filter_front(calls == Calls::lookup ? Resolves::yes : Resolves::no);
}

}  // namespace curvegate::os
