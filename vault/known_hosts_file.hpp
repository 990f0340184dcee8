#pragma once

#include "base/result.hpp"
#include "registry/registry.hpp"
#include "vault/service.hpp"

#include <sys/stat.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace curvegate::vault {

/// The user's fault. Response: a vault that makes vouches refuses to start (66 missing, 78 unusable), one
/// that makes none says so and lists nobody; later, while it lasts, no vouch is made.
enum class KnownHostsErrc {
    missing = 1,  ///< there is no such file
    unusable,     ///< owner, mode, or a line that does not parse
};
[[nodiscard]] constexpr std::string_view layer_name(KnownHostsErrc) {
    return "known_hosts";
}
[[nodiscard]] constexpr std::string_view describe(KnownHostsErrc code) {
    return code == KnownHostsErrc::missing ? "the known_hosts file is missing"
                                           : "the known_hosts file cannot be used";
}

/// known_hosts as the vault itself reads it: looked at before each answer and read again when it has changed,
/// or after 5 s if it could not be used. While the file is missing or broken no key is listed; that is
/// said once for each change.
class KnownHostsFile final : public ListedKeys {
  public:
    using Say = std::function<void(std::string_view line)>;

    /// Reads the file for the first time. Errors: missing, unusable.
    [[nodiscard]] static Result<std::unique_ptr<KnownHostsFile>> open(std::string path, Say say);

    [[nodiscard]] bool is_listed(const crypto::PublicKey& server, WallTime now) override;

  private:
    /// Tells one state of the file from another.
    struct Stamp {
        dev_t device = 0;
        ino_t inode = 0;
        off_t size = 0;
        std::int64_t modified = 0;  // nanoseconds
        std::int64_t changed = 0;   // likewise; mtime can be set back, ctime cannot
        friend bool operator==(const Stamp&, const Stamp&) = default;
    };
    KnownHostsFile(std::string path, Say say) : path_(std::move(path)), say_(std::move(say)) {}
    [[nodiscard]] static Stamp stamp_of(const struct stat& info) noexcept;
    /// The file as it is now; `stamp_` becomes that of what was read. Errors: missing, unusable.
    [[nodiscard]] Result<registry::Registry> read();

    std::string path_;
    Say say_;
    std::optional<Stamp> stamp_;                  // nothing: there was no file
    std::optional<registry::Registry> registry_;  // nothing: what is there cannot be used
    WallTime refused_at_;                         // when that was seen last
};

/// Lists nobody: for a vault with a server key and without a known_hosts.
class NoListedKeys final : public ListedKeys {
  public:
    [[nodiscard]] bool is_listed(const crypto::PublicKey&, WallTime) override { return false; }
};

}  // namespace curvegate::vault
