#pragma once

#include "service/wire.hpp"
#include "tunnel/wire.hpp"

/// The one place that knows all wires: what each word of a configuration stands for.
namespace curvegate::wires {

[[nodiscard]] const tunnel::Wire& of(service::Wire wire) noexcept;

}  // namespace curvegate::wires
