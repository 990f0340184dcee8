#include "os/spawn.hpp"

#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <csignal>

namespace curvegate::os {
namespace {

constexpr int kFirst = 3;
constexpr int kCannotExecute = 127;

// After fork in a program with threads: async-signal-safe calls only, no allocation.
[[noreturn]] void become(const char* program, char* const* argv, char* const* envp, std::vector<int>& fds,
                         int tell) {
    const auto give_up = [&tell] {
        const int code = errno;
        (void)!::write(tell, &code, sizeof code);
        ::_exit(kCannotExecute);
    };
    const int count = static_cast<int>(fds.size());
    for (int& fd : fds) {
        fd = ::fcntl(fd, F_DUPFD, kFirst + count);  // out of the way of the places they go to
        if (fd < 0) give_up();
    }
    tell = ::fcntl(tell, F_DUPFD_CLOEXEC, kFirst + count);  // the same: it is the last of them
    for (int i = 0; i < count; ++i) {
        if (::dup2(fds[static_cast<std::size_t>(i)], kFirst + i) < 0) give_up();
    }
    const int last = kFirst + count;
    if (tell != last && ::dup3(tell, last, O_CLOEXEC) == last) tell = last;
    ::syscall(SYS_close_range, last + 1, ~0U, 0);
    for (int number = 1; number < NSIG; ++number) {
        if (number != SIGKILL && number != SIGSTOP) ::signal(number, SIG_DFL);
    }
    // Whoever sends these to a whole group means the daemon, and a program that has not come to its first
    // line yet would end.
    for (const int number : {SIGHUP, SIGUSR1, SIGUSR2}) ::signal(number, SIG_IGN);
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::execvpe(program, argv, envp);
    give_up();
    ::_exit(kCannotExecute);
}

/// Where this program lies. Without /proc it is what it was started by, which may be a relative path.
std::string own_path() {
    std::array<char, PATH_MAX> self{};
    const ssize_t size = ::readlink("/proc/self/exe", self.data(), self.size());
    if (size > 0) return {self.data(), static_cast<std::size_t>(size)};
    // NOLINTNEXTLINE(performance-no-int-to-ptr): the kernel gives the address so
    const auto* const given = reinterpret_cast<const char*>(::getauxval(AT_EXECFN));
    return given != nullptr ? given : "";
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
    std::vector<char*> out;
    out.reserve(texts.size() + 1);
    for (std::string& text : texts) out.push_back(text.data());
    out.push_back(nullptr);
    return out;
}

}  // namespace

Result<int> spawn(const SpawnRequest& request) {
    std::vector<std::string> arguments = request.arguments;
    arguments.insert(arguments.begin(), request.program);
    std::vector<std::string> environment = request.environment;
    std::vector<int> descriptors = request.descriptors;
    const auto argv = pointers(arguments);
    const auto envp = pointers(environment);
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return fail_errno("start " + request.program);
    const UniqueFd hear(ends[0]);
    UniqueFd tell(ends[1]);
    const pid_t pid = ::fork();
    if (pid < 0) return fail_errno("start " + request.program);
    if (pid == 0) become(request.program.c_str(), argv.data(), envp.data(), descriptors, tell.get());
    tell.reset();
    int code = 0;  // comes only if the program cannot be executed; otherwise the pipe closes with it
    ssize_t heard = 0;
    do heard = ::read(hear.get(), &code, sizeof code);
    while (heard < 0 && errno == EINTR);
    if (heard != sizeof code) return pid;
    (void)::waitpid(pid, nullptr, 0);
    errno = code;
    return fail_errno("start " + request.program);
}

std::string sibling_program(const std::string& name) {
    const std::string path = own_path();
    if (path.find('/') == std::string::npos) return name;
    const std::string folder = path.substr(0, path.rfind('/'));
    for (const char* place : {"/", "/../sbin/", "/../bin/", "/../libexec/curvegate/"}) {
        const std::string candidate = (folder + place).append(name);
        if (::access(candidate.c_str(), X_OK) == 0) return candidate;
    }
    return name;
}

}  // namespace curvegate::os
