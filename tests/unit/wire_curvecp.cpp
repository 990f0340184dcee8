#include "support/secrets.hpp"
#include "wire/curvecp.hpp"

#include <catch2/catch.hpp>

namespace curvegate::wire::curvecp {
namespace {

using test::Buffer;
using test::hex;
using test::pattern;

template <class Value>
Value filled(std::size_t from) {
    Value out;
    const auto bytes = pattern(Value::kSize + from);
    std::copy_n(bytes.begin(), Value::kSize, out.bytes.begin());
    return out;
}
crypto::PublicKey key_number(Byte number) {
    ByteArray<32> bytes{};
    bytes.fill(0x11);
    bytes[0] = number;
    return *crypto::PublicKey::parse(bytes);
}

/// A header as its bytes.
template <std::size_t N, class Header>
Buffer written(const Header& header) {
    ByteArray<N> out{};
    serialise(header, out);
    return test::copy_of(out);
}
/// What the packet says, written again: the header, and after it what has no field of its own.
Buffer rewritten(const ToServer& parsed, Bytes packet) {
    Buffer out;
    if (const auto* hello = std::get_if<SealedHello>(&parsed)) out = written<kHelloSize>(*hello);
    if (const auto* initiate = std::get_if<InitiateHeader>(&parsed))
        out = written<kInitiateHeader>(*initiate);
    if (const auto* message = std::get_if<ClientMessageHeader>(&parsed))
        out = written<kClientMessageHeader>(*message);
    const auto rest = packet.subspan(out.size());
    out.insert(out.end(), rest.begin(), rest.end());
    return out;
}
Buffer rewritten(const ToClient& parsed, Bytes packet) {
    Buffer out;
    if (const auto* cookie = std::get_if<SealedCookie>(&parsed)) out = written<kCookiePacketSize>(*cookie);
    if (const auto* message = std::get_if<ServerMessageHeader>(&parsed))
        out = written<kServerMessageHeader>(*message);
    const auto rest = packet.subspan(out.size());
    out.insert(out.end(), rest.begin(), rest.end());
    return out;
}

const Extensions kExtensions{filled<HostExtension>(1), filled<HostExtension>(2)};
const SealedHello kHello{kExtensions, key_number(1), {0x0102030405060708}, filled<HelloBox>(3)};
const SealedCookie kCookie{kExtensions, filled<crypto::LongTermNonce>(4), filled<CookieBox>(5)};
const InitiateHeader kInitiate{kExtensions, filled<ClientShort>(6), filled<Cookie>(7), {0xfffefdfcfbfaf9f8}};
const ClientMessageHeader kClientMessage{kExtensions, filled<ClientShort>(8), {0x1112131415161718}};
const ServerMessageHeader kServerMessage{kExtensions, {0x2122232425262728}};

/// `header` and a box of `message` bytes and its authenticator.
Buffer with_box(Buffer header, std::size_t message) {
    const auto box = pattern(message + 16);
    header.insert(header.end(), box.begin(), box.end());
    return header;
}

enum class Role { server, client };

/// One kind of packet and the lengths of what stands in its box, from `least` to `most` in steps of 16; for
/// Hello and Cookie there is one length.
struct Kind {
    std::string name;
    Role receiver;
    std::size_t index;  ///< in ToServer or ToClient
    std::size_t least;
    std::size_t most;
    Buffer packet;
};
std::vector<Kind> all_kinds() {
    const std::size_t in_initiate = kInitiateBody + 16;
    return {
        {"hello", Role::server, 0, 224, 224, written<kHelloSize>(kHello)},
        {"initiate", Role::server, 1, 560, 1184, with_box(written<kInitiateHeader>(kInitiate), in_initiate)},
        {"client message", Role::server, 2, 112, 1184,
         with_box(written<kClientMessageHeader>(kClientMessage), 16)},
        {"cookie", Role::client, 0, 200, 200, written<kCookiePacketSize>(kCookie)},
        {"server message", Role::client, 1, 80, 1152,
         with_box(written<kServerMessageHeader>(kServerMessage), 16)}};
}
bool is_legal(const Kind& kind, std::size_t size) {
    return size >= kind.least && size <= kind.most && (size - kind.least) % 16 == 0;
}

struct Parsed {
    std::size_t index;
    Buffer again;
};
template <class Variant>
Result<Parsed> summary(Result<Variant>&& parsed, Bytes packet) {
    if (!parsed) return fail(std::move(parsed));
    return Parsed{parsed->index(), rewritten(*parsed, packet)};
}
Result<Parsed> parse_as(Role receiver, Bytes packet) {
    if (receiver == Role::server) return summary(parse_to_server(packet), packet);
    return summary(parse_to_client(packet), packet);
}
template <class E>
bool refused(Role receiver, Bytes packet, E why) {
    const auto parsed = parse_as(receiver, packet);
    return !parsed && parsed.error().is(why);
}

TEST_CASE("each CurveCP packet stands on the wire as the specification says", "[wire][curvecp]") {
    const auto server = hex(kExtensions.server.bytes);
    const auto client = hex(kExtensions.client.bytes);
    CHECK(hex(written<kHelloSize>(kHello)) == "51766e5135586c48" + server + client +
                                                  hex(kHello.client_short.bytes()) + std::string(128, '0') +
                                                  "0807060504030201" + hex(kHello.box.bytes));
    CHECK(hex(written<kCookiePacketSize>(kCookie)) ==
          "524c33614e4d584b" + client + server + hex(kCookie.nonce.bytes) + hex(kCookie.box.bytes));
    CHECK(hex(written<kInitiateHeader>(kInitiate)) == "51766e5135586c49" + server + client +
                                                          hex(kInitiate.client_short.bytes) +
                                                          hex(kInitiate.cookie.bytes) + "f8f9fafbfcfdfeff");
    CHECK(hex(written<kClientMessageHeader>(kClientMessage)) ==
          "51766e5135586c4d" + server + client + hex(kClientMessage.client_short.bytes) + "1817161514131211");
    CHECK(hex(written<kServerMessageHeader>(kServerMessage)) ==
          "524c33614e4d584d" + client + server + "2827262524232221");
    CHECK(hex(number_bytes({0x0102030405060708})) == "0807060504030201");
}

TEST_CASE("each CurveCP packet comes back as it was written", "[wire][curvecp]") {
    const auto kinds = all_kinds();
    const auto hello = std::get<SealedHello>(*parse_to_server(kinds[0].packet));
    CHECK(hello.extensions == kExtensions);
    CHECK(hello.client_short == kHello.client_short);
    CHECK(hello.number == kHello.number);
    CHECK(hello.box == kHello.box);
    const auto initiate = std::get<InitiateHeader>(*parse_to_server(kinds[1].packet));
    CHECK(initiate.extensions == kExtensions);
    CHECK(initiate.client_short == kInitiate.client_short);
    CHECK(initiate.cookie == kInitiate.cookie);
    CHECK(initiate.number == kInitiate.number);
    const auto up = std::get<ClientMessageHeader>(*parse_to_server(kinds[2].packet));
    CHECK(up.extensions == kExtensions);
    CHECK(up.client_short == kClientMessage.client_short);
    CHECK(up.number == kClientMessage.number);
    const auto cookie = std::get<SealedCookie>(*parse_to_client(kinds[3].packet));
    CHECK(cookie.extensions == kExtensions);
    CHECK(cookie.nonce == kCookie.nonce);
    CHECK(cookie.box == kCookie.box);
    const auto down = std::get<ServerMessageHeader>(*parse_to_client(kinds[4].packet));
    CHECK(down.extensions == kExtensions);
    CHECK(down.number == kServerMessage.number);
}

TEST_CASE("a CurveCP packet is taken at its own lengths and at no other", "[wire][curvecp]") {
    for (const auto& kind : all_kinds()) {
        std::size_t taken = 0;
        for (std::size_t size = 0; size <= 1'400; ++size) {
            INFO(kind.name << " of " << size << " bytes");
            auto packet = kind.packet;
            packet.resize(size, Byte{0xa5});
            const auto parsed = parse_as(kind.receiver, packet);
            REQUIRE(parsed.has_value() == is_legal(kind, size));
            if (!parsed) {
                REQUIRE(parsed.error().is(Errc::wrong_length));
                continue;
            }
            REQUIRE(parsed->index == kind.index);
            REQUIRE(test::same(parsed->again, packet));
            ++taken;
        }
        INFO(kind.name);
        CHECK(taken == (kind.most - kind.least) / 16 + 1);
    }
}

TEST_CASE("the longest datagram of all is refused like any that is too long", "[wire][curvecp]") {
    for (const auto& kind : all_kinds()) {
        auto packet = kind.packet;
        packet.resize(65'504);  // kind.most + a multiple of 16
        CHECK(refused(kind.receiver, packet, Errc::wrong_length));
    }
}

TEST_CASE("a CurveCP packet with one byte more is refused", "[wire][curvecp]") {
    for (auto kind : all_kinds()) {
        INFO(kind.name);
        kind.packet.push_back(0);
        CHECK(refused(kind.receiver, kind.packet, Errc::wrong_length));
    }
}

TEST_CASE("a CurveCP packet does not pass at the end that sends it", "[wire][curvecp]") {
    for (const auto& kind : all_kinds()) {
        INFO(kind.name);
        const auto other = kind.receiver == Role::server ? Role::client : Role::server;
        CHECK(refused(other, kind.packet, Errc::wrong_magic));
    }
}

TEST_CASE("what is no packet of CurveCP is refused", "[wire][curvecp]") {
    for (const auto role : {Role::server, Role::client}) {
        for (std::size_t size = 0; size < kMagicSize; ++size)
            CHECK(refused(role, Buffer(size), Errc::wrong_length));
        for (const std::size_t size : {std::size_t{8}, kHelloSize, kCookiePacketSize, kMaxPacket})
            CHECK(refused(role, Buffer(size), Errc::wrong_magic));
    }
    // curve_tun's Hello, made as long as CurveCP's.
    auto foreign = all_kinds()[0].packet;
    std::ranges::copy(test::unhex("6c09afb28aa9fafc"), foreign.begin());
    CHECK(refused(Role::server, foreign, Errc::wrong_magic));
}

TEST_CASE("a changed bit is refused or stands in a field, and none is lost", "[wire][curvecp]") {
    constexpr std::size_t kZeros = (kAddressing + 32) * 8;  // of a Hello: 64 bytes that nobody reads
    for (const auto& kind : all_kinds()) {
        std::size_t weak = 0;
        test::each_bit_flip(kind.packet, [&](const Buffer& changed, std::size_t bit) {
            INFO(kind.name << " bit " << bit);
            const auto parsed = parse_as(kind.receiver, changed);
            // The last letters H and I, and I and M, differ by one bit, and an Initiate is as long as a
            // Message may be.
            const bool twin = kind.name == "initiate" && bit == 7 * 8 + 2;
            if (bit < kMagicSize * 8 && !twin) {
                REQUIRE_FALSE(parsed.has_value());
                REQUIRE((parsed.error().is(Errc::wrong_magic) || parsed.error().is(Errc::wrong_length)));
                return;
            }
            if (!parsed) {
                REQUIRE(kind.name == "hello");
                REQUIRE(parsed.error().is(crypto::Errc::weak_key));
                ++weak;
                return;
            }
            REQUIRE(parsed->index == (twin ? 2 : kind.index));
            const bool unread = kind.name == "hello" && bit >= kZeros && bit < kZeros + 64 * 8;
            REQUIRE(test::same(parsed->again, unread ? kind.packet : changed));
        });
        CHECK(weak == (kind.name == "hello" ? 1U : 0U));  // the high bit of C', and no other
    }
}

TEST_CASE("the body of one kind under another's magic keeps to that kind's lengths", "[wire][curvecp]") {
    for (const auto& magic : all_kinds()) {
        for (const auto& kind : all_kinds()) {
            if (magic.name == kind.name) continue;
            INFO(kind.name << " under the magic of " << magic.name);
            auto packet = kind.packet;
            std::copy_n(magic.packet.begin(), kMagicSize, packet.begin());
            const auto parsed = parse_as(magic.receiver, packet);
            REQUIRE(parsed.has_value() == is_legal(magic, packet.size()));
            if (parsed) CHECK(parsed->index == magic.index);
        }
    }
}

TEST_CASE("a Hello with a weak key is refused, elsewhere C' is only a name", "[wire][curvecp]") {
    for (const std::string_view weak : {"0000000000000000000000000000000000000000000000000000000000000000",
                                        "0100000000000000000000000000000000000000000000000000000000000000",
                                        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
                                        "1111111111111111111111111111111111111111111111111111111111111191"}) {
        for (const auto& kind : all_kinds()) {
            if (kind.receiver == Role::client) continue;
            INFO(kind.name << " with " << weak);
            auto packet = kind.packet;
            std::ranges::copy(test::unhex(weak), packet.begin() + kAddressing);
            if (kind.name == "hello") {
                CHECK(refused(kind.receiver, packet, crypto::Errc::weak_key));
            } else {
                CHECK(parse_as(kind.receiver, packet).has_value());
            }
        }
    }
}

// ---- server names ----

std::string label(std::size_t size) {
    std::string out;
    for (std::size_t i = 0; i < size; ++i) out += static_cast<char>('a' + i % 26);
    return out;
}
/// Labels of these sizes, with dots between.
std::string dotted(std::initializer_list<std::size_t> sizes) {
    std::string out;
    for (const auto size : sizes) out += (out.empty() ? "" : ".") + label(size);
    return out;
}
ServerName raw_name(std::string_view hex_digits) {
    ServerName out;
    std::ranges::copy(test::unhex(hex_digits), out.bytes.begin());
    return out;
}

TEST_CASE("a server's name stands as labels, zeros to 256", "[wire][curvecp]") {
    const auto name = encode_server_name("vpn.example.org");
    REQUIRE(name.has_value());
    const std::string labels = "0376706e076578616d706c65036f7267";
    CHECK(hex(name->bytes) == labels + std::string(512 - labels.size(), '0'));
    CHECK(decode_server_name(*name) == "vpn.example.org");
}

TEST_CASE("names of every legal size come back, longer ones are refused", "[wire][curvecp]") {
    for (const auto& text :
         {dotted({1}), dotted({63}), dotted({1, 1, 1}), dotted({63, 63, 63, 62}), dotted({62, 63, 63, 63})}) {
        INFO(text);
        const auto name = encode_server_name(text);
        REQUIRE(name.has_value());
        CHECK(decode_server_name(*name) == text);
    }
    CHECK(encode_server_name(dotted({63, 63, 63, 62}))->bytes.back() == 0);  // 256 with the last zero
    for (const auto& text : {dotted({64}), dotted({255}), dotted({1, 64, 1}), dotted({63, 63, 63, 63}),
                             dotted({63, 63, 63, 61, 1}), label(300), label(70'000)}) {
        INFO(text.size() << " bytes");
        CHECK_FALSE(encode_server_name(text).has_value());
    }
    CHECK(encode_server_name(dotted({63, 63, 63, 60, 1})).has_value());
}

TEST_CASE("a name with an empty label, and no name, are refused", "[wire][curvecp]") {
    for (const std::string_view text : {"", ".", "a.", ".a", "a..b", "..", "a.b."}) {
        INFO("\"" << text << "\"");
        CHECK_FALSE(encode_server_name(text).has_value());
    }
}

TEST_CASE("256 bytes that are no name do not decode", "[wire][curvecp]") {
    CHECK(decode_server_name(raw_name("0161")) == "a");
    CHECK_FALSE(decode_server_name(ServerName{}).has_value());  // no label
    CHECK_FALSE(decode_server_name(raw_name("016100016100")));  // something after the zero
    CHECK_FALSE(decode_server_name(raw_name("03612e62")));      // a dot inside a label
    CHECK_FALSE(decode_server_name(raw_name("40" + hex(as_bytes(label(64))))));
    CHECK_FALSE(decode_server_name(raw_name("c00c")));  // DNS's pointer
    ServerName full;
    full.bytes.fill(1);  // labels to the very end
    CHECK_FALSE(decode_server_name(full));
    ServerName beyond = *encode_server_name(dotted({63, 63, 63, 1}));
    for (std::size_t size = 0; size <= 255; ++size) {
        // The last label says `size`: 60 bytes are left after its length byte and before the last zero.
        beyond.bytes[194] = static_cast<Byte>(size);
        std::fill(beyond.bytes.begin() + 195, beyond.bytes.end() - 1, Byte{'x'});
        INFO(size);
        CHECK(decode_server_name(beyond).has_value() == (size == 60));
    }
}

TEST_CASE("a changed bit of a name makes another name or none", "[wire][curvecp]") {
    const auto name = *encode_server_name("vpn.example.org");
    test::each_bit_flip(name.bytes, [&](const Buffer& changed, std::size_t bit) {
        INFO("bit " << bit);
        ServerName altered;
        std::ranges::copy(changed, altered.bytes.begin());
        const auto text = decode_server_name(altered);
        if (!text) return;
        REQUIRE(*text != "vpn.example.org");
        REQUIRE(encode_server_name(*text) == altered);
    });
}

TEST_CASE("random bytes decode to a name that encodes to them, or to none", "[wire][curvecp]") {
    const auto seed = GENERATE(1U, 2U, 3U);
    test::SeededRandom random(seed);
    std::size_t names = 0;
    for (int i = 0; i < 20'000; ++i) {
        ServerName name;
        Writer out(name.bytes);
        for (std::size_t labels = random.below(9); labels > 0 && out.left() > 0; --labels) {
            const std::size_t size = random.one_in(10) ? random.below(256) : random.below(40);
            out.integer(static_cast<Byte>(size));
            for (std::size_t at = 0; at < size && out.left() > 0; ++at) out.integer(Byte{'q'});
        }
        if (random.one_in(5)) name.bytes[random.below(256)] = static_cast<Byte>(random.next());
        INFO("seed " << seed << ", " << hex(name.bytes));
        const auto text = decode_server_name(name);
        if (!text) continue;
        REQUIRE(encode_server_name(*text) == name);
        ++names;
    }
    CHECK(names > 2'000);
}

}  // namespace
}  // namespace curvegate::wire::curvecp
