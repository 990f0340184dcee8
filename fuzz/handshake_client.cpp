// A client's handshake with a server, or a vault, that answers wrongly: a changed packet ends it, and what a
// server with the right key puts into its box leads nowhere but to an end or a session of its own.
#include "harness.hpp"
#include "support/ends.hpp"

using namespace curvegate;

namespace {

enum Part : unsigned { packet, inside_cookie, vault_answer, raw, kParts };

/// The packet of a server that means harm and holds its long-term secret.
test::Buffer answer_with(const ByteArray<test::packets::kCookieBodySize>& body,
                         const crypto::PublicKey& client_short) {
    static const auto secret = test::secret_of<crypto::LongTermSecret>(test::secret_bytes(1));
    test::packets::SealedCookie cookie{test::nonce_number(1), {}};
    const auto nonce = crypto::Nonce::make(crypto::LongPurpose::cookie, cookie.nonce);
    crypto::seal(*agree(secret, client_short), nonce, body, cookie.box.bytes);
    test::Buffer out(test::packets::kCookiePacketSize);
    serialise(cookie, MutableBytes(out).first<test::packets::kCookiePacketSize>());
    return test::framed(out);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto input = fuzz::copy_of(data, size);
    test::World world;
    const fuzz::Mutation mutation(input);
    const unsigned part = mutation.part(kParts);
    auto client = world.client();
    auto keys = world.fresh_keys();
    const auto client_short = keys.public_key;
    client.vault_is_slow = true;
    client.start(std::move(keys), test::kStart);
    client.outgoing.clear();
    ByteArray<test::packets::kCookieBodySize> body{};
    serialise(test::packets::CookieBody{world.fresh_keys().public_key, {}}, body);
    if (part == inside_cookie) (void)mutation.apply(body);
    auto frame = answer_with(body, client_short);
    const bool changed = part == packet && mutation.apply(frame);
    client.receive(part == raw ? input : frame, test::kStart);
    if (part == packet) fuzz::must(client.asked.has_value() != changed);
    if (!client.asked) return 0;
    if (part == vault_answer) {
        auto made = std::get<vault::Vouch>(world.client_vault.ask(*client.asked));
        (void)mutation.apply(made.client);
        client.feed(test::event::VouchMade{made}, test::kStart);
    } else {
        client.answer_vault(test::kStart);
    }
    fuzz::must(client.session || client.closed);
    fuzz::must(client.session.has_value() == (client.outgoing.size() == 2 + test::packets::kVouchSize));
    return 0;
}
