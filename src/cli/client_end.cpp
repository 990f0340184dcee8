#include "cli/client_end.hpp"

#include "cli/key_checks.hpp"
#include "os/random.hpp"
#include "text/reading.hpp"
#include "vault/counter_store.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>

namespace curvegate::cli {
namespace {

class TemporaryFolder {
  public:
    TemporaryFolder() {
        const char* given = std::getenv("TMPDIR");  // NOLINT(concurrency-mt-unsafe): one thread so far
        const std::string place = given != nullptr && *given != '\0' ? given : "/tmp";
        std::string name = place + "/curvegate-XXXXXX";
        if (::mkdtemp(name.data()) != nullptr) {
            path_ = name;
        } else {
            problem_ =
                place + ": " + std::strerror(errno) +
                " (a folder for the nonce counter of this connection is made there; TMPDIR names another "
                "place)";
        }
    }
    ~TemporaryFolder() {
        std::error_code ignored;
        if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
    }
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;
    [[nodiscard]] const std::string& path() const noexcept { return path_; }
    /// Why there is no folder; empty if there is one.
    [[nodiscard]] const std::string& problem() const noexcept { return problem_; }

  private:
    std::string path_;
    std::string problem_;
};

std::expected<VaultFiles, NoVault> files_of(const config::Parsed& parsed, const std::string& state) {
    const auto uses = keys_in_use(parsed);
    const auto use = std::ranges::find(uses, vault::KeyRole::client, &KeyUse::role);
    if (use == uses.end() || use->path.empty())
        return std::unexpected(NoVault{exit_code::kConfig, "client-key is missing"});
    const auto header = read_key_header(*use);
    if (!header) {
        const bool system = header.error().is(os::Errc::system);
        return std::unexpected(
            NoVault{system ? exit_for_reading(use->path) : exit_code::kConfig,
                    system ? header.error().text() : use->path + ": " + header.error().text()});
    }
    os::SystemRandom random;
    const auto made =
        vault::init_counter(vault::counter_path(state, header->public_key), header->public_key, random);
    if (!made) return std::unexpected(NoVault{exit_code::kCannotCreate, made.error().text()});
    VaultFiles files;
    files.client_key = use->path;
    files.known_hosts = parsed.config.known_hosts;
    files.state_dir = state;
    files.passphrase_file = parsed.config.passphrase_file;
    return files;
}

}  // namespace

Outcome<const config::Service*> find_client_end(const config::Config& config, const std::string& name) {
    const config::Service* service = config.find_service(name);
    if (service == nullptr) {
        std::vector<std::string_view> clients;
        for (const auto& other : config.services) {
            if (other.side == config::Side::client) clients.push_back(other.name);
        }
        return std::unexpected(complain(exit_code::kUsage, config.file + " has no section [" + name + "]" +
                                                               text::did_you_mean(name, clients)));
    }
    if (service->side != config::Side::client) {
        return std::unexpected(complain(
            exit_code::kUsage, "[" + name + "] is a server end; only the tunnel of a client end is dialled"));
    }
    return service;
}

std::expected<Vault, NoVault> open_own_vault(asio::io_context& context, const config::Parsed& parsed) {
    const auto& config = parsed.config;
    const auto as_ours = [](std::expected<Vault, std::string> vault) -> std::expected<Vault, NoVault> {
        if (vault) return std::move(*vault);
        return std::unexpected(NoVault{exit_code::kUnavailable, std::move(vault.error())});
    };
    if (!config.vault_socket.empty())
        return as_ours(Vault::connect(context, config.vault_socket, config.known_hosts));
    const TemporaryFolder state;
    if (!state.problem().empty()) return std::unexpected(NoVault{exit_code::kCannotCreate, state.problem()});
    const auto files = files_of(parsed, state.path());
    if (!files) return std::unexpected(files.error());
    return as_ours(Vault::spawn(context, *files));
}

std::vector<crypto::PublicKey> pinned_keys(const Vault& vault, const std::string& peer) {
    const auto wall = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
    return vault.impl()->registry.keys_of(peer, wall);
}

tunnel::curvecp::StreamTarget stream_target(const config::Service& service, io::Target address,
                                            std::string peer, std::vector<crypto::PublicKey> keys) {
    return {std::move(address),
            std::move(peer),
            std::move(keys),
            {{service.server_extension}, {service.client_extension}},
            *wire::curvecp::encode_server_name(service.server_name),
            service.limits.dead_peer,
            {}};
}

}  // namespace curvegate::cli
