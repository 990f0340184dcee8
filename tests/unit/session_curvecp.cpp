#include "crypto/box.hpp"
#include "session/curvecp.hpp"
#include "support/secrets.hpp"

#include <catch2/catch.hpp>

namespace curvegate::session::curvecp {
namespace {

using crypto::PacketNumber;
using crypto::SendCounter;
using test::Buffer;
using test::pattern;
namespace packets = curvegate::wire::curvecp;

static_assert(!std::is_copy_constructible_v<Session>, "two copies would use one number twice");

constexpr std::uint64_t kLast = ~std::uint64_t{0} - 1;  // the last number that may be sent
constexpr PacketNumber kClientFirst{0x1122'3344'5566};
constexpr PacketNumber kServerFirst{0x00ff'0000'0001};
const packets::Extensions kExtensions{{{1, 2, 3}}, {{9, 8, 7}}};
const packets::ClientShort kClientShort{{0x55, 0x66}};

crypto::SharedKey key(Byte number = 1) {
    return test::secret_number<crypto::SharedKey>(number);
}
Session session(Role own, PacketNumber first, Byte key_number = 1) {
    return *Session::create(own, key(key_number), kExtensions, kClientShort, SendCounter(first));
}
struct Ends {
    Session client = session(Role::client, kClientFirst);
    Session server = session(Role::server, kServerFirst);
};

Introduction introduction() {
    ByteArray<32> client{};
    client.fill(0x11);
    Introduction out{{}, {*crypto::PublicKey::parse(client), test::nonce_number(5), {}}, {}};
    out.cookie.bytes.fill(0xc0);
    out.vouch.vouch.bytes.fill(0xf0);
    out.name = *packets::encode_server_name("web");
    return out;
}

Buffer sealed(Session& from, const Buffer& message) {
    Buffer packet(from.overhead());
    packet.insert(packet.end(), message.begin(), message.end());
    REQUIRE(from.seal_message(packet).has_value());
    return packet;
}
Buffer sealed_initiate(Session& from, const Buffer& message, const Introduction& with = introduction()) {
    Buffer packet(packets::kInitiateOverhead);
    packet.insert(packet.end(), message.begin(), message.end());
    REQUIRE(from.seal_initiate(with, packet).has_value());
    return packet;
}

PacketNumber number_in(const Buffer& packet) {
    if (const auto to_server = packets::parse_to_server(packet)) {
        if (const auto* initiate = std::get_if<packets::InitiateHeader>(&*to_server)) return initiate->number;
        return std::get<packets::ClientMessageHeader>(*to_server).number;
    }
    return std::get<packets::ServerMessageHeader>(*packets::parse_to_client(packet)).number;
}

struct Message {
    Buffer bytes;
    bool newest;
    friend bool operator==(const Message&, const Message&) = default;
};
/// As it came, with the number that stands in it.
Result<Message> open(Session& at, Buffer packet) {
    const auto parsed = packets::parse_to_server(packet);
    const bool initiate = parsed && std::holds_alternative<packets::InitiateHeader>(*parsed);
    const auto number = number_in(packet);
    auto opened = initiate ? at.open_initiate(number, packet) : at.open_message(number, packet);
    if (!opened) return fail(std::move(opened));
    return Message{test::copy_of(opened->message), opened->newest};
}
template <class E>
bool refuses(Session& at, const Buffer& packet, E why) {
    const auto opened = open(at, packet);
    return !opened && opened.error().is(why);
}
/// A Message (or Initiate) of a client that counts from `number`.
Buffer from_client(std::uint64_t number, const Buffer& message = pattern(16)) {
    auto peer = session(Role::client, {number});
    return sealed(peer, message);
}
Buffer initiate_from_client(std::uint64_t number, const Buffer& message = pattern(16)) {
    auto peer = session(Role::client, {number});
    return sealed_initiate(peer, message);
}

/// Gives the same byte for ever, and counts.
class Same final : public RandomSource {
  public:
    explicit Same(Byte byte) : byte_(byte) {}
    void fill(MutableBytes out) override {
        std::ranges::fill(out, byte_);
        given += out.size();
    }
    std::size_t given = 0;

  private:
    Byte byte_;
};

TEST_CASE("a line of numbers begins anywhere below 2^48", "[session][curvecp]") {
    Same highest(0xff);
    CHECK(first_number(highest) == PacketNumber{(std::uint64_t{1} << 48) - 1});
    CHECK(highest.given == 6);
    Same lowest(0);
    CHECK(first_number(lowest) == PacketNumber{0});
    test::SeededRandom random(1);
    CHECK(first_number(random) != first_number(random));
}

TEST_CASE("CurveCP messages go both ways, each direction with its own numbers", "[session][curvecp]") {
    Ends ends;
    for (std::uint64_t i = 0; i < 5; ++i) {
        const auto message = pattern(16 * (i + 1));
        const auto up = sealed(ends.client, message);
        const auto down = sealed(ends.server, message);
        CHECK(number_in(up).value == kClientFirst.value + i);
        CHECK(number_in(down).value == kServerFirst.value + i);
        CHECK(open(ends.server, up) == Message{message, true});
        CHECK(open(ends.client, down) == Message{message, true});
    }
}

TEST_CASE("a packet shows extensions and C' as the session has them", "[session][curvecp]") {
    Ends ends;
    const auto up = packets::parse_to_server(sealed(ends.client, pattern(16)));
    CHECK(std::get<packets::ClientMessageHeader>(*up).extensions == kExtensions);
    CHECK(std::get<packets::ClientMessageHeader>(*up).client_short == kClientShort);
    const auto initiate = packets::parse_to_server(sealed_initiate(ends.client, pattern(16)));
    CHECK(std::get<packets::InitiateHeader>(*initiate).extensions == kExtensions);
    CHECK(std::get<packets::InitiateHeader>(*initiate).client_short == kClientShort);
    CHECK(std::get<packets::InitiateHeader>(*initiate).cookie == introduction().cookie);
    const auto down = packets::parse_to_client(sealed(ends.server, pattern(16)));
    CHECK(std::get<packets::ServerMessageHeader>(*down).extensions == kExtensions);
}

TEST_CASE("a server answers to the extension that its client showed last", "[session][curvecp]") {
    Ends ends;
    const packets::HostExtension moved{{4, 4, 4}};
    ends.server.set_client_extension(moved);
    const auto down = sealed(ends.server, pattern(16));
    const auto header = std::get<packets::ServerMessageHeader>(*packets::parse_to_client(down));
    CHECK(header.extensions == packets::Extensions{kExtensions.server, moved});
    CHECK(open(ends.client, down).has_value());  // it is no part of the box
}

TEST_CASE("messages of every size from 16 to 1088 bytes pass, in Initiates to 640", "[session][curvecp]") {
    Ends ends;
    for (std::size_t size = 16; size <= packets::kMaxMessage; size += 16) {
        INFO(size << " bytes");
        const auto up = sealed(ends.client, pattern(size));
        const auto down = sealed(ends.server, pattern(size));
        REQUIRE(up.size() == 96 + size);
        REQUIRE(down.size() == 64 + size);
        REQUIRE(open(ends.server, up) == Message{pattern(size), true});
        REQUIRE(open(ends.client, down) == Message{pattern(size), true});
        if (size > packets::kMaxInitiateMessage) continue;
        const auto initiate = sealed_initiate(ends.client, pattern(size));
        REQUIRE(initiate.size() == 544 + size);
        REQUIRE(open(ends.server, initiate) == Message{pattern(size), true});
    }
}

TEST_CASE("an Initiate's box holds the introduction and then the message", "[session][curvecp]") {
    Ends ends;
    auto packet = sealed_initiate(ends.client, pattern(32));
    const auto nonce =
        crypto::Nonce::make(crypto::ShortPurpose::initiate, packets::number_bytes(kClientFirst));
    const auto box = MutableBytes(packet).subspan(packets::kInitiateHeader);
    REQUIRE(crypto::open_in_place(key(), nonce, box).has_value());
    const auto with = introduction();
    CHECK(test::hex(box.subspan(16)) ==
          test::hex(with.vouch.client.bytes()) + test::hex(with.vouch.nonce.bytes) +
              test::hex(with.vouch.vouch.bytes) + test::hex(with.name.bytes) + test::hex(pattern(32)));
}

TEST_CASE("Initiates and Messages share one number line", "[session][curvecp]") {
    Ends ends;
    const auto first = sealed_initiate(ends.client, pattern(16));
    const auto second = sealed(ends.client, pattern(16));
    const auto third = sealed_initiate(ends.client, pattern(16));
    CHECK(number_in(second).value == number_in(first).value + 1);
    CHECK(number_in(third).value == number_in(first).value + 2);
    REQUIRE(open(ends.server, first).has_value());
    CHECK(refuses(ends.server, from_client(kClientFirst.value), Errc::wrong_number));
    REQUIRE(open(ends.server, from_client(kClientFirst.value + 1)).has_value());
    CHECK(refuses(ends.server, initiate_from_client(kClientFirst.value + 1), Errc::wrong_number));
    CHECK(open(ends.server, third).has_value());
}

TEST_CASE("the Initiate that made a session does not count again", "[session][curvecp]") {
    Ends ends;
    const auto initiate = sealed_initiate(ends.client, pattern(48));
    ends.server.mark_received(number_in(initiate));
    CHECK(refuses(ends.server, initiate, Errc::wrong_number));
    const auto again = sealed_initiate(ends.client, pattern(48));  // a new number: the client repeats itself
    CHECK(open(ends.server, again) == Message{pattern(48), true});
    CHECK(refuses(ends.server, again, Errc::wrong_number));
}

TEST_CASE("on a live session the introduction is not looked at again", "[session][curvecp]") {
    Ends ends;
    Introduction nonsense = introduction();
    nonsense.cookie.bytes.fill(0);
    nonsense.vouch.vouch.bytes.fill(0);
    nonsense.name.bytes.fill(0xff);
    CHECK(open(ends.server, sealed_initiate(ends.client, pattern(64), nonsense)) ==
          Message{pattern(64), true});
}

TEST_CASE("packets that overtake each other all count, and only the highest is the newest",
          "[session][curvecp]") {
    Ends ends;
    std::vector<Buffer> sent;
    for (std::size_t i = 0; i < 5; ++i) sent.push_back(sealed(ends.client, pattern(16 * (i + 1))));
    for (const auto& [at, newest] :
         {std::pair{std::size_t{2}, true}, {0, false}, {4, true}, {3, false}, {1, false}})
        CHECK(open(ends.server, sent[at]) == Message{pattern(16 * (at + 1)), newest});
    for (const auto& packet : sent) CHECK(refuses(ends.server, packet, Errc::wrong_number));
}

TEST_CASE("a packet 8191 behind the highest counts, one 8192 behind is too old", "[session][curvecp]") {
    Ends ends;
    const std::uint64_t highest = 100'000;
    REQUIRE(open(ends.server, from_client(highest)).has_value());
    CHECK(refuses(ends.server, from_client(highest - ReceiveWindow::kSize), Errc::wrong_number));
    CHECK(refuses(ends.server, from_client(0), Errc::wrong_number));
    CHECK(open(ends.server, from_client(highest - ReceiveWindow::kSize + 1)) == Message{pattern(16), false});
    CHECK(open(ends.server, from_client(highest + 1'000'000)) == Message{pattern(16), true});
    CHECK(refuses(ends.server, from_client(highest + 1), Errc::wrong_number));
}

/// Every bit of number and box: the packet is refused, and after them all it is taken as if nothing had been.
void check_flips(Session& at, const Buffer& packet, std::size_t number_at, const Buffer& message) {
    test::each_bit_flip(packet, [&](const Buffer& changed, std::size_t bit) {
        if (bit < number_at * 8) return;  // in the clear, and not the session's business
        INFO("bit " << bit);
        REQUIRE(refuses(at, changed, Errc::box_does_not_open));
    });
    // Had a forged number been marked, this would be too old, repeated, or not the newest.
    CHECK(open(at, packet) == Message{message, true});
    test::each_bit_flip(Bytes(packet), [&](const Buffer& changed, std::size_t bit) {
        if (bit < (number_at + 8) * 8) return;
        REQUIRE(refuses(at, changed, Errc::wrong_number));  // before any work on the box
    });
}

TEST_CASE("a packet with any bit changed does not open, and nothing has changed after",
          "[session][curvecp]") {
    Ends ends;
    check_flips(ends.server, sealed(ends.client, pattern(48)), packets::kClientMessageHeader - 8,
                pattern(48));
    check_flips(ends.client, sealed(ends.server, pattern(48)), packets::kServerMessageHeader - 8,
                pattern(48));
    Ends fresh;
    check_flips(fresh.server, sealed_initiate(fresh.client, pattern(48)), packets::kInitiateHeader - 8,
                pattern(48));
}

TEST_CASE("a packet cut short or made longer by a block does not open", "[session][curvecp]") {
    Ends ends;
    const auto packet = sealed(ends.client, pattern(64));
    for (const std::size_t size : {packet.size() - 48, packet.size() - 16, packet.size() + 16}) {
        auto changed = packet;
        changed.resize(size);
        CHECK(refuses(ends.server, changed, Errc::box_does_not_open));
    }
    CHECK(open(ends.server, packet) == Message{pattern(64), true});
}

TEST_CASE("what is refused stays as it was, to be tried on another session", "[session][curvecp]") {
    Ends ends;
    auto stranger = session(Role::server, kServerFirst, 2);
    const auto packet = sealed(ends.client, pattern(64));
    auto tried = packet;
    REQUIRE_FALSE(stranger.open_message(number_in(packet), tried).has_value());
    CHECK(tried == packet);
    CHECK(refuses(stranger, packet, Errc::box_does_not_open));
    CHECK(open(ends.server, tried).has_value());
}

TEST_CASE("no box passes for one of another purpose or direction", "[session][curvecp]") {
    Ends ends;
    const PacketNumber number{77};
    auto client = session(Role::client, number);
    auto server = session(Role::server, number);
    auto up = sealed(client, pattern(496));
    CHECK_FALSE(
        ends.client.open_message(number, MutableBytes(up).subspan(32)).has_value());  // back to its sender
    auto down = sealed(server, pattern(496));
    Buffer as_if_up(32);
    as_if_up.insert(as_if_up.end(), down.begin(), down.end());
    CHECK_FALSE(ends.server.open_message(number, as_if_up).has_value());
    // The box of a Message as that of an Initiate, and the other way round.
    Buffer as_initiate(packets::kInitiateHeader - packets::kClientMessageHeader);
    as_initiate.insert(as_initiate.end(), up.begin(), up.end());
    CHECK_FALSE(ends.server.open_initiate(number, as_initiate).has_value());
    auto initiate = initiate_from_client(number.value, pattern(64));
    const auto as_message =
        MutableBytes(initiate).subspan(packets::kInitiateHeader - packets::kClientMessageHeader);
    CHECK_FALSE(ends.server.open_message(number, as_message).has_value());
    CHECK(open(ends.server, up).has_value());
    CHECK(open(ends.client, down).has_value());
}

TEST_CASE("after 2^64-2 nothing more is sealed, and the other direction goes on", "[session][curvecp]") {
    auto client = session(Role::client, {kLast - 2});
    auto server = session(Role::server, kServerFirst);
    for (std::uint64_t i = 0; i < 3; ++i) {
        CHECK_FALSE(client.exhausted());
        const auto packet = i == 1 ? sealed_initiate(client, pattern(16)) : sealed(client, pattern(16));
        CHECK(number_in(packet).value == kLast - 2 + i);
        CHECK(open(server, packet) == Message{pattern(16), true});
    }
    CHECK(client.exhausted());
    CHECK_FALSE(server.exhausted());  // a peer of another make may still send 2^64-1
    Buffer packet(packets::kInitiateOverhead + 16);
    const auto message = client.seal_message(packet);
    REQUIRE_FALSE(message.has_value());
    CHECK(message.error().is(Errc::numbers_exhausted));
    const auto initiate = client.seal_initiate(introduction(), packet);
    REQUIRE_FALSE(initiate.has_value());
    CHECK(initiate.error().is(Errc::numbers_exhausted));
    CHECK(packet == Buffer(packet.size()));  // no number and no plaintext was put to use
    CHECK(open(client, sealed(server, pattern(32))).has_value());
}

TEST_CASE("a session that received 2^64-1 is exhausted", "[session][curvecp]") {
    auto server = session(Role::server, kServerFirst);
    Buffer packet(packets::kClientOverhead + 16);
    const PacketNumber number{kLast + 1};
    serialise(packets::ClientMessageHeader{kExtensions, kClientShort, number},
              MutableBytes(packet).first<packets::kClientMessageHeader>());
    crypto::seal_in_place(
        key(), crypto::Nonce::make(crypto::ShortPurpose::client_message, packets::number_bytes(number)),
        MutableBytes(packet).subspan(packets::kClientMessageHeader));
    CHECK(open(server, packet) == Message{Buffer(16), true});
    CHECK(server.exhausted());
    CHECK(refuses(server, packet, Errc::wrong_number));
    CHECK(refuses(server, from_client(0), Errc::wrong_number));  // numbers do not go round
}

TEST_CASE("a CurveCP session that was moved goes on counting and remembering", "[session][curvecp]") {
    Ends ends;
    const auto first = sealed(ends.client, pattern(16));
    REQUIRE(open(ends.server, first).has_value());
    Session client = std::move(ends.client);
    Session server = std::move(ends.server);
    const auto second = sealed(client, pattern(32));
    CHECK(number_in(second).value == number_in(first).value + 1);
    CHECK(refuses(server, first, Errc::wrong_number));
    CHECK(open(server, second) == Message{pattern(32), true});
}

}  // namespace
}  // namespace curvegate::session::curvecp
