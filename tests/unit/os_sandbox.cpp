#include "os/sandbox.hpp"

#include "os/sanitizer.hpp"
#include "os/socket.hpp"
#include "tests/unit/vault_support.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <functional>
#include <thread>

namespace curvegate::os {
namespace {

/// Runs `body` in a child, confined or not as it likes, and gives the number that it returns.
int in_child(const std::function<int()>& body) {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(body());
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    return WEXITSTATUS(status);
}

constexpr int kNoSandbox = 100;

/// The errno of `call` in a confined child; 0 if the call works.
int errno_confined(Calls calls, const Reach& reach, const std::function<long()>& call) {
    return in_child([&] {
        if (!harden_process() || !confine(calls, reach)) return kNoSandbox;
        errno = 0;
        return call() < 0 ? errno : 0;
    });
}

bool refused(int code) {
    return code == EPERM || code == EACCES || (kSanitized && code == ENOSYS);
}

struct Attempt {
    const char* name;
    std::function<long()> call;
};

/// What no process may do, but for the parent as `may()` says.
std::vector<Attempt> attempts() {
    return {
        {"execve",
         [] {
             char* const none[] = {nullptr};
             return ::execve("/bin/true", none, none);
         }},
        {"fork", [] { return ::syscall(SYS_fork); }},
        {"vfork", [] { return ::syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); }},
        {"process_vm_readv",
         [] {
             char byte = 0;
             iovec part{&byte, 1};
             return ::process_vm_readv(::getppid(), &part, 1, &part, 1, 0);
         }},
        {"mount", [] { return ::mount("none", "/tmp", "tmpfs", 0, nullptr); }},
        {"unshare", [] { return ::syscall(SYS_unshare, 0); }},
        {"open_by_handle_at", [] { return ::syscall(SYS_open_by_handle_at, -1, nullptr, 0); }},
        {"bpf", [] { return ::syscall(SYS_bpf, 0, nullptr, 0); }},
        {"perf_event_open", [] { return ::syscall(SYS_perf_event_open, nullptr, 0, -1, -1, 0); }},
        {"io_uring_setup", [] { return ::syscall(SYS_io_uring_setup, 1, nullptr); }},
        {"keyctl", [] { return ::syscall(SYS_keyctl, 0, 0, 0, 0, 0); }},
        {"setuid", [] { return ::syscall(SYS_setuid, ::getuid()); }},
        {"unlink", [] { return static_cast<long>(::unlink("/tmp/nothing")); }},
        {"a kill of the parent", [] { return ::syscall(SYS_tgkill, ::getppid(), ::getppid(), 0); }},
    };
}

/// The parent makes processes; programs and files to remove are a matter of Landlock.
bool may(Calls calls, std::string_view name) {
    return calls == Calls::parent && (name == "vfork" || name == "unlink");
}

std::string_view name_of(Calls calls) {
    switch (calls) {
        case Calls::parent: return "parent: ";
        case Calls::front: return "front: ";
        case Calls::lookup: return "lookup: ";
        case Calls::vault: return "vault: ";
    }
    return "";
}

TEST_CASE("no process may start programs, read other processes or change the system") {
    for (const auto calls : {Calls::parent, Calls::front, Calls::lookup, Calls::vault}) {
        for (const auto& attempt : attempts()) {
            const std::string_view name = attempt.name;
            if (may(calls, name) || (kSanitized && (name == "vfork" || name == "fork" || name == "execve")))
                continue;
            INFO(name_of(calls) << name);
            const int code = errno_confined(calls, {}, attempt.call);
            const bool unlisted = calls != Calls::vault && code == ENOSYS && name == "a kill of the parent";
            CHECK((refused(code) || unlisted));
        }
        if (!kSanitized) {
            CHECK(refused(
                errno_confined(calls, {}, [] { return ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr); })));
        }
    }
}

TEST_CASE("memory is never writable and executable, nor made executable later") {
    for (const auto calls : {Calls::parent, Calls::front, Calls::vault}) {
        const auto map = [](int protection) {
            return ::mmap(nullptr, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        };
        CHECK(errno_confined(calls, {}, [&] {
                  return map(PROT_READ | PROT_WRITE | PROT_EXEC) == MAP_FAILED ? -1L : 0L;
              }) != 0);
        CHECK(errno_confined(calls, {}, [&] {
                  void* page = map(PROT_READ | PROT_WRITE);
                  return static_cast<long>(::mprotect(page, 4096, PROT_READ | PROT_EXEC));
              }) != 0);
        CHECK(errno_confined(calls, {}, [&] {
                  void* page = map(PROT_READ | PROT_WRITE);
                  return static_cast<long>(::mprotect(page, 4096, PROT_READ));
              }) == 0);
    }
}

TEST_CASE("files are reachable as far as listed and no further") {
    const vault::test::TemporaryFolder folder;
    const vault::test::TemporaryFolder elsewhere;
    vault::test::write_file(folder.file("known_hosts"), "x");
    vault::test::write_file(elsewhere.file("server.key"), "x");
    const auto opens = [](const std::string& path, int flags) {
        return [path, flags] { return static_cast<long>(::open(path.c_str(), flags, 0600)); };
    };
    for (const auto calls : {Calls::parent, Calls::lookup, Calls::vault}) {
        const Reach reach{{folder.path(), "/nonexistent"}, {}};
        CHECK(errno_confined(calls, reach, opens(folder.file("known_hosts"), O_RDONLY)) == 0);
        CHECK(refused(errno_confined(calls, reach, opens(folder.file("known_hosts"), O_RDWR))));
        CHECK(refused(errno_confined(calls, reach, opens(folder.file("new"), O_WRONLY | O_CREAT))));
        CHECK(refused(errno_confined(calls, reach, opens(elsewhere.file("server.key"), O_RDONLY))));
        CHECK(refused(errno_confined(calls, {}, opens("/etc/passwd", O_RDONLY))));
    }
    const Reach one_file{{folder.file("known_hosts")}, {}};
    CHECK(errno_confined(Calls::lookup, one_file, opens(folder.file("known_hosts"), O_RDONLY)) == 0);
    const Reach writable{{}, {folder.path()}};
    CHECK(errno_confined(Calls::parent, writable, opens(folder.file("log"), O_WRONLY | O_CREAT | O_APPEND)) ==
          0);
    if (!kSanitized) {  // which must open what they like
        CHECK(refused(errno_confined(Calls::vault, writable, opens(folder.file("log"), O_WRONLY))));
        CHECK(errno_confined(Calls::front, one_file, opens(folder.file("known_hosts"), O_RDONLY)) == EPERM);
    }
}

TEST_CASE(
    "files are removed and renamed, and sockets made, by the parent alone and in managed folders alone") {
    const vault::test::TemporaryFolder folder;
    const vault::test::TemporaryFolder elsewhere;
    const Reach managed{{}, {}, {folder.path()}};
    const Reach writable{{}, {folder.path(), elsewhere.path()}, {}};
    const auto attempt = [](const Reach& reach, Calls calls, const std::string& from, const std::string& to) {
        vault::test::write_file(from, "x");
        return std::array{
            errno_confined(calls, reach,
                           [&] { return static_cast<long>(::rename(from.c_str(), to.c_str())); }),
            errno_confined(calls, reach, [&] { return static_cast<long>(::unlink(to.c_str())); }),
        };
    };
    CHECK(attempt(managed, Calls::parent, folder.file("a"), folder.file("b")) == std::array{0, 0});
    for (const int code : attempt(managed, Calls::parent, elsewhere.file("a"), elsewhere.file("a")))
        CHECK(refused(code));
    vault::test::write_file(folder.file("b"), "x");
    CHECK(refused(attempt(writable, Calls::parent, folder.file("a"), folder.file("b")).front()));
    for (const int code : attempt(managed, Calls::front, folder.file("a"), folder.file("a")))
        CHECK(refused(code));
    // A name is not moved out of the folder, nor into it.
    CHECK(attempt(managed, Calls::parent, folder.file("a"), elsewhere.file("b")).front() != 0);
}

TEST_CASE("the parent starts the listed programs and kills its children; it does no more to others") {
    const Reach reach{
        {"/lib", "/lib64", "/usr/lib", "/etc/ld.so.cache"}, {}, {}, {"/bin/true", "/lib64", "/lib"}};
    const auto starts = [](const char* path) {
        return [path]() -> long {
            const pid_t child = ::fork();
            if (child < 0) return -1;
            if (child == 0) {
                char* const none[] = {nullptr};
                ::execve(path, none, none);
                ::_exit(errno);
            }
            int status = 0;
            if (::waitpid(child, &status, 0) != child) return -1;
            errno = WEXITSTATUS(status);
            return status == 0 ? 0 : -1;
        };
    };
    CHECK(errno_confined(Calls::parent, reach, starts("/bin/true")) == 0);
    if (!kSanitized) CHECK(errno_confined(Calls::parent, reach, starts("/bin/sh")) == EACCES);
    CHECK(errno_confined(Calls::parent, {}, [] {
              const pid_t child = ::fork();
              while (child == 0) ::poll(nullptr, 0, -1);
              int status = 0;
              if (::kill(child, SIGKILL) != 0 || ::waitpid(child, &status, 0) != child) return -1L;
              return WTERMSIG(status) == SIGKILL ? 0L : -1L;
          }) == 0);
    if (!kSanitized)
        CHECK(errno_confined(Calls::parent, {},
                             [] { return static_cast<long>(::kill(::getpid(), SIGTERM)); }) != 0);
}

TEST_CASE("a descriptor that was open before keeps working in the vault, and can be synced") {
    const vault::test::TemporaryFolder folder;
    vault::test::write_file(folder.file("counter"), std::string(8192, 'x'));
    const UniqueFd fd(::open(folder.file("counter").c_str(), O_RDWR));
    CHECK(errno_confined(Calls::vault, {}, [&] {
              if (::pwrite(fd.get(), "y", 1, 4096) != 1) return -1L;
              return static_cast<long>(::fdatasync(fd.get()));
          }) == 0);
}

TEST_CASE("the vault makes no sockets and no threads; a unix socket that it has works") {
    for (const int family : {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK}) {
        CHECK(refused(errno_confined(Calls::vault, {},
                                     [&] { return static_cast<long>(::socket(family, SOCK_DGRAM, 0)); })));
    }
    if (!kSanitized) {
        CHECK(refused(errno_confined(Calls::vault, {}, [] {
            return ::syscall(SYS_clone, CLONE_VM | CLONE_SIGHAND | CLONE_THREAD, 0, 0, 0, 0);
        })));
    }
    const auto pair = seqpacket_pair().value();
    CHECK(errno_confined(Calls::vault, {}, [&] {
              char byte = 1;
              if (::send(pair.first.get(), &byte, 1, MSG_NOSIGNAL) != 1) return -1L;
              return static_cast<long>(::recv(pair.second.get(), &byte, 1, 0)) - 1;
          }) == 0);
}

UniqueFd bound_to_loopback(int type) {
    UniqueFd out(::socket(AF_INET, type | SOCK_CLOEXEC | (type == SOCK_DGRAM ? SOCK_NONBLOCK : 0), 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::bind(out.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    return out;
}

TEST_CASE("the front has threads, sockets, timers and an event loop") {
    const auto works = [](const std::function<long()>& call) {
        return errno_confined(Calls::front, {}, call) == 0;
    };
    for (const int family : {AF_UNIX, AF_INET, AF_INET6}) {
        for (const int type : {SOCK_STREAM, SOCK_DGRAM}) {
            CHECK(works(
                [&] { return static_cast<long>(::socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)); }));
        }
    }
    const auto netlink = [] { return static_cast<long>(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0)); };
    CHECK_FALSE(works(netlink));
    CHECK(errno_confined(Calls::lookup, {}, netlink) == 0);  // the resolver asks for the machine's addresses
    CHECK_FALSE(works([] { return static_cast<long>(::socket(AF_PACKET, SOCK_RAW, 0)); }));
    CHECK(works([] { return static_cast<long>(::epoll_create1(EPOLL_CLOEXEC)); }));
    CHECK(works([] { return static_cast<long>(::eventfd(0, EFD_CLOEXEC)); }));
    CHECK(works([] { return static_cast<long>(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC)); }));
    CHECK(works([] {
        int value = 0;
        std::thread([&] { value = 1; }).join();
        return value == 1 ? 0L : -1L;
    }));
    const UniqueFd listener = bound_to_loopback(SOCK_STREAM);
    REQUIRE(::listen(listener.get(), 1) == 0);
    CHECK(works([&] {
        sockaddr_in address{};
        socklen_t size = sizeof address;
        auto* name = reinterpret_cast<sockaddr*>(&address);
        if (::getsockname(listener.get(), name, &size) != 0) return -1L;
        const UniqueFd client(::socket(AF_INET, SOCK_STREAM, 0));
        if (::connect(client.get(), name, size) != 0) return -1L;
        return static_cast<long>(UniqueFd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC)).get());
    }));
    // It opens no port of its own.
    const UniqueFd fresh(::socket(AF_INET, SOCK_STREAM, 0));
    CHECK_FALSE(works([&] { return static_cast<long>(::listen(fresh.get(), 1)); }));
    CHECK_FALSE(works([&] {
        const sockaddr_in any{.sin_family = AF_INET, .sin_port = 0, .sin_addr = {}, .sin_zero = {}};
        return static_cast<long>(::bind(fresh.get(), reinterpret_cast<const sockaddr*>(&any), sizeof any));
    }));
}

TEST_CASE("the front moves UDP datagrams in batches") {
    const UniqueFd fd = bound_to_loopback(SOCK_DGRAM);
    CHECK(errno_confined(Calls::front, {}, [&] {
              sockaddr_in address{};
              socklen_t size = sizeof address;
              auto* name = reinterpret_cast<sockaddr*>(&address);
              const int value = 1 << 20;
              int segment = 0;
              socklen_t segment_size = sizeof segment;
              if (::getsockname(fd.get(), name, &size) != 0 || ::connect(fd.get(), name, size) != 0 ||
                  ::getpeername(fd.get(), name, &size) != 0 ||
                  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &value, sizeof value) != 0 ||
                  ::setsockopt(fd.get(), IPPROTO_IP, IP_PKTINFO, &value, sizeof value) != 0 ||
                  ::setsockopt(fd.get(), SOL_UDP, UDP_GRO, &value, sizeof value) != 0 ||
                  ::getsockopt(fd.get(), SOL_UDP, UDP_SEGMENT, &segment, &segment_size) != 0) {
                  return -1L;
              }
              std::array<char, 8> bytes{};
              iovec part{bytes.data(), bytes.size()};
              std::array<mmsghdr, 2> messages{};
              for (auto& message : messages) {
                  message.msg_hdr.msg_iov = &part;
                  message.msg_hdr.msg_iovlen = 1;
              }
              if (::sendmmsg(fd.get(), messages.data(), 2, MSG_NOSIGNAL) != 2) return -1L;
              return ::recvmmsg(fd.get(), messages.data(), 2, MSG_DONTWAIT, nullptr) > 0 ? 0L : -1L;
          }) == 0);
}

TEST_CASE("all threads are confined, also those that were there before") {
    const int code = in_child([] {
        int before[2];
        if (::pipe(before) != 0) return kNoSandbox;
        int result = 0;
        std::thread thread([&] {
            char byte = 0;
            if (::read(before[0], &byte, 1) != 1) return;
            errno = 0;
            result = ::syscall(SYS_unshare, 0) < 0 ? errno : 0;
        });
        const bool confined = confine(Calls::front, {}).has_value();
        if (::write(before[1], "x", 1) != 1) return kNoSandbox;
        thread.join();
        return confined ? result : kNoSandbox;
    });
    CHECK(refused(code));
}

TEST_CASE("a hardened process leaves no core and cannot be traced by its own uid") {
    CHECK(in_child([] {
              if (!harden_process()) return 1;
              rlimit core{};
              if (::getrlimit(RLIMIT_CORE, &core) != 0 || core.rlim_cur != 0 || core.rlim_max != 0) return 2;
              return 0;
          }) == 0);
    if (::geteuid() != 0) {
        WARN("SKIPPED: another process of the same uid (needs root)");
        return;
    }
    const auto pipe_pair = seqpacket_pair().value();
    const pid_t target = ::fork();
    if (target == 0) {
        // Without the capabilities of root, or the tracer's would decide.
        if (::setresgid(65534, 65534, 65534) != 0 || ::setresuid(65534, 65534, 65534) != 0) ::_exit(1);
        if (!harden_process()) ::_exit(1);
        char byte = 'x';
        (void)!::write(pipe_pair.second.get(), &byte, 1);
        (void)!::read(pipe_pair.second.get(), &byte, 1);
        ::_exit(0);
    }
    char byte = 0;
    REQUIRE(::read(pipe_pair.first.get(), &byte, 1) == 1);
    const int tracer = in_child([&] {
        if (::setresgid(65534, 65534, 65534) != 0 || ::setresuid(65534, 65534, 65534) != 0) return 200;
        if (::ptrace(PTRACE_ATTACH, target, nullptr, nullptr) == 0) return 201;
        const std::string proc = "/proc/" + std::to_string(target);
        for (const char* name : {"/mem", "/environ", "/maps"}) {
            if (::open((proc + name).c_str(), O_RDONLY) >= 0) return 202;
        }
        char stolen = 0;
        iovec part{&stolen, 1};
        return ::process_vm_readv(target, &part, 1, &part, 1, 0) < 0 ? 0 : 203;
    });
    CHECK(tracer == 0);
    REQUIRE(::write(pipe_pair.first.get(), &byte, 1) == 1);
    int status = 0;
    REQUIRE(::waitpid(target, &status, 0) == target);
    CHECK(status == 0);
}

TEST_CASE("confining fails when there is nothing to confine with") {
    // A confined process has no Landlock and seccomp calls left: as a kernel without them.
    CHECK(in_child([] {
              if (!confine(Calls::vault, {})) return kNoSandbox;
              const auto again = confine(Calls::vault, {});
              return !again && again.error().is(SandboxErrc::unavailable) ? 0 : 1;
          }) == 0);
}

}  // namespace
}  // namespace curvegate::os
