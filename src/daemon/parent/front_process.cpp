#include "daemon/parent/front_process.hpp"

#include "log/log.hpp"

#include <fcntl.h>
#include <poll.h>

#include <csignal>

namespace curvegate::daemon::parent {
namespace {

constexpr int kPatience = 5'000;  // milliseconds

}  // namespace

void FrontProcess::started(int pid, os::UniqueFd channel) {
    pid_ = pid;
    channel_ = std::move(channel);
    ::fcntl(channel_.get(), F_SETFL, O_NONBLOCK);
}

void FrontProcess::ended() noexcept {
    pid_ = -1;
    channel_.reset();
    end_by_.reset();
}

bool FrontProcess::send(const ToFront& message, int fd) {
    if (!channel_) return false;
    pollfd room{channel_.get(), POLLOUT, 0};
    if (::poll(&room, 1, kPatience) > 0)
        return os::send_message(channel_.get(), serialise(message), fd).has_value();
    log::event(log::Level::error, "front_hangs", {{"reason", "it has taken no message for 5 s"}});
    kill();
    close_channel();
    return false;
}

void FrontProcess::kill() const noexcept {
    if (pid_ > 0) ::kill(pid_, SIGKILL);
}

void FrontProcess::tend(Instant now) {
    if (!end_by_ || now < *end_by_) return;
    end_by_.reset();
    log::event(log::Level::error, "front_hangs", {{"reason", "it has not ended after drain-timeout"}});
    kill();
}

}  // namespace curvegate::daemon::parent
