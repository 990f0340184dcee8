#include "io/host.hpp"

#include <boost/asio/post.hpp>

#include <algorithm>
#include <optional>
#include <string_view>

namespace curvegate::io {
namespace {

using Addresses = std::vector<ScopedIp>;

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

}  // namespace

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

}  // namespace curvegate::io
