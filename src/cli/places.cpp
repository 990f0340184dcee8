#include "cli/places.hpp"

#include "config/include.hpp"
#include "os/file.hpp"

#include <pwd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace curvegate::cli {
namespace {

// As the daemon does it (daemon/parent/load.cpp).
std::expected<std::string, std::string> read_included(const std::string& file) {
    auto text = os::read_linked(file, kLongestFile);
    if (!text) return std::unexpected(text.error().text());
    return std::move(*text);
}

std::expected<std::optional<std::vector<std::string>>, std::string> list_folder(const std::string& path) {
    auto names = os::list_checked(path);
    if (!names) return std::unexpected(names.error().text());
    return std::move(*names);
}

std::string home_folder() {
    if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/') return home;
    const passwd* user = ::getpwuid(::geteuid());
    return user != nullptr && user->pw_dir != nullptr ? user->pw_dir : "";
}

}  // namespace

std::string default_folder() {
    return ::geteuid() == 0 ? std::string("/etc/curvegate") : home_folder() + "/.config/curvegate";
}

std::string default_config() {
    return default_folder() + "/curvegate.conf";
}

std::string default_known_hosts() {
    if (const auto text = os::read_linked(default_config(), kLongestFile)) {
        if (auto path = config::find_global(*text, "known-hosts"); path && path->starts_with('/'))
            return *path;
    }
    return default_folder() + "/known_hosts";
}

Outcome<std::string> read_config(const std::string& path) {
    if (::access(path.c_str(), F_OK) != 0) {
        const std::string why = path + ": " + std::strerror(errno);
        return std::unexpected(complain(
            exit_for_reading(path), why + " (write one, see man curvegate.conf, or name it with -c FILE)"));
    }
    auto text = os::read_linked(path, kLongestFile);
    if (!text) return std::unexpected(complain(exit_code::kNoPermission, text.error().detail()));
    return std::move(*text);
}

Outcome<config::Parsed> load_config(const std::string& path) {
    auto text = read_config(path);
    if (!text) return std::unexpected(text.error());
    const auto sources = config::gather({path, std::move(*text)}, {read_included, list_folder});
    if (!sources) {
        complain(sources.error());
        return std::unexpected(exit_code::kConfig);
    }
    auto parsed = config::parse(*sources);
    if (parsed) return std::move(*parsed);
    complain(parsed.error());
    return std::unexpected(exit_code::kConfig);
}

}  // namespace curvegate::cli
