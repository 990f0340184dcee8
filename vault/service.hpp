#pragma once

#include "base/time.hpp"
#include "crypto/keys.hpp"
#include "crypto/secret.hpp"
#include "vault/key_file.hpp"
#include "vault/nonce_source.hpp"
#include "vault/permissions.hpp"
#include "vault/protocol/protocol.hpp"
#include "vault/rate_limit.hpp"
#include "vault/shared_keys.hpp"

#include <array>
#include <expected>
#include <memory>
#include <optional>

namespace curvegate::vault {

/// The keys that known_hosts names, neither revoked nor expired, as the vault itself reads it: vouches are
/// made for these servers only, and these clients' shared keys are kept before others'.
class ListedKeys {
  public:
    virtual ~ListedKeys() = default;
    [[nodiscard]] virtual bool is_listed(const crypto::PublicKey& key, WallTime now) = 0;
};

/// make_vouch: a hijacked daemon must not stockpile vouches faster than honest use could want them.
inline constexpr double kVouchRate = 5'000;
inline constexpr double kVouchBurst = 10'000;
/// Peers whose shared key is kept, for each long-term key.
inline constexpr std::size_t kKeptSharedKeys = 64;
/// Slots of the pool that a service with all three keys needs at most: keys, permutations, kept and passing
/// keys.
inline constexpr std::size_t kServiceSecrets = 3 * (1 + 4 + kKeptSharedKeys) + 8;

/// What the vault does, without sockets, files or clocks: one request in, one reply out. It answers purposes
/// (kPermissions), picks every nonce itself, and no reply holds a secret or anything that any other verb
/// could turn into one.
class Service {
  public:
    /// A long-term key with its nonces; `nonces` must outlive the service.
    struct Key {
        LongTermKey key;
        NonceSource* nonces;
    };
    /// `server` is the current server key and stands in `slot`; `trusted` must outlive the service.
    Service(std::optional<Key> server, std::optional<Key> client, ListedKeys& trusted,
            KeySlot slot = KeySlot::server);

    /// `now` drives the rate limit, `wall` the dates in known_hosts. A refusal is a reply too.
    [[nodiscard]] Reply handle(const Request& request, Instant now, WallTime wall);

    // Key rotation: a second server key beside the current one, the next or the previous.
    /// There must be a current key and no second one.
    void add_server(Key key, KeySlot slot);
    /// The two change places.
    void switch_servers() noexcept { std::swap(servers_[0], servers_[1]); }
    /// Wipes the second one with all that was kept for it.
    void drop_second() noexcept { servers_[1].reset(); }

    /// What a server key was used for since the vault started.
    struct Use {
        std::uint64_t clients = 0;  ///< vouches that were good
        Deadline last;              ///< when the last of them came
    };
    /// Returns nullopt if no key stands in that slot.
    [[nodiscard]] std::optional<Use> use_of(KeySlot slot) const;

  private:
    struct Holder {
        Holder(Key&& from, KeySlot at) : own(std::move(from)), shared(kKeptSharedKeys), slot(at) {}
        Key own;
        SharedKeys shared;
        KeySlot slot;
        Use use;
    };
    template <class T>
    using Answer = std::expected<T, Status>;

    /// Why the table of permissions (PROTOCOL 6.5) refuses it; returns nullopt if it does not.
    template <class Body>
    [[nodiscard]] std::optional<Status> refusal(const Body& verb, Instant now);
    /// The key for a slot; null: there is none.
    [[nodiscard]] Holder* holder_of(KeySlot slot);
    /// The server keys in the order in which a Hello is tried under them: the named one first.
    [[nodiscard]] std::array<Holder*, 2> order_of(KeySlot first) const noexcept;
    [[nodiscard]] Answer<ReplyBody> answer(const AnswerHello& request);
    [[nodiscard]] Answer<ReplyBody> answer(const MakeVouch& request, WallTime wall);
    [[nodiscard]] Answer<ReplyBody> answer(const OpenVouch& request, Instant now, WallTime wall);
    [[nodiscard]] Answer<ReplyBody> answer(const GetPublicKey& request);

    std::array<std::unique_ptr<Holder>, 2> servers_;  // current, then the next or the previous one
    std::unique_ptr<Holder> client_;
    ListedKeys* listed_;
    RateLimit vouches_{kVouchRate, kVouchBurst};
};

}  // namespace curvegate::vault
