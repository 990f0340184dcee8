#pragma once

#include "audit/tail.hpp"
#include "base/result.hpp"

#include <sys/types.h>

namespace curvegate::daemon {

/// Where the chain of an audit file stands.
struct AuditEnd {
    audit::Tail tail;
    off_t size = 0;  ///< of the file, in bytes
};

/// Reads the last lines of an open audit file. The parent does before it hands the file over, so that a
/// broken one is told at once; the front does before it writes. Errors: os system, those of
/// audit::read_tail().
[[nodiscard]] Result<AuditEnd> audit_end_of(int fd);

}  // namespace curvegate::daemon
