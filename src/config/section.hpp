#pragma once

#include "config/keys.hpp"
#include "text/reading.hpp"

namespace curvegate::config {

/// What a section says as a whole, once all its lines are read: completes `draft.service` (addresses, default
/// peer and server name) and reports what is missing, stands on the wrong end or belongs to another wire.
void finish_section(ServiceDraft& draft, text::ProblemList& problems, text::ProblemList& warnings);

/// What the sections say together: reports listeners that keep each other out, and services that share a
/// curvecp: address but cannot be told apart there.
void check_listeners(const Parsed& parsed, text::ProblemList& problems);

}  // namespace curvegate::config
