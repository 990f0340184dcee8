#include "net/host.hpp"

#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <boost/asio/post.hpp>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

namespace curvegate::net {
namespace {

using Addresses = std::vector<ScopedIp>;

// The number of an interface that is named, or given as a number already; 0: there is none.
std::uint32_t interface_number(std::string_view name) {
    std::uint32_t number = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
    const bool digits = error == std::errc{} && end == name.data() + name.size();
    if (!digits) return ::if_nametoindex(std::string(name).c_str());
    std::array<char, IF_NAMESIZE> known{};
    return ::if_indextoname(number, known.data()) != nullptr ? number : 0;
}

bool is_localhost(std::string_view host) {
    if (host.ends_with('.')) host.remove_suffix(1);
    std::string lower(host);
    std::ranges::transform(lower, lower.begin(),
                           [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    return lower == "localhost" || lower.ends_with(".localhost");
}

// Nobody is asked for them (RFC 6761, 6.3). First the one that `accept = localhost` listens on.
Addresses loopback_addresses() {
    return {*IpAddress::parse("127.0.0.1"), *IpAddress::parse("::1")};
}

std::optional<ScopedIp> address_of(const addrinfo& item) {
    if (item.ai_family == AF_INET) {
        sockaddr_in in{};
        std::memcpy(&in, item.ai_addr, sizeof in);
        ByteArray<4> v4{};
        std::memcpy(v4.data(), &in.sin_addr, v4.size());
        return ScopedIp(IpAddress::from_v4(v4));
    }
    if (item.ai_family != AF_INET6) return std::nullopt;
    sockaddr_in6 in{};
    std::memcpy(&in, item.ai_addr, sizeof in);
    ScopedIp out;
    std::memcpy(out.ip.bytes.data(), &in.sin6_addr, out.ip.bytes.size());
    if (is_link_local(out.ip)) out.scope = in.sin6_scope_id;
    return out;
}

std::unexpected<Error> look_up_failed(const std::string& host, int code, int system_code) {
    switch (code) {
        case EAI_AGAIN:
        case EAI_FAIL: return fail(DialErrc::name_unanswered, host);
        case EAI_MEMORY: return fail(DialErrc::own_lack, host);
        case EAI_SYSTEM:
            return fail(is_own_lack(system_code) ? DialErrc::own_lack : DialErrc::name_unanswered,
                        host + ": " + std::strerror(system_code));
        default: return fail(DialErrc::name_unknown, host);
    }
}

}  // namespace

std::optional<Result<ScopedIp>> literal_address(const std::string& host) {
    const auto [text, scope] = split_scope(host);
    const auto address = IpAddress::parse(text);
    if (!address) return std::nullopt;
    if (scope.empty()) return ScopedIp(*address);
    const std::uint32_t number = interface_number(scope);
    if (number == 0) return fail(DialErrc::no_interface, host);
    return ScopedIp(*address, number);
}

Result<Addresses> look_up(const std::string& host) {
    // Without AI_ADDRCONFIG: it hides localhost and names of /etc/hosts according to what other interfaces
    // have (an interface with no more than fe80:: is enough).
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* list = nullptr;
    errno = 0;
    const int code = ::getaddrinfo(host.c_str(), nullptr, &hints, &list);
    if (code != 0) return look_up_failed(host, code, errno);
    Addresses out;
    for (const addrinfo* item = list; item != nullptr && out.size() < kMostAddresses; item = item->ai_next) {
        const auto address = address_of(*item);
        if (address && std::ranges::find(out, *address) == out.end()) out.push_back(*address);
    }
    ::freeaddrinfo(list);
    if (out.empty()) return fail(DialErrc::name_unknown, host);
    return out;
}

void find_addresses(asio::io_context& context, Resolver& resolver, const std::string& host,
                    Resolver::Handler handler) {
    std::optional<Result<Addresses>> known;
    if (auto literal = literal_address(host)) {
        if (!*literal) {
            known = fail(std::move(*literal));
        } else {
            known = Addresses{**literal};
        }
    } else if (is_localhost(host)) {
        known = loopback_addresses();
    }
    if (!known) return resolver.resolve(context, host, std::move(handler));
    asio::post(context, [known = std::move(*known), handler = std::move(handler)]() mutable {
        handler(std::move(known));
    });
}

}  // namespace curvegate::net
