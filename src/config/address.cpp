#include "config/address.hpp"

#include "base/scoped_ip.hpp"
#include "registry/text.hpp"

#include <algorithm>
#include <charconv>

namespace curvegate::config {
namespace {

using registry::quoted;
using Refused = std::unexpected<std::string>;

constexpr std::string_view kTcp = "tcp:";
constexpr std::string_view kUdp = "udp:";
constexpr std::string_view kUnix = "unix:";
constexpr std::string_view kSeqpacket = "seqpacket:";
constexpr std::string_view kSystemd = "systemd:";
constexpr std::string_view kNone = "none";
constexpr std::size_t kLongestHost = 253;

bool is_host_name(std::string_view host) {
    const bool numbers_only = host.find_first_not_of("0123456789.") == std::string_view::npos;
    return !host.empty() && host.size() <= kLongestHost && !numbers_only && !host.contains(':') &&
           registry::is_valid_name(host);
}

/// Splits "HOST:PORT" or "[v6]:PORT"; the host is empty if the text has neither shape.
std::pair<std::string_view, std::string_view> split(std::string_view text) {
    const auto colon = text.rfind(':');
    if (colon == std::string_view::npos) return {};
    auto host = text.substr(0, colon);
    const bool brackets = host.size() > 2 && host.front() == '[' && host.back() == ']';
    if (brackets) host = host.substr(1, host.size() - 2);
    if (host.contains(':') != brackets) return {};
    return {host, text.substr(colon + 1)};
}

/// Why the interface of an address is wrong, or missing; empty: it is as it must be.
std::string why_not_scope(std::string_view host, const IpAddress& address) {
    constexpr std::size_t kLongestInterface = 15;
    const auto scope = split_scope(host).second;
    if (!host.contains('%')) {
        if (!is_link_local(address)) return {};
        return quoted(host) +
               " is a link-local address, which every network has: write the interface too, e.g. [" +
               std::string(host) + "%eth0]:PORT";
    }
    if (!is_link_local(address))
        return quoted(host) + ": only a link-local address (fe80::...) takes an interface: remove it";
    const bool good = !scope.empty() && scope.size() <= kLongestInterface &&
                      scope.find_first_of("/% \t") == std::string_view::npos;
    return good ? std::string() : quoted(host) + ": what stands behind % is not the name of an interface";
}

Value<std::string> parse_host(std::string_view host, Use use) {
    const auto [number, scope] = split_scope(host);
    if (const auto address = IpAddress::parse(number)) {
        if (auto why = why_not_scope(host, *address); !why.empty()) return Refused(std::move(why));
        // One spelling for each address that is listened on, so that equal ones compare equal. The host of
        // connect is also a name to look for in known_hosts: it stays as written.
        if (use == Use::connect) return std::string(host);
        return address->text() + (scope.empty() ? "" : "%" + std::string(scope));
    }
    if (host == "*") {
        return Refused(use == Use::accept
                           ? "* is no address: [::] means every address, 0.0.0.0 every one of IPv4"
                           : "* is no host: name the one to connect to");
    }
    if (!is_host_name(host)) return Refused(quoted(host) + " is neither an address nor a host's name");
    if (use == Use::connect) return std::string(host);
    // A name might stand for any number of addresses, and its answer might change: where to listen is said
    // in numbers. Everybody means the same by this one.
    if (host == "localhost") return std::string("127.0.0.1");
    return Refused("accept needs an address such as 0.0.0.0, 127.0.0.1 or [::], not the name " +
                   quoted(host));
}

/// What stands right of "tcp:" or "udp:".
Value<Address> parse_port(Address::Kind kind, std::string_view text, Use use) {
    const auto [host_text, port_text] = split(text);
    if (host_text.empty()) {
        const auto digits = text.substr(text.starts_with(':') ? 1 : 0);
        const bool only_port = digits.find_first_not_of("0123456789") == std::string_view::npos;
        if (only_port && use == Use::accept) {
            return Refused(quoted(text) +
                           " has no address: write [::]:PORT to listen on every one, 127.0.0.1:PORT for this "
                           "machine alone");
        }
        return Refused(quoted(text) + ": want HOST:PORT, or [v6]:PORT for an IPv6 address");
    }
    auto host = parse_host(host_text, use);
    if (!host) return Refused(std::move(host.error()));
    std::uint16_t port = 0;
    const auto [end, error] = std::from_chars(port_text.data(), port_text.data() + port_text.size(), port);
    if (error != std::errc{} || end != port_text.data() + port_text.size() || port == 0) {
        return Refused(quoted(port_text) + " is not a port: want 1 to 65535");
    }
    return Address{
        .kind = kind, .wire = {}, .host = std::move(*host), .port = port, .path = {}, .passed = {}};
}

/// What stands right of "systemd:".
Value<Address> parse_passed(Address::Kind kind, std::string_view name, Use use) {
    if (use == Use::connect) return Refused("systemd: names a socket that listens: it belongs into accept");
    if (!registry::is_valid_name(name) || name.contains(':'))
        return Refused(quoted(name) + " is not a name: write FileDescriptorName= of the .socket unit");
    return Address{.kind = kind, .wire = {}, .host = {}, .port = 0, .path = {}, .passed = std::string(name)};
}

/// What stands right of "tcp:" or "udp:".
Value<Address> parse_carried(Address::Kind kind, std::string_view text, Use use) {
    return text.starts_with(kSystemd) ? parse_passed(kind, text.substr(kSystemd.size()), use)
                                      : parse_port(kind, text, use);
}

}  // namespace

Value<Address> parse_tunnel(std::string_view text, Use use) {
    if (text.starts_with(kTcp)) return parse_carried(Address::Kind::tcp, text.substr(kTcp.size()), use);
    if (text.starts_with(kSystemd)) return parse_carried(Address::Kind::tcp, text, use);
    if (text.starts_with(kUdp)) {
        auto address = parse_carried(Address::Kind::udp, text.substr(kUdp.size()), use);
        if (!address || address->passed.empty()) return address;
        return Refused(
            "a tunnel's UDP port needs two sockets for each worker, and a program in the kernel that "
            "chooses between them, so the daemon opens it: write udp:ADDRESS:PORT");
    }
    return Refused(
        quoted(text) + ": the tunnel's side begins with tcp: or udp:, e.g. tcp:" +
        (use == Use::accept ? "0.0.0.0:4433 (a client end needs client = yes)" : "server.example:4433"));
}

Value<Address> parse_plain(std::string_view text, Use use) {
    if (use == Use::accept && text == kNone)
        return Address{
            .kind = Address::Kind::none, .wire = {}, .host = {}, .port = 0, .path = {}, .passed = {}};
    if (text.starts_with(kSystemd)) return parse_carried(Address::Kind::tcp, text, use);
    if (text.starts_with(kTcp)) return parse_carried(Address::Kind::tcp, text.substr(kTcp.size()), use);
    if (text.starts_with(kUdp)) return parse_carried(Address::Kind::udp, text.substr(kUdp.size()), use);
    const bool records = text.starts_with(kSeqpacket);
    if (!records && !text.starts_with(kUnix)) return parse_port(Address::Kind::tcp, text, use);
    auto path = parse_socket_path(text.substr(records ? kSeqpacket.size() : kUnix.size()));
    if (!path) return Refused(std::move(path.error()));
    const auto kind = records ? Address::Kind::seqpacket : Address::Kind::unix_socket;
    return Address{.kind = kind, .wire = {}, .host = {}, .port = 0, .path = std::move(*path), .passed = {}};
}

Value<Address> parse_metrics(std::string_view text) {
    auto address = parse_plain(text, Use::accept);
    if (!address || address->kind == Address::Kind::unix_socket) return address;
    const auto ip = IpAddress::parse(address->host == "localhost" ? "127.0.0.1" : address->host);
    const bool loopback =
        ip && (IpBlock::parse("127.0.0.0/8")->contains(*ip) || *ip == *IpAddress::parse("::1"));
    const bool good = address->kind == Address::Kind::tcp && loopback;
    if (!good)
        return Refused("counters are for this machine only: write 127.0.0.1:PORT, [::1]:PORT or unix:/path");
    return address;
}

Listening listening_of(const Address& accept) {
    if (accept.kind == Address::Kind::none) return {};
    if (!accept.passed.empty()) return {"systemd:" + accept.passed, {}, {}};
    if (!accept.path.empty()) return {"path " + accept.path, {}, {}};  // of either kind
    const bool tcp = accept.kind == Address::Kind::tcp;
    const std::string ground = (tcp ? "tcp:" : "udp:") + std::to_string(accept.port);
    const auto host = IpAddress::parse(accept.host == "localhost" ? "127.0.0.1" : accept.host);
    return {ground, host, host ? "" : accept.host};
}

bool overlap(const Listening& a, const Listening& b) {
    constexpr IpAddress kAnyV6{};
    static const IpAddress kAnyV4 = IpAddress::from_v4(ByteArray<4>{});
    if (a.host == kAnyV6 || b.host == kAnyV6) return true;
    if (!a.host || !b.host) return a.host == b.host && a.name == b.name;
    return a.host == b.host || (a.host->is_v4() && b.host->is_v4() && (a.host == kAnyV4 || b.host == kAnyV4));
}

bool overlap(const Address& a, const Address& b) {
    const Listening one = listening_of(a);
    const Listening other = listening_of(b);
    return !one.ground.empty() && one.ground == other.ground && overlap(one, other);
}

}  // namespace curvegate::config
