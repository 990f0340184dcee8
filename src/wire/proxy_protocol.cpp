#include "wire/proxy_protocol.hpp"

#include <array>
#include <charconv>
#include <string>

namespace curvegate::wire::proxy {
namespace {

using Parsed = Result<std::optional<Header>>;

constexpr ByteArray<12> kSignature = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};
constexpr std::size_t kFixedSize = kSignature.size() + 4;
constexpr std::size_t kValueHeaderSize = 3;
constexpr std::string_view kWord = "PROXY ";

// PP 2.2: the 13th byte is the version and one of these, the 14th a family and a transport.
constexpr unsigned kVersion = 2;
enum class Command : Byte { local = 0, proxy = 1 };
enum class Family : Byte { unspecified = 0, ipv4 = 1, ipv6 = 2, unix_socket = 3 };
enum class Transport : Byte { unspecified = 0, stream = 1, datagram = 2 };
constexpr std::size_t kPortsSize = 4;

constexpr std::size_t address_size(Family family) noexcept {
    switch (family) {
        case Family::unspecified: return 0;
        case Family::ipv4: return 4;
        case Family::ipv6: return 16;
        case Family::unix_socket: return 108;
    }
    return 0;
}
constexpr bool has_ports(Family family) noexcept {
    return family == Family::ipv4 || family == Family::ipv6;
}

/// Are `bytes` and `expected` the same as far as both go?
bool agree(Bytes bytes, Bytes expected) noexcept {
    const auto size = std::min(bytes.size(), expected.size());
    return std::ranges::equal(bytes.first(size), expected.first(size));
}

// ---- version 2 ----

Addresses read_addresses(Family family, Reader reader) noexcept {
    Addresses out;
    for (Endpoint* const end : {&out.source, &out.destination}) {
        end->address = family == Family::ipv4 ? IpAddress::from_v4(reader.take<4>())
                                              : IpAddress{to_array(reader.take<16>())};
    }
    for (Endpoint* const end : {&out.source, &out.destination}) end->port = reader.integer<std::uint16_t>();
    return out;
}

Parsed parse_binary(Bytes bytes) {
    if (bytes.size() <= kSignature.size()) return std::nullopt;
    const unsigned version = bytes[kSignature.size()] >> 4;
    const auto command = static_cast<Command>(bytes[kSignature.size()] & 15);
    if (version != kVersion || command > Command::proxy) return fail(Errc::malformed);
    if (bytes.size() < kFixedSize) return std::nullopt;

    Reader reader(bytes.subspan(kSignature.size() + 1));
    const Byte kind = reader.integer<Byte>();
    const std::size_t rest = reader.integer<std::uint16_t>();
    const std::size_t size = kFixedSize + rest;
    if (size > kMaxHeaderSize) return fail(Errc::too_long);
    // PP 2.2: of LOCAL the family is ignored, and so is what follows.
    if (command == Command::local) return bytes.size() < size ? Parsed(std::nullopt) : Header{size, {}};

    const auto family = static_cast<Family>(kind >> 4);
    const auto transport = static_cast<Transport>(kind & 15);
    if (family > Family::unix_socket || transport > Transport::datagram) return fail(Errc::malformed);
    if (rest < 2 * address_size(family) + (has_ports(family) ? kPortsSize : 0)) return fail(Errc::malformed);
    if (bytes.size() < size) return std::nullopt;
    if (!has_ports(family) || transport == Transport::unspecified) return Header{size, {}};
    return Header{size, read_addresses(family, reader)};
}

// ---- version 1 ----

/// Takes the text up to the next space, or all of it.
std::string_view take_word(std::string_view& text) noexcept {
    const auto space = text.find(' ');
    const auto word = text.substr(0, space);
    text = space == std::string_view::npos ? std::string_view{} : text.substr(space + 1);
    return word;
}

// PP 2.1: decimal, no zero in front of others.
std::optional<std::uint16_t> parse_port(std::string_view text) noexcept {
    if (text.empty() || (text.size() > 1 && text.front() == '0')) return std::nullopt;
    std::uint16_t port = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
    if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return port;
}

// PP 2.1: in the form that the family says.
std::optional<IpAddress> parse_address(std::string_view text, Family family) {
    const bool is_v6_text = text.find(':') != std::string_view::npos;
    if (is_v6_text != (family == Family::ipv6)) return std::nullopt;
    return IpAddress::parse(text);
}

/// What stands between "PROXY " and the end of the line.
Parsed parse_fields(std::string_view text, std::size_t size) {
    const bool many_blanks = text.ends_with(' ');  // take_word() sees all others as an empty word
    const auto protocol = take_word(text);
    // PP 2.1: the rest of such a line is ignored.
    if (protocol == "UNKNOWN") return Header{size, {}};
    const bool is_v6 = protocol == "TCP6";
    if ((!is_v6 && protocol != "TCP4") || many_blanks) return fail(Errc::malformed);

    const Family family = is_v6 ? Family::ipv6 : Family::ipv4;
    const auto source = parse_address(take_word(text), family);
    const auto destination = parse_address(take_word(text), family);
    const auto source_port = parse_port(take_word(text));
    const auto destination_port = parse_port(take_word(text));
    if (!source || !destination || !source_port || !destination_port || !text.empty())
        return fail(Errc::malformed);
    return Header{size, Addresses{{*source, *source_port}, {*destination, *destination_port}}};
}

Parsed parse_line(Bytes bytes) {
    const std::string_view text = as_text(bytes.first(std::min(bytes.size(), kLongestLine)));
    const auto end = text.find_first_of("\r\n");
    if (end == std::string_view::npos || (text[end] == '\r' && end + 1 == text.size())) {
        if (text.size() == kLongestLine) return fail(Errc::too_long);
        return std::nullopt;
    }
    // PP 2.1: neither alone ends the line.
    if (text[end] != '\r' || text[end + 1] != '\n') return fail(Errc::malformed);
    return parse_fields(text.substr(kWord.size(), end - kWord.size()), end + 2);
}

// ---- writing ----

class HeaderWriter {
  public:
    HeaderWriter() { out_.reserve(kMaxHeaderSize); }

    void put(Bytes bytes) { out_.insert(out_.end(), bytes.begin(), bytes.end()); }
    template <class Int>
    void integer(Int value) {
        put(to_be(value));
    }
    void address(const IpAddress& address, Family family) {
        put(Bytes(address.bytes).last(address_size(family)));  // IPv4 is the end of its v4-mapped form
    }
    void value(Byte type, std::string_view text) {
        if (text.empty() || out_.size() + kValueHeaderSize + text.size() > kMaxHeaderSize) return;
        integer(type);
        integer(static_cast<std::uint16_t>(text.size()));
        put(as_bytes(text));
    }
    [[nodiscard]] std::vector<Byte> finish() {
        const auto rest = static_cast<std::uint16_t>(out_.size() - kFixedSize);
        store_be<std::uint16_t>(MutableBytes(out_).subspan<kFixedSize - 2, 2>(), rest);
        return std::move(out_);
    }

  private:
    std::vector<Byte> out_;
};

constexpr Byte halves(unsigned high, unsigned low) noexcept {
    return static_cast<Byte>(high << 4 | low);
}

// Both addresses are written in one form.
Family family_of(const Addresses& addresses) noexcept {
    const IpAddress& to = addresses.destination.address;
    const bool v4 = addresses.source.address.is_v4() && (to.is_v4() || to == IpAddress{});
    return v4 ? Family::ipv4 : Family::ipv6;
}

Byte kind_of(Family family) noexcept {
    const Transport transport = family == Family::unspecified ? Transport::unspecified : Transport::stream;
    return halves(static_cast<unsigned>(family), static_cast<unsigned>(transport));
}

}  // namespace

Result<std::optional<Header>> parse(Bytes bytes) {
    if (bytes.empty()) return std::nullopt;
    if (agree(bytes, kSignature)) return parse_binary(bytes);
    if (!agree(bytes, as_bytes(kWord))) return fail(Errc::no_header);
    return bytes.size() < kWord.size() ? Parsed(std::nullopt) : parse_line(bytes);
}

std::vector<Byte> serialise(const Introduction& introduction) {
    const auto& addresses = introduction.addresses;
    const Command command = addresses ? Command::proxy : Command::local;
    const Family family = addresses ? family_of(*addresses) : Family::unspecified;
    HeaderWriter out;
    out.put(kSignature);
    out.integer(halves(kVersion, static_cast<unsigned>(command)));
    out.integer(kind_of(family));
    out.integer<std::uint16_t>(0);  // finish() writes it
    if (addresses) {
        out.address(addresses->source.address, family);
        out.address(addresses->destination.address, family);
        out.integer(addresses->source.port);
        out.integer(addresses->destination.port);
    }
    if (introduction.peer_key) out.value(kPeerKey, introduction.peer_key->text());
    out.value(kPeerName, introduction.peer_name);
    out.value(kServiceName, introduction.service);
    return out.finish();
}

}  // namespace curvegate::wire::proxy
