#include "daemon/parent/signals.hpp"

#include <sys/signalfd.h>

#include <csignal>
#include <initializer_list>

namespace curvegate::daemon::parent {
namespace {

sigset_t set_of(std::initializer_list<int> signals) {
    sigset_t out;
    ::sigemptyset(&out);
    for (const int number : signals) ::sigaddset(&out, number);
    return out;
}

}  // namespace

void hold_signals() {
    const auto held = set_of({SIGHUP, SIGUSR1, SIGUSR2});
    ::sigprocmask(SIG_BLOCK, &held, nullptr);
    ::signal(SIGPIPE, SIG_IGN);
    ::signal(SIGXFSZ, SIG_IGN);
}

Result<os::UniqueFd> take_signals() {
    const auto taken = set_of({SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD});
    ::sigprocmask(SIG_BLOCK, &taken, nullptr);
    os::UniqueFd out(::signalfd(-1, &taken, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!out) return os::fail_errno("signalfd");
    return out;
}

}  // namespace curvegate::daemon::parent
