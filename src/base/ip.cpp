#include "base/ip.hpp"

#include <arpa/inet.h>

#include <charconv>

namespace curvegate {
namespace {

constexpr ByteArray<12> kV4Prefix = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
constexpr std::size_t kLongestAddress = 45;

}  // namespace

bool IpAddress::is_v4() const noexcept {
    return std::equal(kV4Prefix.begin(), kV4Prefix.end(), bytes.begin());
}

bool IpAddress::is_loopback() const noexcept {
    if (is_v4()) return bytes[12] == 127;
    constexpr IpAddress kLoopback{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}};
    return *this == kLoopback;
}

std::string IpAddress::text() const {
    std::array<char, INET6_ADDRSTRLEN> out{};
    if (is_v4()) {
        ::inet_ntop(AF_INET, bytes.data() + kV4Prefix.size(), out.data(), out.size());
    } else {
        ::inet_ntop(AF_INET6, bytes.data(), out.data(), out.size());
    }
    return out.data();
}

std::string IpAddress::masked_text() const {
    return is_v4() ? prefix(120).text() + "/24" : prefix(48).text() + "/48";
}

IpAddress IpAddress::prefix(unsigned bits) const noexcept {
    IpAddress out = *this;
    for (unsigned i = 0; i < out.bytes.size(); ++i) {
        const unsigned from = i * 8;
        if (bits >= from + 8) continue;
        const unsigned keep = bits > from ? bits - from : 0;
        out.bytes[i] = static_cast<Byte>(out.bytes[i] & (0xff00U >> keep));
    }
    return out;
}

std::optional<IpAddress> IpAddress::parse(std::string_view text) {
    if (text.empty() || text.size() > kLongestAddress || text.find('\0') != std::string_view::npos)
        return std::nullopt;  // inet_pton would stop at the NUL
    const std::string copy(text);
    IpAddress out;
    ByteArray<4> v4{};
    if (::inet_pton(AF_INET, copy.c_str(), v4.data()) == 1) return from_v4(v4);
    if (::inet_pton(AF_INET6, copy.c_str(), out.bytes.data()) == 1) return out;
    return std::nullopt;
}

IpAddress IpAddress::from_v4(FixedBytes<4> v4) noexcept {
    IpAddress out;
    Writer(out.bytes).put(kV4Prefix).put(v4);
    return out;
}

std::optional<IpBlock> IpBlock::parse(std::string_view text) {
    const auto slash = text.find('/');
    const auto address = IpAddress::parse(text.substr(0, slash));
    if (!address) return std::nullopt;
    IpBlock out{*address, 128};
    if (slash == std::string_view::npos) return out;
    const auto digits = text.substr(slash + 1);
    unsigned bits = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), bits);
    const bool v4_text = text.substr(0, slash).find(':') == std::string_view::npos;
    if (error != std::errc{} || end != digits.data() + digits.size() || bits > (v4_text ? 32U : 128U))
        return std::nullopt;
    out.bits = v4_text ? bits + 96 : bits;
    if (address->prefix(out.bits) != *address) return std::nullopt;
    return out;
}

std::string IpBlock::text() const {
    return network.text() + "/" + std::to_string(network.is_v4() && bits >= 96 ? bits - 96 : bits);
}

}  // namespace curvegate
