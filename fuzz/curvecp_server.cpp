// CurveCP's server with a client that holds real keys: whatever is changed in its packets, or inside its
// correct boxes, makes no session and no message but those that it sent.
#include "harness.hpp"
#include "support/curvecp.hpp"

using namespace curvegate;
using test::Buffer;
using test::kStart;
namespace udp = test::udp;
namespace packets = wire::curvecp;

namespace {

enum Part : unsigned { hello, initiate, in_initiate, message, later_initiate, raw_first, raw_later, kParts };

/// Differs from `before` in what its receiver must look at: not the extensions (the socket's business) and
/// not the bytes of [from, to).
bool differs(const Buffer& before, const Buffer& after, std::size_t from = 0, std::size_t to = 0) {
    if (before.size() != after.size()) return true;
    for (std::size_t i = 0; i < before.size(); ++i) {
        const bool unread = (i >= packets::kMagicSize && i < packets::kAddressing) || (i >= from && i < to);
        if (!unread && before[i] != after[i]) return true;
    }
    return false;
}

void change_hello(test::World& world, const fuzz::Mutation& mutation, Bytes raw, bool is_raw) {
    auto client = udp::client_end(world);
    client.feed(udp::event::Start{world.fresh_keys(), udp::kClientFirst}, kStart);
    auto packet = client.sent.at(0);
    if (is_raw) packet = test::copy_of(raw);
    if (!is_raw) (void)mutation.apply(packet);
    constexpr std::size_t zeros = packets::kAddressing + 32;
    const bool changed = differs(client.sent[0], packet, zeros, zeros + 64);
    auto server = udp::server_end(world);
    (void)server.receive(packet, kStart);
    fuzz::must(server.sent.size() == (changed ? 0U : 1U));
    fuzz::must(!server.session);
}

/// A client's Initiate whose box was opened, changed and made good again.
bool change_inside(Buffer& packet, const crypto::SharedKey& shared, const fuzz::Mutation& mutation) {
    const auto header = std::get<packets::InitiateHeader>(*packets::parse_to_server(packet));
    const auto nonce =
        crypto::Nonce::make(crypto::ShortPurpose::initiate, packets::number_bytes(header.number));
    const auto box = MutableBytes(packet).subspan(packets::kInitiateHeader);
    fuzz::must(crypto::open_in_place(shared, nonce, box).has_value());
    ByteArray<packets::kInitiateBody + 48> plain{};
    std::ranges::copy(box.subspan(crypto::kBoxOverhead), plain.begin());
    const auto before = plain;
    (void)mutation.apply(plain);
    std::ranges::copy(plain, box.begin() + crypto::kBoxOverhead);
    crypto::seal_in_place(shared, nonce, box);
    return !std::ranges::equal(Bytes(before).first<wire::kVouchBodySize>(),
                               Bytes(plain).first<wire::kVouchBodySize>());
}

bool opens(udp::Session& session, Buffer packet) {
    const auto parsed = packets::parse_to_server(packet);
    if (!parsed) return false;
    if (const auto* initiate = std::get_if<packets::InitiateHeader>(&*parsed))
        return session.open_initiate(initiate->number, packet).has_value();
    const auto* message = std::get_if<packets::ClientMessageHeader>(&*parsed);
    return message != nullptr && session.open_message(message->number, packet).has_value();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto input = fuzz::copy_of(data, size);
    test::World world;
    const fuzz::Mutation mutation(input);
    const unsigned part = mutation.part(kParts);
    const auto raw = Bytes(input).subspan(std::min<std::size_t>(1, input.size()));
    if (part == hello || part == raw_first) {
        change_hello(world, mutation, raw, part == raw_first);
        return 0;
    }
    const auto keys = world.fresh_keys();
    auto client = udp::vouched_client(world, udp::again(keys));
    const auto sent = udp::sealed_initiate(*client.session, *client.introduction, test::pattern(48));
    auto packet = sent;
    bool changed = false;
    if (part == in_initiate) {
        const auto cookie = *world.keeper.redeem(client.introduction->cookie, udp::kBinding, kStart);
        changed = change_inside(packet, *agree(cookie.contents.server_short, keys.public_key), mutation);
    }
    if (part == initiate) {
        (void)mutation.apply(packet);
        changed = differs(sent, packet);
    }
    auto server = udp::server_end(world);
    (void)server.receive(packet, kStart);
    fuzz::must(server.session.has_value() != changed);
    fuzz::must(server.sent.empty());
    if (!server.session) return 0;

    // C' in the clear finds the session and is not looked at again; nor is the cookie of an Initiate.
    constexpr std::size_t in_the_clear = packets::kAddressing + 32;
    auto later = part == later_initiate
                     ? udp::sealed_initiate(*client.session, *client.introduction, test::pattern(64))
                     : udp::sealed_message(*client.session, test::pattern(64));
    const auto before = later;
    if (part == message || part == later_initiate) (void)mutation.apply(later);
    if (part == raw_later) later = test::copy_of(raw);
    const std::size_t to = part == later_initiate ? in_the_clear + wire::kCookieSize : in_the_clear;
    fuzz::must(opens(*server.session, later) != differs(before, later, packets::kAddressing, to));
    fuzz::must(!opens(*server.session, later));
    return 0;
}
