#include "cli/exit.hpp"
#include "cli/options.hpp"
#include "cli/places.hpp"
#include "cli/verbs.hpp"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstring>

namespace curvegate::cli {
namespace {

constexpr std::string_view kDaemon = "curvegated";

/// The folder of this program, or nothing if /proc does not say.
std::string own_folder() {
    std::array<char, PATH_MAX> path{};
    const ssize_t size = ::readlink("/proc/self/exe", path.data(), path.size());
    if (size <= 0) return {};
    const std::string text(path.data(), static_cast<std::size_t>(size));
    return text.substr(0, text.rfind('/'));
}

}  // namespace

int run(const Verb& self, const Arguments& arguments) {
    Options options(self);
    options.value("config,c", "FILE", "the configuration (default: curvegate.conf in its usual place)");
    if (const auto end = options.parse(arguments)) return *end;

    std::string config = options.has("config") ? options.get("config") : default_config();
    std::string name(kDaemon);
    std::string flag = "-c";
    const std::array<char*, 4> argv = {name.data(), flag.data(), config.data(), nullptr};
    // Beside this program in a build folder, in sbin where it is installed, or wherever PATH says.
    if (const std::string folder = own_folder(); !folder.empty()) {
        ::execv((folder + "/" + name).c_str(), argv.data());
        if (errno == ENOENT) ::execv((folder + "/../sbin/" + name).c_str(), argv.data());
    }
    if (errno == ENOENT) ::execvp(name.c_str(), argv.data());
    return complain(exit_code::kUnavailable, name + ": " + std::strerror(errno));
}

}  // namespace curvegate::cli
