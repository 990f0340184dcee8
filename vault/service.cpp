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
    // The other failure is a pool without a free slot.
    return error.is(crypto::Errc::weak_key) ? Status::weak_key : Status::no_memory;
}

/// A key from a request: the vault does not trust its client to have checked it.
std::expected<crypto::PublicKey, Status> checked(const ByteArray<32>& bytes) {
    auto key = crypto::PublicKey::parse(bytes);
    if (!key) return std::unexpected(Status::weak_key);
    return *key;
}

bool opens_hello(const crypto::SharedKey& shared, const AnswerHello& hello) {
    ByteArray<kHelloZeros> zeros{};
    const auto nonce = crypto::Nonce::make(crypto::ShortPurpose::hello, hello.number);
    return crypto::open(shared, nonce, hello.box, zeros) && ::sodium_is_zero(zeros.data(), zeros.size()) == 1;
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
    [[nodiscard]] bool fresh() const noexcept { return fresh_.has_value(); }
    void keep(SharedKeys::Peer kind) && {
        if (fresh_) kept_->keep(peer_, std::move(*fresh_), kind);
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

/// Whose key a verb works with: a vouch is made by the one client key that there is.
template <class Body>
KeySlot slot_of(const Body& verb) {
    if constexpr (requires { verb.slot; })
        return verb.slot;
    else
        return KeySlot::client;
}

}  // namespace

Service::Service(std::optional<Key> server, std::optional<Key> client, ListedKeys& trusted, KeySlot slot)
    : listed_(&trusted) {
    if (server) servers_[0] = std::make_unique<Holder>(std::move(*server), slot);
    if (client) client_ = std::make_unique<Holder>(std::move(*client), KeySlot::client);
}

void Service::add_server(Key key, KeySlot slot) {
    servers_[1] = std::make_unique<Holder>(std::move(key), slot);
}

std::optional<Service::Use> Service::use_of(KeySlot slot) const {
    for (const auto& holder : servers_) {
        if (holder && holder->slot == slot) return holder->use;
    }
    return std::nullopt;
}

// PROTOCOL 6.5: before anything else of a request is looked at.
template <class Body>
std::optional<Status> Service::refusal(const Body& verb, Instant now) {
    static constexpr Permission kMay = permission_of(Body::kVerb);
    if constexpr (kMay.role) {
        if (*kMay.role != role_of(slot_of(verb))) return Status::no_such_key;
    }
    if constexpr (kMay.rate_limited) {
        if (!vouches_.allows(now)) return Status::over_rate;
    }
    return std::nullopt;
}

Reply Service::handle(const Request& request, Instant now, WallTime wall) {
    auto body = std::visit(
        [&](const auto& verb) -> Answer<ReplyBody> {
            using Body = std::decay_t<decltype(verb)>;
            if (const auto why = refusal(verb, now)) return std::unexpected(*why);
            if constexpr (std::is_same_v<Body, OpenVouch>) {
                return answer(verb, now, wall);
            } else if constexpr (std::is_same_v<Body, MakeVouch>) {
                return answer(verb, wall);
            } else {
                return answer(verb);
            }
        },
        request.body);
    if (!body) return {request.id, Refused{verb_of(request.body), body.error()}};
    return {request.id, *body};
}

Service::Holder* Service::holder_of(KeySlot slot) {
    if (role_of(slot) == KeyRole::client) return client_.get();
    for (const auto& holder : servers_) {
        if (holder && holder->slot == slot) return holder.get();
    }
    return nullptr;
}

std::array<Service::Holder*, 2> Service::order_of(KeySlot first) const noexcept {
    std::array out{servers_[0].get(), servers_[1].get()};
    if (out[1] != nullptr && out[1]->slot == first) std::swap(out[0], out[1]);
    return out;
}

Service::Answer<ReplyBody> Service::answer(const AnswerHello& request) {
    if (!servers_[0]) return std::unexpected(Status::no_such_key);
    const auto client_short = checked(request.client_short);
    if (!client_short) return std::unexpected(client_short.error());
    for (Holder* holder : order_of(request.slot)) {
        if (holder == nullptr) continue;
        // One Diffie-Hellman serves both boxes. It is not kept: a client's short-term key comes once.
        const auto shared = crypto::agree(holder->own.key.secret, *client_short);
        if (!shared) return std::unexpected(status_of(shared.error()));
        if (!opens_hello(*shared, request)) continue;
        // K is bound to the slot that was named, so under another it is of no use.
        if (holder->slot != request.slot) return OtherSlot{holder->slot, servers_[0]->slot};
        const auto nonce = holder->own.nonces->next();
        if (!nonce) return std::unexpected(Status::no_nonce);
        HelloAnswer reply{*nonce, {}};
        crypto::seal(*shared, crypto::Nonce::make(crypto::LongPurpose::cookie, *nonce), request.payload,
                     reply.box);
        return reply;
    }
    return std::unexpected(Status::box_does_not_open);
}

Service::Answer<ReplyBody> Service::answer(const MakeVouch& request, WallTime wall) {
    Holder* holder = holder_of(KeySlot::client);
    if (holder == nullptr) return std::unexpected(Status::no_such_key);
    const auto server = checked(request.server);
    const auto client_short = checked(request.client_short);
    if (!server || !client_short) return std::unexpected(Status::weak_key);
    if (!listed_->is_listed(*server, wall)) return std::unexpected(Status::unknown_peer);

    auto shared = PeerKey::of(holder->shared, holder->own.key.secret, *server);
    if (!shared) return std::unexpected(shared.error());
    const auto nonce = holder->own.nonces->next();
    if (!nonce) return std::unexpected(Status::no_nonce);
    Vouch reply{to_array(holder->own.key.public_key.bytes()), *nonce, {}};
    crypto::seal(shared->key(), crypto::Nonce::make(crypto::LongPurpose::vouch, *nonce),
                 client_short->bytes(), reply.vouch);
    std::move(*shared).keep(SharedKeys::Peer::listed);
    return reply;
}

Service::Answer<ReplyBody> Service::answer(const OpenVouch& request, Instant now, WallTime wall) {
    Holder* holder = holder_of(request.slot);
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
    if (shared->fresh()) {
        const bool listed = listed_->is_listed(*client, wall);
        std::move(*shared).keep(listed ? SharedKeys::Peer::listed : SharedKeys::Peer::stranger);
    }
    ++holder->use.clients;
    holder->use.last = now;
    return VouchIsGood{};
}

Service::Answer<ReplyBody> Service::answer(const GetPublicKey& request) {
    const Holder* holder = holder_of(request.slot);
    if (holder == nullptr) return std::unexpected(Status::no_such_key);
    return PublicKeyIs{to_array(holder->own.key.public_key.bytes())};
}

}  // namespace curvegate::vault
