// A server's handshake with a client that holds real keys: whatever is changed in its packets, or inside its
// correct boxes, it is not let in.
#include "harness.hpp"
#include "support/liar.hpp"

using namespace curvegate;

namespace {

enum Part : unsigned { hello, vouch, inside_vouch, message, raw_first, raw_later, kParts };

void change_hello(test::World& world, const fuzz::Mutation& mutation, const test::Buffer& input, bool raw) {
    auto client = world.client();
    auto server = world.server();
    client.start(world.fresh_keys(), test::kStart);
    const bool changed = !raw && mutation.apply(client.outgoing);
    server.receive(raw ? input : client.outgoing, test::kStart);
    server.look_at_clock(test::kStart + std::chrono::seconds(5));
    fuzz::must(raw || changed == server.outgoing.empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto input = fuzz::copy_of(data, size);
    test::World world;
    const fuzz::Mutation mutation(input);
    const unsigned part = mutation.part(kParts);
    if (part == hello || part == raw_first) {
        change_hello(world, mutation, input, part == raw_first);
        return 0;
    }
    test::Liar client(world);
    ByteArray<test::packets::kVouchBodySize> body{};
    serialise(client.vouched_by(world.client_vault, client.keys.public_key), body);
    bool changed = part == inside_vouch && mutation.apply(body);
    auto frame = test::framed(client.vouch_packet(body));
    changed = changed || (part == vouch && mutation.apply(frame));
    client.server.receive(frame, test::kStart);
    fuzz::must(client.server.session.has_value() != changed);

    if (client.server.closed || !client.server.incoming.empty())
        return 0;  // refused, or more than the vouch came
    auto session = *session::curve_tun::Session::create(session::Role::client, *client.shared);
    test::Buffer text(session::curve_tun::kFrameOverhead + 5, 7);
    fuzz::must(session.seal_frame(text).has_value());
    changed = changed || part == raw_later || (part == message && mutation.apply(text));
    client.server.receive(part == raw_later ? input : text, test::kStart);
    fuzz::must(client.server.delivered.size() == (changed ? 0U : 1U));
    return 0;
}
