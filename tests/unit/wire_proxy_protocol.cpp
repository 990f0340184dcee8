#include "wire/proxy_protocol.hpp"

#include "support/bytes.hpp"

#include <catch2/catch.hpp>

#include <map>
#include <string>

namespace curvegate::wire::proxy {
namespace {

using test::Buffer;
using test::unhex;

constexpr std::string_view kSignatureHex = "0d0a0d0a000d0a515549540a";
constexpr std::string_view kKeyText = "oQ1W3osxXeyCUVM7u8xDxuuAQGkB2/2MsAeiGBPFnRQ=";

Endpoint end(const std::string& address, std::uint16_t port) {
    return {*IpAddress::parse(address), port};
}
const Addresses kV4 = {end("192.0.2.9", 40'414), end("198.51.100.7", 443)};
const Addresses kV6 = {end("2001:db8::9", 65'535), end("2001:db8::7", 1)};

crypto::PublicKey key() {
    return *crypto::PublicKey::from_text(kKeyText);
}
Introduction introduction(const Addresses& addresses) {
    return {addresses, "laptop", key(), "web"};
}

/// A header of version 2 by hand: the two bytes after the signature, and what follows the length.
Buffer binary(std::string_view command_and_kind, std::string_view rest) {
    std::string size(4, '0');
    constexpr std::string_view digits = "0123456789abcdef";
    for (std::size_t i = 0; i < 4; ++i) size[3 - i] = digits[rest.size() / 2 >> (4 * i) & 15];
    return unhex(std::string(kSignatureHex) + std::string(command_and_kind) + size + std::string(rest));
}
const std::string kV4Hex = "c0000209c63364079dde01bb";

std::string code_of(Bytes bytes) {
    const auto parsed = parse(bytes);
    if (parsed) return *parsed ? "header" : "more";
    for (const Errc code : {Errc::no_header, Errc::malformed, Errc::too_long})
        if (parsed.error().is(code)) return std::string(describe(code));
    return "?";
}
std::string code_of(std::string_view text) {
    return code_of(as_bytes(text));
}
std::string no_header() {
    return std::string(describe(Errc::no_header));
}
std::string malformed() {
    return std::string(describe(Errc::malformed));
}
std::string too_long() {
    return std::string(describe(Errc::too_long));
}

Header whole(Bytes bytes) {
    const auto parsed = parse(bytes);
    REQUIRE(parsed.has_value());
    REQUIRE(parsed->has_value());
    return **parsed;
}
Header whole(std::string_view text) {
    return whole(as_bytes(text));
}

/// The values after the addresses, which must fill the header to its end.
std::map<Byte, std::string> values_of(Bytes header, std::size_t addresses) {
    std::map<Byte, std::string> out;
    Bytes rest = header.subspan(16 + addresses);
    while (!rest.empty()) {
        REQUIRE(rest.size() >= 3);
        const std::size_t size = load_be<std::uint16_t>(rest.subspan<1, 2>());
        REQUIRE(rest.size() >= 3 + size);
        CHECK(out.emplace(rest[0], as_text(rest.subspan(3, size))).second);
        rest = rest.subspan(3 + size);
    }
    return out;
}

/// Every shorter beginning wants more, and what follows the header changes nothing.
void check_boundaries(Bytes header) {
    for (std::size_t size = 0; size < header.size(); ++size) {
        INFO(size);
        CHECK(code_of(header.first(size)) == "more");
    }
    Buffer longer = test::copy_of(header);
    for (const Byte next : ByteArray<4>{0x00, 0x0d, 0x50, 0xff}) {
        longer.resize(header.size());
        longer.resize(header.size() + 700, next);
        CHECK(whole(longer).size == header.size());
    }
}

// ---- writing ----

TEST_CASE("a header of version 2 has the bytes that the protocol says", "[wire][proxy]") {
    const auto out = serialise({kV4, {}, {}, {}});
    CHECK(test::hex(out) == std::string(kSignatureHex) + "2111000c" + kV4Hex);
    const auto v6 = serialise({kV6, {}, {}, {}});
    CHECK(test::hex(v6) == std::string(kSignatureHex) + "21210024" + "20010db8000000000000000000000009" +
                               "20010db8000000000000000000000007" + "ffff0001");
    CHECK(test::hex(serialise({})) == std::string(kSignatureHex) + "20000000");
}

TEST_CASE("name, key and service are values of our own range", "[wire][proxy]") {
    const auto out = serialise(introduction(kV4));
    CHECK(out.size() == 16 + 12 + 3 + 6 + 3 + 44 + 3 + 3);
    CHECK(values_of(out, 12) ==
          std::map<Byte, std::string>{{0xe0, "laptop"}, {0xe1, std::string(kKeyText)}, {0xe2, "web"}});
    const auto nameless = serialise({kV6, {}, key(), "web"});
    CHECK(values_of(nameless, 36) ==
          std::map<Byte, std::string>{{0xe1, std::string(kKeyText)}, {0xe2, "web"}});
    const auto local = serialise({{}, "laptop", {}, {}});
    CHECK(values_of(local, 0) == std::map<Byte, std::string>{{0xe0, "laptop"}});
    CHECK_FALSE(whole(local).addresses.has_value());
}

TEST_CASE("what does not fit the smallest segment is left out whole", "[wire][proxy]") {
    const std::string long_name(255, 'n');
    const std::string fits(kMaxHeaderSize - 16 - 36 - 47 - (3 + 255) - 3, 's');
    const auto full = serialise({kV6, long_name, key(), fits});
    CHECK(full.size() == kMaxHeaderSize);
    CHECK(values_of(full, 36).at(kServiceName) == fits);
    CHECK(whole(full).size == kMaxHeaderSize);
    const auto one_more = serialise({kV6, long_name, key(), fits + "s"});
    CHECK(values_of(one_more, 36) ==
          std::map<Byte, std::string>{{kPeerKey, std::string(kKeyText)}, {kPeerName, long_name}});
}

TEST_CASE("addresses are written in one form", "[wire][proxy]") {
    const Addresses mixed = {kV4.source, kV6.destination};
    const auto out = serialise({mixed, {}, {}, {}});
    CHECK(out[13] == 0x21);
    CHECK(whole(out).addresses == mixed);
    const Addresses unknown_destination = {kV4.source, {}};
    const auto v4 = serialise({unknown_destination, {}, {}, {}});
    CHECK(v4[13] == 0x11);
    CHECK(whole(v4).addresses == Addresses{kV4.source, end("0.0.0.0", 0)});
    CHECK(whole(serialise({Addresses{kV6.source, {}}, {}, {}, {}})).addresses == Addresses{kV6.source, {}});
}

TEST_CASE("what we write is read as it was", "[wire][proxy]") {
    for (const auto& addresses : {kV4, kV6}) {
        const auto out = serialise(introduction(addresses));
        const auto header = whole(out);
        CHECK(header.size == out.size());
        CHECK(header.addresses == addresses);
        check_boundaries(out);
    }
}

// ---- reading version 2 ----

TEST_CASE("version 2 of others is read, with values that we do not know", "[wire][proxy]") {
    const auto tls = binary("2111", kV4Hex + "0200036162630300041122334404000100");
    CHECK(whole(tls).addresses == kV4);
    check_boundaries(tls);
    CHECK(whole(binary("2112", kV4Hex)).addresses == kV4);  // it says that the client came over udp
    const auto mapped = binary("2121",
                               "00000000000000000000ffffc0000209"
                               "00000000000000000000ffffc6336407"
                               "9dde01bb");
    CHECK(whole(mapped).addresses == kV4);
    CHECK(whole(mapped).addresses->source.address.is_v4());
}

TEST_CASE("the connection's own addresses count where a front names none", "[wire][proxy]") {
    const std::string unix_paths(2 * 216, '7');
    const std::vector<Buffer> headers = {
        binary("2000", ""),         binary("2000", "040001ff"),
        binary("2011", kV4Hex),     binary("20ff", ""),  // PP 2.2: the family of LOCAL is ignored
        binary("2011", "c0"),                            // and whether its addresses are whole
        binary("2100", ""),         binary("2100", kV4Hex),
        binary("2131", unix_paths), binary("2132", unix_paths + "040000"),
        binary("2110", kV4Hex),     binary("2101", "")};
    for (const auto& header : headers) {
        INFO(test::hex(header));
        CHECK_FALSE(whole(header).addresses.has_value());
        CHECK(whole(header).size == header.size());
        check_boundaries(header);
    }
}

TEST_CASE("what version 2 does not allow is refused", "[wire][proxy]") {
    for (const auto* const kind :
         {"0111", "1111", "3111", "f111", "2211", "2f11", "2141", "21f1", "2113", "211f"}) {
        INFO(kind);
        CHECK(code_of(binary(kind, kV4Hex)) == malformed());
    }
    CHECK(code_of(binary("2111", kV4Hex.substr(2))) == malformed());  // a byte less than two addresses
    CHECK(code_of(binary("2121", std::string(70, '0'))) == malformed());
    CHECK(code_of(binary("2131", std::string(430, '0'))) == malformed());
    CHECK(code_of(Bytes(binary("2111", "")).first(16)) == malformed());      // before anything follows
    CHECK(code_of(Bytes(binary("3111", kV4Hex)).first(13)) == malformed());  // as soon as it can be known
}

TEST_CASE("a header is no longer than the smallest segment", "[wire][proxy]") {
    const std::string most(2 * (kMaxHeaderSize - 16), '0');
    for (const auto* const kind : {"2000", "2111", "2121", "2131", "2100"}) {
        INFO(kind);
        CHECK(whole(binary(kind, most)).size == kMaxHeaderSize);
        CHECK(code_of(Bytes(binary(kind, most + "00")).first(16)) == too_long());
        CHECK(code_of(unhex(std::string(kSignatureHex) + kind + "ffff")) == too_long());
    }
}

TEST_CASE("every changed bit of the fixed part is seen, or says another thing", "[wire][proxy]") {
    const auto header = binary("2111", kV4Hex);
    test::each_bit_flip(Bytes(header).first(12), [&](const Buffer& start, std::size_t) {
        Buffer changed = start;
        changed.insert(changed.end(), header.begin() + 12, header.end());
        CHECK(code_of(changed) == no_header());
    });
}

// ---- reading version 1 ----

TEST_CASE("version 1 is read", "[wire][proxy]") {
    const std::string v4 = "PROXY TCP4 192.0.2.9 198.51.100.7 40414 443\r\n";
    CHECK(whole(v4).addresses == kV4);
    CHECK(whole(v4).size == v4.size());
    check_boundaries(as_bytes(v4));
    const std::string v6 = "PROXY TCP6 2001:db8::9 2001:DB8:0:0:0:0:0:7 65535 1\r\n";
    CHECK(whole(v6).addresses == kV6);
    check_boundaries(as_bytes(v6));
    CHECK(whole("PROXY TCP6 ::ffff:192.0.2.9 ::ffff:198.51.100.7 40414 443\r\n").addresses == kV4);
    CHECK(whole("PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n").addresses ==
          Addresses{end("0.0.0.0", 0), end("255.255.255.255", 65'535)});
}

TEST_CASE("an unknown protocol of version 1 names nobody", "[wire][proxy]") {
    const std::string longest =
        "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 "
        "65535\r\n";
    REQUIRE(longest.size() == kLongestLine);
    for (const std::string& line : {std::string("PROXY UNKNOWN\r\n"), std::string("PROXY UNKNOWN \r\n"),
                                    std::string("PROXY UNKNOWN 1 2 3 what you like\r\n"), longest}) {
        INFO(line);
        CHECK_FALSE(whole(line).addresses.has_value());
        CHECK(whole(line).size == line.size());
        check_boundaries(as_bytes(line));
    }
    const std::string longer = longest.substr(0, longest.size() - 2) + "0\r\n";
    CHECK(code_of(longer.substr(0, kLongestLine - 1)) == "more");
    CHECK(code_of(longer.substr(0, kLongestLine)) == too_long());
    CHECK(code_of(longer) == too_long());
}

TEST_CASE("a line that is not exactly of version 1 is refused", "[wire][proxy]") {
    const std::vector<std::string> rests = {"",
                                            "TCP4",
                                            "TCP4 1.2.3.4",
                                            "TCP4 1.2.3.4 5.6.7.8",
                                            "TCP4 1.2.3.4 5.6.7.8 1",
                                            "TCP4 1.2.3.4 5.6.7.8 1 ",
                                            "TCP4 1.2.3.4 5.6.7.8 1 2 ",
                                            "TCP4 1.2.3.4 5.6.7.8 1 2 3",
                                            "TCP4  1.2.3.4 5.6.7.8 1 2",
                                            "TCP4 1.2.3.4 5.6.7.8  1 2",
                                            " TCP4 1.2.3.4 5.6.7.8 1 2",
                                            "TCP4\t1.2.3.4 5.6.7.8 1 2",
                                            "tcp4 1.2.3.4 5.6.7.8 1 2",
                                            "TCP5 1.2.3.4 5.6.7.8 1 2",
                                            "TCP 1.2.3.4 5.6.7.8 1 2",
                                            "UDP4 1.2.3.4 5.6.7.8 1 2",
                                            "UNKNOWNS",
                                            "UNKNOW",
                                            "TCP4 1.2.3.4 5.6.7.8 01 2",
                                            "TCP4 1.2.3.4 5.6.7.8 1 00",
                                            "TCP4 1.2.3.4 5.6.7.8 1 65536",
                                            "TCP4 1.2.3.4 5.6.7.8 1 99999999999999999999",
                                            "TCP4 1.2.3.4 5.6.7.8 1 -2",
                                            "TCP4 1.2.3.4 5.6.7.8 +1 2",
                                            "TCP4 1.2.3.4 5.6.7.8 1 2x",
                                            "TCP4 01.2.3.4 5.6.7.8 1 2",
                                            "TCP4 1.2.3.256 5.6.7.8 1 2",
                                            "TCP4 1.2.3 5.6.7.8 1 2",
                                            "TCP4 1.2.3.4.5 5.6.7.8 1 2",
                                            "TCP4 localhost 5.6.7.8 1 2",
                                            "TCP4 ::1 5.6.7.8 1 2",
                                            "TCP4 ::ffff:1.2.3.4 5.6.7.8 1 2",
                                            "TCP6 1.2.3.4 5.6.7.8 1 2",
                                            "TCP6 ::1 5.6.7.8 1 2",
                                            "TCP6 ::1 ::2%lo 1 2",
                                            "TCP6 [::1] [::2] 1 2",
                                            "TCP6 1::2::3 ::2 1 2",
                                            "TCP6 12345::1 ::2 1 2",
                                            std::string("TCP4 1.2.3.4\0 5.6.7.8 1 2", 25)};
    for (const auto& rest : rests) {
        INFO(rest);
        CHECK(code_of("PROXY " + rest + "\r\n") == malformed());
    }
}

TEST_CASE("neither CR nor LF alone ends a line", "[wire][proxy]") {
    const std::string line = "PROXY TCP4 192.0.2.9 198.51.100.7 40414 443";
    CHECK(code_of(line + "\n") == malformed());
    CHECK(code_of(line + "\r ") == malformed());
    CHECK(code_of(line + "\r\r\n") == malformed());
    CHECK(code_of(line + "\n\r\n") == malformed());
    CHECK(code_of("PROXY \r\n") == malformed());
    CHECK(code_of(line + "\r") == "more");
}

// ---- neither ----

TEST_CASE("what is no header is known by its first other byte", "[wire][proxy]") {
    for (const auto* const text :
         {"GET / HTTP/1.1\r\n", "\r\n\r\n", "PROXX", "PROXY\t", "proxy ", "PROXY\r\n", "\r\n\r\nx"}) {
        INFO(text);
        const bool beginning = std::string_view(text) == "\r\n\r\n";
        CHECK(code_of(std::string_view(text)) == (beginning ? "more" : no_header()));
    }
    for (unsigned first = 0; first < 256; ++first) {
        const Byte byte[] = {static_cast<Byte>(first)};
        CHECK(code_of(Bytes(byte)) == (first == 'P' || first == 0x0d ? "more" : no_header()));
    }
    CHECK(code_of(unhex("0080")) == no_header());  // the length of a Hello
}

}  // namespace
}  // namespace curvegate::wire::proxy
