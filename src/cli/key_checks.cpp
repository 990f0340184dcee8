#include "cli/key_checks.hpp"

#include "cli/secrets.hpp"
#include "os/file.hpp"
#include "vault/counter_store.hpp"
#include "vault/private_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

namespace curvegate::cli {
namespace {

constexpr std::size_t kLongestKeyFile = std::size_t{16} * 1024;

std::size_t line_of_first(const config::Config& config, config::Side side) {
    const auto service = std::ranges::find(config.services, side, &config::Service::side);
    return service != config.services.end() ? service->line : 0;
}

/// Where systemd put the credential; empty if it did not.
std::string credential_path(std::string_view name) {
    const char* folder = std::getenv("CREDENTIALS_DIRECTORY");
    if (folder == nullptr) return {};
    const std::string path = std::string(folder) + "/" + std::string(name);
    return ::access(path.c_str(), F_OK) == 0 ? path : std::string();
}

Result<> read_at(int fd, std::size_t at, MutableBytes into, const std::string& path) {
    while (!into.empty()) {
        const ssize_t got = ::pread(fd, into.data(), into.size(), static_cast<off_t>(at));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return os::fail_errno("read " + path);
        if (got == 0) return fail(vault::CounterErrc::too_short, path);
        into = into.subspan(static_cast<std::size_t>(got));
        at += static_cast<std::size_t>(got);
    }
    return {};
}

Result<vault::CounterState> read_counter(const std::string& path, const crypto::PublicKey& key) {
    if (vault::is_folder_missing(path)) return fail(vault::CounterErrc::no_folder, os::folder_of(path));
    if (::access(path.c_str(), F_OK) != 0 && errno == ENOENT) return fail(vault::CounterErrc::missing, path);
    auto fd = os::open_checked(path, os::Privacy::secret);
    if (!fd) return fail(std::move(fd));
    vault::CounterSlots both{};
    for (std::size_t i = 0; i < both.size(); ++i) {
        if (auto read = read_at(fd->get(), i * vault::kCounterSlotDistance, both[i], path); !read)
            return fail(std::move(read));
    }
    return vault::choose_counter_slot(both, key);
}

Result<os::UniqueFd> open_key(const KeyUse& use) {
    if (!use.is_credential) return os::open_checked(use.path, os::Privacy::secret);
    auto fd = vault::open_private(use.path, O_RDONLY, vault::FileKind::credential);
    if (!fd) return fail(os::Errc::system, fd.error().detail + ": the credential cannot be used");
    return std::move(*fd);
}

/// One sentence that names the file once.
std::string about(const std::string& path, const Error& error) {
    const std::string text = error.is(os::Errc::system) ? error.detail() : error.text();
    return text.contains(path) ? text : path + ": " + text;
}

/// The status with which a vault would end that may not use the file, or finds in it what it should not.
int status_of(const std::string& path, const Error& error) {
    struct stat info{};
    if (!error.is(os::Errc::system)) return exit_code::kConfig;
    if (::lstat(path.c_str(), &info) != 0) return exit_for_reading(path);
    return S_ISREG(info.st_mode) ? exit_code::kNoPermission : exit_code::kConfig;
}

/// What is wrong, and the status with which a daemon would end for it.
struct Fault {
    std::string text;
    int status = exit_code::kConfig;
};

/// What is wrong with a key and its counter; no text if nothing. Adds its public key to `seen`.
Fault check_key(const config::Config& config, const KeyUse& use, std::vector<crypto::PublicKey>& seen) {
    if (use.path.empty()) {
        // The vault's own unit names its keys itself.
        if (!config.vault_socket.empty()) return {};
        return {std::string(use.key) + " = PATH is missing: this is a " +
                std::string(vault::name_of(use.role)) + " end (or give the credential " +
                std::string(use.credential) + ")"};
    }
    const std::string key(use.key);
    const auto header = read_key_header(use);
    if (!header) return {key + ": " + about(use.path, header.error()), status_of(use.path, header.error())};
    if (header->role != use.role) {
        return {key + ": " + use.path + " is a " + std::string(vault::name_of(header->role)) +
                "'s key, and a " + std::string(vault::name_of(use.role)) +
                "'s is needed (curvegate keygen makes one)"};
    }
    if (std::ranges::find(seen, header->public_key) != seen.end()) {
        return {key + ": " + use.path +
                " holds the same key as server-key; each role needs a key of its own"};
    }
    seen.push_back(header->public_key);
    const std::string counter = counter_of(config, use, header->public_key);
    const auto counted = look_at_counter(counter, header->public_key);
    return counted.problem.empty() ? Fault{} : Fault{key + ": " + counted.problem, counted.status};
}

}  // namespace

std::vector<KeyUse> keys_in_use(const config::Parsed& parsed) {
    const config::Config& config = parsed.config;
    std::vector<KeyUse> uses;
    const auto add = [&](KeyUse use, config::Side side) {
        use.is_credential = use.path.empty();
        if (use.is_credential) use.path = credential_path(use.credential);
        use.line = use.is_credential ? line_of_first(config, side) : parsed.line_of("", use.key);
        uses.push_back(std::move(use));
    };
    if (config.needs_server_key()) {
        add({vault::KeyRole::server, "server-key", "curvegate.server-key", config.server_key},
            config::Side::server);
    }
    if (config.needs_client_key()) {
        add({vault::KeyRole::client, "client-key", "curvegate.client-key", config.client_key},
            config::Side::client);
    }
    return uses;
}

Result<vault::KeyFileHeader> read_key_header(const KeyUse& use) {
    auto fd = open_key(use);
    if (!fd) return fail(std::move(fd));
    WipedBuffer text(kLongestKeyFile);
    if (auto read = read_secret(fd->get(), use.path, text); !read) return fail(std::move(read));
    return vault::parse_key_header(text.text());
}

std::string counter_of(const config::Config& config, const KeyUse& use, const crypto::PublicKey& key) {
    return vault::counter_path(config.state_dir.empty() ? os::folder_of(use.path) : config.state_dir, key);
}

CounterLook look_at_counter(const std::string& path, const crypto::PublicKey& key) {
    const auto state = read_counter(path, key);
    if (!state) return {about(path, state.error()), status_of(path, state.error()), false};
    return {{}, exit_code::kOk, state->recovered};
}

KeyProblems check_keys(const config::Parsed& parsed) {
    KeyProblems out;
    std::vector<crypto::PublicKey> seen;
    for (const KeyUse& use : keys_in_use(parsed)) {
        auto fault = check_key(parsed.config, use, seen);
        if (fault.text.empty()) continue;
        const bool same = out.problems.empty() || out.status == fault.status;
        out.status = same ? fault.status : exit_code::kConfig;
        out.problems.push_back({parsed.config.file, use.line, std::move(fault.text)});
    }
    return out;
}

}  // namespace curvegate::cli
