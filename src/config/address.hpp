#pragma once

#include "config/config.hpp"
#include "config/values.hpp"

#include <string_view>

namespace curvegate::config {

enum class Use { accept, connect };

/// The side that carries curve_tun: `tcp:HOST:PORT`.
[[nodiscard]] Value<Address> parse_tunnel(std::string_view text, Use use);
/// The side of the application: `[tcp:]HOST:PORT` or `unix:/path`.
[[nodiscard]] Value<Address> parse_plain(std::string_view text, Use use);

/// Would listening on one keep another listener from the other? `[::]` takes both families.
[[nodiscard]] bool overlap(const Address& a, const Address& b);

}  // namespace curvegate::config
