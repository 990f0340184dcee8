#include "cookie/keeper.hpp"

namespace curvegate::cookie {
namespace {

using wire::Cookie;
constexpr std::size_t kNonceSize = crypto::LongTermNonce::kSize;
static_assert(kNonceSize + crypto::kCookieBoxSize == Cookie::kSize);
/// The permuted number in K's nonce: the key slot in the highest 7 bits, below it the index.
constexpr unsigned kSlotShift = 57;
static_assert(Keeper::kMostCookies == std::uint64_t{1} << kSlotShift);

/// wire ‖ key slot ‖ canonical IP
ByteArray<18> context_of(const Binding& binding) {
    ByteArray<18> out{};
    Writer(out).integer(static_cast<Byte>(binding.wire)).integer(binding.key_slot).put(binding.source.bytes);
    return out;
}

crypto::Nonce nonce_of(const crypto::LongTermNonce& nonce) {
    return crypto::Nonce::make(crypto::LongPurpose::minute_key, nonce);
}

crypto::LongTermNonce nonce_in(const Cookie& cookie) {
    return {to_array(FixedBytes<Cookie::kSize>(cookie.bytes).first<kNonceSize>())};
}

std::uint64_t random_half(RandomSource& random) {
    ByteArray<8> bytes{};
    random.fill(bytes);
    return load_be<std::uint64_t>(bytes);
}

}  // namespace

Result<Keeper::Minute> Keeper::make_minute(crypto::SecretPool& pool, RandomSource& random, Instant now) {
    auto key = crypto::MinuteKey::random(pool, random);
    if (!key) return fail(std::move(key));
    auto nonces = crypto::NoncePermutation::derive(*key);
    if (!nonces) return fail(std::move(nonces));
    return Minute{std::move(*key), std::move(*nonces), now, 0, {}};
}

Result<Keeper> Keeper::create(crypto::SecretPool& pool, RandomSource& random, Instant now,
                              std::uint64_t issued) {
    auto first = make_minute(pool, random, now);
    if (!first) return fail(std::move(first));
    first->next_index = issued;
    return Keeper(std::move(*first));
}

Result<Cookie> Keeper::issue(const Binding& binding, const crypto::PublicKey& client_short,
                             const crypto::EphemeralSecret& server_short, RandomSource& random, Instant now) {
    if (auto advanced = advance(now, random); !advanced) return fail(std::move(advanced));
    if (current_.next_index >= kMostCookies) return fail(Errc::indices_exhausted);
    auto key = crypto::derive_cookie_key(current_.key, context_of(binding));
    if (!key) return fail(std::move(key));
    const std::uint64_t number = (std::uint64_t{binding.key_slot} << kSlotShift) | current_.next_index;
    const auto nonce = current_.nonces.apply(number, random_half(random));
    Cookie cookie;
    Writer out(cookie.bytes);
    out.put(nonce.bytes);
    crypto::seal_cookie(*key, nonce_of(nonce), client_short, server_short,
                        out.claim<crypto::kCookieBoxSize>());
    ++current_.next_index;
    return cookie;
}

template <class From>
Result<Redeemed> Keeper::redeem_from(const Cookie& cookie, const From& from, Instant now) const {
    auto redeemed = open_with(current_, cookie, from, now);
    if (redeemed || !previous_) return redeemed;
    return open_with(*previous_, cookie, from, now);
}

Result<Redeemed> Keeper::redeem(const Cookie& cookie, const Binding& binding, Instant now) const {
    return redeem_from(cookie, binding, now);
}

Result<Redeemed> Keeper::redeem(const Cookie& cookie, const Origin& origin, Instant now) const {
    return redeem_from(cookie, origin, now);
}

Result<Redeemed> Keeper::open_with(const Minute& minute, const Cookie& cookie, const Origin& origin,
                                   Instant now) {
    const std::uint64_t number = minute.nonces.counter_of(nonce_in(cookie));
    // Not believed: the box opens only under the key of the slot that it was sealed for.
    return open_with(minute, cookie,
                     Binding{origin.wire, static_cast<Byte>(number >> kSlotShift), origin.source}, now);
}

Result<Redeemed> Keeper::open_with(const Minute& minute, const Cookie& cookie, const Binding& binding,
                                   Instant now) {
    if (now - minute.born >= 2 * kCycle) return fail(Errc::does_not_open);
    auto key = crypto::derive_cookie_key(minute.key, context_of(binding));
    if (!key) return fail(std::move(key));
    const auto nonce = nonce_in(cookie);
    const auto box = FixedBytes<Cookie::kSize>(cookie.bytes).last<crypto::kCookieBoxSize>();
    auto contents = crypto::open_cookie(*key, nonce_of(nonce), box);
    if (!contents && contents.error().is(crypto::Errc::box_does_not_open)) return fail(Errc::does_not_open);
    if (!contents) return fail(std::move(contents));
    const std::uint64_t index = minute.nonces.counter_of(nonce) % kMostCookies;
    return Redeemed{std::move(*contents), {minute.born, index}, minute.is_claimed(index), binding.key_slot};
}

bool Keeper::claim(const Ticket& ticket) {
    const bool previous = previous_ && previous_->born == ticket.minute;
    if (!previous && current_.born != ticket.minute) return false;
    Minute& minute = previous ? *previous_ : current_;
    // What opens was issued here, so the index is below next_index: checked, as it sizes the memory.
    if (ticket.index >= minute.next_index || minute.is_claimed(ticket.index)) return false;
    if (ticket.index / 64 >= minute.claimed.size()) minute.claimed.resize(ticket.index / 64 + 1);
    minute.claimed[ticket.index / 64] |= std::uint64_t{1} << (ticket.index % 64);
    return true;
}

Result<> Keeper::advance(Instant now, RandomSource& random) {
    if (previous_ && now - previous_->born >= 2 * kCycle) previous_.reset();
    if (now - current_.born < kCycle) return {};
    // Born on the minute while the timer is punctual, so that the phase does not drift; afresh after a pause.
    const bool punctual = now - current_.born < 2 * kCycle;
    auto next = make_minute(current_.key.pool(), random, punctual ? current_.born + kCycle : now);
    if (!next) {
        try_again_ = now + kTryAgain;
        return fail(std::move(next));
    }
    try_again_.reset();
    if (punctual) {
        previous_ = std::exchange(current_, std::move(*next));
    } else {
        previous_.reset();
        current_ = std::move(*next);
    }
    return {};
}

}  // namespace curvegate::cookie
