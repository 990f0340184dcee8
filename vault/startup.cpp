#include "vault/startup.hpp"

#include "base/exit_code.hpp"
#include "os/file.hpp"
#include "os/secret_pages.hpp"
#include "vault/key_file.hpp"
#include "vault/passphrase.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <utility>

namespace curvegate::vault {
namespace {

constexpr int kPassphraseTries = 3;

struct Exit {
    KeyFileErrc code;
    int status;
};
constexpr std::array kKeyExits = {
    Exit{KeyFileErrc::missing, exit_code::kNoInput},
    Exit{KeyFileErrc::denied, exit_code::kNoPermission},
    Exit{KeyFileErrc::unreadable, exit_code::kIoError},
    Exit{KeyFileErrc::wrong_owner, exit_code::kNoPermission},
    Exit{KeyFileErrc::wrong_mode, exit_code::kNoPermission},
};
constexpr std::array kRotationExits = {
    std::pair{RotationErrc::unusable, exit_code::kNoPermission},
    std::pair{RotationErrc::in_use, exit_code::kUnavailable},
    std::pair{RotationErrc::cannot_write, exit_code::kIoError},
};
struct CounterExit {
    CounterErrc code;
    int status;
};
constexpr std::array kCounterExits = {
    CounterExit{CounterErrc::denied, exit_code::kNoPermission},
    CounterExit{CounterErrc::unreadable, exit_code::kIoError},
    CounterExit{CounterErrc::wrong_owner, exit_code::kNoPermission},
    CounterExit{CounterErrc::wrong_mode, exit_code::kNoPermission},
    CounterExit{CounterErrc::in_use, exit_code::kUnavailable},
    CounterExit{CounterErrc::cannot_write, exit_code::kIoError},
};

Started<std::unique_ptr<crypto::SecretPool>> open_pool(Need lock_memory, const Holdings::Say& say) {
    const auto locking = lock_memory == Need::require ? crypto::Locking::require : crypto::Locking::attempt;
    auto pool = crypto::SecretPool::create(os::secret_pages(), locking, kServiceSecrets);
    if (!pool) return std::unexpected(failure_of(pool.error()));
    if (!(*pool)->all_locked()) say("WARNING: memory for secrets is not locked and may be written to swap");
    return std::move(*pool);
}

/// Loads a key of the role; a passphrase that was typed wrongly may be typed again.
Started<LongTermKey> load(const KeyPlace& place, KeyRole role, crypto::SecretPool& pool,
                          Passphrases& passphrases) {
    const AskPassphrase ask = [&](MutableBytes out) { return passphrases.ask(place.path, out); };
    const auto load_once = [&] {
        return place.credential ? load_credential_key(place.path, pool, ask)
                                : load_key(place.path, pool, ask);
    };
    auto key = load_once();
    for (int tries = 1; tries < kPassphraseTries; ++tries) {
        if (key || !key.error().is(KeyFileErrc::wrong_passphrase) || !passphrases.typed()) break;
        key = load_once();
    }
    if (!key && key.error().is(KeyFileErrc::passphrase_needed) && !passphrases.problem().empty()) {
        return std::unexpected(
            Failure{exit_code::kConfig, place.path + ": sealed; " + passphrases.problem()});
    }
    if (!key) return std::unexpected(failure_of(key.error()));
    if (key->role != role) {
        return std::unexpected(
            Failure{exit_code::kConfig, place.path + " is a " + std::string(name_of(key->role)) +
                                            " key and is given as the " + std::string(name_of(role)) +
                                            " key; each role needs a key of its own"});
    }
    return std::move(*key);
}

/// The key of a role, or nothing if none is asked for.
Started<std::optional<LongTermKey>> load_if(const std::optional<KeyPlace>& place, KeyRole role,
                                            crypto::SecretPool& pool, Passphrases& passphrases) {
    if (!place) return std::nullopt;
    auto key = load(*place, role, pool, passphrases);
    if (!key) return std::unexpected(key.error());
    return std::move(*key);
}

std::string absolute(const std::string& path) {
    return std::filesystem::absolute(path).lexically_normal().string();
}

/// Of a path that a rotation recorded: systemd's credentials have other modes than our own files.
KeyPlace place_of(const std::string& path) {
    const char* folder = std::getenv("CREDENTIALS_DIRECTORY");  // NOLINT(concurrency-mt-unsafe)
    const bool credential =
        folder != nullptr && *folder != '\0' && path.starts_with(std::string(folder) + "/");
    return {path, credential};
}

}  // namespace

/// The server keys that are live, the current one first, and the file that says which they are.
struct Holdings::Servers {
    std::array<std::optional<Service::Key>, 2> keys;
    RotationState state;
    std::unique_ptr<RotationStore> store;  // none: no control socket, and no rotation under this key's name
};

int exit_code_of(const Error& error) {
    for (const auto& exit : kKeyExits) {
        if (error.is(exit.code)) return exit.status;
    }
    for (const auto& exit : kCounterExits) {
        if (error.is(exit.code)) return exit.status;
    }
    for (const auto& [code, status] : kRotationExits) {
        if (error.is(code)) return status;
    }
    if (error.is(KnownHostsErrc::missing)) return exit_code::kNoInput;
    if (error.layer() == layer_name(crypto::Errc{})) return exit_code::kUnavailable;
    return exit_code::kConfig;
}

Failure failure_of(const Error& error) {
    return {exit_code_of(error), error.text()};
}

Started<std::unique_ptr<Holdings>> Holdings::open(const Options& options, const Say& say, int give_up) {
    std::unique_ptr<Holdings> all(new Holdings);
    auto pool = open_pool(options.lock_memory, say);
    if (!pool) return std::unexpected(pool.error());
    all->pool_ = std::move(*pool);

    Passphrases passphrases({options.passphrase_file, options.passphrase_credential, give_up});
    auto server = load_if(options.server_key, KeyRole::server, *all->pool_, passphrases);
    if (!server) return std::unexpected(server.error());
    auto client = load_if(options.client_key, KeyRole::client, *all->pool_, passphrases);
    if (!client) return std::unexpected(client.error());
    if (*server && *client && (*server)->public_key == (*client)->public_key) {
        return std::unexpected(
            Failure{exit_code::kConfig, options.server_key->path + " and " + options.client_key->path +
                                            " hold the same key; each role needs a key of its own (make "
                                            "one with `curvegate keygen`)"});
    }
    std::optional<crypto::PublicKey> client_public;
    if (*client) client_public = (*client)->public_key;
    Servers servers;
    if (*server) {
        auto opened = all->open_servers(std::move(**server), options, passphrases, say);
        if (!opened) return std::unexpected(opened.error());
        servers = std::move(*opened);
    }
    std::optional<Service::Key> client_key;
    if (*client) {
        all->client_ = std::make_unique<KeyNonces>();
        auto ready = all->equip(std::move(**client), options.client_key->path, *all->client_, options, say);
        if (!ready) return std::unexpected(ready.error());
        client_key.emplace(std::move(*ready));
    }
    all->listed_ = std::make_unique<NoListedKeys>();
    if (!options.known_hosts.empty()) {
        auto known_hosts = KnownHostsFile::open(options.known_hosts, say);
        // To a vault that makes no vouches the file says only whose keys to keep at hand.
        if (!known_hosts && *client) return std::unexpected(failure_of(known_hosts.error()));
        if (!known_hosts) say(known_hosts.error().text() + "; going on as if it listed nobody");
        if (known_hosts) all->listed_ = std::move(*known_hosts);
    }
    all->service_.emplace(std::move(servers.keys[0]), std::move(client_key), *all->listed_,
                          servers.state.current.slot);
    if (servers.keys[1]) all->service_->add_server(std::move(*servers.keys[1]), servers.state.second.slot);
    if (servers.store && !options.control.empty()) {
        all->rotation_.emplace(
            Rotation::Parts{&*all->service_, all->pool_.get(), &all->random_,
                            options.state_dir.empty() ? std::string() : absolute(options.state_dir),
                            absolute(options.server_key->path), client_public, say},
            std::move(servers.store), std::move(all->servers_));
    }
    return all;
}

// The state is named after the configured key, and may say that others took its place.
Started<Holdings::Servers> Holdings::open_servers(LongTermKey configured, const Options& options,
                                                  Passphrases& passphrases, const Say& say) {
    const std::string& path = options.server_key->path;
    const std::string folder = options.state_dir.empty() ? os::folder_of(path) : options.state_dir;
    Servers out;
    const auto if_new = inherited_state(folder, configured.public_key, absolute(path));
    auto store = RotationStore::open(
        absolute(rotation_path(folder, configured.public_key)), if_new,
        options.control.empty() ? RotationStore::IfMissing::none : RotationStore::IfMissing::make,
        kCounterLockWait);
    if (!store) return std::unexpected(failure_of(store.error()));
    out.store = std::move(*store);
    const auto& state = out.state = out.store ? out.store->state() : if_new;
    std::vector<RotationKey> live = {state.current};
    if (state.part != Second::none) live.push_back(state.second);
    std::optional<LongTermKey> own(std::move(configured));
    for (std::size_t i = 0; i < live.size(); ++i) {
        const bool is_own = own && std::ranges::equal(own->public_key.bytes(), live[i].public_key);
        const std::string& from = is_own ? path : live[i].path;
        auto key = is_own ? Started<LongTermKey>(std::move(*std::exchange(own, std::nullopt)))
                          : load(place_of(from), KeyRole::server, *pool_, passphrases);
        if (!key) return std::unexpected(key.error());
        if (!std::ranges::equal(key->public_key.bytes(), live[i].public_key))
            return std::unexpected(failure_of(Error(RotationErrc::other_key, from)));
        servers_[i] = std::make_unique<KeyNonces>();
        auto ready = equip(std::move(*key), from, *servers_[i], options, say);
        if (!ready) return std::unexpected(ready.error());
        out.keys[i].emplace(std::move(*ready));
    }
    if (own) say(path + " holds a key that was rotated out; name " + state.current.path + " as server-key");
    return out;
}

Started<Service::Key> Holdings::equip(LongTermKey key, const std::string& path, KeyNonces& with,
                                      const Options& options, const Say& say) {
    const std::string folder = options.state_dir.empty() ? os::folder_of(path) : options.state_dir;
    auto counter = CounterStore::open(counter_path(folder, key.public_key), key.public_key);
    if (!counter) return std::unexpected(failure_of(counter.error()));
    if ((*counter)->recovered()) {
        say((*counter)->path() + ": one slot of the nonce counter is damaged; skipped numbers to be safe");
    }
    auto ready = with.serve(std::move(key), std::move(*counter), random_);
    if (!ready) return std::unexpected(failure_of(ready.error()));
    return std::move(*ready);
}

std::vector<NonceCounter*> Holdings::counters() {
    std::vector<NonceCounter*> out;
    if (rotation_) out = rotation_->counters();
    for (const KeyNonces* one : {servers_[0].get(), servers_[1].get(), client_.get()}) {
        if (one != nullptr) out.push_back(&one->counter->counter());
    }
    return out;
}

}  // namespace curvegate::vault
