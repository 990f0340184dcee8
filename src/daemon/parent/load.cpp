#include "daemon/parent/load.hpp"

#include "base/exit_code.hpp"
#include "config/include.hpp"
#include "config/ini.hpp"
#include "os/file.hpp"
#include "os/locked_file.hpp"
#include "registry/edit.hpp"

#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>

namespace curvegate::daemon::parent {
namespace {

constexpr std::size_t kLargestFile = std::size_t{16} * 1024 * 1024;

std::expected<std::string, LoadFailure> read_known_hosts(const config::Config& config) {
    const std::string& path = config.known_hosts;
    auto text = os::read_linked(path, kLargestFile);
    if (text) return std::move(*text);
    const bool there = ::access(path.c_str(), F_OK) == 0 || errno == EACCES;
    std::string cure = there ? "" : " (curvegate peers add NAME KEY --known-hosts " + path + ")";
    cure += config::comment_hint(path);
    return std::unexpected(
        LoadFailure{there ? exit_code::kNoPermission : exit_code::kNoInput,
                    {config.place_of("known-hosts") + ": known-hosts: " + text.error().text() + cure}});
}

std::expected<std::string, LoadFailure> read_config(const std::string& file) {
    if (::access(file.c_str(), F_OK) != 0) {
        const std::string why = file + ": " + std::strerror(errno) +
                                " (write one, see man curvegate.conf, or name it with -c FILE)";
        return std::unexpected(LoadFailure{exit_code::kNoInput, {why}});
    }
    auto text = os::read_linked(file, kLargestFile);
    if (text) return std::move(*text);
    return std::unexpected(LoadFailure{exit_code::kNoPermission, {text.error().text()}});
}

std::expected<std::string, std::string> read_included(const std::string& file) {
    auto text = os::read_linked(file, kLargestFile);
    if (!text) return std::unexpected(text.error().text());
    return std::move(*text);
}

std::expected<std::optional<std::vector<std::string>>, std::string> list_folder(const std::string& path) {
    auto names = os::list_checked(path);
    if (!names) return std::unexpected(names.error().text());
    return std::move(*names);
}

}  // namespace

std::expected<Loaded, LoadFailure> load(const std::string& file) {
    auto config_text = read_config(file);
    if (!config_text) return std::unexpected(std::move(config_text.error()));
    auto sources = config::gather({file, std::move(*config_text)}, {read_included, list_folder});
    if (!sources) return std::unexpected(LoadFailure::of(sources.error()));
    auto parsed = config::parse(*sources);
    if (!parsed) return std::unexpected(LoadFailure::of(parsed.error()));
    auto known_hosts_text = read_known_hosts(parsed->config);
    if (!known_hosts_text) return std::unexpected(std::move(known_hosts_text.error()));
    return with_peers(std::move(*parsed), std::move(*sources), std::move(*known_hosts_text));
}

Result<> write_revoked(const std::string& known_hosts, const std::vector<crypto::PublicKey>& keys) {
    auto file = os::LockedFile::lock(os::end_of_link(known_hosts));
    if (!file) return fail(std::move(file));
    auto text = file->read(kLargestFile);
    if (!text) return fail(std::move(text));
    if (!*text) return fail(os::Errc::system, known_hosts + " is gone");
    const auto entries = registry::parse_known_hosts(**text, known_hosts);
    if (!entries) return fail(os::Errc::system, entries.error().front().message());
    const auto now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
    const auto revoked = registry::append_revoked(**text, *entries, keys, now);
    return revoked == **text ? Result<>() : file->replace(revoked);
}

}  // namespace curvegate::daemon::parent
