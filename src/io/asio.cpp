#include "io/asio.hpp"

#include <boost/asio/impl/src.hpp>

namespace curvegate::io {

IpAddress address_of(const tcp::endpoint& endpoint) {
    if (endpoint.address().is_v4()) return IpAddress::from_v4(endpoint.address().to_v4().to_bytes());
    IpAddress out;
    const auto bytes = endpoint.address().to_v6().to_bytes();
    std::ranges::copy(bytes, out.bytes.begin());
    return out;
}

tcp::endpoint endpoint_of(const ScopedIp& address, std::uint16_t port) {
    const auto& bytes = address.ip.bytes;
    if (address.ip.is_v4()) {
        asio::ip::address_v4::bytes_type v4{};
        std::copy(bytes.begin() + 12, bytes.end(), v4.begin());
        return {asio::ip::address_v4(v4), port};
    }
    asio::ip::address_v6::bytes_type v6{};
    std::ranges::copy(bytes, v6.begin());
    return {asio::ip::address_v6(v6, address.scope), port};
}

IpEndpoint ip_endpoint_of(const tcp::endpoint& endpoint) {
    const auto& address = endpoint.address();
    const auto scope = address.is_v6() ? static_cast<std::uint32_t>(address.to_v6().scope_id()) : 0;
    return {{address_of(endpoint), scope}, endpoint.port()};
}

std::string source_text(const IpEndpoint& endpoint, AddressForm form) {
    return form == AddressForm::masked ? endpoint.address.ip.masked_text() : endpoint.text();
}

}  // namespace curvegate::io
