#include "handshake/steps.hpp"

#include "crypto/box.hpp"

namespace curvegate::handshake {
namespace {

constexpr ByteArray<wire::kHelloPlainSize> kHelloPlain{};  // PROTOCOL 4.3: 64 zeros

}  // namespace

wire::HelloBox seal_hello(const crypto::SharedKey& with_server, crypto::FreshNumber number,
                          crypto::NumberForm form) {
    wire::HelloBox out{};
    const auto nonce = crypto::Nonce::make(crypto::ShortPurpose::hello, std::move(number), form);
    crypto::seal(with_server, nonce, kHelloPlain, out.bytes);
    return out;
}

Result<wire::CookieBody> open_cookie(const crypto::SharedKey& with_server, const crypto::LongTermNonce& nonce,
                                     const wire::CookieBox& box) {
    ByteArray<wire::kCookieBodySize> plain{};
    if (!crypto::open(with_server, crypto::Nonce::make(crypto::LongPurpose::cookie, nonce), box.bytes, plain))
        return fail(Errc::cookie_does_not_open);
    return wire::parse_cookie_body(plain);
}

vault::MakeVouch ask_for_vouch(const crypto::PublicKey& server,
                               const crypto::PublicKey& client_short) noexcept {
    return {to_array(server.bytes()), to_array(client_short.bytes())};
}

Result<wire::VouchBody> introduce(const vault::Vouch& made) {
    const auto client = crypto::PublicKey::parse(made.client);
    if (!client) return std::unexpected(client.error());
    return wire::VouchBody{*client, made.nonce, {made.vouch}};
}

Result<> HelloSlot::turn_to(vault::KeySlot told) {
    if (told_ || told == slot_) return fail(Errc::hello_refused);
    told_ = true;
    slot_ = told;
    return {};
}

vault::AnswerHello ask_for_answer(vault::KeySlot slot, const crypto::PublicKey& client_short,
                                  NumberBytes number, const wire::HelloBox& box,
                                  const event::CookieIssued& issued) {
    vault::AnswerHello out{slot, to_array(client_short.bytes()), to_array(number), box.bytes, {}};
    serialise(wire::CookieBody{issued.server_short, issued.cookie}, out.payload);
    return out;
}

vault::OpenVouch ask_to_open(vault::KeySlot slot, const wire::VouchBody& body,
                             const crypto::PublicKey& client_short) noexcept {
    return {slot, to_array(body.client.bytes()), body.nonce, body.vouch.bytes,
            to_array(client_short.bytes())};
}

}  // namespace curvegate::handshake
