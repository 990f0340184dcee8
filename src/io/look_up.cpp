#include "io/look_up.hpp"

#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>

namespace curvegate::io {
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

Result<Addresses> ask_resolver(const std::string& host, int family) {
    addrinfo hints{};
    hints.ai_family = family;
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* list = nullptr;
    errno = 0;
    const int code = ::getaddrinfo(host.c_str(), nullptr, &hints, &list);
    if (code != 0) return look_up_failed(host, code, errno);
    Addresses out;
    for (const addrinfo* item = list; item != nullptr; item = item->ai_next) {
        if (const auto address = address_of(*item)) out.push_back(*address);
    }
    ::freeaddrinfo(list);
    if (out.empty()) return fail(DialErrc::name_unknown, host);
    return out;
}

bool is_loopback_v4(const ScopedIp& address) {
    return address.ip.is_v4() && address.ip.is_loopback();
}

/// How far this machine's addresses of IPv6 lead.
enum class Ipv6 {
    none,    ///< it has none
    nearby,  ///< to itself, and perhaps along a link
    far,     ///< beyond its links, or nothing is known
};
Ipv6 reach_of_ipv6() {
    ifaddrs* list = nullptr;
    if (::getifaddrs(&list) != 0) return Ipv6::far;
    Ipv6 reach = Ipv6::none;
    for (const ifaddrs* item = list; item != nullptr && reach != Ipv6::far; item = item->ifa_next) {
        if (item->ifa_addr == nullptr || item->ifa_addr->sa_family != AF_INET6) continue;
        sockaddr_in6 in{};
        std::memcpy(&in, item->ifa_addr, sizeof in);
        const bool leads_far = (item->ifa_flags & IFF_LOOPBACK) == 0 && !IN6_IS_ADDR_LINKLOCAL(&in.sin6_addr);
        reach = leads_far ? Ipv6::far : Ipv6::nearby;
    }
    ::freeifaddrs(list);
    return reach;
}

/// IPv6 is asked for where IPv4 has nothing, and for names that lead to this machine itself if it has ::1.
Result<Addresses> look_up_by_ipv4(const std::string& host, Ipv6 reach) {
    auto found = ask_resolver(host, AF_INET);
    if (!found) return found.error().is(DialErrc::name_unknown) ? ask_resolver(host, AF_INET6) : found;
    if (reach == Ipv6::none || !std::ranges::all_of(*found, is_loopback_v4)) return found;
    if (const auto more = ask_resolver(host, AF_INET6))
        found->insert(found->end(), more->begin(), more->end());
    return found;
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

Addresses worth_trying(const Addresses& found) {
    std::array<Addresses, 2> families;  // that of the first address, then the other
    for (const ScopedIp& address : found) {
        if (is_link_local(address.ip) && address.scope == 0) continue;
        const bool first = families[0].empty() || families[0].front().ip.is_v4() == address.ip.is_v4();
        Addresses& family = families[first ? 0 : 1];
        if (std::ranges::find(family, address) == family.end()) family.push_back(address);
    }
    Addresses out;
    for (std::size_t i = 0; i < std::max(families[0].size(), families[1].size()); ++i) {
        for (const Addresses& family : families) {
            if (i < family.size() && out.size() < kMostAddresses) out.push_back(family[i]);
        }
    }
    return out;
}

// AI_ADDRCONFIG is no help: it hides localhost and names of /etc/hosts according to what other interfaces
// have (one with no more than fe80:: is enough). But where IPv6 leads nowhere a name server that answers for
// IPv4 alone must keep nobody waiting for the other half.
Result<Addresses> look_up(const std::string& host) {
    const Ipv6 reach = reach_of_ipv6();
    auto found = reach == Ipv6::far ? ask_resolver(host, AF_UNSPEC) : look_up_by_ipv4(host, reach);
    if (!found) return found;
    Addresses out = worth_trying(*found);
    if (out.empty()) {
        return fail(DialErrc::name_unknown,
                    host + " has link-local addresses alone, without their interface (as in fe80::1%eth0)");
    }
    return out;
}

}  // namespace curvegate::io
