#include "wire/common.hpp"

namespace curvegate::wire {

Result<CookieBody> parse_cookie_body(FixedBytes<kCookieBodySize> plain) {
    Reader reader(plain);
    auto server_short = crypto::PublicKey::parse(reader.take<32>());
    if (!server_short) return fail(std::move(server_short));
    return CookieBody{*server_short, {to_array(reader.take<kCookieSize>())}};
}

Result<VouchBody> parse_vouch_body(FixedBytes<kVouchBodySize> plain) {
    Reader reader(plain);
    auto client = crypto::PublicKey::parse(reader.take<32>());
    if (!client) return fail(std::move(client));
    const crypto::LongTermNonce nonce{to_array(reader.take<16>())};
    return VouchBody{*client, nonce, {to_array(reader.take<kVouchBoxSize>())}};
}

void serialise(const CookieBody& body, MutableFixedBytes<kCookieBodySize> out) noexcept {
    Writer(out).put(body.server_short.bytes()).put(body.cookie.bytes);
}

void serialise(const VouchBody& body, MutableFixedBytes<kVouchBodySize> out) noexcept {
    Writer(out).put(body.client.bytes()).put(body.nonce.bytes).put(body.vouch.bytes);
}

}  // namespace curvegate::wire
