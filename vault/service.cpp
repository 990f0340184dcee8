#include "vault/service.hpp"

#include "crypto/box.hpp"

#include <sodium.h>

#include <span>

namespace curvegate::vault {
namespace {

constexpr std::size_t kHelloZeros = 64;
static_assert(kHelloZeros + crypto::kBoxOverhead == kHelloBoxSize);
static_assert(crypto::PublicKey::kSize + crypto::kBoxOverhead == kVouchSize);

Status status_of(const Error& error) {
    // The other failure is a pool without a free slot: a passing shortage, like a rate.
    return error.is(crypto::Errc::weak_key) ? Status::weak_key : Status::over_rate;
}

/// A key from a request: the vault does not trust its client to have checked it.
std::expected<crypto::PublicKey, Status> checked(const ByteArray<32>& bytes) {
    auto key = crypto::PublicKey::parse(bytes);
    if (!key) return std::unexpected(Status::weak_key);
    return *key;
}

/// The shared key with a peer, kept or fresh; a fresh one is kept only when its owner says so.
class PeerKey {
  public:
    static std::expected<PeerKey, Status> of(SharedKeys& kept, const crypto::LongTermSecret& own,
                                             const crypto::PublicKey& peer) {
        if (const auto* known = kept.find(peer)) return PeerKey(kept, peer, known, std::nullopt);
        auto fresh = crypto::agree(own, peer);
        if (!fresh) return std::unexpected(status_of(fresh.error()));
        return PeerKey(kept, peer, nullptr, std::move(*fresh));
    }
    [[nodiscard]] const crypto::SharedKey& key() const { return known_ != nullptr ? *known_ : *fresh_; }
    void keep() && {
        if (fresh_) kept_->keep(peer_, std::move(*fresh_));
    }

  private:
    PeerKey(SharedKeys& kept, const crypto::PublicKey& peer, const crypto::SharedKey* known,
            std::optional<crypto::SharedKey> fresh)
        : kept_(&kept), peer_(peer), known_(known), fresh_(std::move(fresh)) {}
    SharedKeys* kept_;
    crypto::PublicKey peer_;
    const crypto::SharedKey* known_;
    std::optional<crypto::SharedKey> fresh_;
};

}  // namespace

Service::Service(std::optional<Key> server, std::optional<Key> client, TrustedServers& trusted)
    : trusted_(&trusted) {
    if (server) server_.emplace(std::move(*server));
    if (client) client_.emplace(std::move(*client));
}

Reply Service::handle(const Request& request, Instant now, WallTime wall) {
    auto body = std::visit(
        [&](const auto& verb) {
            if constexpr (std::is_same_v<std::decay_t<decltype(verb)>, MakeVouch>) {
                return answer(verb, now, wall);
            } else {
                return answer(verb);
            }
        },
        request.body);
    if (!body) return {request.id, Refused{verb_of(request.body), body.error()}};
    return {request.id, *body};
}

Service::Holder* Service::holder_of(KeySlot slot, Verb verb) {
    const auto wanted = permission_of(verb).role;
    if (wanted && *wanted != role_of(slot)) return nullptr;
    auto& holder = slot == KeySlot::server ? server_ : client_;
    return holder ? &*holder : nullptr;
}

Service::Answer<ReplyBody> Service::answer(const AnswerHello& request) {
    Holder* holder = holder_of(request.slot, AnswerHello::kVerb);
    if (holder == nullptr) return std::unexpected(Status::no_such_key);
    const auto client_short = checked(request.client_short);
    if (!client_short) return std::unexpected(client_short.error());
    // One Diffie-Hellman serves both boxes. It is not kept: a client's short-term key comes once.
    const auto shared = crypto::agree(holder->own.key.secret, *client_short);
    if (!shared) return std::unexpected(status_of(shared.error()));

    ByteArray<kHelloZeros> zeros{};
    const auto hello_nonce = crypto::Nonce::make(crypto::ShortPurpose::hello, request.number);
    if (!crypto::open(*shared, hello_nonce, request.box, zeros) ||
        ::sodium_is_zero(zeros.data(), zeros.size()) != 1) {
        return std::unexpected(Status::box_does_not_open);
    }
    const auto nonce = holder->own.nonces->next();
    if (!nonce) return std::unexpected(Status::no_nonce);
    HelloAnswer reply{*nonce, {}};
    crypto::seal(*shared, crypto::Nonce::make(crypto::LongPurpose::cookie, *nonce), request.payload,
                 reply.box);
    return reply;
}

Service::Answer<ReplyBody> Service::answer(const MakeVouch& request, Instant now, WallTime wall) {
    Holder* holder = holder_of(KeySlot::client, MakeVouch::kVerb);
    if (holder == nullptr) return std::unexpected(Status::no_such_key);
    const auto server = checked(request.server);
    const auto client_short = checked(request.client_short);
    if (!server || !client_short) return std::unexpected(Status::weak_key);
    if (permission_of(MakeVouch::kVerb).rate_limited && !vouches_.allows(now)) {
        return std::unexpected(Status::over_rate);
    }
    if (!trusted_->is_trusted(*server, wall)) return std::unexpected(Status::unknown_peer);

    auto shared = PeerKey::of(holder->shared, holder->own.key.secret, *server);
    if (!shared) return std::unexpected(shared.error());
    const auto nonce = holder->own.nonces->next();
    if (!nonce) return std::unexpected(Status::no_nonce);
    Vouch reply{to_array(holder->own.key.public_key.bytes()), *nonce, {}};
    crypto::seal(shared->key(), crypto::Nonce::make(crypto::LongPurpose::vouch, *nonce),
                 client_short->bytes(), reply.vouch);
    std::move(*shared).keep();
    return reply;
}

Service::Answer<ReplyBody> Service::answer(const OpenVouch& request) {
    Holder* holder = holder_of(request.slot, OpenVouch::kVerb);
    if (holder == nullptr) return std::unexpected(Status::no_such_key);
    const auto client = checked(request.client);
    const auto client_short = checked(request.client_short);
    if (!client || !client_short) return std::unexpected(Status::weak_key);

    auto shared = PeerKey::of(holder->shared, holder->own.key.secret, *client);
    if (!shared) return std::unexpected(shared.error());
    ByteArray<crypto::PublicKey::kSize> vouched{};
    const auto nonce = crypto::Nonce::make(crypto::LongPurpose::vouch, request.nonce);
    if (!crypto::open(shared->key(), nonce, request.vouch, vouched) ||
        !crypto::equal_constant_time(client_short->bytes(), vouched)) {
        return std::unexpected(Status::vouch_is_wrong);
    }
    std::move(*shared).keep();
    return VouchIsGood{};
}

Service::Answer<ReplyBody> Service::answer(const GetPublicKey& request) {
    const Holder* holder = holder_of(request.slot, GetPublicKey::kVerb);
    if (holder == nullptr) return std::unexpected(Status::no_such_key);
    return PublicKeyIs{to_array(holder->own.key.public_key.bytes())};
}

}  // namespace curvegate::vault
