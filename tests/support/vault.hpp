#pragma once

#include "support/secrets.hpp"
#include "vault/service.hpp"

#include <deque>

namespace curvegate::test {

inline const Instant kStart = Instant{} + std::chrono::hours(1'000);
inline const WallTime kToday = WallTime{} + std::chrono::hours(500'000);

/// Gives recorded nonces first, then counted ones.
class ScriptedNonces final : public vault::NonceSource {
  public:
    std::deque<crypto::LongTermNonce> recorded;

    Result<crypto::LongTermNonce> next() override {
        if (recorded.empty()) return nonce_number(++given_);
        const auto nonce = recorded.front();
        recorded.pop_front();
        return nonce;
    }

  private:
    std::uint64_t given_ = 0;
};

class TrustsAll final : public vault::ListedKeys {
    bool is_listed(const crypto::PublicKey&, WallTime) override { return true; }
};

/// The vault's own core with one key in memory.
class TestVault {
  public:
    TestVault(vault::KeyRole role, const ByteArray<32>& secret)
        : key(*public_key_of(secret_of<crypto::LongTermSecret>(secret))),
          service_(holder(role, vault::KeyRole::server, secret), holder(role, vault::KeyRole::client, secret),
                   trusted_) {}

    const crypto::PublicKey key;
    ScriptedNonces nonces;

    /// Each question comes a millisecond after the last, so that the rate of vouches is never reached.
    [[nodiscard]] vault::ReplyBody ask(const vault::RequestBody& request) {
        now_ += std::chrono::milliseconds(1);
        return service_.handle({vault::RequestId{1}, request}, now_, kToday).body;
    }

  private:
    std::optional<vault::Service::Key> holder(vault::KeyRole role, vault::KeyRole wanted,
                                              const ByteArray<32>& secret) {
        if (role != wanted) return std::nullopt;
        return vault::Service::Key{{role, key, secret_of<crypto::LongTermSecret>(secret)}, &nonces};
    }
    Instant now_ = kStart;
    TrustsAll trusted_;
    vault::Service service_;
};

inline ByteArray<32> secret_bytes(Byte number) {
    ByteArray<32> out{};
    out.fill(0x24);
    out[1] = number;  // of the first byte X25519 ignores three bits
    return out;
}

}  // namespace curvegate::test
