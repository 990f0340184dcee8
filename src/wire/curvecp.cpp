#include "wire/curvecp.hpp"

namespace curvegate::wire::curvecp {
namespace {

// PROTOCOL 7.1
constexpr std::string_view kHelloMagic = "QvnQ5XlH";
constexpr std::string_view kInitiateMagic = "QvnQ5XlI";
constexpr std::string_view kClientMessageMagic = "QvnQ5XlM";
constexpr std::string_view kCookieMagic = "RL3aNMXK";
constexpr std::string_view kServerMessageMagic = "RL3aNMXM";
constexpr std::size_t kMaxLabel = 63;
constexpr ByteArray<64> kZeros{};

template <class Value>
Value take(Reader& reader) noexcept {
    return Value{to_array(reader.take<Value::kSize>())};
}

crypto::PacketNumber take_number(Reader& reader) noexcept {
    return {reader.integer_le<std::uint64_t>()};
}

/// The receiver's extension stands first.
Extensions take_to_server(Reader& reader) noexcept {
    const auto server = take<HostExtension>(reader);
    return {server, take<HostExtension>(reader)};
}
Extensions take_to_client(Reader& reader) noexcept {
    const auto client = take<HostExtension>(reader);
    return {take<HostExtension>(reader), client};
}

/// A packet with a message of legal size after `overhead` bytes.
bool has_message(Bytes packet, std::size_t overhead, std::size_t most) noexcept {
    if (packet.size() < overhead + kLeastMessage || packet.size() > overhead + most) return false;
    return (packet.size() - overhead) % 16 == 0;
}

Result<ToServer> parse_hello(Reader body) {
    const auto extensions = take_to_server(body);
    auto client_short = crypto::PublicKey::parse(body.take<32>());
    if (!client_short) return fail(std::move(client_short));
    (void)body.take<64>();  // zeros that make the Hello longer than its answer; nobody reads them
    const auto number = take_number(body);
    return SealedHello{extensions, *client_short, number, take<HelloBox>(body)};
}

ToServer parse_initiate(Reader body) {
    const auto extensions = take_to_server(body);
    const auto client_short = take<ClientShort>(body);
    const auto cookie = take<Cookie>(body);
    return InitiateHeader{extensions, client_short, cookie, take_number(body)};
}

ToServer parse_client_message(Reader body) {
    const auto extensions = take_to_server(body);
    const auto client_short = take<ClientShort>(body);
    return ClientMessageHeader{extensions, client_short, take_number(body)};
}

Writer begin(MutableBytes out, std::string_view magic, const HostExtension& receiver,
             const HostExtension& sender) noexcept {
    Writer writer(out);
    writer.put(as_bytes(magic)).put(receiver.bytes).put(sender.bytes);
    return writer;
}

}  // namespace

std::optional<ServerName> encode_server_name(std::string_view dotted) {
    ServerName out;
    Writer writer(out.bytes);
    while (true) {
        const auto dot = dotted.find('.');
        const auto label = dotted.substr(0, dot);
        if (label.empty() || label.size() > kMaxLabel || label.size() + 2 > writer.left())
            return std::nullopt;
        writer.integer(static_cast<Byte>(label.size())).put(as_bytes(label));
        if (dot == std::string_view::npos) return out;
        dotted.remove_prefix(dot + 1);
    }
}

std::optional<std::string> decode_server_name(const ServerName& name) {
    std::string out;
    Bytes rest(name.bytes);
    while (rest.front() != 0) {
        const std::size_t size = rest.front();
        if (size > kMaxLabel || size + 2 > rest.size()) return std::nullopt;
        if (!out.empty()) out += '.';
        out += as_text(rest.subspan(1, size));
        rest = rest.subspan(1 + size);
    }
    if (out.empty() || encode_server_name(out) != name) return std::nullopt;
    return out;
}

Result<ToServer> parse_to_server(Bytes packet) {
    if (packet.size() < kMagicSize) return fail(Errc::wrong_length);
    const Reader body(packet.subspan(kMagicSize));
    const auto magic = as_text(packet.first(kMagicSize));
    if (magic == kClientMessageMagic) {
        if (!has_message(packet, kClientOverhead, kMaxMessage)) return fail(Errc::wrong_length);
        return parse_client_message(body);
    }
    if (magic == kInitiateMagic) {
        if (!has_message(packet, kInitiateOverhead, kMaxInitiateMessage)) return fail(Errc::wrong_length);
        return parse_initiate(body);
    }
    if (magic == kHelloMagic) {
        if (packet.size() != kHelloSize) return fail(Errc::wrong_length);
        return parse_hello(body);
    }
    return fail(Errc::wrong_magic);
}

Result<ToClient> parse_to_client(Bytes packet) {
    if (packet.size() < kMagicSize) return fail(Errc::wrong_length);
    Reader body(packet.subspan(kMagicSize));
    const auto magic = as_text(packet.first(kMagicSize));
    if (magic == kServerMessageMagic) {
        if (!has_message(packet, kServerOverhead, kMaxMessage)) return fail(Errc::wrong_length);
        const auto extensions = take_to_client(body);
        return ServerMessageHeader{extensions, take_number(body)};
    }
    if (magic == kCookieMagic) {
        if (packet.size() != kCookiePacketSize) return fail(Errc::wrong_length);
        const auto extensions = take_to_client(body);
        const auto nonce = take<crypto::LongTermNonce>(body);
        return SealedCookie{extensions, nonce, take<CookieBox>(body)};
    }
    return fail(Errc::wrong_magic);
}

void serialise(const SealedHello& hello, MutableFixedBytes<kHelloSize> out) noexcept {
    begin(out, kHelloMagic, hello.extensions.server, hello.extensions.client)
        .put(hello.client_short.bytes())
        .put(kZeros)
        .put(number_bytes(hello.number))
        .put(hello.box.bytes);
}

void serialise(const SealedCookie& cookie, MutableFixedBytes<kCookiePacketSize> out) noexcept {
    begin(out, kCookieMagic, cookie.extensions.client, cookie.extensions.server)
        .put(cookie.nonce.bytes)
        .put(cookie.box.bytes);
}

void serialise(const InitiateHeader& initiate, MutableFixedBytes<kInitiateHeader> out) noexcept {
    begin(out, kInitiateMagic, initiate.extensions.server, initiate.extensions.client)
        .put(initiate.client_short.bytes)
        .put(initiate.cookie.bytes)
        .put(number_bytes(initiate.number));
}

void serialise(const ClientMessageHeader& message, MutableFixedBytes<kClientMessageHeader> out) noexcept {
    begin(out, kClientMessageMagic, message.extensions.server, message.extensions.client)
        .put(message.client_short.bytes)
        .put(number_bytes(message.number));
}

void serialise(const ServerMessageHeader& message, MutableFixedBytes<kServerMessageHeader> out) noexcept {
    begin(out, kServerMessageMagic, message.extensions.client, message.extensions.server)
        .put(number_bytes(message.number));
}

ByteArray<kNumberSize> number_bytes(crypto::PacketNumber number) noexcept {
    return to_le(number.value);
}

}  // namespace curvegate::wire::curvecp
