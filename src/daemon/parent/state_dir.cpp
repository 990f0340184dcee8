#include "daemon/parent/state_dir.hpp"

#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace curvegate::daemon::parent {
namespace {

std::string own_name() {
    const passwd* found = ::getpwuid(::geteuid());  // NOLINT(concurrency-mt-unsafe): one thread
    return found != nullptr ? found->pw_name : std::to_string(::geteuid());
}

}  // namespace

std::optional<std::string> missing_state_dir(const config::Config& config) {
    const std::string& path = config.state_dir;
    if (path.empty() || !config.vault_socket.empty()) return std::nullopt;
    const std::string what = config.place_of("state-dir") + ": state-dir = " + path;
    struct stat info{};
    if (::stat(path.c_str(), &info) == 0) {
        if (S_ISDIR(info.st_mode)) return std::nullopt;
        return what + ": is no folder";
    }
    if (errno != ENOENT) return std::nullopt;  // the vault says why it cannot use it
    return what + ": there is no such folder (make it: install -d -m 0700 -o " + own_name() + " " + path +
           ")";
}

}  // namespace curvegate::daemon::parent
