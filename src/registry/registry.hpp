#pragma once

#include "base/ip.hpp"
#include "base/time.hpp"
#include "crypto/keys.hpp"
#include "registry/known_hosts.hpp"

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace curvegate::registry {

/// Who may use a service: names of known_hosts, or any key at all.
struct AllowList {
    bool any = false;
    std::vector<std::string> names;
    friend bool operator==(const AllowList&, const AllowList&) = default;
};

/// Why a key was let in or not; counted and logged here, never told to the peer.
enum class Verdict {
    allowed,
    unknown_key,    ///< stands in no line of known_hosts
    revoked,        ///< stands in a @revoked line, which beats every other
    not_named,      ///< known, but no name of its lines is in the service's allow list
    wrong_address,  ///< allowed by name, but from= of those lines does not hold the address
    expired,        ///< allowed by name and address, but valid-until= has passed
};
[[nodiscard]] std::string_view describe(Verdict verdict);

struct Decision {
    Verdict verdict;
    std::string name;  ///< the name that decided, or the key's first name; empty for an unknown key
};

/// known_hosts as an immutable value with lookups both ways; swapped whole, never changed. Deny by default.
class Registry {
  public:
    explicit Registry(std::vector<Entry> entries);

    /// May `key`, connecting from `source`, use a service with this allow list? An entry decides by name,
    /// then address, then date; the first entry (in the order of the file) that passes all three lets the key
    /// in, otherwise the verdict is that of the entry that came furthest. With `allow.any` every key but a
    /// revoked one is allowed.
    [[nodiscard]] Decision authorise(const crypto::PublicKey& key, const AllowList& allow,
                                     const IpAddress& source, WallTime now) const;
    /// The keys to expect of a peer by this name, in the order of the file: not revoked, not expired.
    [[nodiscard]] std::vector<crypto::PublicKey> keys_of(std::string_view name, WallTime now) const;
    /// May a vouch be made for this server? Listed, not revoked, not expired.
    [[nodiscard]] bool is_trusted_server(const crypto::PublicKey& key, WallTime now) const;
    /// Does a @revoked line name the key?
    [[nodiscard]] bool is_revoked(const crypto::PublicKey& key) const;
    /// The key's first name in the order of the file, or nothing.
    [[nodiscard]] std::string_view name_of(const crypto::PublicKey& key) const;
    [[nodiscard]] bool has_name(std::string_view name) const { return by_name_.contains(std::string(name)); }
    /// When the next line expires after `now`, if one does.
    [[nodiscard]] std::optional<WallTime> next_expiry(WallTime now) const;
    /// The same with these keys revoked.
    [[nodiscard]] Registry with_revoked(const std::vector<crypto::PublicKey>& keys) const;
    [[nodiscard]] const std::vector<Entry>& entries() const noexcept { return entries_; }

  private:
    std::vector<Entry> entries_;
    std::unordered_map<crypto::PublicKey, std::vector<std::size_t>> by_key_;
    std::unordered_map<std::string, std::vector<std::size_t>> by_name_;
};

/// Adds those of `keys` that `known` has not, each once, and gives them.
std::vector<crypto::PublicKey> add_missing(std::vector<crypto::PublicKey>& known,
                                           const std::vector<crypto::PublicKey>& keys);

}  // namespace curvegate::registry
