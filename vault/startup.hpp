#pragma once

#include "base/result.hpp"
#include "crypto/secret.hpp"
#include "os/random.hpp"
#include "vault/counter_store.hpp"
#include "vault/known_hosts_file.hpp"
#include "vault/nonce_source.hpp"
#include "vault/options.hpp"
#include "vault/rotation.hpp"
#include "vault/service.hpp"

#include <array>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace curvegate::vault {

/// Why the vault does not start: a code of base/exit_code.hpp and the words.
struct Failure {
    int exit_code;
    std::string text;
};
template <class T = void>
using Started = std::expected<T, Failure>;

/// 66 missing input, 69 sandbox, locked memory or counter's lock not to be had, 74 disk, 77 permission, 78
/// keys, counters and known_hosts that are not right.
[[nodiscard]] int exit_code_of(const Error& error);
[[nodiscard]] Failure failure_of(const Error& error);

class Passphrases;

/// Everything that the service works with: locked memory, keys, counters, known_hosts. Opened before the
/// process is confined; after that no file but known_hosts is opened again.
class Holdings {
  public:
    using Say = std::function<void(std::string_view line)>;

    /// `give_up`: a descriptor that ends the asking for a passphrase when it becomes readable.
    [[nodiscard]] static Started<std::unique_ptr<Holdings>> open(const Options& options, const Say& say,
                                                                 int give_up);

    [[nodiscard]] Service& service() noexcept { return *service_; }
    [[nodiscard]] std::vector<NonceCounter*> counters();
    /// Returns nullptr if there is no server key or no control socket.
    [[nodiscard]] Rotation* rotation() noexcept { return rotation_ ? &*rotation_ : nullptr; }

  private:
    struct Servers;
    Holdings() = default;
    /// The server keys that are live: the configured one, or those that a rotation left.
    [[nodiscard]] Started<Servers> open_servers(LongTermKey configured, const Options& options,
                                                Passphrases& passphrases, const Say& say);
    /// Opens the counter of a key and makes its nonces.
    [[nodiscard]] Started<Service::Key> equip(LongTermKey key, const std::string& path, KeyNonces& with,
                                              const Options& options, const Say& say);

    std::unique_ptr<crypto::SecretPool> pool_;  // first, so that it outlives all secrets
    os::SystemRandom random_;
    std::array<std::unique_ptr<KeyNonces>, 2> servers_;  // until the rotation has them
    std::unique_ptr<KeyNonces> client_;
    std::unique_ptr<ListedKeys> listed_;
    std::optional<Service> service_;
    std::optional<Rotation> rotation_;
};

}  // namespace curvegate::vault
