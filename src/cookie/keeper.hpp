#pragma once

#include "base/ip.hpp"
#include "base/random.hpp"
#include "base/result.hpp"
#include "base/time.hpp"
#include "crypto/box.hpp"
#include "crypto/permutation.hpp"
#include "wire/common.hpp"

#include <optional>
#include <string_view>
#include <vector>

namespace curvegate::cookie {

enum class Errc {
    does_not_open =
        1,  ///< peer fault: not ours, aged, or of another wire, key slot or address. Close or drop.
    indices_exhausted,  ///< ours: Keeper::kMostCookies in a minute. Refuse, or drop, until the next key.
};
[[nodiscard]] constexpr std::string_view layer_name(Errc) {
    return "cookie";
}
[[nodiscard]] constexpr std::string_view describe(Errc code) {
    switch (code) {
        case Errc::does_not_open: return "cookie is unknown or too old";
        case Errc::indices_exhausted: return "no cookie number left under this minute key";
    }
    return "unknown";
}

enum class Wire : Byte { curve_tun = 1, curvecp = 2 };

/// What a cookie is good for besides its client's short-term key (PROTOCOL 4.2). Not the port: behind a NAT
/// it may change.
struct Binding {
    Wire wire;
    Byte key_slot;  ///< which long-term server key the Hello was sealed for
    IpAddress source;
};

/// The same, but for the key slot: the cookie itself tells which (PROTOCOL 4.2).
struct Origin {
    Wire wire;
    IpAddress source;
};

/// Which cookie it was: the minute key that sealed it and its place among that key's cookies.
struct Ticket {
    Instant minute;
    std::uint64_t index;
};

/// An opened cookie.
struct Redeemed {
    crypto::CookieContents contents;
    Ticket ticket;
    bool used;          ///< claimed before: whatever it came with is a replay
    Byte key_slot = 0;  ///< what it is bound to
};

/// Holds the minute keys and lets nobody else see them. A key seals for 60 s and opens for 60 s more, so a
/// cookie lives 60 to 120 s by phase. At most two keys exist; time and randomness are passed in. Which
/// cookies were claimed is one bit each, kept as long as their key (PROTOCOL 7.5): only claims make it grow,
/// which strangers cannot make.
class Keeper {
  public:
    static constexpr Duration kCycle = std::chrono::seconds(60);
    /// Under one key (PROTOCOL 4.2): a further index would reach into the key slot's bits, and its nonce
    /// would be another cookie's.
    static constexpr std::uint64_t kMostCookies = std::uint64_t{1} << 57;
    static constexpr Duration kTryAgain = std::chrono::seconds(1);  ///< after there was no memory for a key

    /// `issued` counts as the cookies of the first key so far: tests begin near the cap. Errors: crypto
    /// secrets_full, memory_not_locked.
    [[nodiscard]] static Result<Keeper> create(crypto::SecretPool& pool, RandomSource& random, Instant now,
                                               std::uint64_t issued = 0);

    /// Seals {client_short, server_short}. Every cookie has a nonce of its own, from an index that is
    /// scrambled as the vault scrambles its counter. Errors: indices_exhausted, crypto secrets_full.
    [[nodiscard]] Result<wire::Cookie> issue(const Binding& binding, const crypto::PublicKey& client_short,
                                             const crypto::EphemeralSecret& server_short,
                                             RandomSource& random, Instant now);

    /// Opens a cookie that is still alive at `now`. Errors: does_not_open, crypto secrets_full.
    [[nodiscard]] Result<Redeemed> redeem(const wire::Cookie& cookie, const Binding& binding,
                                          Instant now) const;
    /// Likewise, whatever key slot it is bound to: over UDP nobody remembers.
    [[nodiscard]] Result<Redeemed> redeem(const wire::Cookie& cookie, const Origin& origin,
                                          Instant now) const;
    /// Takes the cookie for good. Returns false if it was taken before, or its key is gone. (Over TCP a
    /// cookie is bound to its connection instead.)
    [[nodiscard]] bool claim(const Ticket& ticket);

    /// Cycles the keys if their time has come and wipes what is too old. On an error (crypto secrets_full)
    /// the old key stays until there is a new one: it seals nothing any more, and opens as long as it would
    /// have.
    [[nodiscard]] Result<> advance(Instant now, RandomSource& random);
    [[nodiscard]] Instant next_deadline() const noexcept {
        return try_again_ ? *try_again_ : current_.born + kCycle;
    }
    /// Of the key that seals cookies now.
    [[nodiscard]] Duration age(Instant now) const noexcept { return now - current_.born; }

  private:
    struct Minute {
        crypto::MinuteKey key;
        crypto::NoncePermutation nonces;
        Instant born;
        std::uint64_t next_index = 0;
        std::vector<std::uint64_t> claimed;  // bit i % 64 of word i / 64
        [[nodiscard]] bool is_claimed(std::uint64_t index) const noexcept {
            return index / 64 < claimed.size() && ((claimed[index / 64] >> (index % 64)) & 1) != 0;
        }
    };
    explicit Keeper(Minute&& first) noexcept : current_(std::move(first)) {}
    [[nodiscard]] static Result<Minute> make_minute(crypto::SecretPool& pool, RandomSource& random,
                                                    Instant now);
    [[nodiscard]] static Result<Redeemed> open_with(const Minute& minute, const wire::Cookie& cookie,
                                                    const Binding& binding, Instant now);
    [[nodiscard]] static Result<Redeemed> open_with(const Minute& minute, const wire::Cookie& cookie,
                                                    const Origin& origin, Instant now);
    template <class From>
    [[nodiscard]] Result<Redeemed> redeem_from(const wire::Cookie& cookie, const From& from,
                                               Instant now) const;

    Minute current_;
    std::optional<Minute> previous_;
    Deadline try_again_;
};

}  // namespace curvegate::cookie
