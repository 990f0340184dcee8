#pragma once

#include "tunnel/wire.hpp"

namespace curvegate::tunnel {

/// A client has connected over TCP to a server end of `wire`: shakes hands if the budgets against strangers
/// allow it, and tells `guest`. What is not let in is closed without a word.
void accept(const Wire& wire, const Environment& lent, io::Stream stream, const IpAddress& source,
            const std::shared_ptr<Guest>& guest);

}  // namespace curvegate::tunnel
