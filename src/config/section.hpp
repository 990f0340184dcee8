#pragma once

#include "config/keys.hpp"
#include "registry/text.hpp"

namespace curvegate::config {

/// What a section says as a whole, once all its lines are read: completes `draft.service` (addresses, default
/// peer) and reports what is missing or stands on the wrong end.
void finish_section(ServiceDraft& draft, registry::ProblemList& problems, registry::ProblemList& warnings);

}  // namespace curvegate::config
