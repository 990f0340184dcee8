#include "config/address.hpp"

#include "base/scoped_ip.hpp"
#include "text/reading.hpp"

#include <algorithm>
#include <charconv>

namespace curvegate::config {
namespace {

using text::quoted;
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

/// HOST:PORT.
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

/// What stands right of "tcp:", "udp:" or the word of a wire.
Value<Address> parse_carried(Address::Kind kind, std::string_view text, Use use) {
    return text.starts_with(kSystemd) ? parse_passed(kind, text.substr(kSystemd.size()), use)
                                      : parse_port(kind, text, use);
}

/// Does the text have the shape of HOST:PORT, with a number for a port?
bool is_bare_port(std::string_view text) {
    const auto [host, port] = split(text);
    return !host.empty() && !port.empty() && port.find_first_not_of("0123456789") == std::string_view::npos;
}

/// The text without what stands behind a space: a mistaken comment.
std::string_view first_word(std::string_view text) {
    return text.substr(0, text.find_first_of(" \t"));
}

/// What stands right of the word of a wire.
Value<Address> parse_on(Wire wire, std::string_view text, Use use) {
    const bool over_udp = service::transport_of(wire) == service::Transport::udp;
    if (over_udp && use == Use::accept && text.starts_with(kSystemd)) {
        return Refused(
            "a tunnel's UDP port needs two sockets for each worker, and a program in the kernel that "
            "chooses between them, so the daemon opens it: write curvecp:ADDRESS:PORT");
    }
    auto address = parse_carried(over_udp ? Address::Kind::udp : Address::Kind::tcp, text, use);
    if (address) address->wire = wire;
    return address;
}

/// The address to write for one that was written with the wrong word, or none. One that is wrong itself is
/// not repeated.
std::string advice_on(std::optional<Wire> wire, std::string_view written, Use use) {
    const auto text = first_word(written);
    const auto address = wire ? parse_on(*wire, text, use) : parse_carried(Address::Kind::tcp, text, use);
    if (address) return address->text();
    return (wire ? std::string(service::word(*wire)) + ":" : std::string()) +
           (use == Use::accept ? "ADDRESS:PORT" : "HOST:PORT");
}

/// With `accept`, whoever wrote an address of the plain side may have forgotten what makes it one.
std::string_view hint_on_side(Use use) {
    return use == Use::accept ? " (a client end needs client = yes)" : "";
}

/// Why the tunnel's side refuses what is no wire's word with an address. `tcp:`, `udp:` and an address
/// without a word will name version 2, and are not read as anything else before that.
std::string why_no_tunnel(std::string_view text, Use use) {
    const std::string head = quoted(text) + ": ";
    const auto kept = [&](std::string_view what, const std::string& advice) {
        return head + "on the tunnel's side " + std::string(what) +
               " is kept for version 2, which this program does not speak yet: write " + advice;
    };
    if (text.starts_with(kUdp)) return kept(kUdp, advice_on(Wire::curvecp, text.substr(kUdp.size()), use));
    if (text.starts_with(kTcp)) return kept(kTcp, advice_on(Wire::curve_tun, text.substr(kTcp.size()), use));
    if (text.starts_with(kSystemd)) return kept(kSystemd, advice_on(Wire::curve_tun, text, use));
    if (is_bare_port(first_word(text))) {
        return kept("a bare HOST:PORT", advice_on(Wire::curve_tun, text, use) + ", or " +
                                            advice_on(Wire::curvecp, text, use) + " over UDP") +
               std::string(hint_on_side(use));
    }
    const auto words = text::words_of(service::kWires, [](Wire wire) { return service::word(wire); });
    return head + "the tunnel's side begins with curve_tun: or curvecp:, e.g. curve_tun:" +
           (use == Use::accept ? "0.0.0.0:4433" : "server.example:4433") + std::string(hint_on_side(use)) +
           text::did_you_mean(text.substr(0, text.find(':')), words);
}

/// Why the plain side refuses an address with the word of a wire.
std::string why_no_plain(std::string_view text, Wire wire, Use use) {
    const std::string word(service::word(wire));
    const std::string address = advice_on(std::nullopt, text.substr(word.size() + 1), use);
    const std::string_view hint =
        use == Use::accept ? " (a server end, whose accept is the tunnel's side, has no client = yes)"
                           : " (a client end, whose connect is the tunnel's side, needs client = yes)";
    return quoted(text) + ": " + word +
           ": names what is spoken in a tunnel, and this is the plain side: write " + address +
           " for streams, udp:" + address + " for datagrams" + std::string(hint);
}

}  // namespace

Value<Address> parse_tunnel(std::string_view text, Use use) {
    // Of connect that is wrong whatever the word before it is.
    if (use == Use::connect &&
        (text.starts_with(kSystemd) || text.starts_with("tcp:systemd:") || text.starts_with("udp:systemd:")))
        return parse_passed(Address::Kind::tcp, {}, use);
    const auto wire = service::wire_before(text);
    if (!wire) return Refused(why_no_tunnel(text, use));
    return parse_on(*wire, text.substr(service::word(*wire).size() + 1), use);
}

Value<Address> parse_plain(std::string_view text, Use use) {
    if (const auto wire = service::wire_before(text)) return Refused(why_no_plain(text, *wire, use));
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
    constexpr auto kWhoMayAsk =
        "counters are for this machine only: write 127.0.0.1:PORT, [::1]:PORT or unix:/path";
    if (service::wire_before(text)) return Refused(kWhoMayAsk);
    auto address = parse_plain(text, Use::accept);
    if (!address || address->kind == Address::Kind::unix_socket) return address;
    const auto ip = IpAddress::parse(address->host == "localhost" ? "127.0.0.1" : address->host);
    const bool loopback =
        ip && (IpBlock::parse("127.0.0.0/8")->contains(*ip) || *ip == *IpAddress::parse("::1"));
    const bool good = address->kind == Address::Kind::tcp && loopback;
    if (!good) return Refused(kWhoMayAsk);
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
