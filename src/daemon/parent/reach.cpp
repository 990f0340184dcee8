#include "daemon/parent/reach.hpp"

#include "daemon/parent/log_file.hpp"
#include "os/file.hpp"

#include <link.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <system_error>

namespace curvegate::daemon::parent {
namespace {

constexpr std::array kHidden = {"/dev", "/proc", "/sys"};
constexpr std::array kDevices = {"/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"};

/// The dynamic loader that this program asks for; empty if it is linked without one.
std::string loader() {
    std::string out;
    const auto look = [](dl_phdr_info* info, std::size_t, void* found) {
        for (int i = 0; i < info->dlpi_phnum; ++i) {
            const auto& header = info->dlpi_phdr[i];
            if (header.p_type != PT_INTERP) continue;
            const auto address = info->dlpi_addr + header.p_vaddr;
            // NOLINTNEXTLINE(performance-no-int-to-ptr): where the loader's name lies in our own image
            *static_cast<std::string*>(found) = reinterpret_cast<const char*>(address);
        }
        return 1;  // the first is the program itself
    };
    ::dl_iterate_phdr(look, &out);
    return out;
}

std::vector<std::string> readable() {
    std::vector<std::string> out(kDevices.begin(), kDevices.end());
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator("/", error)) {
        if (std::ranges::find(kHidden, entry.path().string()) == kHidden.end())
            out.push_back(entry.path().string());
    }
    return out;
}

/// The folders in which files come and go. One of a path in the folder that the daemon was started in is ".".
std::vector<std::string> managed(const config::Config& config) {
    std::vector<std::string> out = {"/dev/tty"};  // where the vault asks for a passphrase
    const auto folder_of = [&](const std::string& path) {
        if (path.empty()) return;
        const std::string folder = os::folder_of(path);
        // Of /dev only what is named: log-file = /dev/null.
        const bool hidden = std::ranges::find(kHidden, folder) != kHidden.end();
        out.push_back(hidden ? path : folder);
    };
    const std::string log_file =
        is_standard_stream(config.log_file) ? "" : follow_links(config.log_file).value_or(config.log_file);
    folder_of(os::end_of_link(config.known_hosts));
    for (const auto* path :
         {&config.known_hosts, &config.control, &config.vault_control, &log_file, &config.audit})
        folder_of(*path);
    if (config.metrics) folder_of(config.metrics->path);
    for (const auto& service : config.services) folder_of(service.accept.path);
    if (!config.vault_socket.empty()) return out;  // keys and counters are another unit's
    if (!config.state_dir.empty()) {
        out.push_back(config.state_dir);
    } else {
        folder_of(config.server_key);
        folder_of(config.client_key);
    }
    return out;
}

}  // namespace

os::Reach reach_of(const config::Config& config, const std::string& vault) {
    const bool is_path = vault.find('/') != std::string::npos;
    return {readable(), {}, managed(config), {is_path ? vault : "/", loader()}};
}

std::vector<std::string> beyond(const os::Reach& reach, const config::Config& config) {
    std::vector<std::string> out;
    for (const std::string& folder : managed(config)) {
        const auto holds = [&](const std::string& one) {
            return folder == one || one == "/" || folder.starts_with(one + "/");
        };
        if (std::ranges::none_of(reach.managed, holds))
            out.push_back("! " + folder +
                          ": the sandbox keeps the daemon from writing there until a restart");
    }
    return out;
}

}  // namespace curvegate::daemon::parent
