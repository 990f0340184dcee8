#pragma once

#include "io/dial.hpp"

#include <memory>

namespace curvegate::io {

/// Asks this machine's resolver (look_up.hpp) in a thread of its own, one name after the other; the thread
/// begins with the first name. Nobody waits for a silent name server: neither the caller's loop, whose dials
/// have deadlines, nor whoever destroys the resolver, which drops the names that wait. The daemon, whose
/// confined front may open nothing, has the parent ask instead (daemon/front/resolver.hpp).
[[nodiscard]] std::unique_ptr<Resolver> make_system_resolver();

}  // namespace curvegate::io
