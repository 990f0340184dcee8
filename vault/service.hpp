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

#include <expected>
#include <optional>

namespace curvegate::vault {

/// Which servers a vouch may be made for: the vault's own reading of known_hosts.
class TrustedServers {
  public:
    virtual ~TrustedServers() = default;
    [[nodiscard]] virtual bool is_trusted(const crypto::PublicKey& server, WallTime now) = 0;
};

/// make_vouch: a hijacked daemon must not stockpile vouches faster than honest use could want them.
inline constexpr double kVouchRate = 5'000;
inline constexpr double kVouchBurst = 10'000;
/// Peers whose shared key is kept, for each long-term key.
inline constexpr std::size_t kKeptSharedKeys = 64;
/// Slots of the pool that a service with both keys needs at most: keys, permutations, kept and passing keys.
inline constexpr std::size_t kServiceSecrets = 2 * (1 + 4 + kKeptSharedKeys) + 8;

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
    /// At most one key a role; `trusted` must outlive the service.
    Service(std::optional<Key> server, std::optional<Key> client, TrustedServers& trusted);

    /// `now` drives the rate limit, `wall` the dates in known_hosts. A refusal is a reply too.
    [[nodiscard]] Reply handle(const Request& request, Instant now, WallTime wall);

  private:
    struct Holder {
        explicit Holder(Key&& from) : own(std::move(from)), shared(kKeptSharedKeys) {}
        Key own;
        SharedKeys shared;
    };
    template <class T>
    using Answer = std::expected<T, Status>;

    /// The key for a slot, if there is one and its role is the verb's.
    [[nodiscard]] Holder* holder_of(KeySlot slot, Verb verb);
    [[nodiscard]] Answer<ReplyBody> answer(const AnswerHello& request);
    [[nodiscard]] Answer<ReplyBody> answer(const MakeVouch& request, Instant now, WallTime wall);
    [[nodiscard]] Answer<ReplyBody> answer(const OpenVouch& request);
    [[nodiscard]] Answer<ReplyBody> answer(const GetPublicKey& request);

    std::optional<Holder> server_;
    std::optional<Holder> client_;
    TrustedServers* trusted_;
    RateLimit vouches_{kVouchRate, kVouchBurst};
};

}  // namespace curvegate::vault
