// CurveCP's client with a server, or a vault, that answers wrongly: a changed Cookie is dropped and the good
// one still taken, and what a server with the right key puts into its box leads to a session of its own or
// nowhere.
#include "harness.hpp"
#include "support/curvecp.hpp"

using namespace curvegate;
using test::Buffer;
using test::kStart;
namespace udp = test::udp;
namespace packets = wire::curvecp;

namespace {

enum Part : unsigned { packet, inside_cookie, vault_answer, message, raw_first, raw_later, kParts };

/// The Cookie of a server that means harm and holds its long-term secret.
Buffer cookie_with(const ByteArray<wire::kCookieBodySize>& body, const crypto::PublicKey& client_short) {
    static const auto secret = test::secret_of<crypto::LongTermSecret>(test::secret_bytes(1));
    packets::SealedCookie cookie{udp::kExtensions, test::nonce_number(1), {}};
    const auto nonce = crypto::Nonce::make(crypto::LongPurpose::cookie, cookie.nonce);
    crypto::seal(*agree(secret, client_short), nonce, body, cookie.box.bytes);
    Buffer out(packets::kCookiePacketSize);
    serialise(cookie, MutableBytes(out).first<packets::kCookiePacketSize>());
    return out;
}

bool opens(udp::Session& session, Buffer bytes) {
    const auto parsed = packets::parse_to_client(bytes);
    const auto* header = parsed ? std::get_if<packets::ServerMessageHeader>(&*parsed) : nullptr;
    return header != nullptr && session.open_message(header->number, bytes).has_value();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto input = fuzz::copy_of(data, size);
    test::World world;
    const fuzz::Mutation mutation(input);
    const unsigned part = mutation.part(kParts);
    const auto raw = Bytes(input).subspan(std::min<std::size_t>(1, input.size()));
    const auto keys = world.fresh_keys();
    const auto server_keys = world.fresh_keys();
    auto client = udp::client_end(world);
    client.spoil_vouch = [&](vault::Vouch& made) {
        if (part == vault_answer) (void)mutation.apply(made.client);
    };
    client.feed(udp::event::Start{udp::again(keys), udp::kClientFirst}, kStart);

    ByteArray<wire::kCookieBodySize> body{};
    serialise(wire::CookieBody{server_keys.public_key, {}}, body);
    const auto good = cookie_with(body, keys.public_key);
    if (part == packet || part == raw_first) {
        auto changed = part == packet ? good : test::copy_of(raw);
        if (part == packet) (void)mutation.apply(changed);
        const bool same = changed == good;
        (void)client.receive(changed, kStart);
        fuzz::must(client.session.has_value() == same && !client.closed);
    }
    const bool inside_changed = part == inside_cookie && mutation.apply(body);
    if (!client.session) (void)client.receive(cookie_with(body, keys.public_key), kStart);
    fuzz::must(client.session || part == inside_cookie || part == vault_answer);
    fuzz::must(!client.closed || part == vault_answer);
    if (!client.session || inside_changed) return 0;

    auto server = *udp::Session::create(session::Role::server, *agree(server_keys.secret, keys.public_key),
                                        udp::kExtensions, client.session->client_short(),
                                        crypto::SendCounter(udp::kServerFirst));
    const auto sent = udp::sealed_message(server, test::pattern(64));
    auto came = part == raw_later ? test::copy_of(raw) : sent;
    if (part == message) (void)mutation.apply(came);
    // The extensions are the socket's business.
    const bool changed =
        came.size() != sent.size() ||
        !std::ranges::equal(Bytes(came).first(packets::kMagicSize), Bytes(sent).first(packets::kMagicSize)) ||
        !std::ranges::equal(Bytes(came).subspan(packets::kAddressing),
                            Bytes(sent).subspan(packets::kAddressing));
    fuzz::must(opens(*client.session, came) != changed);
    fuzz::must(!opens(*client.session, came));
    return 0;
}
