#include "crypto/keys.hpp"
#include "cli/exit.hpp"
#include "cli/options.hpp"
#include "cli/secrets.hpp"
#include "cli/verbs.hpp"
#include "config/values.hpp"
#include "crypto/secret.hpp"
#include "os/file.hpp"
#include "os/random.hpp"
#include "os/secret_pages.hpp"
#include "vault/counter_store.hpp"
#include "vault/key_file.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>

namespace curvegate::cli {
namespace {

constexpr std::size_t kSecretSize = crypto::LongTermSecret::kSize;
constexpr std::size_t kLongestSecretText = 1024;
constexpr std::size_t kMostSecrets = 8;

constexpr std::array<std::pair<std::string_view, vault::KeyRole>, 2> kRoles = {
    {{"server", vault::KeyRole::server}, {"client", vault::KeyRole::client}}};

/// What the command line of keygen and import asks for.
struct Order {
    vault::KeyRole role;
    std::string path;
    std::string state_dir;
};

Options& declare(Options& options) {
    return options.value("role", "server|client", "what the key is for: a key serves one role")
        .value("output,o", "FILE", "the key file to make; an existing one is never overwritten")
        .value("state-dir", "DIR", "folder of the nonce counter (default: that of FILE)");
}

Outcome<Order> order_of(const Options& options) {
    const auto wrong = [&](const std::string& text) { return std::unexpected(options.usage_error(text)); };
    if (!options.has("role")) return wrong("say what the key is for: --role server or --role client");
    const auto role = config::parse_choice(options.get("role"), kRoles);
    if (!role) return wrong("--role: " + role.error());
    const std::string path = options.get("output");
    if (path.empty()) return wrong("name the key file: -o FILE");
    std::string state_dir = options.has("state-dir") ? options.get("state-dir") : os::folder_of(path);
    if (state_dir.empty()) return wrong("--state-dir: want a folder");
    return Order{*role, path, std::move(state_dir)};
}

Outcome<std::unique_ptr<crypto::SecretPool>> make_pool() {
    auto pool = crypto::SecretPool::create(os::secret_pages(), crypto::Locking::attempt, kMostSecrets);
    if (!pool) return std::unexpected(complain(exit_code::kUnavailable, pool.error().text()));
    if (!(*pool)->all_locked()) {
        complain(exit_code::kOk,
                 "warning: memory cannot be locked, so the secret could reach the swap space");
    }
    return std::move(*pool);
}

/// Asks twice; nothing if the two differ, there is none, or nobody can be asked.
Outcome<> ask_passphrase(WipedBuffer& into) {
    WipedBuffer again(into.room().size());
    HiddenTerminal terminal;
    const bool answered =
        terminal.ask("Passphrase of the new key: ", into) && terminal.ask("The same again: ", again);
    if (!answered)
        return std::unexpected(complain(exit_code::kNoInput, "no passphrase was given on the terminal"));
    if (into.content().empty())
        return std::unexpected(complain(exit_code::kBadData, "the passphrase is empty"));
    if (!std::ranges::equal(into.content(), again.content())) {
        return std::unexpected(complain(exit_code::kBadData, "the two passphrases differ"));
    }
    return {};
}

int exit_for_store(const Error& error, const std::string& path) {
    return error.is(vault::KeyFileErrc::exists) ? exit_code::kCannotCreate : exit_for_writing(path);
}

/// Makes the key file and its counter, both or none, and prints the public key.
int store(const Order& order, crypto::LongTermSecret secret, std::optional<Bytes> passphrase) {
    const auto public_key = crypto::public_key_of(secret);
    if (!public_key) return complain(exit_code::kBadData, public_key.error().text());
    const vault::LongTermKey key{order.role, *public_key, std::move(secret)};
    os::SystemRandom random;
    if (auto stored = vault::store_key(order.path, key, random, passphrase); !stored) {
        return complain(exit_for_store(stored.error(), order.path), stored.error().text());
    }
    const std::string counter = vault::counter_path(order.state_dir, *public_key);
    if (auto made = vault::init_counter(counter, *public_key, random); !made) {
        ::unlink(order.path.c_str());
        complain(exit_for_writing(counter), made.error().text());
        return complain(exit_for_writing(counter),
                        order.path + " was not made: a key needs its nonce counter");
    }
    print(public_key->text());
    return finish_output();
}

/// 32 bytes as they are, or as text with white space around it.
Outcome<crypto::LongTermSecret> read_imported(crypto::SecretPool& pool) {
    WipedBuffer input(kLongestSecretText);
    if (::isatty(STDIN_FILENO) == 1) {
        if (!HiddenTerminal().ask("Secret key (base64, hex or Z85): ", input)) {
            return std::unexpected(complain(exit_code::kNoInput, "no secret was given on the terminal"));
        }
    } else if (auto read = read_secret(STDIN_FILENO, "standard input", input); !read) {
        return std::unexpected(complain(exit_code::kBadData, read.error().detail()));
    }
    ByteArray<kSecretSize> bytes{};
    Result<> decoded;
    if (input.content().size() == kSecretSize) {
        std::ranges::copy(input.content(), bytes.begin());
    } else {
        decoded = crypto::decode_key(input.trimmed(), bytes);
    }
    const bool all_zero = std::ranges::all_of(bytes, [](Byte byte) { return byte == 0; });
    auto secret = crypto::LongTermSecret::adopt(pool, bytes);  // wipes `bytes`
    if (!decoded)
        return std::unexpected(complain(exit_code::kBadData, "standard input: " + decoded.error().text()));
    if (all_zero)
        return std::unexpected(complain(exit_code::kBadData, "standard input: a secret of zeros is none"));
    if (!secret) return std::unexpected(complain(exit_code::kUnavailable, secret.error().text()));
    return std::move(*secret);
}

}  // namespace

int keygen(const Verb& self, const Arguments& arguments) {
    Options options(self);
    declare(options).flag("passphrase", "seal the key file with a passphrase, asked on the terminal");
    if (const auto end = options.parse(arguments)) return *end;
    const auto order = order_of(options);
    if (!order) return order.error();
    const auto pool = make_pool();
    if (!pool) return pool.error();

    WipedBuffer passphrase(vault::kLongestPassphrase);
    const bool sealed = options.has("passphrase");
    if (sealed) {
        if (auto asked = ask_passphrase(passphrase); !asked) return asked.error();
    }
    os::SystemRandom random;
    auto secret = crypto::LongTermSecret::random(**pool, random);
    if (!secret) return complain(exit_code::kUnavailable, secret.error().text());
    return store(*order, std::move(*secret),
                 sealed ? std::optional<Bytes>(passphrase.content()) : std::nullopt);
}

int import_key(const Verb& self, const Arguments& arguments) {
    Options options(self);
    if (const auto end = declare(options).parse(arguments)) return *end;
    const auto order = order_of(options);
    if (!order) return order.error();
    const auto pool = make_pool();
    if (!pool) return pool.error();
    auto secret = read_imported(**pool);
    if (!secret) return secret.error();
    return store(*order, std::move(*secret), std::nullopt);
}

}  // namespace curvegate::cli
