#pragma once

#include "status/snapshot.hpp"

#include <string_view>

namespace curvegate::status {

inline constexpr std::string_view kPrometheusType = "text/plain; version=0.0.4; charset=utf-8";

/// The metrics page, Prometheus' text format 0.0.4: docs/CONTROL.md lists the metrics. Label values are the
/// configured names and our own words only, so no stranger can make a series: no address and no key is shown.
/// Keys that `allow = *` let in are the peer "*". A peer that was never seen has no last handshake.
[[nodiscard]] std::string render_prometheus(const Snapshot& snapshot);

}  // namespace curvegate::status
