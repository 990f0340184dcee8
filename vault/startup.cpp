#include "vault/startup.hpp"

#include "os/file.hpp"
#include "vault/key_file.hpp"
#include "vault/passphrase.hpp"

#include <sysexits.h>

#include <array>
#include <utility>

namespace curvegate::vault {
namespace {

constexpr int kPassphraseTries = 3;

struct Exit {
    KeyFileErrc code;
    int status;
};
constexpr std::array kKeyExits = {
    Exit{KeyFileErrc::unreadable, EX_NOINPUT},
    Exit{KeyFileErrc::wrong_owner, EX_NOPERM},
    Exit{KeyFileErrc::wrong_mode, EX_NOPERM},
};
struct CounterExit {
    CounterErrc code;
    int status;
};
constexpr std::array kCounterExits = {
    CounterExit{CounterErrc::unreadable, EX_IOERR},   CounterExit{CounterErrc::wrong_owner, EX_NOPERM},
    CounterExit{CounterErrc::wrong_mode, EX_NOPERM},  CounterExit{CounterErrc::in_use, EX_UNAVAILABLE},
    CounterExit{CounterErrc::cannot_write, EX_IOERR},
};

Started<std::unique_ptr<crypto::SecretPool>> open_pool(Need lock_memory, const Holdings::Say& say) {
    const auto locking = lock_memory == Need::require ? crypto::Locking::require : crypto::Locking::attempt;
    auto pool = crypto::SecretPool::create(locking, kServiceSecrets);
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
        return std::unexpected(Failure{EX_CONFIG, place.path + ": sealed; " + passphrases.problem()});
    }
    if (!key) return std::unexpected(failure_of(key.error()));
    if (key->role != role) {
        return std::unexpected(Failure{
            EX_CONFIG, place.path + " is a " + std::string(name_of(key->role)) + " key and is given as the " +
                           std::string(name_of(role)) + " key; each role needs a key of its own"});
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

}  // namespace

int exit_code_of(const Error& error) {
    for (const auto& exit : kKeyExits) {
        if (error.is(exit.code)) return exit.status;
    }
    for (const auto& exit : kCounterExits) {
        if (error.is(exit.code)) return exit.status;
    }
    if (error.is(KnownHostsErrc::missing)) return EX_NOINPUT;
    if (error.layer() == layer_name(crypto::Errc{})) return EX_UNAVAILABLE;
    return EX_CONFIG;
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
            Failure{EX_CONFIG, options.server_key->path + " and " + options.client_key->path +
                                   " hold the same key; each role needs a key of its own (make "
                                   "one with `curvegate keygen`)"});
    }
    std::optional<Service::Key> server_key;
    std::optional<Service::Key> client_key;
    if (*server) {
        auto ready = all->equip(std::move(**server), *options.server_key, all->server_, options, say);
        if (!ready) return std::unexpected(ready.error());
        server_key.emplace(std::move(*ready));
    }
    if (*client) {
        auto ready = all->equip(std::move(**client), *options.client_key, all->client_, options, say);
        if (!ready) return std::unexpected(ready.error());
        client_key.emplace(std::move(*ready));
        auto known_hosts = KnownHostsFile::open(options.known_hosts, say);
        if (!known_hosts) return std::unexpected(failure_of(known_hosts.error()));
        all->trusted_ = std::move(*known_hosts);
    } else {
        all->trusted_ = std::make_unique<NoServers>();
    }
    all->service_.emplace(std::move(server_key), std::move(client_key), *all->trusted_);
    return all;
}

Started<Service::Key> Holdings::equip(LongTermKey key, const KeyPlace& place, OneKey& with,
                                      const Options& options, const Say& say) {
    const std::string folder = options.state_dir.empty() ? os::folder_of(place.path) : options.state_dir;
    auto counter = CounterStore::open(counter_path(folder, key.public_key), key.public_key);
    if (!counter) return std::unexpected(failure_of(counter.error()));
    with.counter = std::move(*counter);
    if (with.counter->recovered()) {
        say(with.counter->path() + ": one slot of the nonce counter is damaged; skipped numbers to be safe");
    }
    auto permutation = crypto::NoncePermutation::derive(key.secret, with.counter->salt().bytes);
    if (!permutation) return std::unexpected(failure_of(permutation.error()));
    with.nonces.emplace(std::move(*permutation), with.counter->counter(), random_);
    return Service::Key{std::move(key), &*with.nonces};
}

std::vector<NonceCounter*> Holdings::counters() {
    std::vector<NonceCounter*> out;
    for (OneKey* one : {&server_, &client_}) {
        if (one->counter) out.push_back(&one->counter->counter());
    }
    return out;
}

}  // namespace curvegate::vault
