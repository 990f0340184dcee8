#include "os/notify.hpp"

#include "os/socket.hpp"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <charconv>
#include <cstddef>
#include <cstdlib>

namespace curvegate::os {
namespace {

// NOLINTBEGIN(concurrency-mt-unsafe): before the first thread

std::string take(const char* name) {
    const char* value = std::getenv(name);
    std::string out = value != nullptr ? value : "";
    ::unsetenv(name);
    return out;
}

// NOLINTEND(concurrency-mt-unsafe)

std::optional<long> number(const std::string& text) {
    long out = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
    if (error != std::errc() || end != text.data() + text.size() || out <= 0) return std::nullopt;
    return out;
}

}  // namespace

Notifier Notifier::from_environment() {
    Notifier out;
    out.path_ = take("NOTIFY_SOCKET");
    const auto period = number(take("WATCHDOG_USEC"));
    const auto whom = number(take("WATCHDOG_PID"));
    if (period && (!whom || *whom == ::getpid())) out.watchdog_ = std::chrono::microseconds(*period);
    return out;
}

void Notifier::say(std::string_view state) const noexcept {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path_.size() < 2 || path_.size() >= sizeof address.sun_path) return;
    path_.copy(address.sun_path, path_.size());
    if (path_.front() == '@') address.sun_path[0] = '\0';  // a name that is no path
    const UniqueFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!fd) return;
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path_.size());
    (void)::sendto(fd.get(), state.data(), state.size(), MSG_NOSIGNAL,
                   reinterpret_cast<const sockaddr*>(&address), size);
}

}  // namespace curvegate::os
